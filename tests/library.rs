//! A Rust program trains, rehearses, sweeps and draws charts without a script: it leaves what a script leaves, and the
//! numbers are the same.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::models::load;
use common::session::prints;
use lorhai::data::{tokenize, Dataset, TokenizeOptions, TokenizedDataset};
use lorhai::eval::loss::{held_out_loss, mean_loss};
use lorhai::lora::{peft, LoraSpec, Model, Targets};
use lorhai::plot::about::About;
use lorhai::plot::publish::publish;
use lorhai::plot::run::run_chart;
use lorhai::plot::sweep::{chart, ChartOptions};
use lorhai::plot::Scale;
use lorhai::sweep::progress::SweepProgress;
use lorhai::sweep::{Axes, LoraSweep, SweepOptions};
use lorhai::train::metrics::{read_metrics, MetricsRow};
use lorhai::train::{AdamWConfig, Callbacks, EvalInterval, Pace, Progress, RunReport, TrainConfig, TrainRun};
use serde_json::{json, Value};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const TINY: &str = "scripts/tiny";

/// The shipped model, with 56 rows to train on and 8 held out.
fn tiny() -> (Model, TokenizedDataset, TokenizedDataset) {
    let model = load(Path::new(TINY), "f32");
    let rows = Dataset::load(Path::new(TINY).join("train.jsonl")).unwrap().take(64);
    let tokens = tokenize(&rows, model.tokenizer().unwrap(), &TokenizeOptions::default()).unwrap();
    let (train, test) = tokens.split(8.0, 0).unwrap();
    (model, train, test)
}

fn spec() -> LoraSpec {
    LoraSpec { r: 4, dropout: 0.1, target_modules: Targets::AllLinear, ..LoraSpec::default() }
}

fn config() -> TrainConfig {
    TrainConfig {
        steps: 6,
        batch: 4,
        log_every: 2,
        eval_every: EvalInterval::Steps(3),
        optimizer: AdamWConfig { lr: 1e-3, ..AdamWConfig::default() },
        ..TrainConfig::default()
    }
}

/// Trains an adapter by `spec` and `config` into `folder`.
fn train(folder: &Path, pace: Pace) -> RunReport {
    let (mut model, train, test) = tiny();
    model.adapted.add("default", spec(), 0).unwrap();
    let config = config();
    let run = TrainRun {
        train: &train,
        test: Some(&test),
        config: &config,
        folder: Some(folder),
        checkpoints: None,
        origin: None,
        callbacks: Callbacks::default(),
        processes: None,
    };
    run.run(&mut model, &mut held_out_loss(config.eval_batch), pace, Progress::Quiet).unwrap()
}

/// The same run as a script.
fn train_by_script(folder: &Path) -> String {
    let script = format!(
        r#"let model = load_model("{TINY}", #{{ dtype: "f32", device: "cpu" }});
        model.add_lora(#{{ r: 4, dropout: 0.1, target_modules: "all-linear", seed: 0 }});
        let data = load_dataset("{TINY}/train.jsonl").take(64).tokenize(model, #{{}}).split(#{{ test: 8, seed: 0 }});
        let result = train(model, data, #{{ steps: 6, batch: 4, log_every: 2, eval_every: 3, lr: 1e-3, out: {folder:?} }});
        print(`${{result.train_loss}} ${{result.eval_loss}} ${{result.tokens}}`);"#
    );
    prints(&script).unwrap()
}

/// The paths of all files below `folder`, from it on. Event files have the time and the host in their names.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(below) = folders.pop() {
        for path in fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_path_buf();
                let is_events = name.to_string_lossy().contains("events.out.tfevents");
                paths.insert(if is_events { "events.out.tfevents".into() } else { name });
            }
        }
    }
    paths
}

fn json_of(path: &Path) -> Value {
    common::files::read_json(path)
}

/// What a log says of each step apart from the time it took.
fn losses(folder: &Path) -> Vec<(u64, [Option<f64>; 4])> {
    let numbers = |row: &MetricsRow| [row.loss, row.eval_loss, row.learning_rate, row.grad_norm];
    read_metrics(&folder.join("metrics.jsonl")).unwrap().iter().map(|row| (row.step, numbers(row))).collect()
}

