//! Sweeps that several processes share: the real program, alone, beside others, killed and paused. The results are those of
//! one process, byte by byte but for times and places.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "resume/logs.rs"]
mod logs;
#[path = "shared/worker.rs"]
mod worker;

use common::files::{folder_with_script, read_json, root};
use logs::{content, difference};
use lorhai::random::Key;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use worker::{Heartbeats, Worker};

/// One at a time: they are about processes that compute at the same time.
static ALONE: Mutex<()> = Mutex::new(());

const OUT: &str = "runs/x";
/// Six trials of some seconds in a program that is not optimised, with a checkpoint every few steps.
const SWEEP: &str = r#"
let base = load_model("scripts/tiny", #{ dtype: "f32" });
let data = load_dataset("scripts/tiny/train.jsonl").take(60).tokenize(base, #{}).split(#{ test: 0.1 });
let result = sweep(base, data, #{
    grid:  #{ rank: [2, 4, 8], seed: 2 },
    lora:  #{ dropout: 0.1, target_modules: "all-linear" },
    train: #{ steps: 24, batch: 2, eval_every: 12 },
    save_every: 4,
    charts: false,
    out:   "runs/x" });
print(`${result.rows.len()} rows`);
"#;
const TRIALS: usize = 6;
/// Its option `save_every`.
const INTERVAL: u64 = 4;

/// What a sweep leaves, but for what says when and where.
fn results(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = content(&folder.join(OUT));
    // Charts and report show times; the origin names the command line.
    files.retain(|name, _| {
        let of_shared = ["leases/", "workers/", "throughput", "charts/", "report.html", "about.json"];
        !of_shared.iter().any(|part| name.starts_with(part)) && !name.ends_with("origin.json")
    });
    files
}

fn undisturbed(script: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = folder_with_script(script);
    let one = Worker::start(folder.path(), &["--threads", "2"]).finish();
    assert_eq!(one.code, Some(0), "{}", one.errors);
    results(folder.path())
}

fn assert_same(folder: &Path, expected: &BTreeMap<String, Vec<u8>>) {
    if let Some(difference) = difference(&results(folder), expected) {
        panic!("{difference}");
    }
}

/// How often each trial was concluded, by the reports of all workers.
fn conclusions(reports: &[Vec<Value>]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for object in reports.iter().flatten().filter(|object| object["kind"] == "trial_finished") {
        *counts.entry(object["trial"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    counts
}

fn is_left(folder: &Path) -> bool {
    [".work", "checkpoints"].iter().any(|name| folder.join(OUT).join(name).exists())
}

#[test]
fn two_workers_end_with_the_results_of_one_process() {
    let _alone = ALONE.lock();
    let expected = undisturbed(SWEEP);
    let folder = folder_with_script(&SWEEP.replace("charts: false", "charts: true"));
    let workers = [1, 2].map(|_| Worker::start(folder.path(), &["--shared", "--threads", "1"]));
    let ended = workers.map(Worker::finish);
    for one in &ended {
        assert_eq!((one.code, one.output.as_str()), (Some(0), "6 rows\n"), "{}", one.errors);
    }
    assert_same(folder.path(), &expected);
    let reports = ended.map(|one| one.objects());
    let counts = conclusions(&reports);
    assert_eq!((counts.len(), counts.values().sum::<usize>()), (TRIALS, TRIALS), "{counts:?}");
    assert!(reports.iter().all(|report| !conclusions(std::slice::from_ref(report)).is_empty()), "both train");
    assert!(folder.path().join(OUT).join("report.html").is_file() && !is_left(folder.path()));
    let reported =
        reports.iter().flatten().filter(|object| object["text"].as_str().is_some_and(|text| text.contains("report:")));
    assert_eq!(reported.count(), 1, "one of them writes the report");
    let rows = read_json(folder.path().join(OUT).join("results.json"));
    let here = lorhai::sweep::place::host();
    assert!(rows.as_array().unwrap().iter().all(|row| row["place"] == format!("{here}, cpu")), "{rows}");
    assert!(!folder.path().join(OUT).join("workers").exists(), "workers that ended in order leave nothing");
    // A third one, later, has nothing to do. With two threads a trial computes in one all the same.
    let later = Worker::start(folder.path(), &["--shared", "--threads", "2"]).finish();
    assert_eq!((later.code, later.output.as_str()), (Some(0), "6 rows\n"));
    assert!(conclusions(&[later.objects()]).is_empty());
}

#[test]
fn one_worker_with_all_threads_has_the_same_results() {
    let _alone = ALONE.lock();
    let expected = undisturbed(SWEEP);
    let folder = folder_with_script(SWEEP);
    let one = Worker::start(folder.path(), &["--shared", "--threads", "2"]).finish();
    assert_eq!(one.code, Some(0), "{}", one.errors);
    assert_same(folder.path(), &expected);
}

/// The most steps of a trial that were taken again when it went on, by the reports of all workers.
fn most_lost(reports: &[Vec<Value>]) -> u64 {
    let mut steps: Vec<&Value> = reports.iter().flatten().filter(|object| object["kind"] == "step").collect();
    steps.sort_by(|one, other| one["time"].as_f64().unwrap().total_cmp(&other["time"].as_f64().unwrap()));
    let (mut farthest, mut most): (BTreeMap<&str, u64>, u64) = Default::default();
    for object in steps {
        let (trial, step) = (object["trial"].as_str().unwrap(), object["step"].as_u64().unwrap());
        let last = farthest.insert(trial, step).unwrap_or(0);
        most = most.max((last + 1).saturating_sub(step));
    }
    most
}

#[test]
fn workers_that_are_killed_lose_at_most_an_interval_and_no_trial() {
    let _alone = ALONE.lock();
    let expected = undisturbed(SWEEP);
    let folder = folder_with_script(SWEEP);
    let start = || Worker::start(folder.path(), &["--shared", "--threads", "1"]);
    let (mut workers, mut reports) = (vec![start(), start()], Vec::new());
    let random = Key::new(std::env::var("LORHAI_KILL_SEED").map_or(5, |seed| seed.parse().unwrap()));
    for kill in 0..6_u64 {
        // Once it trains, after a random time.
        let victim = (random.bits(2 * kill) % 2) as usize;
        if !workers[victim].wait_for("step") {
            break;
        }
        std::thread::sleep(Duration::from_millis(random.bits(2 * kill + 1) % 700));
        reports.push(workers[victim].kill().objects());
        workers[victim] = start();
    }
    for worker in workers {
        let ended = worker.finish();
        assert_eq!((ended.code, ended.output.as_str()), (Some(0), "6 rows\n"), "{}", ended.errors);
        reports.push(ended.objects());
    }
    assert_same(folder.path(), &expected);
    assert!(!is_left(folder.path()));
    let counts = conclusions(&reports);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert!(most_lost(&reports) <= INTERVAL, "{} steps were lost at once", most_lost(&reports));
}

#[test]
fn a_worker_that_was_paused_for_long_disturbs_nobody() {
    let _alone = ALONE.lock();
    let expected = undisturbed(SWEEP);
    let folder = folder_with_script(SWEEP);
    let start = || Worker::start_with(folder.path(), &["--shared", "--threads", "1"], &[("LORHAI_STALE_AFTER", "1.5")]);
    let mut paused = start();
    assert!(paused.wait_for("step"));
    paused.signal(libc::SIGSTOP);
    // It takes what the first one left, and then also what that one holds.
    let other = start().finish();
    assert_eq!(other.code, Some(0), "{}", other.errors);
    let taken_over = other.objects().iter().filter(|object| object["kind"] == "trial_taken_over").count();
    assert!(taken_over > 0, "{}", other.errors);
    let after_other = results(folder.path());
    paused.signal(libc::SIGCONT);
    let paused = paused.finish();
    assert_eq!((paused.code, paused.output.as_str()), (Some(0), "6 rows\n"), "{}", paused.errors);
    let lost = paused.objects().iter().filter(|object| object["kind"] == "lease_lost").count();
    assert_eq!(lost, taken_over, "{}", paused.errors);
    assert_eq!(difference(&results(folder.path()), &after_other), None);
    assert_same(folder.path(), &expected);
    assert!(!is_left(folder.path()));
}

#[test]
fn a_sweep_that_is_not_shared_is_refused_beside_one_that_is() {
    let _alone = ALONE.lock();
    let folder = folder_with_script(SWEEP);
    let mut shared = Worker::start(folder.path(), &["--shared"]);
    assert!(shared.wait_for("step"));
    // A process that is paused keeps its locks, and does not come to its end meanwhile.
    shared.signal(libc::SIGSTOP);
    let refused = Worker::start(folder.path(), &[]).finish();
    shared.signal(libc::SIGCONT);
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains("already running") && refused.errors.contains("--shared"), "{}", refused.errors);
    shared.signal(libc::SIGTERM);
    let stopped = shared.finish();
    assert_eq!(stopped.code, Some(143), "{}", stopped.errors);
    let workers = std::fs::read_dir(folder.path().join(OUT).join("workers")).unwrap().count();
    assert_eq!(workers, 0, "a worker that was stopped lets its leases go");
    let mut alone = Worker::start(folder.path(), &[]);
    assert!(alone.wait_for("step"));
    alone.signal(libc::SIGSTOP);
    let refused = Worker::start(folder.path(), &["--shared"]).finish();
    alone.signal(libc::SIGCONT);
    assert!(refused.errors.contains("already running"), "{}", refused.errors);
    assert_eq!(alone.finish().code, Some(0));
}

#[test]
fn a_worker_with_other_settings_is_refused_while_others_work() {
    let _alone = ALONE.lock();
    // Long enough to be at work until the other one has started.
    let folder = folder_with_script(&SWEEP.replace("steps: 24", "steps: 4000"));
    let stale = [("LORHAI_STALE_AFTER", "3")];
    let mut first = Worker::start_with(folder.path(), &["--shared"], &stale);
    assert!(first.wait_for("step"));
    std::fs::write(folder.path().join("case.rhai"), SWEEP.replace("steps: 24", "steps: 20")).unwrap();
    let other = Worker::start_with(folder.path(), &["--shared"], &stale).finish();
    assert_eq!(other.code, Some(1), "{}", other.errors);
    assert!(other.errors.contains("with other settings"), "{}", other.errors);
    first.kill();
    // What nobody trains any more is replaced, as in a sweep of one process.
    let other = Worker::start_with(folder.path(), &["--shared"], &stale).finish();
    assert_eq!((other.code, other.output.as_str()), (Some(0), "6 rows\n"), "{}", other.errors);
    let settings = read_json(folder.path().join(OUT).join("rank-2_seed-0/config.json"));
    assert_eq!(settings["settings"]["train"]["steps"], 20);
}

/// Trials of the script's own: one fails, one that is cut off goes on from its checkpoint.
const OWN: &str = r#"
let result = sweep(#{
    grid: #{ x: [1, 2, 3, 4], seed: 2 },
    out: "runs/x",
    charts: false,
    trial: |point, run| {
        if point.x == 3 { throw "not this one"; }
        let at = run.resume(#{ step: 0, sum: 0.0 });
        while at.step < 12 {
            at.step += 1;
            at.sum += point.x * at.step + 0.5 * point.seed;
            run.log(at.step, #{ sum: at.sum });
            run.checkpoint(at);
            let wait = 0;
            while wait < 20000 { wait += 1; }
        }
        #{ score: at.sum }
    } });
print(`${result.rows.len()} rows, ${result.rows.filter(|row| row.status == "failed").len()} failed`);
"#;

#[test]
fn experiments_of_a_script_are_shared_and_a_failure_is_recorded_once() {
    let _alone = ALONE.lock();
    let folder = folder_with_script(OWN);
    let variables = [("LORHAI_SWEEP_RUN", "first")];
    let start = || Worker::start_with(folder.path(), &["--shared"], &variables);
    let (mut killed, other) = (start(), start());
    assert!(killed.wait_for("trial_started"));
    std::thread::sleep(Duration::from_millis(300));
    let mut reports = vec![killed.kill().objects()];
    let ended = [start(), other].map(Worker::finish);
    for one in &ended {
        assert_eq!(one.code, Some(3), "{}", one.errors);
        assert_eq!(one.output, "8 rows, 2 failed\n", "{}", one.errors);
    }
    reports.extend(ended.iter().map(|one| one.objects()));
    let failed =
        |reports: &[Vec<Value>]| reports.iter().flatten().filter(|object| object["kind"] == "trial_failed").count();
    assert_eq!(failed(&reports), 2);
    let score = |x: u64, seed: u64| (1..=12).map(|step| (x * step) as f64 + 0.5 * seed as f64).sum::<f64>();
    let rows = read_json(folder.path().join(OUT).join("results.json"));
    for row in rows.as_array().unwrap().iter().filter(|row| row["status"] == "finished") {
        assert_eq!(row["score"].as_f64().unwrap(), score(row["x"].as_u64().unwrap(), row["seed"].as_u64().unwrap()));
    }
    // A worker of the same run leaves them; another run tries them again.
    let again = Worker::start_with(folder.path(), &["--shared"], &variables).finish();
    assert_eq!((again.code, failed(&[again.objects()])), (Some(3), 0));
    let retried = Worker::start_with(folder.path(), &["--shared"], &[("LORHAI_SWEEP_RUN", "second")]).finish();
    assert_eq!((retried.code, failed(&[retried.objects()])), (Some(3), 2));
}

/// Rounds: points that depend on earlier results, and settings that are tuned first.
const ROUNDS: &str = r#"
let result = sweep(#{
    search: #{ x: uniform(0.0, 1.0) },
    trials: 14,
    sampler: "tpe",
    metric: "loss",
    charts: false,
    out: "runs/x",
    trial: |point, run| #{ loss: (point.x - 0.3) ** 2.0 } });
print(`${result.rows.len()} rows`);
"#;

#[test]
fn rounds_go_the_same_way_in_every_worker() {
    let _alone = ALONE.lock();
    let expected = undisturbed(ROUNDS);
    let folder = folder_with_script(ROUNDS);
    let workers = [1, 2, 3].map(|_| Worker::start(folder.path(), &["--shared"]));
    for one in workers.map(Worker::finish) {
        assert_eq!((one.code, one.output.as_str()), (Some(0), "14 rows\n"), "{}", one.errors);
    }
    assert_same(folder.path(), &expected);
}

#[test]
fn a_sweep_that_prunes_is_trained_by_one_worker_at_a_time() {
    let _alone = ALONE.lock();
    let script = SWEEP.replace("save_every: 4,", "save_every: 4, prune: \"halving\",");
    let expected = undisturbed(&script);
    let folder = folder_with_script(&script);
    let mut first = Worker::start(folder.path(), &["--shared"]);
    assert!(first.wait_for("step"));
    let mut second = Worker::start(folder.path(), &["--shared"]);
    assert!(second.wait_for("note"));
    let killed = first.kill();
    let second = second.finish();
    assert_eq!((second.code, second.output.as_str()), (Some(0), "6 rows\n"), "{}", second.errors);
    assert!(!conclusions(&[killed.objects(), second.objects()]).is_empty());
    assert_same(folder.path(), &expected);
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_and_no_lease() {
    let _alone = ALONE.lock();
    let folder = folder_with_script(OWN);
    let full = Worker::start_limited(folder.path(), &["--shared"], 0).finish();
    assert_eq!(full.code, Some(1));
    assert!(full.errors.contains("cannot write"), "{}", full.errors);
    let leases = folder.path().join(OUT).join("leases");
    assert_eq!(std::fs::read_dir(leases).map_or(0, Iterator::count), 0);
    let later = Worker::start(folder.path(), &["--shared"]).finish();
    assert_eq!(later.output, "8 rows, 2 failed\n", "{}", later.errors);
}

#[test]
fn one_command_starts_several_workers_and_shows_one_of_them() {
    let _alone = ALONE.lock();
    let expected = undisturbed(SWEEP);
    let folder = folder_with_script(SWEEP);
    let mut parent = Worker::start(folder.path(), &["--workers", "2"]);
    assert!(parent.wait_for("step"));
    // A worker that dies is started again.
    let victim = Heartbeats::of(&folder.path().join(OUT)).pids()[0];
    // SAFETY: a process of this test.
    unsafe { libc::kill(victim, libc::SIGKILL) };
    let ended = parent.finish();
    assert_eq!((ended.code, ended.output.as_str()), (Some(0), "6 rows\n"), "{}", ended.errors);
    assert!(ended.errors.contains("SIGKILL") && ended.errors.contains("starting it again"), "{}", ended.errors);
    assert_same(folder.path(), &expected);
    let counts = conclusions(&[ended.objects()]);
    assert_eq!(counts.values().sum::<usize>(), TRIALS, "{counts:?}");
    let done = ended.objects().iter().filter(|object| object["kind"] == "done").count();
    assert_eq!(done, 1);
}

#[test]
fn a_stop_reaches_all_workers_and_the_sweep_goes_on_later() {
    let _alone = ALONE.lock();
    let expected = undisturbed(SWEEP);
    let folder = folder_with_script(SWEEP);
    let mut parent = Worker::start(folder.path(), &["--workers", "2"]);
    assert!(parent.wait_for("step"));
    let pids = Heartbeats::of(&folder.path().join(OUT)).pids();
    parent.signal(libc::SIGINT);
    let stopped = parent.finish();
    assert_eq!(stopped.code, Some(130), "{}", stopped.errors);
    // SAFETY: signal 0 only asks.
    assert!(pids.iter().all(|pid| unsafe { libc::kill(*pid, 0) } != 0), "a worker was left");
    assert!(folder.path().join(OUT).join("checkpoints").is_dir());
    let again = Worker::start(folder.path(), &["--workers", "2"]).finish();
    assert_eq!(again.code, Some(0), "{}", again.errors);
    assert_same(folder.path(), &expected);
}

#[test]
fn trials_whose_worker_dies_again_and_again_are_recorded_as_failed() {
    let _alone = ALONE.lock();
    let folder = folder_with_script(OWN);
    let parent = Worker::start(folder.path(), &["--workers", "1"]);
    let (out, started) = (Heartbeats::of(&folder.path().join(OUT)), Instant::now());
    let mut kills = 0;
    // Whoever trains this trial is killed.
    while kills < 3 && started.elapsed() < Duration::from_secs(60) {
        for pid in out.pids_that_train("x-2_seed-1") {
            // SAFETY: a process of this test.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            kills += 1;
            while out.pids().contains(&pid) && Heartbeats::lives(pid) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = parent.finish();
    assert_eq!((ended.code, ended.output.as_str()), (Some(3), "8 rows, 3 failed\n"), "{}", ended.errors);
    let record = read_json(folder.path().join(OUT).join("x-2_seed-1/result.json"));
    assert!(record["failed"]["message"].as_str().unwrap().contains("3rd time"), "{record}");
}

#[test]
fn verify_trains_again_what_another_worker_trained() {
    let _alone = ALONE.lock();
    let script = SWEEP.replace("save_every: 4,", "save_every: 4, verify: true,");
    let folder = folder_with_script(&script);
    let workers = [1, 2].map(|_| Worker::start(folder.path(), &["--shared", "--threads", "1"]));
    for one in workers.map(Worker::finish) {
        assert_eq!(one.code, Some(0), "{}", one.errors);
        let objects = one.objects();
        let notes = objects.iter().filter_map(|object| object["text"].as_str());
        let checks: Vec<&str> = notes.filter(|note| note.contains("trained alone")).collect();
        assert!(!checks.is_empty() && checks.iter().all(|note| note.contains("off by 0.0e0")), "{checks:?}");
    }
}

/// A clock that is wrong cannot matter where none is read.
#[test]
fn no_clock_is_compared() {
    let folder = root().join("src/sweep/shared");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for clock in
            ["SystemTime", "UNIX_EPOCH", ".modified()", ".accessed()", ".created()", "mtime", "ctime", "chrono"]
        {
            assert!(!code.contains(clock), "{} reads a clock: {clock}", path.display());
        }
    }
}
