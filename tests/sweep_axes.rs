//! Sweeps over bases, losses and objectives. Every trial must have the numbers that it has in a run of its own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{link_scripts, read_json};
use common::program::{finished, lorhai, Finished};
use serde_json::{json, Value};
use std::fs;
use std::path::Path;
use std::time::Duration;

const ROWS: &str = r#"
let rows = load_dataset("scripts/tiny/pretrain.jsonl").take(20)
    .map(|row| #{ prompt: row.instruction, completion: " " + row.output });
let tokenized = |model| rows.tokenize(model, #{ max_length: 96, cache: false }).split(#{ test: 4 });
let float = #{ device: "cpu", dtype: "f32" };
"#;

/// A test's folder, with the shipped model and the same one with another tokenizer.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    link_scripts(folder.path());
    let (tiny, other) = (folder.path().join("scripts/tiny"), folder.path().join("other"));
    fs::create_dir(&other).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer_config.json"] {
        fs::copy(tiny.join(name), other.join(name)).unwrap();
    }
    let mut tokenizer = read_json(tiny.join("tokenizer.json"));
    // Every token but the special ones gets the id of its neighbour.
    for id in tokenizer["model"]["vocab"].as_object_mut().unwrap().values_mut() {
        *id = json!(id.as_u64().map(|id| if (16..1008).contains(&id) { id ^ 1 } else { id }));
    }
    fs::write(other.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    folder
}

fn run_with(folder: &Path, script: &str, arguments: &[&str]) -> Finished {
    fs::write(folder.join("case.rhai"), script).unwrap();
    finished(lorhai(folder).args(arguments).arg("case.rhai").env("OMP_NUM_THREADS", "2"))
}

fn ran(folder: &Path, script: &str) -> Finished {
    let end = run_with(folder, script, &["run"]);
    assert_eq!(end.code, Some(0), "{}", end.errors);
    end
}

/// Checks and rehearses a script; nothing may be written to `out`.
fn rehearsed(folder: &Path, script: &str, out: &str) -> String {
    let checked = run_with(folder, script, &["check"]);
    assert!(checked.output.contains("no problems found"), "{}{}", checked.output, checked.errors);
    let end = run_with(folder, script, &["run", "--dry-run"]);
    assert_eq!(end.code, Some(0), "{}", end.errors);
    assert!(!folder.join(out).exists());
    format!("{}{}", end.output, end.errors)
}

fn rows(folder: &Path, out: &str) -> Vec<Value> {
    read_json(folder.join(out).join("results.json")).as_array().unwrap().clone()
}

fn config(folder: &Path, trial: &str) -> Value {
    read_json(folder.join(trial).join("config.json"))["settings"].clone()
}

/// The results of two trials are the same within `bound`, relative.
fn assert_same(one: &Value, other: &Value, bound: f64) {
    for name in ["train_loss", "eval_loss"] {
        let (one_loss, other_loss) = (one[name].as_f64().unwrap(), other[name].as_f64().unwrap());
        assert!((one_loss / other_loss - 1.0).abs() <= bound, "{name}: {one} {other}");
    }
    assert_eq!((&one["tokens"], &one["trainable_params"]), (&other["tokens"], &other["trainable_params"]));
}

/// The row whose values are those of `like` on these axes.
fn alike<'a>(rows: &'a [Value], like: &Value, axes: &[&str]) -> &'a Value {
    let is_alike = |row: &&Value| axes.iter().all(|axis| row[*axis] == like[*axis]);
    rows.iter().find(is_alike).unwrap_or_else(|| panic!("no row like {like}"))
}

