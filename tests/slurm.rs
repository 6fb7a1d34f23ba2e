//! A sweep as an array of a real Slurm: `make slurm-test` starts one (tests/slurm/cluster.py) and runs these tests in it.
//!
//! However its tasks are stopped, killed, requeued and cancelled, the sweep ends as in one process that nobody disturbed:
//! with the same bytes, apart from times and places.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "resume/logs.rs"]
mod logs;

use common::files::{link_scripts, read_json};
use common::program::{finished, lorhai};
use logs::{content, difference};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// 24 trials, which train side by side.
const SCRIPT: &str = r#"
let cfg = args(#{ steps: 60, out: "runs/ranks" });
let model = load_model("scripts/tiny", #{ device: "cpu", dtype: "f32" });
let data = load_dataset("scripts/tiny/pretrain.jsonl").take(120)
    .tokenize(model, #{ max_length: 64 }).split(#{ test: 0.1 });
sweep(model, data, #{
    grid: #{ rank: [2, 4, 8], lr: [1e-3, 3e-3], seed: 4 },
    lora: #{ dropout: 0.1, target_modules: "all-linear" },
    train: #{ steps: cfg.steps, batch: 4, log_every: 1, eval_every: 20 },
    save_every: 5, charts: false, out: cfg.out });
"#;
const TRIALS: usize = 24;
/// The same number, as functions of the script with loops of their own.
const LOOPS: &str = r#"
sweep(#{ grid: #{ x: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], seed: 2 }, out: "runs/ranks", trial: |point, run| {
    let at = run.resume(#{ step: 0 });
    while at.step < 20 {
        sleep(0.05);
        at.step += 1;
        run.log(at.step, #{ loss: (point.seed + 1.0) / at.step });
        run.checkpoint(at);
    }
    #{ score: point.x }
} });
"#;
const OUT: &str = "runs/ranks";
/// Builds run on the same machine.
const PATIENCE: Duration = Duration::from_secs(400);

/// A working folder with the script.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new(script: &str) -> Self {
        let desk = Desk { folder: tempfile::tempdir().unwrap() };
        link_scripts(desk.path());
        fs::write(desk.path().join("ranks.rhai"), script).unwrap();
        desk
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn out(&self) -> PathBuf {
        self.path().join(OUT)
    }

    fn lorhai(&self, arguments: &[&str]) -> String {
        let end = finished(lorhai(self.path()).args(arguments).env("LORHAI_STALE_AFTER", "10"));
        assert_eq!(end.code, Some(0), "{arguments:?}: {}{}", end.errors, self.logs());
        end.output
    }

    /// Submits four tasks, two at once; returns the number of the array.
    fn submit(&self, options: &[&str]) -> String {
        let text =
            self.lorhai(&[&["submit", "slurm", "ranks.rhai", "--throttle", "2", "--cpus", "1"], options].concat());
        let line = text.lines().next().unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    }

    /// The number of trials that are over.
    fn over(&self) -> usize {
        let entries = fs::read_dir(self.out()).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().join("result.json").is_file()).count()
    }

    /// The last step that a trial logged which is being trained.
    fn step(&self) -> u64 {
        let folders = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let trials = folders(self.out().join(".work")).flat_map(folders);
        let step = |trial: PathBuf| {
            let log = fs::read_to_string(trial.join("metrics.jsonl")).unwrap_or_default();
            let row: Value = serde_json::from_str(log.lines().next_back()?).ok()?;
            row["step"].as_u64()
        };
        trials.filter_map(step).max().unwrap_or(0)
    }

    /// The processes of the workers.
    fn processes(&self) -> Vec<i32> {
        let files = fs::read_dir(self.out().join("workers")).into_iter().flatten().flatten();
        let read = |path: PathBuf| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
        files.filter_map(|file| read(file.path())?["process"]["pid"].as_i64()).map(|pid| pid as i32).collect()
    }

    fn wait_for(&self, what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            let queue = slurm(&["squeue", "-r"]);
            assert!(begun.elapsed() < PATIENCE, "no {what} after {PATIENCE:?}\n{queue}{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the tasks wrote.
    fn logs(&self) -> String {
        let entries = fs::read_dir(self.out().join("slurm")).into_iter().flatten().flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "log"));
        logs.map(|entry| format!("{}\n{}\n", entry.path().display(), fs::read_to_string(entry.path()).unwrap()))
            .collect()
    }

    /// The trials' folders and the results, without times and places.
    fn results(&self) -> BTreeMap<String, Vec<u8>> {
        let marker = read_json(self.out().join("sweep.json"));
        let mut all = BTreeMap::new();
        for name in marker["trials"].as_object().unwrap().keys() {
            let of_trial = content(&self.out().join(name)).into_iter();
            all.extend(of_trial.map(|(file, bytes)| (format!("{name}/{file}"), without_place(&file, bytes))));
        }
        assert_eq!(marker["trials"].as_object().unwrap().len(), TRIALS);
        let rows = read_json(self.out().join("results.json"));
        let rows = rows.as_array().unwrap().iter().map(|row| {
            let mut row = row.as_object().unwrap().clone();
            row.retain(|name, _| !lorhai::sweep::columns::is_time(name) && name != "place");
            Value::Object(row)
        });
        all.insert("results.json".into(), Value::Array(rows.collect()).to_string().into_bytes());
        all
    }

    /// Compares the results with those of one process.
    fn ensure_same_as_one_process(&self) {
        self.ensure_same(&results_of_one_process(&fs::read_to_string(self.path().join("ranks.rhai")).unwrap()));
    }

    fn ensure_same(&self, expected: &BTreeMap<String, Vec<u8>>) {
        if let Some(difference) = difference(&self.results(), expected) {
            panic!("{difference}\n{}", self.logs());
        }
    }
}

