//! The real program, stopped and killed in the middle of a sweep: nothing is lost, and run
//! again it ends with the results of an undisturbed run. `tests/sweep/crash.rs` does the same
//! at every single change on disk, with trials that train nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::link_scripts;
use common::program::lorhai;
use lorhai::random::Key;
use serde_json::Value;
use std::path::Path;
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
fn killed_ten_times_it_ends_with_the_same_results() {
    let _alone = ALONE.lock();
    let undisturbed = tempfile::tempdir().unwrap();
    let started = Instant::now();
    assert!(start(undisturbed.path(), 30).wait().unwrap().success());
    let whole = started.elapsed();
    let expected = results(undisturbed.path());
    let folder = tempfile::tempdir().unwrap();
    let mut killed = 0;
    for round in 0..10 {
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
    assert!(killed > 2, "the machine is too uneven: {killed} of 10 runs were killed in time");
    assert_same(&results(folder.path()), &expected);
    let parts = std::fs::read_dir(folder.path().join("runs/x")).unwrap();
    let left = parts.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".part-"));
    assert_eq!(left.count(), 0, "leftovers of killed runs are removed");
}

#[test]
fn ctrl_c_stops_soon_with_130_and_whole_files() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), 100_000);
    let trial = folder.path().join("runs/x/rank-2_seed-0/metrics.jsonl");
    let patience = Instant::now();
    while !std::fs::metadata(&trial).is_ok_and(|file| file.len() > 0) {
        assert!(patience.elapsed() < Duration::from_secs(60), "training does not begin");
        std::thread::sleep(Duration::from_millis(50));
    }
    // SAFETY: a child of ours that was not waited for: its number is still its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    let asked = Instant::now();
    let status = child.wait().unwrap();
    println!("stopped after {:.2} s", asked.elapsed().as_secs_f64());
    assert_eq!(status.code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(10));
    for row in std::fs::read_to_string(&trial).unwrap().lines() {
        serde_json::from_str::<Value>(row).expect("every line of the log is whole");
    }
    assert!(results(folder.path()).is_empty(), "no trial is finished");
}