/// Two bases with one tokenizer, of which one is 4-bit, over the same rows.
#[test]
fn bases_are_an_axis_over_the_same_rows() {
    let folder = folder();
    let settings = r#"lora: #{ alpha: |p| 2 * p.rank, target_modules: "all-linear", dropout: 0.1 },
        train: #{ steps: 4, batch: 4, lr: 1e-2 }, verify: true"#;
    let script = format!(
        r#"{ROWS}
let plain = load_model("scripts/tiny", float);
let four = load_model("scripts/tiny", #{{ device: "cpu", dtype: "f32", load_in_4bit: true }});
let data = tokenized.call(plain);
let result = sweep(#{{ grid: #{{ base: #{{ plain: plain, four: four }}, rank: [2, 4], seed: 2 }}, data: data, {settings},
    metrics: |model, point| #{{ again: evaluate(model, point.data.test, #{{}}).loss, same_name: `${{model}}` == `${{point.base}}` }},
    out: "both" }});
print(result.rows.len());
print(result.best().base);
print(result.table());
for base in [#{{ name: "plain", model: plain }}, #{{ name: "four", model: four }}] {{
    sweep(base.model, data, #{{ grid: #{{ rank: [2, 4], seed: 2 }}, {settings}, out: base.name }});
}}"#
    );
    let plan = rehearsed(folder.path(), &script, "both");
    assert!(plan.contains("base=four, rank=2") && plan.contains("base=plain, rank=4"), "{plan}");
    let end = ran(folder.path(), &script);
    assert!(end.output.starts_with("8\nplain\n"), "{}", end.output);
    let both = rows(folder.path(), "both");
    assert_eq!(both.len(), 8);
    for row in &both {
        let base = row["base"].as_str().unwrap();
        let alone = rows(folder.path(), base);
        assert_same(row, alike(&alone, row, &["rank", "seed"]), 1e-6);
        let (eval, again) = (row["eval_loss"].as_f64().unwrap(), row["again"].as_f64().unwrap());
        assert!((eval / again - 1.0).abs() < 1e-5, "{row}");
        assert_eq!(row["same_name"], 1.0, "{row}");
        assert_eq!(row["dir"], format!("base-{base}_rank-{}_seed-{}", row["rank"], row["seed"]));
    }
    let of = |base: &str| both.iter().find(|row| row["base"] == base).unwrap()["train_loss"].as_f64().unwrap();
    assert!((of("four") / of("plain") - 1.0).abs() > 1e-3, "4-bit weights have other losses");
    let [plain, four] = ["plain", "four"].map(|base| config(folder.path(), &format!("both/base-{base}_rank-2_seed-0")));
    assert_eq!((&plain["quantization"], &four["quantization"]["load_in_4bit"]), (&Value::Null, &json!(true)));
    assert_eq!(plain["data"], four["data"]);
    assert_eq!(plain, config(folder.path(), "plain/rank-2_seed-0"), "a trial has the settings of one without the axis");
    let report = fs::read_to_string(folder.path().join("both/report.html")).unwrap();
    assert!(report.contains("base four") && report.contains("nf4"), "the report names the bases");
    assert!(folder.path().join("both/charts/eval_loss_by_base.svg").is_file());
    let deviations = end.errors.lines().filter(|line| line.contains("trained alone: loss off by")).count();
    assert_eq!(deviations, 6, "{}", end.errors);

    // Another base with the axis: only its trials run.
    let more = script.replace("four: four }", "four: four, again: load_model(\"scripts/tiny\", float) }");
    let end = ran(folder.path(), &more);
    assert!(end.errors.contains("8 trials are finished already, 4 to run"), "{}", end.errors);
    let again = rows(folder.path(), "both");
    assert_eq!(again.len(), 12);
    for row in again.iter().filter(|row| row["base"] == "again") {
        let plain: Vec<Value> = again.iter().filter(|row| row["base"] == "plain").cloned().collect();
        assert_same(row, alike(&plain, row, &["rank", "seed"]), 1e-6);
    }
    // Another model under a name: its trials run again.
    let other = script.replace("plain: plain,", "plain: random_model(\"scripts/tiny\", #{ device: \"cpu\" }),");
    let end = run_with(folder.path(), &other, &["run"]);
    assert!(end.errors.contains("base=plain, rank=2, seed=0: the settings changed"), "{}", end.errors);
    let alone = script.replace("out: base.name", "out: \"both\"");
    let end = run_with(folder.path(), &alone, &["run"]);
    assert!(end.errors.contains("out: `both` holds another sweep"), "{}", end.errors);
}

