//! The real program, stopped and killed in the middle of a sweep: nothing is lost, and run
//! again it ends with the results of an undisturbed run. `tests/sweep/crash.rs` does the same
//! at every single change on disk, with trials that train nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::link_scripts;
use common::program::lorhai;
use lorhai::random::Key;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One at a time: each measures how long the program takes.
static ALONE: Mutex<()> = Mutex::new(());

fn start(folder: &Path, steps: u32) -> Child {
    link_scripts(folder);
    let mut command = lorhai(folder);
    command.args(["run", "--quiet", "scripts/rank_sweep.rhai"]);
    for setting in ["ranks=2,4,8", "seeds=2", "batch=4", "dtype=f32", "out=runs/x", &format!("steps={steps}")] {
        command.args(["--set", setting]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn results(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("runs/x/results.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap().clone()
}

/// Columns that depend on the clock say nothing; numbers may differ by rounding, for a trial
/// may have had other company.
fn assert_same(found: &[Value], expected: &[Value]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        for (column, value) in expected.as_object().unwrap() {
            if lorhai::sweep::columns::is_time(column) {
                continue;
            }
            let same = match (found[column].as_f64(), value.as_f64()) {
                (Some(found), Some(expected)) => (found - expected).abs() <= 1e-5 * expected.abs(),
                _ => found[column] == *value,
            };
            assert!(same, "{column}: expected {value}, found {}", found[column]);
        }
    }
}

#[test]
fn killed_four_times_it_ends_with_the_same_results() {
    let _alone = ALONE.lock();
    let undisturbed = tempfile::tempdir().unwrap();
    let started = Instant::now();
    assert!(start(undisturbed.path(), 30).wait().unwrap().success());
    let whole = started.elapsed();
    let expected = results(undisturbed.path());
    let folder = tempfile::tempdir().unwrap();
    let mut killed = 0;
    for round in 0..4 {
        let mut child = start(folder.path(), 30);
        // Not beyond the middle: a run that ends before it is killed leaves nothing to kill.
        std::thread::sleep(whole.mul_f64(0.02 + 0.5 * Key::new(3).uniform(round)));
        killed += u32::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
        // Whatever is there is whole.
        if folder.path().join("runs/x/results.json").exists() {
            results(folder.path());
        }
    }
    assert!(start(folder.path(), 30).wait().unwrap().success());
    println!("killed {killed} times");
    assert!(killed > 0, "the machine is too uneven: no run was killed in time");
    assert_same(&results(folder.path()), &expected);
    let parts = std::fs::read_dir(folder.path().join("runs/x")).unwrap();
    let left = parts.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".part-"));
    assert_eq!(left.count(), 0, "leftovers of killed runs are removed");
}

#[test]
fn signals_stop_soon_with_their_codes_and_whole_files() {
    let _alone = ALONE.lock();
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143), (libc::SIGHUP, 129), (libc::SIGUSR1, 138)] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(folder.path(), 100_000);
        let trial = until_it_trains(folder.path());
        send(&child, signal);
        let asked = Instant::now();
        let status = child.wait().unwrap();
        println!("signal {signal}: stopped after {:.2} s", asked.elapsed().as_secs_f64());
        assert_eq!(status.code(), Some(code));
        assert!(asked.elapsed() < Duration::from_secs(10));
        for row in std::fs::read_to_string(&trial).unwrap().lines() {
            serde_json::from_str::<Value>(row).expect("every line of the log is whole");
        }
        assert!(results(folder.path()).is_empty(), "no trial is finished");
    }
}

/// A script that hears the flag, but whose work does not end by it: what a second signal does shows.
const DEAF: &str = r#"
let row = [];
let column = [];
for i in 0..7000 { row.push(1.0); column.push([1.0]); }
let square = tensor(column).matmul(tensor([row]));
print("ready");
square.matmul(square);
"#;