#[test]
fn a_run_from_rust_leaves_what_a_script_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let (rust, script) = (folder.path().join("rust"), folder.path().join("script"));
    let outcome = train(&rust, Pace::Full).outcome;
    let printed = train_by_script(&script);
    let numbers: Vec<f64> = printed.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers, [outcome.train_loss, outcome.eval_loss.unwrap(), outcome.tokens as f64]);
    assert_eq!(losses(&rust), losses(&script));
    let steps: Vec<u64> = losses(&rust).iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [2, 3, 4, 6, 6], "logged at 2, 4 and 6, evaluated at 3 and 6");

    // `origin.json` says which script a run can be repeated by; here is none.
    let mut left = files(&script);
    assert!(left.remove(Path::new("origin.json")));
    assert_eq!(files(&rust), left);
    for name in ["adapter_model.safetensors", "adapter_config.json", "tokenizer.json"] {
        let bytes = |run: &Path| fs::read(run.join("adapter").join(name)).unwrap();
        assert!(bytes(&rust) == bytes(&script), "{name} differs");
    }
    let (record, expected) = (json_of(&rust.join("run.json")), json_of(&script.join("run.json")));
    assert_eq!((&record["settings"], &record["status"]), (&expected["settings"], &expected["status"]));
    assert_eq!(record["metrics"]["eval_loss"], expected["metrics"]["eval_loss"]);
}

#[test]
fn a_rehearsal_from_rust_plans_the_whole_run() {
    let folder = tempfile::tempdir().unwrap();
    let report = train(folder.path(), Pace::Rehearsal);
    let planned = report.planned.unwrap();
    let real = train(&folder.path().join("real"), Pace::Full);
    assert_eq!((planned.steps, planned.tokens), (real.outcome.steps, real.outcome.tokens));
    assert!(planned.seconds > 0.0 && real.planned.is_none());
    assert!(losses(folder.path()).iter().all(|(step, _)| *step <= 2), "only two steps are taken");
    assert!(folder.path().join("adapter/adapter_model.safetensors").is_file());
}

#[test]
fn a_sweep_from_rust_writes_table_charts_and_report() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("ranks");
    let (base, train, test) = tiny();
    let grid = Axes::from([("rank", json!([2, 4])), ("seed", json!(2))]);
    let options = SweepOptions { grid, out: out.clone(), ..SweepOptions::default() };
    let sweep = LoraSweep::new(&base, (&train, &test), &options, &spec(), &config()).unwrap();
    let mut notes = Vec::new();
    let report =
        sweep.run(&out, Pace::Full, SweepProgress::new(true), &mut |line| notes.push(line.to_owned())).unwrap();
    let result = &report.result;
    assert_eq!((result.rows().len(), result.trained, result.failed().count()), (4, 4, 0), "{notes:?}");

    // Each number of the results is that of the adapter in the trial's folder.
    for row in result.rows() {
        let adapter = peft::load(&out.join(&row.dir).join("adapter"), base.decoder()).unwrap();
        assert_eq!(Some(adapter.spec.r as f64), row.number("rank"));
        let mut model = load(Path::new(TINY), "f32");
        model.adapted.insert("trained", adapter).unwrap();
        let loss = mean_loss(model.decoder(), &model.adapted.adapter_set(None), &test, 8).unwrap().loss;
        let reported = row.number("eval_loss").unwrap();
        assert!((loss - reported).abs() < 1e-5 * reported, "{}: {reported}, measured again {loss}", row.dir);
    }
    let rows = json_of(&out.join("results.json"));
    assert_eq!(rows, result.to_json());
    assert_eq!(fs::read_to_string(out.join("results.csv")).unwrap().lines().count(), 5);
    let table = result.table();
    let best = result.best("eval_loss").unwrap();
    assert!(table.contains("eval_loss") && table.contains(&format!("best: {}", best.name())), "{table}");

    let about = About::sweep(&report, Some(&base), 1.0).unwrap();
    let written = publish(result, &about).unwrap();
    assert!(written.iter().all(|path| path.is_file()) && written.contains(&out.join("report.html")));
    let path = folder.path().join("ranks.svg");
    let axes = ChartOptions { title: "Two ranks".into(), ..ChartOptions::default() };
    chart(result, &axes).unwrap().save(&path).unwrap();
    let svg = fs::read_to_string(&path).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.contains("Two ranks") && svg.contains("eval_loss (nats per token)</text>"),
        "{svg}"
    );

    let curves = folder.path().join("curves.png");
    run_chart(&[out.join("rank-2_seed-0"), out.join("rank-4_seed-0")], Scale::Linear).unwrap().save(&curves).unwrap();
    assert!(fs::read(&curves).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn a_sweep_over_a_value_that_cannot_be_is_refused_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let (base, train, test) = tiny();
    for (grid, expected) in [
        (Axes::from([("rank", json!([4, 0]))]), "option `r`: expected int of at least 1, found 0"),
        (Axes::from([("rnak", json!([4]))]), "did you mean `rank`?"),
    ] {
        let options = SweepOptions { grid, out: folder.path().join("out"), ..SweepOptions::default() };
        let Err(error) = LoraSweep::new(&base, (&train, &test), &options, &spec(), &config()) else {
            panic!("no error of {expected}")
        };
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!options.out.exists());
    }
}
