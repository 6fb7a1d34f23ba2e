//! Sweeps with functions of a script: metrics of trained adapters, axes with named values, experiments of its own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{link_scripts, read_json};
use common::program::{finished, lorhai, Finished};
use serde_json::{json, Value};
use std::fs;
use std::path::Path;

const BEGIN: &str = r#"
let base = load_model("scripts/tiny", #{ device: "cpu", dtype: "f32" });
let rows = load_dataset("scripts/tiny/pretrain.jsonl").map(|row| #{ prompt: row.instruction, completion: " " + row.output });
let small = rows.take(12).tokenize(base, #{ max_length: 128 }).split(#{ test: 4 });
let all = rows.take(24).tokenize(base, #{ max_length: 128 }).split(#{ test: 4 });
"#;

fn run(folder: &Path, script: &str) -> Finished {
    run_with(folder, script, &["run"])
}

fn run_with(folder: &Path, script: &str, arguments: &[&str]) -> Finished {
    link_scripts(folder);
    fs::write(folder.join("case.rhai"), script).unwrap();
    finished(lorhai(folder).args(arguments).arg("case.rhai").env("OMP_NUM_THREADS", "2"))
}

fn ran(folder: &Path, script: &str) -> Finished {
    let end = run(folder, script);
    assert_eq!(end.code, Some(0), "{}", end.errors);
    end
}

fn rows(folder: &Path, out: &str) -> Vec<Value> {
    read_json(folder.join(out).join("results.json")).as_array().unwrap().clone()
}

#[test]
fn metrics_measure_the_trained_adapter_of_each_trial() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        r#"{BEGIN}
let result = sweep(base, small, #{{
    grid: #{{ rank: [2, 4], seed: 2 }},
    lora: #{{ target_modules: "all-linear", dropout: 0.1 }},
    train: #{{ steps: 3, batch: 4, lr: 1e-2 }},
    metrics: |model, point| #{{
        again: evaluate(model, small.test, #{{}}).loss,
        size: model.named_parameters().len(),
        ratio_score: point.rank / 2.0,
    }},
    out: "runs" }});
print(result.best("ratio_score").rank);"#
    );
    let end = ran(folder.path(), &script);
    assert!(end.output.starts_with("4\n"), "{}", end.output);
    for row in rows(folder.path(), "runs") {
        let (eval, again) = (row["eval_loss"].as_f64().unwrap(), row["again"].as_f64().unwrap());
        assert!((eval / again - 1.0).abs() < 1e-5, "{row}");
        assert_eq!(row["ratio_score"].as_f64().unwrap() * 2.0, row["rank"].as_f64().unwrap());
        let result = read_json(folder.path().join("runs").join(row["dir"].as_str().unwrap()).join("result.json"));
        assert_eq!(result["finished"]["metrics"]["again"], row["again"]);
    }
    assert!(folder.path().join("runs/charts/ratio_score_by_rank.svg").is_file());
    assert!(fs::read_to_string(folder.path().join("runs/report.html")).unwrap().contains("ratio_score"));
    let failing =
        script.replace("ratio_score: point", "train_loss: point").replace("best(\"ratio_score\").rank", "trained");
    let end = run(folder.path(), &failing.replace("out: \"runs\"", "out: \"failing\""));
    assert_eq!(end.code, Some(1), "{}", end.errors);
    assert!(end.errors.contains("the metric `train_loss` has the name of another column"), "{}", end.errors);
}

