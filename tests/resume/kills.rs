//! The real program, killed and stopped at random moments, and run again until it ends: it must end with the very bytes
//! of one that was left alone, and lose no more than one interval.
//!
//! `make test` cuts a few times. `make soak-resume` cuts 50 times of each kind (`CUTS`), and with `LORHAI_ASSETS` also
//! runs of a pretrained model. `LORHAI_SEED` chooses other moments.

use super::common::files::link_scripts;
use super::common::needs;
use super::common::program::lorhai;
use super::logs::{content, difference};
use lorhai::random::Key;
use lorhai::train::checkpoint::{folder, Checkpoint};
use lorhai::train::metrics::read_metrics;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Steps between checkpoints.
const INTERVAL: u64 = 5;
/// Between a signal and the end of a process, on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(120);

const DATA: &str = r#"
let model = load_model(MODEL, #{ device: "cpu", dtype: "f32", load_in_4bit: FOUR_BITS });
let data = load_dataset("scripts/tiny/pretrain.jsonl").take(ROWS)
    .tokenize(model, #{ max_length: LENGTH, packing: PACKING }).split(#{ test: 0.1 });
"#;

const TRAIN: &str = r#"
model.add_lora(#{ r: 8, alpha: 16, dropout: 0.1, target_modules: "all-linear" });
train(model, data, #{ steps: STEPS, batch: 2, accumulation: 2, lr: 1e-3, log_every: 1, eval_every: 8, keep_best: true,
                      save_every: INTERVAL, keep_last: 1, out: "out" });
"#;

/// Six trials, side by side.
const SWEEP: &str = r#"
sweep(model, data, #{
    grid: #{ rank: [2, 4, 8], AXIS },
    lora: #{ dropout: 0.1, target_modules: "all-linear" },
    train: #{ SAME_STEPS batch: 2, accumulation: 2, lr: 1e-3, log_every: 1, eval_every: 8 },
    save_every: INTERVAL, out: "out", charts: false });
"#;

/// Six settings, of which three stop at step 6 and one or two at step 12.
const PRUNED: &str = r#"
sweep(model, data, #{
    grid: #{ rank: [2, 8], lr: [1e-4, 1e-3, 1e-2], seed: SEEDS },
    lora: #{ dropout: 0.1, target_modules: "all-linear" },
    train: #{ steps: STEPS, batch: 2, log_every: 1 },
    prune: #{ eta: 2 }, save_every: INTERVAL, out: "out", charts: false });
"#;

const SIGNALS: [(libc::c_int, &str); 4] =
    [(libc::SIGKILL, "SIGKILL"), (libc::SIGTERM, "SIGTERM"), (libc::SIGHUP, "SIGHUP"), (libc::SIGINT, "SIGINT")];

/// What is trained.
#[derive(Clone)]
struct Work {
    script: &'static str,
    /// Libtorch's threads, over which the trials of a sweep are spread.
    threads: &'static str,
    steps: u64,
    in_four_bits: bool,
    is_packed: bool,
    /// Half of the trials of a sweep end in the middle of the others.
    has_short_trials: bool,
    model: PathBuf,
    /// The most tokens of a row.
    max_length: usize,
}

impl Work {
    fn train() -> Self {
        let model = PathBuf::from("scripts/tiny");
        Work {
            script: TRAIN,
            threads: "1",
            // One more than an interval ends with: the checkpoint before it stays, and its moments are compared.
            steps: 12 * INTERVAL + 1,
            in_four_bits: true,
            is_packed: true,
            has_short_trials: false,
            model,
            max_length: 64,
        }
    }

    fn sweep() -> Self {
        Work { script: SWEEP, threads: "2", steps: 24, in_four_bits: false, ..Self::train() }
    }

    fn text(&self) -> String {
        let values = [
            ("MODEL", format!("{:?}", self.model.to_str().unwrap())),
            ("FOUR_BITS", self.in_four_bits.to_string()),
            ("LENGTH", self.max_length.to_string()),
            ("ROWS", if self.is_packed { "200" } else { "60" }.to_owned()),
            ("PACKING", self.is_packed.to_string()),
            ("AXIS", if self.has_short_trials { "steps: [HALF, STEPS]" } else { "seed: 2" }.to_owned()),
            ("SAME_STEPS", if self.has_short_trials { "" } else { "steps: STEPS," }.to_owned()),
            ("SEEDS", "2".to_owned()),
            ("HALF", (self.steps / 2).to_string()),
            ("STEPS", self.steps.to_string()),
            ("INTERVAL", INTERVAL.to_string()),
        ];
        let text = format!("{DATA}{}", self.script);
        values.into_iter().fold(text, |text, (name, value)| text.replace(name, &value))
    }
}

/// A script in a folder of its own.
struct Program {
    folder: tempfile::TempDir,
    threads: &'static str,
}

/// How a process was ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// It ended well before it could be cut, or in spite of the signal.
    None,
    By(usize),
}

impl Program {
    fn new(work: &Work) -> Self {
        let folder = tempfile::tempdir().unwrap();
        link_scripts(folder.path());
        fs::write(folder.path().join("case.rhai"), work.text()).unwrap();
        Program { folder, threads: work.threads }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn start(&self) -> Child {
        let mut command = lorhai(self.folder.path());
        // Threads that wait for one another must not spin: the processor may be busy.
        command.args(["run", "case.rhai"]).env("OMP_NUM_THREADS", self.threads).env("OMP_WAIT_POLICY", "passive");
        let log = fs::File::create(self.folder.path().join("stderr")).unwrap();
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn run_to_the_end(&self) {
        let status = self.start().wait().unwrap();
        assert!(status.success(), "{}", self.said());
    }

    /// Starts it, and sends a signal once its logs have grown by `rows` rows, after a `pause`.
    fn cut(&self, signal: usize, rows: usize, pause: Duration) -> Cut {
        let mut child = self.start();
        // Logs are first cut to where the run goes on.
        let (began, mut lowest) = (Instant::now(), self.rows());
        loop {
            let now = self.rows();
            lowest = lowest.min(now);
            if now > lowest + rows || child.try_wait().unwrap().is_some() {
                break;
            }
            assert!(began.elapsed() < 3 * PATIENCE, "training does not go on: {}", self.said());
            std::thread::sleep(Duration::from_millis(3));
        }
        std::thread::sleep(pause);
        let (number, name) = SIGNALS[signal];
        if child.try_wait().unwrap().is_none() {
            // SAFETY: a child of ours that was not waited for: its number is still its own.
            unsafe { libc::kill(child.id() as libc::pid_t, number) };
        }
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(asked.elapsed() < PATIENCE, "{name} does not end it: {}", self.said());
            std::thread::sleep(Duration::from_millis(3));
        };
        if status.success() {
            return Cut::None;
        }
        if number != libc::SIGKILL {
            assert_eq!(status.code(), Some(128 + number), "{name}: {}", self.said());
        }
        Cut::By(signal)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// The logs of the run, or of all trials, by the names of checkpoints.
    fn logs(&self) -> BTreeMap<String, PathBuf> {
        let logs = files_below(&self.out()).into_iter().filter(|path| path.ends_with("metrics.jsonl"));
        let name = |path: &Path| match path.parent().filter(|folder| *folder != self.out()) {
            Some(folder) => folder.file_name().unwrap().to_string_lossy().into_owned(),
            None => "run".to_owned(),
        };
        logs.map(|path| (name(&path), path)).collect()
    }

    /// Rows in all logs.
    fn rows(&self) -> usize {
        let lines =
            |path: PathBuf| fs::read(path).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count());
        self.logs().into_values().map(lines).sum()
    }

    /// The most steps of a run or a trial that are in its log and not in a checkpoint: what it would take again.
    fn lost(&self) -> u64 {
        let checkpoints = self.out().join("checkpoints");
        let groups = fs::read_dir(&checkpoints).into_iter().flatten().map(|entry| entry.unwrap().path());
        let mut saved: BTreeMap<String, u64> = BTreeMap::new();
        for folder in groups.chain([self.out()]) {
            let Some((_, newest)) = folder::list(&folder).into_iter().next() else { continue };
            for run in Checkpoint::read(&newest).expect("a checkpoint is whole").runs {
                let step = run.state.numbers.position.steps;
                saved.entry(run.name).and_modify(|known| *known = step.max(*known)).or_insert(step);
            }
        }
        let logged = |path: &Path| read_metrics(path).unwrap().last().map_or(0, |row| row.step);
        // A finished trial has nothing to lose.
        let unfinished = self.logs().into_iter().filter(|(_, log)| !log.with_file_name("result.json").exists());
        let lost = unfinished.map(|(name, log)| logged(&log).saturating_sub(saved.get(&name).copied().unwrap_or(0)));
        lost.max().unwrap_or(0)
    }

    /// What it leaves.
    fn result(&self) -> BTreeMap<String, Vec<u8>> {
        let files = content(&self.out());
        // The folder that it was started in, which differs.
        files.into_iter().filter(|(name, _)| !name.ends_with("origin.json")).collect()
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// What was counted.
#[derive(Default)]
struct Counts {
    cuts: usize,
    by_signal: [usize; SIGNALS.len()],
    /// Programs that ended with the expected bytes.
    ends: usize,
    /// Those of them whose last checkpoint, with the optimizer's moments, is of the expected step and has its bytes.
    states: usize,
    /// The most steps that a cut lost.
    lost: u64,
}

/// Runs `work` whole, and then with cuts at random moments until there were `cuts` of them, `per_program` in each
/// program. Each program's files are compared at its end.
fn cut_at_random(work: &Work, cuts: usize, per_program: usize, seed: u64, counts: &mut Counts) {
    let whole = Program::new(work);
    whole.run_to_the_end();
    let expected = whole.result();
    let trials = whole.logs().len() as u64;
    // A program reaches its end after about so many cuts.
    let rows = (work.steps * trials) as f64 / per_program as f64;
    let (key, goal) = (Key::new(seed), counts.cuts + cuts);
    for round in 0.. {
        let (program, cut_before) = (Program::new(work), counts.cuts);
        while counts.cuts < goal.min(cut_before + per_program) {
            let key = key.numbered(round).numbered(counts.cuts as u64);
            let (rows, pause) = ((rows * key.uniform(0)) as usize, Duration::from_secs_f64(0.03 * key.uniform(1)));
            let Cut::By(signal) = program.cut(counts.cuts % SIGNALS.len(), rows, pause) else { break };
            let lost = program.lost();
            // A stop loses nothing; but the log of a group that was only beginning has what an earlier cut left.
            let is_of_trials = work.script != TRAIN;
            let most = if SIGNALS[signal].0 == libc::SIGKILL || is_of_trials { INTERVAL } else { 0 };
            assert!(lost <= most, "{lost} steps are lost by {}: {}", SIGNALS[signal].1, program.said());
            counts.lost = counts.lost.max(lost);
            (counts.cuts, counts.by_signal[signal]) = (counts.cuts + 1, counts.by_signal[signal] + 1);
        }
        program.run_to_the_end();
        let (mut result, mut expected) = (program.result(), expected.clone());
        let is_state = |name: &String| name.starts_with("checkpoint-");
        if result.keys().filter(|name| is_state(name)).eq(expected.keys().filter(|name| is_state(name))) {
            counts.states += usize::from(expected.keys().any(is_state));
        } else {
            // It was stopped in its last evaluation, which saves a later one.
            result.retain(|name, _| !is_state(name));
            expected.retain(|name, _| !is_state(name));
        }
        let difference = difference(&result, &expected);
        assert_eq!(difference, None, "after {} cuts", counts.cuts - cut_before);
        counts.ends += 1;
        if counts.cuts == goal {
            break;
        }
        assert!(round < 20 || counts.cuts > cut_before, "it always ends before it is cut");
    }
}

/// Cuts each of `works` as often as the others, and prints what was counted.
fn cut_all(name: &str, works: &[Work], cuts: usize, seed: u64) {
    let (started, mut counts) = (Instant::now(), Counts::default());
    for (number, work) in works.iter().enumerate() {
        let share = cuts * (number + 1) / works.len() - cuts * number / works.len();
        cut_at_random(work, share, 5, 100 * self::seed() + seed + number as u64, &mut counts);
    }
    let Counts { cuts: done, by_signal, ends, states, lost } = counts;
    let by_signal: Vec<String> =
        SIGNALS.iter().zip(by_signal).map(|((_, name), count)| format!("{count} {name}")).collect();
    println!(
        "{name}: {done}/{cuts} cuts ({}), {ends} programs ended with the same bytes, {states} with the same optimizer state; \
         at most {lost} steps lost, \
         with {INTERVAL} between checkpoints; {:.0} s",
        by_signal.join(", "),
        started.elapsed().as_secs_f64()
    );
}

/// `make soak-resume` says how many.
fn cuts() -> Option<usize> {
    std::env::var("LORHAI_CUTS").ok().and_then(|text| text.parse().ok())
}

/// Chooses other moments.
fn seed() -> u64 {
    std::env::var("LORHAI_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[test]
fn a_run_that_is_cut_at_random_ends_with_the_same_bytes() {
    let packed_in_four_bits = Work::train();
    let padded = Work { in_four_bits: false, is_packed: false, ..Work::train() };
    match cuts() {
        Some(cuts) => cut_all("train", &[packed_in_four_bits, padded], cuts, 1),
        None => cut_all("train", &[packed_in_four_bits], SIGNALS.len(), 1),
    }
}

#[test]
fn a_sweep_that_is_cut_at_random_ends_with_the_same_bytes() {
    let in_four_bits = Work { in_four_bits: true, ..Work::sweep() };
    let of_two_lengths = Work { has_short_trials: true, is_packed: false, ..Work::sweep() };
    match cuts() {
        Some(cuts) => cut_all("sweep of six trials", &[Work::sweep(), in_four_bits, of_two_lengths], cuts, 2),
        None => cut_all("sweep of six trials", &[Work { steps: 16, ..of_two_lengths }], 2, 2),
    }
}

#[test]
fn a_sweep_with_pruning_that_is_cut_at_random_ends_with_the_same_bytes() {
    let work = Work { script: PRUNED, is_packed: false, ..Work::sweep() };
    match cuts() {
        Some(cuts) => cut_all("sweep with pruning", &[work], cuts, 5),
        None => cut_all("sweep with pruning", &[work], SIGNALS.len(), 5),
    }
}

#[test]
#[ignore = "needs LORHAI_ASSETS: a pretrained model"]
fn a_pretrained_model_that_is_cut_at_random_ends_with_the_same_bytes() {
    let model = needs::assets("models/stories260K");
    // Its tokens are short.
    let train = Work { model: model.clone(), max_length: 256, ..Work::train() };
    let sweep = Work { model, max_length: 256, ..Work::sweep() };
    let cuts = cuts().unwrap_or(SIGNALS.len());
    cut_all("train, pretrained", &[train], cuts, 3);
    cut_all("sweep of six trials, pretrained", &[sweep], cuts, 4);
}