/// Bases with their own tokenizers get rows of their own; equal ones train side by side.
#[test]
fn a_function_makes_the_rows_of_each_base() {
    let folder = folder();
    let script = format!(
        r#"{ROWS}
let calls = [];
let bases = #{{ tiny: load_model("scripts/tiny", float), other: load_model("other", float) }};
let result = sweep(#{{
    grid: #{{ base: bases, data: #{{ few: rows.take(12), all: rows }}, rank: [2, 4] }},
    data: |p| {{
        calls.push(p.keys().len());
        p.data.tokenize(p.base, #{{ max_length: 96, cache: false }}).split(#{{ test: 4 }})
    }},
    lora: #{{ target_modules: "all-linear" }},
    train: #{{ epochs: 1, batch: 4, lr: 1e-2, warmup: |p| if p.data.train.len > 8 {{ 1 }} else {{ 0 }} }},
    metrics: |model, point| #{{ train_rows: point.data.train.len }},
    out: "both" }});
print(calls);
for name in ["tiny", "other"] {{
    for count in [12, 20] {{
        let base = bases[name];
        let data = rows.take(count).tokenize(base, #{{ max_length: 96, cache: false }}).split(#{{ test: 4 }});
        for rank in [2, 4] {{
            base.add_lora(#{{ r: rank, target_modules: "all-linear" }});
            let warmup = if count == 20 {{ 1 }} else {{ 0 }};
            train(base, data, #{{ epochs: 1, batch: 4, lr: 1e-2, warmup: warmup, out: `alone/${{name}}-${{count}}-${{rank}}` }});
            base.delete_adapter("default");
        }}
    }}
}}"#
    );
    rehearsed(folder.path(), &script, "both");
    let end = ran(folder.path(), &script);
    assert_eq!(end.output.trim(), "[2, 2, 2, 2]", "once for each base and each data set");
    for row in rows(folder.path(), "both") {
        let count = if row["data"] == "few" { 12 } else { 20 };
        assert_eq!(row["train_rows"], (count - 4) as f64);
        let name = format!("alone/{}-{count}-{}", row["base"].as_str().unwrap(), row["rank"]);
        let alone = read_json(folder.path().join(name).join("run.json"));
        for name in ["train_loss", "eval_loss"] {
            let (one, other) = (row[name].as_f64().unwrap(), alone["metrics"][name].as_f64().unwrap());
            assert!((one / other - 1.0).abs() < 1e-6, "{name}: {row} {alone}");
        }
    }
    let data = |base: &str| config(folder.path(), &format!("both/base-{base}_data-all_rank-2"))["data"].clone();
    assert_ne!(data("tiny"), data("other"));
    let again = ran(folder.path(), &script);
    assert!(again.errors.contains("all 8 trials are finished already"), "{}", again.errors);
}

/// The program is killed when the trials of the first base are done and those of the second are trained.
#[test]
fn a_sweep_that_is_cut_off_between_bases_goes_on() {
    let folder = folder();
    let script = |out: &str, metrics: &str| {
        format!(
            r#"{ROWS}
let bases = #{{ one: load_model("scripts/tiny", float), two: random_model("scripts/tiny", #{{ device: "cpu" }}) }};
sweep(#{{ grid: #{{ base: bases, rank: [2, 4] }}, data: tokenized.call(bases.one), lora: #{{ dropout: 0.1 }},
    train: #{{ steps: 3, batch: 4, lr: 1e-2 }}, metrics: |model, point| {metrics}, out: "{out}" }});"#
        )
    };
    let waiting =
        script("cut", "{ calls += 1; if calls > 2 && read_text(\"wait\") == \"yes\" { loop { } } #{ size: 1 } }");
    let waiting = waiting.replace("sweep(", "let calls = 0;\nsweep(");
    fs::write(folder.path().join("wait"), "yes").unwrap();
    fs::write(folder.path().join("case.rhai"), &waiting).unwrap();
    let mut child = lorhai(folder.path()).args(["run", "case.rhai"]).env("OMP_NUM_THREADS", "2").spawn().unwrap();
    let trained = folder.path().join("cut/base-two_rank-4/adapter/lorhai.json");
    for _ in 0..1200 {
        if trained.is_file() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(trained.is_file());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!folder.path().join("cut/base-two_rank-2/result.json").exists());
    fs::write(folder.path().join("wait"), "no").unwrap();
    let end = ran(folder.path(), &waiting);
    assert!(end.errors.contains("2 trials are finished already, 2 to run"), "{}", end.errors);
    ran(folder.path(), &script("whole", "#{ size: 1 }"));
    for (one, other) in rows(folder.path(), "cut").iter().zip(&rows(folder.path(), "whole")) {
        assert_eq!((&one["base"], &one["rank"]), (&other["base"], &other["rank"]));
        assert_same(one, other, 0.0);
    }
}

/// Functions as losses, beside the built-in one.
#[test]
fn losses_are_an_axis_of_adapters() {
    let folder = folder();
    let script = format!(
        r#"{ROWS}
let base = load_model("scripts/tiny", float);
let weight = 0.5;
let result = sweep(base, tokenized.call(base), #{{
    grid: #{{ loss: #{{
        built_in: (),
        plain: |model, batch| model.forward(batch).loss,
        half: |model, batch| model.forward(batch).loss * weight,
        scaled: |model, batch, point| model.forward(batch).loss * (point.rank * 1.0),
    }}, rank: [2, 4] }},
    lora: #{{ target_modules: "all-linear", dropout: 0.1 }},
    train: #{{ steps: 4, batch: 4, lr: 1e-2 }},
    out: "losses", verify: true }});
