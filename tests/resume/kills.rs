//! The real program, killed and stopped at random moments, and run again until it ends.

use super::common::files::link_scripts;
use super::common::program::lorhai;
use super::logs::{content, difference};
use lorhai::random::Key;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One at a time: each needs the processor.
static ALONE: Mutex<()> = Mutex::new(());

const TRAIN: &str = r#"
let model = load_model("scripts/tiny", #{ device: "cpu", dtype: "f32", QUANTIZATION });
model.add_lora(#{ r: 8, alpha: 16, dropout: 0.1, target_modules: "all-linear" });
let data = load_dataset("scripts/tiny/pretrain.jsonl").take(300)
    .tokenize(model, #{ max_length: 64, packing: true }).split(#{ test: 0.1 });
train(model, data, #{ steps: STEPS, batch: 2, accumulation: 2, lr: 1e-3, log_every: 1, eval_every: 16, keep_best: true,
                      save_every: 7, out: "out" });
"#;

const SWEEP: &str = r#"
let model = load_model("scripts/tiny", #{ device: "cpu", dtype: "f32", QUANTIZATION });
let data = load_dataset("scripts/tiny/pretrain.jsonl").take(300)
    .tokenize(model, #{ max_length: 64, packing: true }).split(#{ test: 0.1 });
sweep(model, data, #{
    grid: #{ rank: [2, 4, 8], seed: 2 },
    lora: #{ dropout: 0.1, target_modules: "all-linear" },
    train: #{ steps: STEPS, batch: 2, accumulation: 2, lr: 1e-3, log_every: 1, eval_every: 16 },
    save_every: 7, out: "out", charts: false });
"#;

const SIGNALS: [libc::c_int; 4] = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// A script in a folder of its own.
struct Program {
    folder: tempfile::TempDir,
    threads: &'static str,
}

impl Program {
    fn new(script: &str, steps: u64, in_four_bits: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        link_scripts(folder.path());
        let quantization = if in_four_bits { "load_in_4bit: true" } else { "" };
        let text = script.replace("STEPS", &steps.to_string()).replace("QUANTIZATION", quantization);
        fs::write(folder.path().join("case.rhai"), text).unwrap();
        // Trials of a sweep are spread over threads.
        let threads = if script == SWEEP { "2" } else { "1" };
        Program { folder, threads }
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

    /// Starts it, and cuts it off while it trains: false if it ended before.
    fn is_cut(&self, key: Key) -> bool {
        let mut child = self.start();
        // It trains when its logs grow: they are first cut to where the run goes on.
        let (patience, mut lowest) = (Instant::now(), self.rows());
        loop {
            let rows = self.rows();
            lowest = lowest.min(rows);
            if rows > lowest + (2.0 * key.uniform(0)) as usize || child.try_wait().unwrap().is_some() {
                break;
            }
            assert!(patience.elapsed() < Duration::from_secs(300), "training does not begin: {}", self.said());
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_secs_f64(0.15 * key.uniform(1)));
        let signal = SIGNALS[(4.0 * key.uniform(2)) as usize];
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        // SAFETY: a child of ours that was not waited for: its number is still its own.
        unsafe { libc::kill(child.id() as libc::pid_t, signal) };
        let status = child.wait().unwrap();
        if signal != libc::SIGKILL && !status.success() {
            assert_eq!(status.code(), Some(128 + signal), "{}", self.said());
        }
        !status.success()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Rows in all logs.
    fn rows(&self) -> usize {
        let logs = files_below(&self.out()).into_iter().filter(|path| path.ends_with("metrics.jsonl"));
        logs.map(|path| fs::read(path).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count())).sum()
    }

    /// What it leaves, without what may be left over from processes that were killed.
    fn result(&self) -> std::collections::BTreeMap<String, Vec<u8>> {
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

/// Runs the script whole, and then again and again with cuts at random moments until there were `cuts` of them. Each time
/// that it ends, its files are compared.
fn cut_at_random(script: &str, steps: u64, in_four_bits: bool, cuts: usize, seed: u64) {
    let whole = Program::new(script, steps, in_four_bits);
    let status = whole.start().wait().unwrap();
    assert!(status.success(), "{}", whole.said());
    let expected = whole.result();
    let (key, mut cut) = (Key::new(seed), 0);
    for round in 0.. {
        let program = Program::new(script, steps, in_four_bits);
        let cut_before = cut;
        while cut < cuts && program.is_cut(key.numbered(round).numbered(cut as u64)) {
            cut += 1;
        }
        let status = program.start().wait().unwrap();
        assert!(status.success(), "{}", program.said());
        assert_eq!(difference(&program.result(), &expected), None, "after {} cuts", cut - cut_before);
        if cut == cuts {
            break;
        }
        assert!(round < 20 || cut > cut_before, "it always ends before it is cut");
    }
}

#[test]
fn a_run_that_is_cut_five_times_ends_with_the_same_bytes() {
    let _alone = ALONE.lock();
    cut_at_random(TRAIN, 300, false, 5, 1);
}

#[test]
fn a_sweep_that_is_cut_five_times_ends_with_the_same_bytes() {
    let _alone = ALONE.lock();
    cut_at_random(SWEEP, 100, false, 5, 2);
}

#[test]
#[ignore = "takes minutes: run it before a release"]
fn fifty_cuts_of_runs_and_fifty_of_sweeps() {
    let _alone = ALONE.lock();
    for (script, steps, what) in [(TRAIN, 300, "train"), (SWEEP, 100, "sweep")] {
        for part in 0..5 {
            cut_at_random(script, steps, part % 2 == 1, 10, 100 + part);
            println!("{what}: {} of {} cuts ended with the same bytes", 10 * (part + 1), 10 * (part + 1));
        }
    }
}