#[test]
fn a_second_signal_ends_the_program_at_once() {
    let _alone = ALONE.lock();
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let (_folder, mut child) = start_script(DEAF);
        std::thread::sleep(Duration::from_millis(100));
        send(&child, signal);
        std::thread::sleep(Duration::from_millis(150));
        assert!(child.try_wait().unwrap().is_none(), "the machine is too fast for this test");
        send(&child, signal);
        let asked = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(asked.elapsed() < Duration::from_millis(1000), "{:?}", asked.elapsed());
    }
}

#[test]
fn a_worker_is_not_ended_by_a_second_sigterm() {
    let _alone = ALONE.lock();
    let (_folder, mut child) = start_script_with(DEAF, &["--shared"]);
    std::thread::sleep(Duration::from_millis(100));
    // As a job's script passes a signal on that Slurm also sends to the worker, some time later.
    for signal in [libc::SIGUSR1, libc::SIGTERM, libc::SIGTERM] {
        send(&child, signal);
        std::thread::sleep(Duration::from_millis(150));
        assert!(child.try_wait().unwrap().is_none(), "ended at once, or the machine is too fast for this test");
    }
    // By hand it can still be ended.
    send(&child, libc::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(138));
}

/// A script that can be stopped at any moment.
const ENDLESS: &str = r#"print("ready"); loop { }"#;

#[test]
fn one_signal_sent_twice_counts_once() {
    let _alone = ALONE.lock();
    // As `timeout` and closed terminals do.
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGHUP, 129)] {
        let (_folder, child) = start_script(ENDLESS);
        send(&child, signal);
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        // It ended in order, with a message.
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(errors.starts_with("stopped: stopped by SIG"), "{errors}");
    }
}

#[test]
fn below_nohup_a_closed_terminal_stops_nothing() {
    use std::os::unix::process::CommandExt;
    let _alone = ALONE.lock();
    let folder = common::files::folder_with_script(ENDLESS);
    let mut command = lorhai(folder.path());
    command.args(["run", "case.rhai"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: between fork and exec one call that is allowed there.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        })
    };
    let mut child = command.spawn().unwrap();
    until_it_is_ready(&mut child);
    send(&child, libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none());
    send(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_closed_stderr_ends_nothing_and_a_closed_stdout_stops_in_order() {
    let _alone = ALONE.lock();
    // Notes go nowhere; the script runs to its end.
    let script = r#"
        let base = load_model("scripts/tiny", #{ dtype: "f32" });
        let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(base, #{});
        base.add_lora(#{ r: 2 });
        print("ready");
        train(base, data, #{ steps: 30, batch: 1, log_every: 1, out: "runs/x" });
        write_text("end", "end");"#;
    let (folder, mut child) = start_script(script);
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert!(folder.path().join("end").is_file());
    // As `lorhai run case.rhai | head -1`.
    let (_folder, mut child) = start_script(r#"print("ready"); loop { print("more"); }"#);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(128 + 13), ""));
}

fn send(child: &Child, signal: libc::c_int) {
    // SAFETY: a child of ours that was not waited for: its number is still its own.
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
}

/// Runs a script that prints "ready" first, and waits for that.
fn start_script(script: &str) -> (tempfile::TempDir, Child) {
    start_script_with(script, &[])
}

fn start_script_with(script: &str, options: &[&str]) -> (tempfile::TempDir, Child) {
    let folder = common::files::folder_with_script(script);
    let mut command = lorhai(folder.path());
    let mut child =
        command.args(["run", "case.rhai"]).args(options).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until_it_is_ready(&mut child);
    (folder, child)
}

fn until_it_is_ready(child: &mut Child) {
    let mut first = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"ready\n");
}

/// The log of the first trial, once there is something in it.
fn until_it_trains(folder: &Path) -> PathBuf {
    let trial = folder.join("runs/x/rank-2_seed-0/metrics.jsonl");
    let patience = Instant::now();
    while !std::fs::metadata(&trial).is_ok_and(|file| file.len() > 0) {
        assert!(patience.elapsed() < Duration::from_secs(60), "training does not begin");
        std::thread::sleep(Duration::from_millis(50));
    }
    trial
}