print(result.rows.len());
sweep(base, tokenized.call(base), #{{ grid: #{{ rank: [2] }}, lora: #{{ target_modules: "all-linear", dropout: 0.1 }},
    train: #{{ steps: 4, batch: 4, lr: 1e-2, loss: |model, batch| model.forward(batch).loss * 3.0 }},
    out: "one" }});
"#
    );
    rehearsed(folder.path(), &script, "losses");
    let end = ran(folder.path(), &script);
    assert_eq!(end.output.trim(), "8");
    let all = rows(folder.path(), "losses");
    let of = |loss: &str, rank: i64| all.iter().find(|row| row["loss"] == loss && row["rank"] == rank).unwrap();
    let loss = |row: &Value| row["train_loss"].as_f64().unwrap();
    for rank in [2, 4] {
        assert_same(of("plain", rank), of("built_in", rank), 1e-5);
        // The first step is the same, and AdamW's next ones nearly are.
        assert!((loss(of("half", rank)) * 2.0 / loss(of("plain", rank)) - 1.0).abs() < 1e-3);
        assert!((loss(of("scaled", rank)) / rank as f64 / loss(of("plain", rank)) - 1.0).abs() < 1e-3);
    }
    let one = &rows(folder.path(), "one")[0];
    assert!((loss(one) / 3.0 / loss(of("plain", 2)) - 1.0).abs() < 1e-3, "{one}");
    let loss_of = |trial: &str| config(folder.path(), trial)["train"]["loss"].clone();
    assert_eq!(loss_of("losses/loss-built_in_rank-2"), Value::Null);
    let [plain, half] = ["plain", "half"].map(|name| loss_of(&format!("losses/loss-{name}_rank-2")));
    assert!(plain["function"].is_string() && plain.get("captured").is_none() && half["captured"].is_string());

    // Lines above a function change nothing; its text, and what it captures, do.
    let end = ran(folder.path(), &script.replace("let weight", "// a comment\n\nlet weight"));
    assert!(end.errors.contains("all 8 trials are finished already"), "{}", end.errors);
    let end = ran(folder.path(), &script.replace("let weight = 0.5", "let weight = 0.25"));
    assert!(end.errors.contains("6 trials are finished already, 2 to run"), "{}", end.errors);
    assert!(end.errors.contains("loss=half, rank=2: the settings changed"), "{}", end.errors);
    assert!(end.errors.contains("train.loss.captured"), "{}", end.errors);
    let end = ran(folder.path(), &script.replace("loss * weight", "loss * (weight + 1.0)"));
    assert!(end.errors.contains("train.loss.function"), "{}", end.errors);

    // A function that fails ends its trials alone.
    let failing = script.replace("out: \"losses\", verify: true", "out: \"failing\"").replace("loss * weight", "lost");
    let end = run_with(folder.path(), &failing, &["run"]);
    assert_eq!(end.code, Some(3), "{}", end.errors);
    let line = failing.lines().position(|line| line.contains("half:")).unwrap() + 1;
    assert!(end.errors.contains(&format!("loss=half, rank=2: failed: line {line}: loss: ")), "{}", end.errors);
    assert_eq!(rows(folder.path(), "failing").iter().filter(|row| row["train_loss"].is_number()).count(), 6);
}

