//! What the real program tells while it runs: objects for a machine, lines for a log, bars on a
//! terminal, which tmux stands in for.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{folder_with_script, root};
use common::program::{finished, lorhai, Finished};
use common::terminal::Terminal;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

/// A single training, then a sweep of five trials, one of which cannot go well.
const SCRIPT: &str = r#"
let base = load_model("scripts/tiny", #{ dtype: "f32" });
let data = load_dataset("scripts/tiny/train.jsonl").take(40).tokenize(base, #{ max_length: 64 }).split(#{ test: 8 });
base.add_lora(#{ r: 2 });
train(base, data, #{ steps: 6, batch: 2, eval_every: 3 });
base.delete_adapter("default");
let result = sweep(base, data, #{ grid: #{ lr: [1e-3, 1e38], rank: [2, 4] }, out: "out", charts: false,
    train: #{ steps: 5, batch: 2, eval_every: 5 } });
print(result.rows.len());
"#;

fn run(folder: &Path, arguments: &[&str]) -> Finished {
    finished(lorhai(folder).arg("run").args(arguments).stdin(Stdio::null()))
}

/// Every line, as the object that it must be; every kind and key must be documented.
fn objects(errors: &str) -> Vec<Value> {
    let documents = root().join("docs/progress.md");
    let documents = std::fs::read_to_string(documents).unwrap();
    let read = |line: &str| -> Value {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let kind = object["kind"].as_str().unwrap();
        let row = format!("| `{kind}` |");
        let row =
            documents.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("{kind}: no document"));
        for key in object.as_object().unwrap().keys().filter(|key| *key != "kind" && *key != "time") {
            assert!(row.contains(&format!("`{key}`")), "{kind}: {key} is not documented");
        }
        assert!(object["time"].as_f64().unwrap() > 1.7e9);
        object
    };
    errors.lines().map(read).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// Of a rate that is far too high a run of few steps tells, of one that is far too low a longer one.
#[test]
fn a_loss_that_stays_where_it_began_is_told() {
    let script = r#"
let model = load_model("scripts/tiny", #{ dtype: "f32" });
let rows = dataset([#{ text: "the small fox sees a red bird" }]).tokenize(model, #{});
model.add_lora(#{ r: 2, target_modules: "all-linear" });
train(model, rows, #{ steps: 40, batch: 1, lr: 1e-12 });
train(model, rows, #{ steps: 8, batch: 1, lr: 1e6 });
model.delete_adapter("default");
model.add_lora(#{ r: 2, target_modules: "all-linear" });
train(model, rows, #{ steps: 60, batch: 1, lr: 1e-3 });
"#;
    let folder = folder_with_script(script);
    let told = run(folder.path(), &["--json", "case.rhai"]);
    assert_eq!(told.code, Some(0), "{}", told.errors);
    let objects = objects(&told.errors);
    let flat = of_kind(&objects, "flat_loss");
    assert!(flat.len() == 1 && flat[0]["step"] == 40 && flat[0]["is_guessing"] == false, "{flat:?}");
    let stalled = of_kind(&objects, "stalled");
    assert!(stalled.len() == 1 && stalled[0]["step"] == 8, "{stalled:?}");
    let lines = run(folder.path(), &["case.rhai"]).errors;
    assert!(lines.contains("not learning: after 40 steps the loss stays where it began"), "{lines}");
    assert!(lines.contains("stalled: the gradient is exactly 0 since step"), "{lines}");
}

#[test]
fn a_machine_is_told_every_step_trial_and_end() {
    let folder = folder_with_script(SCRIPT);
    let told = run(folder.path(), &["--json", "case.rhai"]);
    // Two of the four trials failed.
    assert_eq!((told.code, told.output.as_str()), (Some(3), "4\n"), "{}", told.errors);
    let objects = objects(&told.errors);
    let mut steps: BTreeMap<Option<&str>, Vec<u64>> = BTreeMap::new();
    for step in of_kind(&objects, "step") {
        assert_eq!(step["total_steps"], if step["trial"].is_null() { 6 } else { 5 });
        assert!(step["loss"].is_number() || step["loss"] == "NaN" || step["loss"] == "Infinity", "{step}");
        steps.entry(step["trial"].as_str()).or_default().push(step["step"].as_u64().unwrap());
    }
    assert_eq!(steps[&None], [1, 2, 3, 4, 5, 6]);
    for trial in ["lr-0.001_rank-2", "lr-0.001_rank-4"] {
        assert_eq!(steps[&Some(trial)], [1, 2, 3, 4, 5], "{trial}");
    }
    let evals = of_kind(&objects, "eval");
    let single: Vec<&Value> = evals.iter().filter(|eval| eval["trial"].is_null()).map(|eval| &eval["step"]).collect();
    assert_eq!(single, [3, 6]);
    assert_eq!(of_kind(&objects, "sweep_planned")[0]["to_run"], 4);
    assert_eq!(of_kind(&objects, "trial_started").len(), 4);
    let (finished, failed) = (of_kind(&objects, "trial_finished"), of_kind(&objects, "trial_failed"));
    let rows: Value = serde_json::from_slice(&std::fs::read(folder.path().join("out/results.json")).unwrap()).unwrap();
    let row = |trial: &Value| rows.as_array().unwrap().iter().find(|row| row["dir"] == *trial).unwrap();
    assert_eq!((finished.len(), failed.len()), (2, 2));
    for trial in finished {
        assert_eq!(trial["point"], json!({ "lr": 0.001, "rank": row(&trial["trial"])["rank"] }));
        for (name, value) in trial.as_object().unwrap().iter().skip(4) {
            assert_eq!(*value, row(&trial["trial"])[name], "{name}");
        }
    }
    for trial in failed {
        assert_eq!(trial["error"]["message"], row(&trial["trial"])["error"]);
        assert_eq!(trial["error"]["kind"], "numeric");
    }
    let last = objects.last().unwrap();
    assert_eq!((&last["kind"], &last["error"]["message"]), (&json!("failed"), &json!("2 of 4 trials failed")));
}

#[test]
fn a_machine_is_told_the_error_and_its_place() {
    let folder = folder_with_script("let x = 1;\nfn f(x) { x.load_modle() }\nf(x);");
    let told = run(folder.path(), &["--json", "case.rhai"]);
    let failed = objects(&told.errors).pop().unwrap();
    assert_eq!((told.code, told.output.as_str(), &failed["kind"]), (Some(1), "", &json!("failed")));
    let error = &failed["error"];
    assert_eq!(error["kind"], "input");
    assert!(error["message"].as_str().unwrap().contains("`load_modle"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("load_model"), "{error}");
    let text = "fn f(x) { x.load_modle() }";
    assert_eq!(error["place"], json!({ "file": "case.rhai", "line": 2, "column": 13, "text": text }));
    assert_eq!(error["calls"], json!(["`f` called from case.rhai:3:1"]));
    let told = run(folder.path(), &["--json", "nowhere.rhai"]);
    let failed = objects(&told.errors).pop().unwrap();
    assert_eq!(
        (told.code, &failed["error"]["kind"], &failed["error"]["place"]),
        (Some(1), &json!("file"), &Value::Null)
    );
    let told = run(folder.path(), &["--json", "--quiet", "case.rhai"]);
    assert_eq!(told.code, Some(2));
    assert!(told.errors.contains("'--json' cannot be used with '--quiet'"), "{}", told.errors);
}

#[test]
fn a_log_gets_few_lines_and_quiet_none() {
    let folder = folder_with_script(SCRIPT);
    let told = run(folder.path(), &["case.rhai"]);
    let lines: Vec<&str> = told.errors.lines().collect();
    let starting = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(starting("step "), 6 + 2, "{lines:#?}");
    assert_eq!((starting("trial "), starting("lr=0.001, rank=2: train_loss")), (4, 1), "{lines:#?}");
    let sums = lines.iter().filter(|line| line.contains("/4 trials, step ")).count();
    assert!((3..=10).contains(&sums), "{lines:#?}");
    let told = run(folder.path(), &["--quiet", "case.rhai"]);
    assert_eq!((told.code, told.output.as_str()), (Some(3), "4\n"));
    // Nothing but why it ends with that code.
    assert!(
        told.errors.starts_with("error: 2 of 4 trials failed\n") && told.errors.lines().count() == 2,
        "{}",
        told.errors
    );
}

#[test]
#[ignore = "needs tmux"]
fn a_terminal_shows_a_bar_for_the_sweep_and_each_trial_and_is_clean_after_ctrl_c() {
    let folder = folder_with_script(&SCRIPT.replace("steps: 5,", "steps: 100000,").replace("1e38", "2e-3"));
    for columns in [80, 40] {
        let terminal = Terminal::new(&format!("progress-{columns}"));
        let program = env!("CARGO_BIN_EXE_lorhai");
        let command = format!("cd {}; export LORHAI_CACHE=cache; PS1='$ ' sh", folder.path().display());
        terminal.start((columns, 24), &command);
        terminal.enter(&format!("clear; {program} run case.rhai; echo code $?"));
        let wait = |what: &str, shows: &dyn Fn(&[String]) -> bool| -> Vec<String> {
            let lines = |screen: &str| screen.lines().map(str::to_owned).collect::<Vec<_>>();
            lines(&terminal.wait(what, |screen| shows(&lines(screen))))
        };
        let trains = |line: &&String| line.starts_with("lr=") && line.contains("/100000");
        let lines = wait("bars", &|lines| lines.iter().filter(trains).count() == 4);
        let bars: Vec<&String> = lines.iter().filter(|line| line.contains('█') || line.contains('░')).collect();
        assert_eq!(bars.len(), 5, "{lines:#?}");
        assert!(bars[0].starts_with("0/4 trials ") && bars[0].contains(" left"), "{lines:#?}");
        let names = ["lr=0.001, ran", "lr=0.001, ran", "lr=0.002, ran", "lr=0.002, ran"];
        assert!(bars[1..].iter().zip(names).all(|(bar, name)| bar.starts_with(name)), "{lines:#?}");
        terminal.key("C-c");
        let lines = wait("the end", &|lines| lines.iter().any(|line| line.starts_with("code 130")));
        assert!(!lines.iter().any(|line| line.contains('█') || line.contains('░')), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("stopped: ")), "{lines:#?}");
    }
}
