//! The sweep in a process of its own that is killed, starved of disk or of permission,
//! and then run again to its end: the results must be those of an undisturbed sweep.

use crate::fake::{self, plan};
use crate::process::{alone, with_fault, End, Fault, Process};
use lorhai::random::Key;
use lorhai::sweep::{Event, Plan, SweepResult, Trial};
use lorhai::Kind;
use serde_json::{json, Value};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

const DONE: i32 = 0;
const FILE_ERROR: i32 = 10;
const OTHER_ERROR: i32 = 11;

/// The body of a forked process: runs the plan, pausing between the writes; an error
/// goes to the file `error` beside `out`.
fn sweep(plan: &Plan, pause: Duration) -> i32 {
    let mut step = || std::thread::sleep(pause);
    let mut each = |group: &[&Trial]| group.iter().map(|trial| fake::run_with_steps(trial, &mut step)).collect();
    match lorhai::sweep::run(plan, &mut |_: &Event| {}, &mut |_| Ok(1), &mut each) {
        Ok(_) => DONE,
        Err(error) => {
            let beside = plan.out.with_extension("error");
            fs::write(beside, error.to_string()).unwrap();
            if error.kind == Kind::File {
                FILE_ERROR
            } else {
                OTHER_ERROR
            }
        }
    }
}

fn small(out: &Path) -> Plan {
    plan(out, json!({"rank": [2], "seed": 2}), json!({}))
}

/// As [`small`], with one trial's settings changed.
fn changed(out: &Path) -> Plan {
    plan(out, json!({"rank": [2], "seed": 2}), json!({"rank-2_seed-1": {"train": {"lr": 1.0}}}))
}

/// `results.json` without its time columns.
fn times_apart(out: &Path) -> Value {
    let mut rows: Value = serde_json::from_slice(&fs::read(out.join("results.json")).unwrap()).unwrap();
    for row in rows.as_array_mut().unwrap() {
        row.as_object_mut().unwrap().retain(|column, _| !lorhai::sweep::columns::is_time(column));
    }
    rows
}

fn undisturbed(plan_in: fn(&Path) -> Plan) -> Value {
    let folder = tempfile::tempdir().unwrap();
    fake::run_all(&plan_in(folder.path())).unwrap();
    times_apart(folder.path())
}

/// What is on disk after a crash is whole, and another run ends as if nothing had been.
fn check_and_finish(plan: &Plan, expected: &Value, what: &str) {
    for name in ["results.json", "sweep.json"].iter().filter(|name| plan.out.join(name).exists()) {
        let bytes = fs::read(plan.out.join(name)).unwrap();
        assert!(serde_json::from_slice::<Value>(&bytes).is_ok(), "{what}: {name} is torn");
    }
    if let Err(error) = fake::run_all(plan) {
        panic!("{what}: {error}");
    }
    assert_eq!(&times_apart(&plan.out), expected, "{what}");
    for entry in fs::read_dir(&plan.out).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(!name.starts_with(".part-") && !name.starts_with(".clearing-"), "{what}: {name} was left behind");
    }
    for trial in &plan.trials {
        let rows = lorhai::train::metrics::read_metrics(&trial.metrics_path()).unwrap();
        assert_eq!(rows.len(), 5, "{what}: {}", trial.name);
        assert_eq!(fs::read(trial.adapter_dir().join("adapter_model.safetensors")).unwrap(), [7; 5000], "{what}");
        // config, result, metrics, events, adapter: nothing of the run that was cut off.
        assert_eq!(fs::read_dir(&trial.dir).unwrap().count(), 5, "{what}: {}", trial.name);
    }
    assert_eq!(SweepResult::open(&plan.out).unwrap().rows().len(), plan.trials.len(), "{what}");
}

/// Lets `fault` strike at every change of the disk that the sweep makes, each time in a
/// new folder that `before` made ready, and finishes the sweep after each.
fn at_every_change(fault: Fault, plan_in: fn(&Path) -> Plan, before: &dyn Fn(&Path), judge: &dyn Fn(End, &str, &str)) {
    let expected = undisturbed(plan_in);
    for n in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan_in(&folder.path().join("out"));
        before(&plan.out);
        let Some((end, struck)) = with_fault(n, fault, || sweep(&plan, Duration::ZERO)) else {
            return println!("not traced: this system lets no process trace another");
        };
        if !struck {
            assert_eq!(end, End::Exit(DONE));
            assert!(n > 30, "only {n} changes of the disk seen");
            return println!("{fault:?}: {} points", n - 1);
        }
        let error = fs::read_to_string(plan.out.with_extension("error")).unwrap_or_default();
        let what = format!("{fault:?} at change {n}");
        judge(end, &error, &what);
        check_and_finish(&plan, &expected, &what);
    }
}

fn nothing(_: &Path) {}

#[test]
fn temporary_files_that_another_process_uses_stay() {
    let folder = tempfile::tempdir().unwrap();
    let plan = small(&folder.path().join("out"));
    fs::create_dir(&plan.out).unwrap();
    let used = lorhai::files::TemporaryFolder::beside(&plan.out.join("report")).unwrap();
    fs::write(used.path().join("page"), "in work").unwrap();
    fs::write(plan.out.join(".part-aaaaaa.lorhai"), "left by a killed run").unwrap();
    fs::write(plan.out.join(".part-of-mine"), "kept by the user").unwrap();
    fake::run_all(&plan).unwrap();
    assert_eq!(fs::read_to_string(used.path().join("page")).unwrap(), "in work");
    assert!(!plan.out.join(".part-aaaaaa.lorhai").exists());
    assert!(plan.out.join(".part-of-mine").exists());
}