const PAIRS: &str = r#"
let base = load_model("scripts/tiny", #{ device: "cpu", dtype: "f32" });
let pairs = load_dataset("scripts/tiny/preferences.jsonl").take(24).tokenize(base, #{ max_length: 96, cache: false })
    .split(#{ test: 4 });
let alone = |options, seed| {
    base.add_lora(#{ r: 4, target_modules: "all-linear", seed: seed });
    let result = train(base, pairs, options + #{ steps: 5, batch: 4, lr: 2e-3, seed: seed });
    base.delete_adapter("default");
    result.train_loss
};
"#;

/// Objectives and losses of DPO, packed in one sweep and alone.
#[test]
fn objectives_and_their_options_are_axes() {
    let folder = folder();
    let settings = r#"lora: #{ r: 4, target_modules: "all-linear" }, train: #{ steps: 5, batch: 4, lr: 2e-3 }"#;
    let dpo = settings.replace("train: #{", "train: #{ objective: \"dpo\",");
    let script = format!(
        r#"{PAIRS}
sweep(base, pairs, #{{ grid: #{{ objective: ["dpo", "orpo", "simpo"], beta: [0.1, 0.5], seed: [7] }}, {settings}, out: "objectives" }});
sweep(base, pairs, #{{ grid: #{{ loss_type: ["sigmoid", "hinge", "ipo"], seed: 2 }}, {dpo}, out: "losses" }});
for objective in ["dpo", "orpo", "simpo"] {{
    for beta in [0.1, 0.5] {{ print(`${{objective}} ${{beta}} ${{alone.call(#{{ objective: objective, beta: beta }}, 7)}}`); }}
}}
for kind in ["sigmoid", "hinge", "ipo"] {{
    print(`${{kind}} 0 ${{alone.call(#{{ objective: "dpo", loss_type: kind }}, 0)}}`);
}}"#
    );
    let end = ran(folder.path(), &script);
    let solo: Vec<Vec<&str>> = end.output.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(solo.len(), 9);
    let (objectives, losses) = (rows(folder.path(), "objectives"), rows(folder.path(), "losses"));
    for words in &solo {
        let expected: f64 = words[2].parse().unwrap();
        let is_it = |row: &&Value| {
            (row["objective"] == words[0] && row["beta"] == json!(words[1].parse::<f64>().unwrap()))
                || (row["loss_type"] == words[0] && row["seed"] == 0)
        };
        let row = objectives.iter().chain(&losses).find(is_it).unwrap();
        let loss = row["train_loss"].as_f64().unwrap();
        assert!((loss / expected - 1.0).abs() < 1e-5, "{words:?}: {row}");
    }
    // 5 steps of 4 see all 20 pairs; with the 4 that are held out these are 48 answers, once for all trials.
    let notes = end.errors.matches("reference: log-probabilities of 48 answers, once for 6 trials").count();
    assert_eq!(notes, 2, "{}", end.errors);
}

/// Each mistake is told before a trial starts.
#[test]
fn mistakes_are_told_before_the_first_trial() {
    let folder = folder();
    for (call, expected) in [
        (r#"sweep(#{ grid: #{ base: [tiny] }, data: data, out: "x" })"#, "grid: base: expected models by their names, found array"),
        (r#"sweep(#{ grid: #{ base: tiny }, data: data, out: "x" })"#, "grid: base: expected models by their names, found Model"),
        (r#"sweep(#{ grid: #{ base: #{ a: "tiny" } }, data: data, out: "x" })"#, "grid: base: `a`: expected a model, found string"),
        (r#"sweep(#{ grid: #{ base: #{} }, data: data, out: "x" })"#, "grid: base: expected at least one value"),
        (r#"sweep(tiny, data, #{ grid: #{ base: #{ a: tiny } }, out: "x" })"#, "the base is an argument and an axis of the grid"),
        (r#"sweep(#{ grid: #{ base: #{ a: tiny } }, out: "x" })"#, "expected data, as an argument, an option or an axis"),
        (r#"sweep(#{ grid: #{ rank: [2] }, data: data, out: "x" })"#, "found no experiment and no base model"),
        (r#"sweep(tiny, data, #{ grid: #{ rank: [2] }, data: data, out: "x" })"#, "`data` is an argument and an option"),
        (r#"sweep(tiny, #{ grid: #{ data: #{ a: data } }, data: data, out: "x" })"#, "`data` is an option and an axis of the grid"),
        (r#"sweep(tiny, #{ grid: #{ data: #{ a: rows } }, out: "x" })"#, "grid: data: `a`: expected tokenized rows and held-out ones"),
        (r#"sweep(tiny, #{ grid: #{ rank: [2] }, data: 3, out: "x" })"#, "option `data`: expected tokenized rows and held-out ones, or a function |p|"),
        (r#"sweep(tiny, #{ grid: #{ rank: [2] }, data: |p| rows, out: "x" })"#, "data: the function must return tokenized rows and held-out ones"),
        (r#"sweep(tiny, #{ grid: #{ rank: [2] }, data: |p| { p.rank; data }, out: "x" })"#, "data: unknown property `rank`"),
        (r#"sweep(tiny, #{ grid: #{ rank: [2] }, data: || data, out: "x" })"#, "data takes the base and the value of the axis"),
        (
            r#"sweep(#{ grid: #{ base: #{ a: tiny, b: other } }, data: data, out: "x" })"#,
            "base `b`: expected rows in the tokens of its tokenizer, found those of another",
        ),
        (
            r#"tiny.add_lora(#{ r: 2 }); tiny.merge(); sweep(#{ grid: #{ base: #{ a: tiny } }, data: data, out: "x" })"#,
            "grid: base: `a`: ",
        ),
        (r#"tiny.train_all(); sweep(#{ grid: #{ base: #{ a: tiny } }, data: data, out: "x" })"#, "expected a frozen base"),
        (r#"sweep(tiny, data, #{ grid: #{ loss: [|m, b| m.forward(b).loss] }, out: "x" })"#, "grid: loss: expected functions by their names"),
        (r#"sweep(tiny, data, #{ grid: #{ loss: #{ a: 3 } }, out: "x" })"#, "option `train.loss`: expected function, found int 3"),
        (r#"sweep(tiny, data, #{ grid: #{ loss: #{ a: |m| 3 } }, out: "x" })"#, "`train.loss`: expected a function of the model and a batch"),
        (
            r#"sweep(tiny, data, #{ grid: #{ loss: #{ a: |m, b| m } }, train: #{ loss: |m, b| m }, out: "x" })"#,
            "`loss` varies in this sweep and `train.loss` is given too",
        ),
        (
            r#"sweep(tiny, pairs, #{ grid: #{ loss: #{ a: (), b: |m, b| m } }, train: #{ objective: "dpo" }, out: "x" })"#,
            "trial loss=b: train: option `loss`: expected none beside an `objective`",
        ),
        (
            r#"sweep(tiny, data, #{ grid: #{ loss: #{ a: |m, b| m } }, train: #{ gradient_checkpointing: true }, out: "x" })"#,
            "trial loss=a: train: option `gradient_checkpointing`",
        ),
        (
            r#"sweep(tiny, pairs, #{ grid: #{ objective: ["dpo", "sft"], beta: [0.3] }, out: "x" })"#,
            "trial beta=0.3, objective=sft: sweep: option `train.beta`: expected an `objective` with it, found none",
        ),
        (
            r#"sweep(tiny, pairs, #{ grid: #{ objective: ["simpo", "dpo"], simpo_gamma: [0.3, 0.5] }, out: "x" })"#,
            "trial objective=dpo, simpo_gamma=0.3: train: option `simpo_gamma`: expected an objective that has it, found \"dpo\"",
        ),
        (
            r#"sweep(tiny, pairs, #{ grid: #{ objective: ["dpo", "orpo"], loss_type: ["sigmoid", "hinge"] }, out: "x" })"#,
            "trial loss_type=sigmoid, objective=orpo: sweep: option `train.loss_type`: expected objective \"dpo\" with it",
        ),
        (
            r#"sweep(tiny, pairs, #{ grid: #{ objective: ["dpo", "kto"] }, out: "x" })"#,
            "trial objective=kto: train: objective \"kto\": expected rows of",
        ),
        (r#"sweep(tiny, data, #{ grid: #{ rank: [2] }, train: #{ lr: -1.0 }, out: "x" })"#, "error: sweep: option `train.lr`"),
        (
            r#"sweep(#{ grid: #{ a: [1] }, data: data, trial: |p, r| #{}, out: "x" })"#,
            "`data` has no effect with `trial`",
        ),
    ] {
        let begin = r#"
let tiny = load_model("scripts/tiny", float);
let other = load_model("other", float);
let data = tokenized.call(tiny);
let pairs = load_dataset("scripts/tiny/preferences.jsonl").take(12).tokenize(tiny, #{ cache: false }).split(#{ test: 4 });
"#;
        let end = run_with(folder.path(), &format!("{ROWS}{begin}{call};"), &["run"]);
        assert!(end.code == Some(1) && end.errors.contains(expected), "{call}: {}", end.errors);
        assert!(!folder.path().join("x").exists(), "{call}");
    }
}