fn results_of_one_process(script: &str) -> BTreeMap<String, Vec<u8>> {
    let desk = Desk::new(script);
    desk.lorhai(&["run", "ranks.rhai", "--threads", "1", "--quiet"]);
    desk.results()
}

/// `origin.json` has the working folder.
fn without_place(file: &str, bytes: Vec<u8>) -> Vec<u8> {
    let key = match file {
        "result.json" => "place",
        "origin.json" => "folder",
        _ => return bytes,
    };
    let mut record: Value = serde_json::from_slice(&bytes).unwrap();
    record.as_object_mut().unwrap().remove(key);
    record.to_string().into_bytes()
}

/// Runs one of Slurm's commands, and returns what it prints.
fn slurm(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs Slurm ({error}): run `make slurm-test`"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The tasks of a job in this state, as `17_3`.
fn tasks(job: &str, state: &str) -> Vec<String> {
    let all = slurm(&["squeue", "--noheader", "--array", "--format=%F_%K %T"]);
    let tasks = all.lines().filter_map(|line| line.trim().split_once(' '));
    let of_job = tasks.filter(|(task, found)| task.starts_with(&format!("{job}_")) && *found == state);
    of_job.map(|(task, _)| task.to_owned()).collect()
}

fn is_in_queue(job: &str) -> bool {
    slurm(&["squeue", "--noheader", "--format=%F"]).lines().any(|line| line.trim() == job)
}

fn restarts(task: &str) -> u32 {
    let text = slurm(&["scontrol", "show", "job", task]);
    let word = text.split_whitespace().find_map(|word| word.strip_prefix("Restarts=")).unwrap();
    word.parse().unwrap()
}

/// Waits until a task has been requeued so many times, and starts it again.
fn wait_for_restart(desk: &Desk, task: &str, count: u32) {
    desk.wait_for("task that was requeued", || restarts(task) == count);
    desk.wait_for("task that left its node", || slurm(&["scontrol", "show", "job", task]).contains("JobState=PENDING"));
    start_again(task);
}

/// Waits until all tasks of a job have ended; starts those again that are requeued meanwhile.
fn wait_for_end(desk: &Desk, job: &str) {
    desk.wait_for("end", || {
        tasks(job, "PENDING").iter().for_each(|task| start_again(task));
        !is_in_queue(job)
    });
}

/// Slurm starts a task that was requeued two minutes later. Within a second the node would refuse the credential of the new
/// run, which it takes for the one that was revoked.
fn start_again(task: &str) {
    std::thread::sleep(Duration::from_secs(3));
    let _ = Command::new("scontrol").args(["update", &format!("JobId={task}"), "StartTime=now"]).output();
}

/// Sends a signal to the script of a task, as Slurm does ahead of the limit.
fn signal_script(task: &str) {
    // This version sends it and says that it did not; `scancel` then tries again for a minute.
    let command = ["timeout", "1", "scancel", "--signal=USR1", "--batch", task];
    let _ = Command::new(command[0]).args(&command[1..]).output();
}

#[test]
#[ignore = "needs Slurm: run `make slurm-test`"]
fn an_array_that_is_disturbed_ends_as_one_process_on_slurm() {
    let desk = Desk::new(SCRIPT);
    let job = desk.submit(&[]);
    desk.wait_for("two tasks at work", || desk.processes().len() == 2);
    assert_eq!((tasks(&job, "RUNNING").len(), tasks(&job, "PENDING").len()), (2, 2), "throttled to two");
    let state = desk.lorhai(&["status", OUT]);
    assert!(
        state.contains(&format!("{TRIALS} trials: ")) && state.contains("  moves  ") && state.contains("pending"),
        "{state}"
    );

    // As ahead of the time limit.
    desk.wait_for("step 10", || desk.step() >= 10);
    let requeued = tasks(&job, "RUNNING").remove(0);
    signal_script(&requeued);
    wait_for_restart(&desk, &requeued, 1);
    assert!(desk.over() < TRIALS);

    // As the kernel does it where memory runs out.
    desk.wait_for("step 20", || desk.step() >= 20 && !desk.processes().is_empty());
    let killed = desk.processes()[0];
    // SAFETY: sends a signal to a process that this test started.
    assert_eq!(unsafe { libc::kill(killed, libc::SIGKILL) }, 0);
    desk.wait_for("worker beside the killed one", || desk.processes().iter().any(|pid| *pid != killed));

    // As an administrator does it.
    desk.wait_for("step 30", || desk.step() >= 30 && !tasks(&job, "RUNNING").is_empty());
    let by_hand = tasks(&job, "RUNNING").remove(0);
    let before = restarts(&by_hand);
    slurm(&["scontrol", "requeue", &by_hand]);
    wait_for_restart(&desk, &by_hand, before + 1);

    desk.wait_for("step 40", || desk.step() >= 40 && !tasks(&job, "RUNNING").is_empty());
    assert!(desk.over() < TRIALS, "cancelled too late");
    let text = desk.lorhai(&["cancel", OUT]);
    assert!(text.starts_with(&format!("cancelled job {job}: ")), "{text}");
    desk.wait_for("empty queue", || !is_in_queue(&job));
    let over = desk.over();
    assert!(over < TRIALS, "{over} trials");

    let again = desk.submit(&[]);
    assert_ne!(again, job);
    wait_for_end(&desk, &again);
    assert_eq!(desk.over(), TRIALS, "{}", desk.logs());
    let state = desk.lorhai(&["status", OUT]);
    assert!(
        state.contains(&format!("{TRIALS} trials: {TRIALS} finished\n")) && state.contains("none waits or runs"),
        "{state}"
    );
    desk.ensure_same_as_one_process();
}

#[test]
#[ignore = "needs Slurm: run `make slurm-test`"]
fn a_task_goes_on_behind_its_time_limit_on_slurm() {
    // Sleeps for 48 s, so that the notice comes before the end on machines of any speed.
    let script = LOOPS.replace("step < 20", "step < 40");
    let desk = Desk::new(&script);
    let alone = std::thread::spawn(move || results_of_one_process(&script));
    // Slurm's limits are whole minutes, and its notice may come early.
    let job = desk.submit(&["--tasks", "1", "--time", "2", "--sbatch", "--signal=B:USR1@90"]);
    wait_for_restart(&desk, &format!("{job}_0"), 1);
    assert!(desk.over() < TRIALS, "over before the limit");
    let logs = desk.logs();
    assert!(logs.contains("stopped by SIGUSR1"), "{logs}");
    wait_for_end(&desk, &job);
    assert_eq!(desk.over(), TRIALS, "{}", desk.logs());
    desk.ensure_same(&alone.join().unwrap());
}

#[test]
#[ignore = "needs Slurm: run `make slurm-test`"]
fn a_task_gives_way_to_an_urgent_job_and_goes_on_on_slurm() {
    let desk = Desk::new(SCRIPT);
    let job = desk.submit(&["--tasks", "2"]);
    desk.wait_for("two tasks at work", || desk.processes().len() == 2);
    slurm(&["sbatch", "--partition=urgent", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 2"]);
    (0..2).for_each(|task| wait_for_restart(&desk, &format!("{job}_{task}"), 1));
    wait_for_end(&desk, &job);
    assert_eq!((desk.over(), restarts(&format!("{job}_0"))), (TRIALS, 1), "{}", desk.logs());
    desk.ensure_same_as_one_process();
}

#[test]
#[ignore = "needs Slurm: run `make slurm-test`"]
fn loops_of_a_script_go_on_on_slurm() {
    let desk = Desk::new(LOOPS);
    let job = desk.submit(&["--tasks", "2"]);
    desk.wait_for("some trials", || desk.over() > 4);
    signal_script(&format!("{job}_1"));
    wait_for_restart(&desk, &format!("{job}_1"), 1);
    wait_for_end(&desk, &job);
    assert_eq!(desk.over(), TRIALS, "{}", desk.logs());
    desk.ensure_same_as_one_process();
}