fn killed(end: End, _: &str, what: &str) {
    assert_eq!(end, End::Signal(libc::SIGKILL), "{what}");
}

/// A trial's own failure is in its row; the sweep's is an error that names a file and a fix.
fn clear(end: End, error: &str, what: &str) {
    match end {
        End::Exit(DONE) => assert!(error.is_empty(), "{what}: {error}"),
        End::Exit(FILE_ERROR) => {
            let clear = error.starts_with("cannot ") && error.contains('`') && error.contains("hint: free some space");
            assert!(clear, "{what}: {error}");
        }
        other => panic!("{what}: {other:?}: {error}"),
    }
}

#[test]
fn killed_before_every_change_on_disk_it_ends_with_the_same_results() {
    alone("crash::killed_before_every_change_on_disk_it_ends_with_the_same_results", || {
        at_every_change(Fault::Kill, small, &nothing, &killed);
    });
}

#[test]
fn killed_while_it_replaces_a_changed_trial_it_ends_with_the_same_results() {
    alone("crash::killed_while_it_replaces_a_changed_trial_it_ends_with_the_same_results", || {
        let before = |out: &Path| {
            fake::run_all(&small(out)).unwrap();
            // Many files, so that `config.json` is hardly the last that is removed.
            (0..16).for_each(|i| fs::write(out.join(format!("rank-2_seed-1/{i}")), "").unwrap());
        };
        at_every_change(Fault::Kill, changed, &before, &killed);
    });
}

#[test]
fn a_full_disk_at_every_change_is_a_clear_error_and_nothing_is_lost() {
    alone("crash::a_full_disk_at_every_change_is_a_clear_error_and_nothing_is_lost", || {
        at_every_change(Fault::Deny(libc::ENOSPC), small, &nothing, &clear);
    });
}

#[test]
fn killed_again_and_again_at_random_times_it_ends_with_the_same_results() {
    alone("crash::killed_again_and_again_at_random_times_it_ends_with_the_same_results", || {
        let large = |out: &Path| plan(out, json!({"rank": [2, 4, 8], "seed": 2}), json!({}));
        let pause = Duration::from_millis(1);
        let folder = tempfile::tempdir().unwrap();
        let started = Instant::now();
        assert_eq!(sweep(&large(folder.path()), pause), DONE);
        let (whole, expected) = (started.elapsed(), times_apart(folder.path()));
        let seed = u64::from(std::process::id());
        let mut kills = 0;
        for round in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let plan = large(folder.path());
            for attempt in 0..10 {
                let process = Process::fork(|| sweep(&plan, pause));
                std::thread::sleep(whole.mul_f64(0.25 * Key::new(seed).numbered(round).uniform(attempt)));
                process.kill();
                kills += usize::from(process.wait() == End::Signal(libc::SIGKILL));
            }
            check_and_finish(&plan, &expected, &format!("seed {seed}, round {round}"));
        }
        println!("killed at {kills} random points");
        assert!(kills >= 30, "only {kills} of 100 kills hit a running sweep");
    });
}

/// Four settings, of which two and one go on.
fn halved(out: &Path) -> Plan {
    plan(out, json!({"rank": [2, 4, 8, 16]}), json!({}))
}

/// `rungs.json` without its times.
fn rungs(out: &Path) -> Value {
    let mut rungs: Value = serde_json::from_slice(&fs::read(out.join("rungs.json")).unwrap()).unwrap();
    for trial in rungs["trials"].as_object_mut().unwrap().values_mut() {
        trial["measurements"].as_object_mut().unwrap().remove("seconds");
    }
    rungs
}

#[test]
fn killed_at_every_change_it_stops_the_same_trials_early() {
    alone("crash::killed_at_every_change_it_stops_the_same_trials_early", || {
        let whole = tempfile::tempdir().unwrap();
        let result = fake::run_pruned(&halved(whole.path()), &mut || {}).unwrap();
        assert_eq!((result.pruned().count(), result.trained), (3, 1));
        for n in 1.. {
            let folder = tempfile::tempdir().unwrap();
            let plan = halved(&folder.path().join("out"));
            let sweep = || i32::from(fake::run_pruned(&plan, &mut || {}).is_err());
            let Some((end, struck)) = with_fault(n, Fault::Kill, sweep) else {
                return println!("not traced: this system lets no process trace another");
            };
            if !struck {
                assert_eq!(end, End::Exit(DONE));
                assert!(n > 100, "only {n} changes of the disk seen");
                return println!("{} points", n - 1);
            }
            fake::run_pruned(&plan, &mut || {}).unwrap();
            assert_eq!(times_apart(&plan.out), times_apart(whole.path()), "killed at change {n}");
            assert_eq!(rungs(&plan.out), rungs(whole.path()), "killed at change {n}");
            let mut again = Vec::new();
            fake::run_pruned(&plan, &mut || again.push(())).unwrap();
            assert!(again.is_empty(), "killed at change {n}: it trains again");
        }
    });
}

#[test]
fn a_folder_without_permission_is_a_clear_error() {
    alone("crash::a_folder_without_permission_is_a_clear_error", || {
        let folder = tempfile::tempdir().unwrap();
        let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o555);
        let plan = small(&folder.path().join("out"));
        let process = Process::fork(|| {
            // SAFETY: takes a number. Root may write anywhere, nobody may not; others stay who they are.
            unsafe { libc::setuid(65534) };
            let error = fake::run_all(&plan).unwrap_err().to_string();
            i32::from(!(error.contains("Permission denied") && error.contains("hint: check the owner")))
        });
        assert_eq!(process.wait(), End::Exit(0));
        mode(0o755);
    });
}