/// Trials on different rows have the losses that they have in a sweep over these rows alone.
#[test]
fn data_and_maps_are_axes_by_names() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        r#"lora: #{ r: 2, target_modules: "all-linear" }, train: #{ epochs: 1, batch: 4, lr: 1e-2 }, verify: true"#;
    let grid = "rank_pattern: #{ flat: #{}, deep: #{ down_proj: 6 } }, seed: 2";
    let script = format!(
        r#"{BEGIN}
let result = sweep(base, #{{ grid: #{{ data: #{{ small: small, all: all }}, {grid} }}, {settings}, out: "both",
    metrics: |model, point| #{{ rows: point.data.train.len, patterns: point.rank_pattern.len() }} }});
print(result.rows.len());
sweep(base, small, #{{ grid: #{{ {grid} }}, {settings}, out: "small" }});
sweep(base, all, #{{ grid: #{{ {grid} }}, {settings}, out: "all" }});"#
    );
    let checked = run_with(folder.path(), &script, &["check"]);
    assert!(checked.output.contains("no problems found"), "{}{}", checked.output, checked.errors);
    let rehearsed = run_with(folder.path(), &script, &["run", "--dry-run"]);
    assert_eq!(rehearsed.code, Some(0), "{}", rehearsed.errors);
    assert!(!folder.path().join("both").exists());
    ran(folder.path(), &script);
    let (both, small, all) = (rows(folder.path(), "both"), rows(folder.path(), "small"), rows(folder.path(), "all"));
    assert_eq!((both.len(), small.len(), all.len()), (8, 4, 4));
    for row in &both {
        assert_eq!(
            row["dir"],
            format!(
                "data-{}_rank_pattern-{}_seed-{}",
                row["data"].as_str().unwrap(),
                row["rank_pattern"].as_str().unwrap(),
                row["seed"]
            )
        );
        assert_eq!(row["rows"], if row["data"] == "small" { 8.0 } else { 20.0 });
        assert_eq!(row["patterns"], if row["rank_pattern"] == "flat" { 0.0 } else { 1.0 });
        let alone = if row["data"] == "small" { &small } else { &all };
        let alone = alone
            .iter()
            .find(|other| other["rank_pattern"] == row["rank_pattern"] && other["seed"] == row["seed"])
            .unwrap();
        for name in ["train_loss", "eval_loss"] {
            let (one, other) = (row[name].as_f64().unwrap(), alone[name].as_f64().unwrap());
            assert!((one / other - 1.0).abs() < 1e-5, "{row} {alone}");
        }
        assert_eq!(row["trainable_params"], alone["trainable_params"]);
    }
    let config = read_json(folder.path().join("both/data-all_rank_pattern-deep_seed-0/config.json"));
    assert_eq!(config["settings"]["lora"]["rank_pattern"], json!({ "down_proj": 6 }));
    assert_ne!(
        config["settings"]["data"],
        read_json(folder.path().join("both/data-small_rank_pattern-deep_seed-0/config.json"))["settings"]["data"]
    );
    let again = ran(folder.path(), &script);
    assert!(again.errors.contains("all 8 trials are finished already"), "{}", again.errors);
    for (call, expected) in [
        (
            "sweep(base, small, #{ grid: #{ data: #{ small: small } }, out: \"x\" })",
            "`data` is an argument and an axis",
        ),
        ("sweep(base, #{ grid: #{ rank: [2] }, out: \"x\" })", "expected data, as an argument, an option or an axis"),
        (
            "sweep(base, #{ grid: #{ data: #{ small: small.train } }, out: \"x\" })",
            "`small`: expected tokenized rows and held-out ones",
        ),
        ("sweep(base, #{ grid: #{ data: [small] }, out: \"x\" })", "grid"),
        (
            "sweep(base, small, #{ grid: #{ rank: [2] }, out: \"x\", trial: |p, r| #{} })",
            "for experiments without a base and data",
        ),
    ] {
        let end = run(folder.path(), &format!("{BEGIN}{call};"));
        assert!(end.code == Some(1) && end.errors.contains(expected), "{call}: {}", end.errors);
    }
}

/// Logs five steps of a known course. It is cut off where a file says, at a step of a trial.
const TRIALS: &str = r#"
let cut = read_text("cut");
let began = [];
let result = sweep(#{
    grid: #{ slope: [1, 2], kind: #{ line: 1, square: 2 } },
    out: "runs",
    settings: #{ version: 1 },
    trial: |point, run| {
        let at = run.resume(#{ step: 0, y: 0.0 });
        began.push(at.step);
        while at.step < 5 {
            at.step += 1;
            at.y += point.slope * 1.0;
            let y = if point.kind == 2 { at.y * at.y } else { at.y };
            run.log(at.step, #{ y: y });
            if cut == `${point.slope} ${point.kind} ${at.step}` { stop_here(); }
            if cut == `fail ${point.slope} ${point.kind}` { throw "no luck"; }
            run.checkpoint(at);
        }
        #{ y_score: if point.kind == 2 { at.y * at.y } else { at.y }, solved_score: at.y > 5, nothing: () }
    },
});
print(began);
print(result.best().slope);
print(result.best("y_score").kind);
"#;

#[test]
fn an_experiment_of_a_script_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cut"), "").unwrap();
    let script = TRIALS.replace("stop_here()", "()");
    let checked = run_with(folder.path(), &script, &["check"]);
    assert!(checked.output.contains("no problems found"), "{}{}", checked.output, checked.errors);
    let rehearsed = run_with(folder.path(), &script, &["run", "--dry-run"]);
    assert_eq!(rehearsed.code, Some(0), "{}", rehearsed.errors);
    assert!(!folder.path().join("runs").exists());
    fs::write(folder.path().join("cut"), "fail 2 1").unwrap();
    let end = run(folder.path(), &script);
    assert_eq!(end.code, Some(3), "{}", end.errors);
    assert!(end.errors.contains("kind=line, slope=2: failed: trial, line 17: no luck"), "{}", end.errors);
    assert!(end.errors.contains("kind=line, slope=1: solved_score 0, y_score 5"), "{}", end.errors);
    fs::write(folder.path().join("cut"), "").unwrap();
    let end = ran(folder.path(), &script);
    assert!(end.errors.contains("3 trials are finished already, 1 to run"), "{}", end.errors);
    assert_eq!(end.output, "[0]\n2\nsquare\n");
    let rows = rows(folder.path(), "runs");
    let scores: Vec<f64> = rows.iter().map(|row| row["y_score"].as_f64().unwrap()).collect();
    assert_eq!(scores, [5.0, 10.0, 25.0, 100.0]);
    assert_eq!(rows.iter().map(|row| row["solved_score"].as_f64().unwrap()).collect::<Vec<_>>(), [0.0, 1.0, 0.0, 1.0]);
    assert_eq!((&rows[0]["trainable_params"], &rows[0]["train_loss"]), (&Value::Null, &Value::Null));
    let names: Vec<&str> = rows.iter().map(|row| row["dir"].as_str().unwrap()).collect();
    assert_eq!(names, ["kind-line_slope-1", "kind-line_slope-2", "kind-square_slope-1", "kind-square_slope-2"]);
    let log =
        lorhai::train::metrics::read_metrics(&folder.path().join("runs/kind-square_slope-2/metrics.jsonl")).unwrap();
    let course: Vec<f64> = log.iter().filter_map(|row| row.get("y")).collect();
    assert_eq!(course, [4.0, 16.0, 36.0, 64.0, 100.0]);
    for file in ["report.html", "charts/y_score_by_kind.svg", "kind-line_slope-1/origin.json"] {
        assert!(folder.path().join("runs").join(file).is_file(), "{file}");
    }
    let table = finished(lorhai(folder.path()).args(["show", "runs"])).output;
    assert!(
        table.contains("y_score") && !table.contains("trainable_params") && !table.contains("eval_loss"),
        "{table}"
    );
    assert!(finished(lorhai(folder.path()).args(["runs", "."])).output.contains("solved_score"), "its best is listed");
    let compared =
        finished(lorhai(folder.path()).args(["compare", "runs/kind-line_slope-1", "runs/kind-line_slope-2"]));
    assert!(compared.output.contains("point.slope"), "{}{}", compared.output, compared.errors);
    let replayed = finished(lorhai(folder.path()).args(["replay", "runs/kind-line_slope-2"]));
    assert!(replayed.output.contains("the same to the last bit"), "{}{}", replayed.output, replayed.errors);

    // Another text of the script is noted, other settings run the trials again.
    let other = script.replace("at.y += point.slope * 1.0;", "at.y += point.slope * 2.0;");
    let end = ran(folder.path(), &other);
    assert!(end.errors.contains("4 finished trials were run by another text of this script"), "{}", end.errors);
    let end = ran(folder.path(), &other.replace("version: 1", "version: 2"));
    assert!(end.errors.contains("settings.version: 1 → 2"), "{}", end.errors);
    assert_eq!(end.output.lines().next(), Some("[0, 0, 0, 0]"));
}

#[test]
fn a_trial_that_was_cut_off_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    // The program ends in the middle, as if it was killed.
    let script = TRIALS.replace("stop_here()", "end_the_program()");
    fs::write(folder.path().join("cut"), "2 1 4").unwrap();
    let killed = TRIALS.replace("stop_here()", "loop { at.y += 0.0; }");
    link_scripts(folder.path());
    fs::write(folder.path().join("case.rhai"), &killed).unwrap();
    let mut child = lorhai(folder.path()).args(["run", "case.rhai"]).spawn().unwrap();
    let log = folder.path().join("runs/kind-line_slope-2/metrics.jsonl");
    let lines = || fs::read_to_string(&log).unwrap_or_default().lines().count();
    for _ in 0..600 {
        if lines() == 4 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(lines(), 4);
    child.kill().unwrap();
    child.wait().unwrap();
    fs::write(folder.path().join("cut"), "").unwrap();
    let end = ran(folder.path(), &script.replace("end_the_program()", "()"));
    assert!(end.errors.contains("kind=line, slope=2: going on from step 3"), "{}", end.errors);
    // The second trial goes on after its third step; the others begin.
    assert_eq!(end.output.lines().next(), Some("[3, 0, 0]"));
    let rows = rows(folder.path(), "runs");
    assert_eq!(rows.iter().map(|row| row["y_score"].as_f64().unwrap()).collect::<Vec<_>>(), [5.0, 10.0, 25.0, 100.0]);
    assert_eq!(lines(), 5);
    assert!(!folder.path().join("runs/kind-line_slope-2/checkpoint-3").exists());
}

#[test]
fn mistakes_in_experiments_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for (options, expected) in [
        ("grid: #{ a: [1] }, out: \"x\"", "expected `trial`, found no experiment"),
        ("grid: #{ a: [1] }, out: \"x\", trial: |p, r| #{}, lora: #{ r: 2 }", "`lora` has no effect with `trial`"),
        ("grid: #{ a: [1] }, out: \"x\", trial: |p, r| #{}, resume: true", "`resume` has no effect with `trial`"),
        ("grid: #{ seconds: [1] }, out: \"x\", trial: |p, r| #{}", "`seconds` cannot be an axis"),
        ("grid: #{ a: #{} }, out: \"x\", trial: |p, r| #{}", "a: expected at least one value"),
        ("grid: #{ a: [1] }, trial: |p, r| #{}", "option `out`"),
    ] {
        let end = run(folder.path(), &format!("sweep(#{{ {options} }});"));
        assert!(end.code == Some(1) && end.errors.contains(expected), "{options}: {}", end.errors);
    }
    for (trial, expected) in [
        ("|p| #{}", "a trial takes the values of its point and a run"),
        ("|p, r| 1.0", "the function must return map, found float 1"),
        ("|p, r| #{ name: \"x\" }", "trial: `name`: expected a number, found string \"x\""),
        ("|p, r| #{ a: 1 }", "the metric `a` has the name of another column"),
        ("|p, r| #{ score: 0.0 / 0.0 }", "score: expected a finite number"),
    ] {
        let end = run(folder.path(), &format!("sweep(#{{ grid: #{{ a: [1] }}, out: \"y\", trial: {trial} }});"));
        let result = fs::read_to_string(folder.path().join("y/a-1/result.json")).unwrap();
        let told = format!("{}{}{result}", end.output, end.errors).replace("\\\"", "\"");
        assert!(end.code == Some(1) && told.contains(expected), "{trial}: {told}");
    }
}

/// A named value may be a function: here the loss of a training.
#[test]
fn losses_may_be_an_axis() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        r#"{BEGIN}
sweep(#{{
    grid: #{{ loss: #{{ plain: |model, batch| model.forward(batch).loss, half: |model, batch| model.forward(batch).loss * 0.5 }} }},
    out: "runs",
    trial: |point, run| {{
        base.add_lora(#{{ r: 2 }});
        let result = train(base, small, #{{ steps: 3, batch: 4, lr: 1e-2, loss: point.loss, out: run.folder + "/training" }});
        base.delete_adapter("default");
        #{{ train_loss: result.train_loss, eval_loss: result.eval_loss }}
    }} }});"#
    );
    ran(folder.path(), &script);
    let rows = rows(folder.path(), "runs");
    let losses: Vec<f64> = rows.iter().map(|row| row["train_loss"].as_f64().unwrap()).collect();
    assert_eq!(rows[0]["loss"], "half");
    // AdamW takes the same steps whatever the scale of a loss.
    assert!((losses[0] * 2.0 / losses[1] - 1.0).abs() < 1e-3, "{losses:?}");
    assert!(folder.path().join("runs/loss-plain/training/adapter/adapter_model.safetensors").is_file());
}
