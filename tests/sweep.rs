//! The sweep from outside, with trials that train nothing: what is run, skipped, refused
//! and written. `sweep/crash.rs` kills it; `sweep/fake.rs` holds the trials.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "sweep/crash.rs"]
mod crash;
#[path = "sweep/fake.rs"]
mod fake;
#[path = "sweep/process.rs"]
mod process;

use fake::{plan, run_all, tree, Log};
use lorhai::plot::about::About;
use lorhai::plot::publish::{publish, REPORT};
use lorhai::sweep::{Measurements, SweepResult, Trial};
use lorhai::{Error, Kind, Result};
use serde_json::{json, Value};
use std::fs;
use std::path::Path;

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn results(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("results.json")).unwrap()).unwrap()
}

/// Runs the plan with trials that go through `outcome`; gives the result, the names that
/// were run, and what the observer was told.
fn run_with(
    plan: &lorhai::sweep::Plan,
    mut outcome: impl FnMut(&Trial) -> Result<Measurements>,
) -> (Result<SweepResult>, Vec<String>, Vec<String>) {
    let mut names = Vec::new();
    let mut log = Log::default();
    let result = lorhai::sweep::run(plan, &mut log, &mut |_| Ok(1), &mut |group| {
        names.extend(group.iter().map(|trial| trial.name.clone()));
        group.iter().map(|trial| outcome(trial)).collect()
    });
    (result, names, log.lines)
}

