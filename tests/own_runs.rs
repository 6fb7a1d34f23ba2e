//! Functions of a script in `train`: a loss, reports, metrics; and rows in their order.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::link_scripts;
use common::program::{finished, lorhai, Finished};
use lorhai::data::batch::{Batch, LabelledDocument};
use lorhai::train::forward::ForwardPass;
use lorhai::train::metrics::{read_metrics, MetricsRow};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tch::{Reduction, Tensor};

/// Rows that are cut to the same length, so that every micro-batch has the same number of labels.
const BEGIN: &str = r#"
let model = load_model("scripts/tiny", #{ device: "cpu", dtype: "f32" });
model.add_lora(#{ r: 4, alpha: 8, dropout: 0.1, target_modules: "all-linear" });
let rows = load_dataset("scripts/tiny/pretrain.jsonl")
    .map(|row| #{ text: row.instruction + row.output + row.instruction });
let data = rows.take(40).tokenize(model, #{ max_length: 16, append_eos: false }).split(#{ test: 8 });
let options = #{ epochs: 2, batch: 2, accumulation: 4, lr: 1e-2, warmup: 2, schedule: "cosine", max_grad_norm: 0.5,
    log_every: 1, eval_every: 3, keep_best: true };
"#;

fn run(folder: &Path, script: &str) -> Finished {
    run_with(folder, script, &["run"])
}

fn run_with(folder: &Path, script: &str, arguments: &[&str]) -> Finished {
    link_scripts(folder);
    fs::write(folder.join("case.rhai"), format!("{BEGIN}{script}")).unwrap();
    finished(lorhai(folder).args(arguments).arg("case.rhai").env("OMP_NUM_THREADS", "1"))
}

fn ran(folder: &Path, script: &str) -> Finished {
    let end = run(folder, script);
    assert_eq!(end.code, Some(0), "{}", end.errors);
    end
}

fn log(folder: &Path, run: &str) -> Vec<MetricsRow> {
    read_metrics(&folder.join(run).join("metrics.jsonl")).unwrap()
}

fn record(folder: &Path, run: &str) -> Value {
    common::files::read_json(folder.join(run).join("run.json"))
}

/// The largest relative difference between two logs that have the same rows.
fn distance(one: &[MetricsRow], other: &[MetricsRow]) -> f64 {
    assert_eq!(one.len(), other.len());
    let mut most = 0.0_f64;
    for (one, other) in one.iter().zip(other) {
        for name in ["loss", "grad_norm", "learning_rate", "eval_loss"] {
            match (one.get(name), other.get(name)) {
                (Some(x), Some(y)) => most = most.max(if x == y { 0.0 } else { (x / y - 1.0).abs() }),
                (x, y) => assert_eq!(x, y, "{name}"),
            }
        }
    }
    most
}

#[test]
fn a_loss_of_a_script_takes_the_way_of_the_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let built_in = ran(folder.path(), r#"print(train(model, data, options + #{ out: "built-in" }).eval_loss);"#);
    let by_script = r#"
let seen = [];
let result = train(model, data, options + #{ out: "own", loss: |model, batch| {
    seen.push(batch.rows);
    model.forward(batch).loss
} });
print(result.eval_loss);
if seen != seen.map(|rows| 2) || seen.len() != 32 { throw `${seen}`; }
"#;
    let scripted = ran(folder.path(), by_script);
    let (one, other) = (log(folder.path(), "built-in"), log(folder.path(), "own"));
    assert_eq!(one.iter().filter(|row| row.loss.is_some()).count(), 8);
    let distance = distance(&one, &other);
    println!("{distance:.1e} apart");
    assert!(distance < 1e-5, "{distance:.1e}");
    let number = |end: &Finished| end.output.trim().parse::<f64>().unwrap();
    assert!((number(&scripted) / number(&built_in) - 1.0).abs() < 1e-6);
    assert_eq!(record(folder.path(), "own")["settings"]["train"]["loss"], "function");
    assert_eq!(record(folder.path(), "built-in")["settings"]["train"].get("loss"), None);
}

/// The function of the script that ships, on rows of different lengths.
#[test]
fn label_smoothing_is_that_of_torch() {
    let script = fs::read_to_string("scripts/label_smoothing.rhai").unwrap();
    let function = &script[script.find("fn smoothed_loss").unwrap()..];
    let function = &function[..function.find("\n}").unwrap() + 2];
    let rows: [(&[i64], &[i64]); 2] =
        [(&[9, 40, 41, 300, 7], &[-100, -100, 41, 300, 7]), (&[12, 13, 14], &[-100, 13, 99])];
    let row = |(ids, labels): &(&[i64], &[i64])| format!("#{{ input_ids: {ids:?}, labels: {labels:?} }}");
    let rows_of_script = rows.iter().map(row).collect::<Vec<_>>().join(", ");
    let model = common::models::load(Path::new("scripts/tiny"), "f32");
    let document = |(ids, labels): &(&[i64], &[i64])| LabelledDocument {
        input_ids: ids.to_vec(),
        labels: labels.to_vec(),
        weights: None,
    };
    let batch = Batch::of_documents(&rows.iter().map(document).collect::<Vec<_>>(), 0);
    let logits = ForwardPass::run(&mut model.shallow_clone().unwrap(), &batch, false).unwrap();
    let logits = logits.logits(model.decoder()).unwrap();
    let labels = Tensor::from_slice(&batch.labels).view([2, 5]).narrow(1, 1, 4).flatten(0, -1);
    for eps in [0.0, 0.1, 0.4] {
        let text = format!(
            "{function}\nlet model = load_model(\"scripts/tiny\", #{{ dtype: \"f32\", device: \"cpu\" }});
             let batch = model.batch([{rows_of_script}]);
             print(smoothed_loss(no_grad(|| model.forward(batch, #{{ train: false }})), batch, {eps:?}).item());"
        );
        let scripted: f64 = common::session::prints(&text).unwrap().trim().parse().unwrap();
        let torch = logits.narrow(1, 0, 4).flatten(0, 1);
        let torch = torch.cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, eps).double_value(&[]);
        assert!((scripted / torch - 1.0).abs() < 1e-6, "eps {eps}: {scripted} and {torch}");
    }
}

/// Without dropout by the key of the micro-batch the runs would differ.
#[test]
fn dropout_and_label_smoothing_of_zero_change_nothing_with_all_weights_too() {
    let folder = tempfile::tempdir().unwrap();
    let smoothed = r#"
fn smoothed(model, batch, eps) {
    let last = batch.seq_len - 1;
    let labels = batch.labels.narrow(1, 1, last);
    let log_p = model.forward(batch).logits.narrow(1, 0, last).log_softmax(-1);
    let at_label = log_p.gather(2, labels.maximum(0).unsqueeze(-1)).squeeze(-1);
    let loss = (at_label * (1.0 - eps) + log_p.mean(-1) * eps) * -1.0;
    loss.masked_mean(labels.ne(-100))
}
"#;
    ran(folder.path(), r#"train(model, data, options + #{ out: "built-in" });"#);
    ran(
        folder.path(),
        &format!(r#"{smoothed} train(model, data, options + #{{ out: "own", loss: |m, b| smoothed(m, b, 0.0) }});"#),
    );
    ran(
        folder.path(),
        &format!(r#"{smoothed} train(model, data, options + #{{ out: "eps", loss: |m, b| smoothed(m, b, 0.1) }});"#),
    );
    let built_in = log(folder.path(), "built-in");
    let far = distance(&built_in, &log(folder.path(), "own"));
    assert!(far < 1e-4, "{far:.1e}");
    assert!(log(folder.path(), "eps")[0].loss.unwrap() > built_in[0].loss.unwrap() + 0.1);
    let full = "let model = load_model(\"scripts/tiny\", #{ device: \"cpu\", dtype: \"f32\" }); model.train_all();";
    ran(folder.path(), &format!(r#"{full} train(model, data, options + #{{ lr: 1e-4, out: "full" }});"#));
    let scripted = format!(
        r#"{full} train(model, data, options + #{{ lr: 1e-4, out: "own-full", loss: |m, b| m.forward(b).loss }});"#
    );
    ran(folder.path(), &scripted);
    let far = distance(&log(folder.path(), "full"), &log(folder.path(), "own-full"));
    assert!(far < 1e-5, "{far:.1e}");
}

#[test]
fn a_run_with_a_loss_goes_on_after_an_error_and_notices_another_kind() {
    let folder = tempfile::tempdir().unwrap();
    let script = |fail: &str, more: &str| {
        format!(
            r#"
let calls = 0;
train(model, data, options + #{{ out: "run"{more}, loss: |model, batch| {{
    calls += 1;
    {fail}
    model.forward(batch).loss
}} }});"#
        )
    };
    ran(folder.path(), &script("", "").replace("\"run\"", "\"whole\""));
    let end = run(folder.path(), &script("if calls == 18 { throw \"cut\"; }", ""));
    assert_eq!(end.code, Some(1));
    assert!(end.errors.contains("cut") && end.errors.contains("case.rhai:11"), "{}", end.errors);
    assert!(end.errors.contains("saved as it was after step 4"), "{}", end.errors);
    assert_eq!(record(folder.path(), "run")["status"], "failed");
    let other = run(folder.path(), r#"train(model, data, options + #{ out: "run" });"#);
    assert!(other.code == Some(1) && other.errors.contains("train.loss"), "{}", other.errors);
    let end = ran(folder.path(), &script("", ""));
    assert!(end.errors.contains("going on from step 4 of 8"), "{}", end.errors);
    assert_eq!(distance(&log(folder.path(), "run"), &log(folder.path(), "whole")), 0.0);
}

#[test]
fn reports_follow_a_run_and_may_stop_it() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
let steps = [];
let evals = [];
let result = train(model, data, options + #{ out: "run",
    on_step: |report| {
        steps.push(report);
        if report.step == 5 { "stop" }
    },
    on_eval: |report| {
        evals.push(report);
        if report.is_best { model.save_adapter(`saved-${report.step}`); }
    },
    metrics: |model| #{ accuracy: 0.25, eval_layers: model.named_parameters().len() },
});
print(steps.map(|r| `${r.step}/${r.total_steps}`));
print(evals.map(|r| r.step));
print(`${result.steps} ${result.stopped_early} ${result.eval_accuracy} ${result.eval_layers > 10.0}`);
print(steps[1].loss);
"#;
    let end = ran(folder.path(), script);
    let lines: Vec<&str> = end.output.lines().collect();
    assert_eq!(lines[0], r#"["1/8", "2/8", "3/8", "4/8", "5/8"]"#);
    assert_eq!(lines[1..3], ["[3, 5]", "5 true 0.25 true"]);
    let log = log(folder.path(), "run");
    assert_eq!(log.iter().find(|row| row.step == 2).unwrap().loss.unwrap().to_string(), lines[3]);
    assert_eq!(log.iter().filter(|row| row.get("eval_accuracy") == Some(0.25)).count(), 2);
    let record = record(folder.path(), "run");
    assert_eq!((&record["status"], &record["metrics"]["eval_accuracy"]), (&"finished".into(), &0.25.into()));
    assert!(folder.path().join("saved-3/adapter_model.safetensors").is_file());
    assert!(folder.path().join("run/adapter/adapter_model.safetensors").is_file());
    let stopped = r#"
let result = train(model, data, options + #{ on_eval: |report| "stop" });
print(`${result.steps} ${result.stopped_early}`);"#;
    assert_eq!(ran(folder.path(), stopped).output.trim(), "3 true");
}

#[test]
fn rows_may_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
let data = rows.take(5).tokenize(model, #{ max_length: 16, append_eos: false });
let seen = [];
train(model, data, #{ epochs: 2, batch: 2, shuffle: false, out: "run", loss: |model, batch| {
    seen.push(batch.input_ids[0][1].item());
    model.forward(batch).loss
} });
let expected = [];
for batch in data.batches(#{ size: 2 }) { expected.push(batch.input_ids[0][1].item()); }
print(seen == expected + expected);"#;
    assert_eq!(ran(folder.path(), script).output.trim(), "true");
    assert_eq!(record(folder.path(), "run")["settings"]["train"]["shuffle"], false);
}

#[test]
fn mistakes_in_functions_end_the_run_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    for (options, expected) in [
        (
            "loss: |model, batch| model.forward(batch).logits",
            "loss: expected a tensor of one number, found shape [2, 16,",
        ),
        ("loss: |model, batch| 1.0", "loss: the function must return tensor, found float 1"),
        ("loss: |model, batch| no_grad(|| model.forward(batch).loss)", "depends on what is trained"),
        ("loss: |batch| 1.0", "a loss takes the model and a batch"),
        ("loss: |model, batch| { let l = model.forward(batch).loss; l.backward(); l }", "went backward already"),
        ("loss: |model, batch| nothing", "case.rhai:11"),
        ("loss: |m, b| m.forward(b).loss, gradient_checkpointing: true", "works with the built-in loss alone"),
        ("on_step: |report| report.los", "unknown property `los`"),
        ("on_step: |report| true", "on_step: expected \"stop\" or nothing, found bool true"),
        ("on_step: |report| \"halt\"", "on_step: expected \"stop\" or nothing, found string \"halt\""),
        ("on_step: |report| model.add_lora(#{ name: \"b\" })", "another adapter active"),
        ("on_step: |report| train(model, data, options)", "this model is in training"),
        ("metrics: |model| #{ loss: 1 }", "`eval_loss` is measured by the run itself"),
        (
            "metrics: |model| #{ accuracy: \"high\" }",
            "metrics: `eval_accuracy`: expected a number, found string \"high\"",
        ),
        ("metrics: |model| 0.5", "metrics: the function must return map, found float 0.5"),
        ("group_by_length: true, shuffle: false", "leave one of them out"),
    ] {
        let end = run(folder.path(), &format!("\n\ntrain(model, data, options + #{{ {options} }});"));
        assert!(end.code == Some(1) && end.errors.contains(expected), "{options}: {}", end.errors);
    }
    let end = run(folder.path(), "train(model, data.train, #{ steps: 1, metrics: |model| #{ a: 1 } });");
    assert!(end.errors.contains("need held-out rows"), "{}", end.errors);
}

#[test]
fn functions_are_rehearsed() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
let calls = 0;
train(model, data, options + #{ out: "run", loss: |model, batch| { calls += 1; model.forward(batch).loss },
    on_eval: |report| (), metrics: |model| #{ calls: calls } });
print(calls);"#;
    let end = run_with(folder.path(), script, &["run", "--dry-run"]);
    assert_eq!(end.code, Some(0), "{}", end.errors);
    let calls: i64 = end.output.lines().next().unwrap().trim().parse().unwrap();
    assert!((2..=8).contains(&calls), "{}", end.output);
    assert!(!folder.path().join("run").exists());
}

/// A loop over two epochs of 16 steps. It ends in an error where a file says so, before the checkpoint of that step.
const LOOP: &str = r#"
let opt = adamw(model, #{ lr: 1e-3 });
let run = start_run("loop", #{ steps: 32, name: "smoothed", settings: #{ lr: 1e-3, eps: 0.1 } });
let at = run.resume(#{ opt: opt, data: data, epoch: 0, batch: 0, step: 0 });
let cut = read_text("cut");
while at.epoch < 2 {
    for batch in data.train.batches(#{ size: 2, shuffle: 1, epoch: at.epoch, skip: at.batch }) {
        let loss = model.forward(batch).loss;
        loss.backward();
        opt.step();
        opt.zero_grad();
        at.step += 1;
        at.batch += 1;
        run.log(at.step, #{ loss: loss.item(), accuracy: 0.5, odd: if at.step == 3 { 0.0 / 0.0 } else { 1 } });
        if at.step % 10 == 0 { run.log(at.step, #{ eval_loss: evaluate(model, data.test, #{}).loss }); }
        if cut == `${at.step}` { throw "cut"; }
        if at.step % 4 == 0 { run.checkpoint(at); }
    }
    at.epoch += 1;
    at.batch = 0;
}
if cut == "end" { exit(); }
run.finish(#{ accuracy: 0.75 });
"#;

fn run_loop(folder: &Path, cut: &str) -> Finished {
    fs::write(folder.join("cut"), cut).unwrap();
    run(folder, LOOP)
}

fn lines_of(folder: &Path, arguments: &[&str]) -> String {
    let end = finished(lorhai(folder).args(arguments));
    assert_eq!(end.code, Some(0), "{arguments:?}: {}", end.errors);
    end.output
}

#[test]
fn a_loop_of_a_script_is_a_run() {
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let end = run_loop(whole.path(), "");
    assert_eq!(end.code, Some(0), "{}", end.errors);
    assert!(end.errors.contains("smoothed: step 32/32 loss"), "{}", end.errors);
    let expected = log(whole.path(), "loop");
    assert_eq!(expected.len(), 35);
    assert!(expected[2].get("odd").unwrap().is_nan() && expected[10].eval_loss.is_some());
    let events = |folder: &Path| {
        let mut files = lorhai::train::tensorboard::event_files(&folder.join("loop"));
        assert_eq!(files.len(), 1);
        fs::metadata(files.remove(0)).unwrap().len()
    };
    for (cut, status) in [("10", "failed"), ("14", "failed"), ("end", "unfinished")] {
        let end = run_loop(folder.path(), cut);
        assert_eq!(end.code == Some(0), cut == "end", "{}", end.errors);
        let record = record(folder.path(), "loop");
        assert_eq!((&record["status"], &record["kind"]), (&status.into(), &"loop".into()));
        assert_eq!(record["settings"], serde_json::json!({ "name": "smoothed", "lr": 1e-3, "eps": 0.1 }));
        if status == "failed" {
            assert_eq!(record["error"], "cut");
        }
    }
    let end = run_loop(folder.path(), "");
    assert!(end.errors.contains("going on from step 32"), "{}", end.errors);
    // As text, for one of the numbers is NaN.
    let text = |rows: &[MetricsRow]| format!("{rows:?}");
    assert_eq!(text(&log(folder.path(), "loop")), text(&expected));
    assert_eq!(events(folder.path()), events(whole.path()));
    let record = record(folder.path(), "loop");
    assert_eq!((&record["status"], &record["metrics"]), (&"finished".into(), &serde_json::json!({ "accuracy": 0.75 })));
    assert!(!folder.path().join("loop/checkpoint-32").exists());

    assert!(lines_of(folder.path(), &["runs", "."]).contains("finished"));
    let shown = lines_of(folder.path(), &["show", "loop"]);
    assert!(shown.contains("eps") && shown.contains("accuracy  0.75") && shown.contains("metrics.jsonl"), "{shown}");
    fs::rename(folder.path().join("loop"), folder.path().join("first")).unwrap();
    fs::write(folder.path().join("cut"), "").unwrap();
    ran(folder.path(), &LOOP.replace("eps: 0.1", "eps: 0.2"));
    let compared = lines_of(folder.path(), &["compare", "first", "loop", "--chart", "chart.svg"]);
    assert!(compared.contains("eps") && compared.contains("0.75"), "{compared}");
    assert!(folder.path().join("chart.svg").is_file());
    let replayed = lines_of(folder.path(), &["replay", "loop"]);
    assert!(replayed.contains("loop: the same to the last bit ("), "{replayed}");
    let origin = common::files::read_json(folder.path().join("loop/origin.json"));
    assert_eq!(origin["model"]["name"], "scripts/tiny");
}

#[test]
fn a_finished_loop_begins_anew_and_results_are_the_last_numbers() {
    let folder = tempfile::tempdir().unwrap();
    for first in [1, 2] {
        let script = format!(
            r#"
let run = start_run("loop", #{{}});
for step in 1..4 {{ run.log(step, #{{ reward: {first} * step }}); }}
run.finish();
print(run.folder);"#
        );
        assert_eq!(ran(folder.path(), &script).output.trim(), "loop");
        let record = record(folder.path(), "loop");
        assert_eq!(record["metrics"], serde_json::json!({ "steps": 3.0, "reward": f64::from(3 * first) }));
        assert_eq!(log(folder.path(), "loop").len(), 3);
    }
    for (script, expected) in [
        ("run.log(1, #{ loss: \"low\" });", "run.log: `loss`: expected a number, found string \"low\""),
        ("run.log(1, #{ loss: tensor([1.0]).sum() });", "`.item()` is the number of a tensor"),
        ("run.log(-1, #{ loss: 1 });", "run.log: expected a step of at least 0, found -1"),
        ("run.log(1, #{ step: 1 });", "run.log: `step` is the first argument"),
        ("run.finish(); run.log(1, #{ loss: 1 });", "run.log: this run is finished"),
        ("run.finish(#{ best: true });", "run.finish: `best`: expected a number, found bool true"),
        ("run.checkpoint(#{}); start_run(\"other\", #{ save_every: 0.5 });", "`steps` gives it"),
    ] {
        let end = run(folder.path(), &format!("let run = start_run(\"loop\", #{{}}); {script}"));
        assert!(end.code == Some(1) && end.errors.contains(expected), "{script}: {}", end.errors);
    }
    assert_eq!(record(folder.path(), "loop")["status"], "failed");
    ran(folder.path(), "train(model, data, #{ steps: 1, out: \"trained\" });");
    let end = run(folder.path(), "start_run(\"trained\", #{});");
    assert!(end.errors.contains("holds a run of train"), "{}", end.errors);
}
