//! What the real program tells while it runs: objects for a machine, lines for a log, bars on a
//! terminal, which tmux stands in for. That part is skipped where tmux is missing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

struct Told {
    code: Option<i32>,
    output: String,
    errors: String,
}

/// A folder with the shipped scripts and `script` as `case.rhai`.
fn scratch(script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    std::os::unix::fs::symlink(scripts, folder.path().join("scripts")).unwrap();
    std::fs::write(folder.path().join("case.rhai"), script).unwrap();
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorhai"));
    command.arg("run").args(arguments).current_dir(folder).env("LORHAI_CACHE", folder.join("cache"));
    let told = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Told { code: told.status.code(), output: text(told.stdout), errors: text(told.stderr) }
}

/// Every line, as the object that it must be; every kind and key must be documented.
fn objects(errors: &str) -> Vec<Value> {
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/progress.md");
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
    let folder = scratch(script);
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
    let folder = scratch(SCRIPT);
    let told = run(folder.path(), &["--json", "case.rhai"]);
    assert_eq!((told.code, told.output.as_str()), (Some(0), "4\n"), "{}", told.errors);
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
    assert_eq!(objects.last().unwrap()["kind"], "done");
}

#[test]
fn a_machine_is_told_the_error_and_its_place() {
    let folder = scratch("let x = 1;\nfn f(x) { x.load_modle() }\nf(x);");
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
    let folder = scratch(SCRIPT);
    let told = run(folder.path(), &["case.rhai"]);
    let lines: Vec<&str> = told.errors.lines().collect();
    let starting = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(starting("step "), 6 + 2, "{lines:#?}");
    assert_eq!((starting("trial "), starting("lr=0.001, rank=2: train_loss")), (4, 1), "{lines:#?}");
    let sums = lines.iter().filter(|line| line.contains("/4 trials, step ")).count();
    assert!((3..=10).contains(&sums), "{lines:#?}");
    let told = run(folder.path(), &["--quiet", "case.rhai"]);
    assert_eq!((told.code, told.output.as_str(), told.errors.as_str()), (Some(0), "4\n", ""));
}

/// A terminal of its own, of so many columns.
struct Screen {
    socket: String,
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

impl Screen {
    fn tmux(&self, arguments: &[&str]) -> Option<String> {
        let output =
            Command::new("tmux").args(["-L", &self.socket, "-f", "/dev/null"]).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits for a screen of which `shows` is true, and gives its lines.
    fn wait(&self, what: &str, shows: impl Fn(&[String]) -> bool) -> Vec<String> {
        let started = Instant::now();
        loop {
            let text = self.tmux(&["capture-pane", "-p"]).unwrap();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if shows(&lines) {
                return lines;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{what}: {lines:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_terminal_shows_a_bar_for_the_sweep_and_each_trial_and_is_clean_after_ctrl_c() {
    let folder = scratch(&SCRIPT.replace("steps: 5,", "steps: 100000,").replace("1e38", "2e-3"));
    for columns in ["80", "40"] {
        let screen = Screen { socket: format!("lorhai-progress-{}-{columns}", std::process::id()) };
        let program = env!("CARGO_BIN_EXE_lorhai");
        let command = format!("cd {}; export LORHAI_CACHE=cache; PS1='$ ' sh", folder.path().display());
        if screen.tmux(&["new-session", "-d", "-x", columns, "-y", "24", &command]).is_none() {
            println!("skipped: there is no tmux");
            return;
        }
        screen.tmux(&["send-keys", &format!("clear; {program} run case.rhai; echo code $?"), "Enter"]);
        let trains = |line: &&String| line.starts_with("lr=") && line.contains("/100000");
        let lines = screen.wait("bars", |lines| lines.iter().filter(trains).count() == 4);
        let bars: Vec<&String> = lines.iter().filter(|line| line.contains('█') || line.contains('░')).collect();
        assert_eq!(bars.len(), 5, "{lines:#?}");
        assert!(bars[0].starts_with("0/4 trials ") && bars[0].contains(" left"), "{lines:#?}");
        let names = ["lr=0.001, ran", "lr=0.001, ran", "lr=0.002, ran", "lr=0.002, ran"];
        assert!(bars[1..].iter().zip(names).all(|(bar, name)| bar.starts_with(name)), "{lines:#?}");
        screen.tmux(&["send-keys", "C-c", ""]);
        let lines = screen.wait("the end", |lines| lines.iter().any(|line| line.starts_with("code 130")));
        assert!(!lines.iter().any(|line| line.contains('█') || line.contains('░')), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("stopped: ")), "{lines:#?}");
    }
}