#[test]
fn a_sweep_writes_what_its_contract_says() {
    let folder = scratch();
    let out = folder.path().join("new/deeper/out");
    let plan = plan(&out, json!({"rank": [2, 4], "seed": 2}), json!({}));
    let result = run_all(&plan).unwrap();
    assert_eq!((result.trained, result.skipped), (4, 0));
    let rows = results(&out);
    assert_eq!(rows.as_array().unwrap().len(), 4);
    let columns =
        "rank seed trainable_params train_loss eval_loss eval_perplexity tokens_per_s seconds dir status error";
    for (row, trial) in rows.as_array().unwrap().iter().zip(&plan.trials) {
        assert!(columns.split(' ').all(|column| row.get(column).is_some()), "{row}");
        let dir = out.join(row["dir"].as_str().unwrap());
        assert_eq!(dir, trial.dir);
        for file in ["config.json", "result.json", "metrics.jsonl", "adapter/adapter_model.safetensors"] {
            assert!(dir.join(file).is_file(), "{file}");
        }
        assert!(fs::read_dir(&dir).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().contains("tfevents")));
        let config: Value = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["settings"], trial.settings);
        assert_eq!(config["point"], Value::Object(trial.point.values.clone()));
    }
    let csv = fs::read_to_string(out.join("results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5);
    assert!(csv.lines().nth(4).unwrap().starts_with("4,1,"), "{csv}");
    assert!(result.table().contains("Δ eval_loss"), "{}", result.table());
}

#[test]
fn a_finished_sweep_trains_nothing_and_stays_as_it_is() {
    let folder = scratch();
    let plan = plan(folder.path(), json!({"rank": [2, 4], "seed": 2}), json!({}));
    let first = run_all(&plan).unwrap();
    let before = tree(folder.path());
    let (second, names, lines) = run_with(&plan, |_| panic!("ran again"));
    let second = second.unwrap();
    assert!(names.is_empty());
    assert_eq!((second.trained, second.skipped), (0, 4));
    assert_eq!(lines, ["all 4 trials are finished already"]);
    assert_eq!(first.rows(), second.rows());
    assert_eq!(tree(folder.path()), before);
    assert_eq!(SweepResult::open(folder.path()).unwrap().rows(), first.rows());
}

#[test]
fn results_are_the_same_whether_a_trial_was_run_or_skipped() {
    // Floats that a JSON parser may read back one unit off: whatever it does, both agree.
    let folder = scratch();
    let plan = plan(folder.path(), json!({"seed": 60}), json!({}));
    let key = lorhai::random::Key::new(5);
    let (first, ..) = run_with(&plan, |trial| {
        let loss = key.uniform(trial.index as u64) * 3.0 + 1e-3;
        let outcome = fake::outcome(trial);
        Ok(Measurements { train_loss: Some(loss), eval_loss: Some(loss.sqrt()), ..outcome })
    });
    let first = first.unwrap();
    let bytes = fs::read(folder.path().join("results.json")).unwrap();
    let (second, ..) = run_with(&plan, |_| panic!("ran again"));
    assert_eq!(second.unwrap().rows(), first.rows());
    assert_eq!(fs::read(folder.path().join("results.json")).unwrap(), bytes);
}

#[test]
fn changed_settings_run_again_and_are_told() {
    let folder = scratch();
    let grid = json!({"rank": [2, 4]});
    run_all(&plan(folder.path(), grid.clone(), json!({}))).unwrap();
    let changed = plan(folder.path(), grid, json!({"rank-4": {"train": {"lr": 1e-4, "steps": 10}}}));
    let (result, names, lines) = run_with(&changed, |trial| Ok(fake::outcome(trial)));
    assert_eq!(names, ["rank-4"]);
    assert!(
        lines.contains(&"rank=4: the settings changed, running it again\n  train.lr: 0.0002 → 0.0001".to_string()),
        "{lines:?}"
    );
    assert_eq!(result.unwrap().rows().len(), 2);
    // The old run's files are gone: the fake above wrote none.
    assert!(!folder.path().join("rank-4/metrics.jsonl").exists());
    assert!(folder.path().join("rank-2/metrics.jsonl").exists());
}

#[test]
fn a_larger_grid_runs_only_what_is_new_and_a_smaller_one_keeps_the_rest() {
    let folder = scratch();
    run_all(&plan(folder.path(), json!({"rank": [4], "seed": 2}), json!({}))).unwrap();
    let larger = plan(folder.path(), json!({"rank": [2, 4, 8], "seed": 2}), json!({}));
    let (result, names, _) = run_with(&larger, |trial| Ok(fake::outcome(trial)));
    assert_eq!(names, ["rank-2_seed-0", "rank-2_seed-1", "rank-8_seed-0", "rank-8_seed-1"]);
    let dirs: Vec<String> = result.unwrap().rows().iter().map(|row| row.dir.clone()).collect();
    assert_eq!(dirs, larger.trials.iter().map(|trial| trial.name.clone()).collect::<Vec<_>>());
    let smaller = plan(folder.path(), json!({"rank": [2], "seed": 2}), json!({}));
    let (_, names, lines) = run_with(&smaller, |_| panic!("ran again"));
    assert!(names.is_empty());
    assert!(lines[0].starts_with("kept trials that are not in this grid: rank-4_seed-0, rank-4_seed-1"), "{lines:?}");
    assert!(folder.path().join("rank-8_seed-1/result.json").is_file());
}

#[test]
fn a_failing_trial_is_recorded_the_rest_go_on_and_it_is_tried_again() {
    let folder = scratch();
    let plan = plan(folder.path(), json!({"rank": [2, 4, 8]}), json!({}));
    let (result, names, lines) = run_with(&plan, |trial| match trial.index {
        0 => Err(Error::new(Kind::Memory, "out of memory").with_hint("use a smaller batch")),
        1 => Ok(Measurements { eval_loss: Some(f64::NAN), ..fake::outcome(trial) }),
        _ => Ok(fake::outcome(trial)),
    });
    assert_eq!(names.len(), 3);
    assert_eq!(result.unwrap().failed().count(), 2);
    assert!(lines.iter().any(|line| line == "rank=2: failed: out of memory"), "{lines:?}");
    let rows = results(folder.path());
    assert_eq!((&rows[0]["status"], &rows[0]["error"]), (&json!("failed"), &json!("out of memory")));
    assert!(rows[1]["error"].as_str().unwrap().contains("eval_loss: expected a finite number, found NaN"));
    assert_eq!((&rows[2]["status"], &rows[2]["error"]), (&json!("finished"), &Value::Null));
    let record: Value = serde_json::from_slice(&fs::read(folder.path().join("rank-2/result.json")).unwrap()).unwrap();
    assert_eq!(record["failed"]["kind"], "memory");
    let (result, names, lines) = run_with(&plan, |trial| Ok(fake::outcome(trial)));
    assert_eq!(names, ["rank-2", "rank-4"]);
    assert_eq!(lines[0], "rank=2: failed before (out of memory), trying it again");
    assert_eq!(result.unwrap().failed().count(), 0);
}

#[test]
fn a_stopped_sweep_leaves_whole_files_and_goes_on_later() {
    let folder = scratch();
    let grid = json!({"rank": [2, 4, 8]});
    let plan = plan(folder.path(), grid.clone(), json!({}));
    let (result, names, _) = run_with(&plan, |trial| match trial.index {
        1 => {
            fs::write(trial.dir.join("half"), "begun").unwrap();
            Err(Error::stopped())
        }
        _ => fake::run(trial),
    });
    assert_eq!(result.unwrap_err().kind, Kind::Stopped);
    assert_eq!(names, ["rank-2", "rank-4"]);
    assert_eq!(results(folder.path()).as_array().unwrap().len(), 1);
    assert!(SweepResult::open(folder.path()).unwrap().table().contains("not run: 2 of 3"));
    let (result, names, lines) = run_with(&plan, fake::run);
    assert_eq!(names, ["rank-4", "rank-8"]);
    assert_eq!(lines[0], "rank=4: was interrupted, starting it again");
    assert!(!folder.path().join("rank-4/half").exists());
    let whole = scratch();
    let undisturbed = run_all(&fake::plan(whole.path(), grid, json!({}))).unwrap();
    assert_eq!(result.unwrap().without_times(), undisturbed.without_times());
}

#[test]
fn what_is_not_the_sweeps_own_is_refused_untouched() {
    let folder = scratch();
    let grid = json!({"rank": [2, 4]});
    // Files that no sweep wrote.
    fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
    let before = tree(folder.path());
    let error = run_all(&plan(folder.path(), grid.clone(), json!({}))).unwrap_err();
    assert!(error.message.contains("thesis.tex") && error.hint.is_some(), "{error}");
    assert_eq!(tree(folder.path()), before);
    // Beside a sweep's own they may lie.
    let out = folder.path().join("out");
    run_all(&plan(&out, json!({"rank": [2]}), json!({}))).unwrap();
    fs::write(out.join("notes.txt"), "mine").unwrap();
    // A folder with a trial's name and something else in it, found before rank 2 is cleared.
    fs::create_dir(out.join("rank-4")).unwrap();
    fs::write(out.join("rank-4/precious"), "mine").unwrap();
    let before = tree(&out.join("rank-2"));
    let changed = json!({"rank-2": {"train": {"lr": 1.0}}});
    let error = run_all(&plan(&out, grid.clone(), changed)).unwrap_err();
    assert!(error.message.contains("rank-4") && error.message.contains("precious"), "{error}");
    assert_eq!(tree(&out.join("rank-2")), before);
    assert!(out.join("rank-4/precious").exists() && out.join("notes.txt").exists());
    // A sweep of another model.
    let mut other = plan(&out, grid, json!({}));
    other.identity = json!({"model": "other"});
    let error = run_all(&other).unwrap_err();
    assert!(error.message.contains("holds another sweep (model: \"fake\" → \"other\")"), "{error}");
    // A later format.
    fs::write(out.join("sweep.json"), "{\"format\": \"lorhai sweep 9\"}").unwrap();
    assert!(run_all(&other).unwrap_err().message.contains("lorhai sweep 9"));
}

#[test]
fn a_link_in_place_of_a_trial_is_removed_and_its_target_stays() {
    let folder = scratch();
    let out = folder.path().join("out");
    let first = plan(&out, json!({"rank": [2]}), json!({}));
    run_all(&first).unwrap();
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(out.join("rank-2"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, out.join("rank-2")).unwrap();
    let changed = plan(&out, json!({"rank": [2]}), json!({"rank-2": {"train": {"lr": 1.0}}}));
    let before = tree(&elsewhere);
    assert_eq!(run_all(&changed).unwrap().trained, 1);
    assert_eq!(tree(&elsewhere), before);
    assert!(fs::symlink_metadata(out.join("rank-2")).unwrap().is_dir());
}

#[test]
fn two_sweeps_do_not_share_a_folder() {
    let folder = scratch();
    let plan = plan(folder.path(), json!({"rank": [2]}), json!({}));
    let mut seen = None;
    let (result, ..) = run_with(&plan, |trial| {
        seen = Some(run_all(&plan).unwrap_err());
        Ok(fake::outcome(trial))
    });
    assert!(result.is_ok());
    let error = seen.unwrap();
    let process = format!("(process {})", std::process::id());
    assert!(error.message.contains("already running") && error.message.contains(&process), "{error}");
    assert_eq!(run_all(&plan).unwrap().skipped, 1, "the lock must end with the sweep");
}

#[test]
fn trials_come_in_groups_and_one_failure_is_that_trials_own() {
    let folder = scratch();
    let plan = plan(folder.path(), json!({"rank": [2, 4], "seed": 3}), json!({}));
    let mut sizes = Vec::new();
    let mut asked = Vec::new();
    let mut four = |pending: &[&Trial]| {
        asked.push(pending.len());
        Ok(4)
    };
    let result = lorhai::sweep::run(&plan, &mut Log::default(), &mut four, &mut |group| {
        sizes.push(group.len());
        assert!(group.iter().all(|trial| trial.dir.join("config.json").is_file()));
        group
            .iter()
            .map(|trial| if trial.index == 1 { Err(Error::data("bad row")) } else { fake::run(trial) })
            .collect()
    });
    assert_eq!(sizes, [4, 2]);
    let result = result.unwrap();
    assert_eq!((result.rows().len(), result.trained, result.failed().count()), (6, 5, 1));
    let error = lorhai::sweep::run(&plan, &mut Log::default(), &mut four, &mut |_| Vec::new()).unwrap_err();
    assert_eq!(error.kind, Kind::Bug);
    run_all(&plan).unwrap();
    lorhai::sweep::run(&plan, &mut Log::default(), &mut four, &mut |_| Vec::new()).unwrap();
    // Before both groups of the first run, and once for the trial that was left.
    assert_eq!(asked, [6, 2, 1], "only trials that are to run are planned for");
}

#[test]
fn an_out_that_cannot_be_used_is_a_clear_error() {
    let folder = scratch();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    for out in [file.clone(), file.join("below"), "/proc/nope".into(), "/dev/null".into()] {
        let error = run_all(&plan(&out, json!({"rank": [2]}), json!({}))).unwrap_err();
        assert_eq!(error.kind, Kind::File, "{error}");
        assert!(error.message.contains(out.to_str().unwrap()), "{error}");
    }
    assert!(SweepResult::open(folder.path()).unwrap_err().message.contains("not a sweep's folder"));
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn the_report_has_every_number_of_the_results_in_its_table_and_under_the_pointer() {
    let folder = scratch();
    let plan = plan(folder.path(), json!({"rank": [2, 4, 8], "seed": 2}), json!({}));
    let result = run_all(&plan).unwrap();
    publish(&result, &About::default()).unwrap();
    let page = fs::read_to_string(folder.path().join(REPORT)).unwrap();
    let (rows, columns) = (results(folder.path()), result.columns());
    let after = |text: &str, mark: &str| text.split_once(mark).unwrap_or_else(|| panic!("no {mark}")).1.to_owned();
    let table = after(&page, "Trials, number by number");
    for (place, row) in rows.as_array().unwrap().iter().enumerate() {
        let line = after(&table, &format!("<tr data-trials=\"{place}\">"));
        let line = line.split("</tr>").next().unwrap();
        let shown = line.split("data-v=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap());
        let expected = columns.iter().filter_map(|column| row[column].as_f64());
        assert_eq!(shown.collect::<Vec<f64>>(), expected.collect::<Vec<f64>>(), "trial {place}");
    }
    let readings = after(&page, "<figure data-readings=\"").split('"').next().unwrap().replace("&quot;", "\"");
    let own = &serde_json::from_str::<Value>(&readings).unwrap()["series"][0];
    let numbers = |column: &str| own[column].as_array().unwrap().iter().skip(3).cloned().collect::<Vec<_>>();
    assert_eq!(own["means"], 3, "and behind them the single runs");
    let runs = numbers("of").into_iter().zip(numbers("x")).zip(numbers("y")).enumerate();
    for (place, ((of, x), y)) in runs {
        assert_eq!(of, json!([place]));
        assert_eq!((x.as_f64(), y), (rows[place]["rank"].as_f64(), rows[place]["eval_loss"].clone()));
    }
    assert_eq!(numbers("y").len(), 6);
}
