//! Sweeps whose trials depend on results: points that are drawn, options that are tuned, seeds until it is decided.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{link_scripts, read_json};
use common::program::{finished, lorhai, Finished};
use lorhai::sweep::SweepResult;
use serde_json::{json, Value};
use std::fs;
use std::path::Path;

const BEGIN: &str = r#"
let base = load_model("scripts/tiny", #{ device: "cpu", dtype: "f32" });
let data = load_dataset("scripts/tiny/pretrain.jsonl").map(|row| #{ prompt: row.instruction, completion: " " + row.output })
    .take(16).tokenize(base, #{ max_length: 96 }).split(#{ test: 4 });
"#;

/// A loss of a rank with noise of its seed: 4 is worse by 0.1 than the others.
const NOISY: &str = r#"
let noisy = |point, run| {
    let x = sin(point.seed.to_float() * 12.9898 + point.rank.to_float() * 78.233) * 43758.5453;
    #{ loss: (if point.rank == 4 { 0.1 } else { 0.0 }) + sin(point.seed.to_float()) + 0.012 * (x - floor(x)) }
};
"#;

fn run_with(folder: &Path, script: &str, arguments: &[&str]) -> Finished {
    link_scripts(folder);
    fs::write(folder.join("case.rhai"), script).unwrap();
    finished(lorhai(folder).args(arguments).arg("case.rhai").env("OMP_NUM_THREADS", "2"))
}

fn ran(folder: &Path, script: &str) -> Finished {
    let end = run_with(folder, script, &["run"]);
    assert_eq!(end.code, Some(0), "{}", end.errors);
    end
}

fn rows(folder: &Path, out: &str) -> Vec<Value> {
    read_json(folder.join(out).join("results.json")).as_array().unwrap().clone()
}

#[test]
fn drawn_points_train_as_they_would_in_a_grid() {
    let folder = tempfile::tempdir().unwrap();
    let options = r#"lora: #{ target_modules: "all-linear", alpha: |p| 2 * p.rank }, train: #{ steps: 2, batch: 4 }, charts: false"#;
    let search = format!(
        r#"{BEGIN}
let result = sweep(base, data, #{{
    grid: #{{ seed: 2 }}, search: #{{ lr: log_uniform(1e-4, 1e-2), rank: choice([2, 4]) }}, trials: 5, {options}, out: "drawn" }});
print(result.trained);"#
    );
    assert_eq!(ran(folder.path(), &search).output, "10\n");
    let drawn = rows(folder.path(), "drawn");
    let rates: Vec<f64> = drawn.iter().map(|row| row["lr"].as_f64().unwrap()).collect();
    assert!(rates.iter().all(|lr| (1e-4..=1e-2).contains(lr)) && rates.iter().any(|lr| *lr < 1e-3));
    assert_eq!(drawn.iter().filter(|row| row["seed"] == 1).count(), 5);
    // The same points again, and nothing to train.
    assert_eq!(ran(folder.path(), &search).output, "0\n");
    assert_eq!(rows(folder.path(), "drawn"), drawn);
    let (lr, rank) = (&drawn[0]["lr"], &drawn[0]["rank"]);
    let grid = format!(
        r#"{BEGIN}
sweep(base, data, #{{ grid: #{{ lr: {lr}, rank: {rank}, seed: 1 }}, {options}, out: "grid" }});
let again = open_sweep("drawn");
print(again.rows.len());
print(again.table().contains("not run"));"#
    );
    assert_eq!(ran(folder.path(), &grid).output, "10\nfalse\n");
    let name = drawn[0]["dir"].as_str().unwrap();
    let adapter = |out: &str| fs::read(folder.path().join(out).join(name).join("adapter/adapter_model.safetensors"));
    assert_eq!(adapter("drawn").unwrap(), adapter("grid").unwrap());
}

#[test]
fn a_model_of_the_results_draws_near_the_best() {
    let folder = tempfile::tempdir().unwrap();
    let script = |sampler: &str| {
        format!(
            r#"let result = sweep(#{{ search: #{{ x: uniform(-8, 8), kind: choice(["good", "bad"]), n: int_uniform(1, 9) }},
    trials: 40, sampler: "{sampler}", metric: "loss", out: "{sampler}", charts: false,
    trial: |point, run| #{{ loss: (point.x - 3.0) ** 2.0 + abs(point.n - 4) + (if point.kind == "good" {{ 0 }} else {{ 5 }}) }} }});
print(result.rows.map(|row| row.loss).extract(30..).reduce(|sum, loss| sum + loss, 0.0));"#
        )
    };
    let sum_of_last = |sampler: &str| ran(folder.path(), &script(sampler)).output.trim().parse::<f64>().unwrap();
    let (tpe, random) = (sum_of_last("tpe"), sum_of_last("random"));
    assert!(tpe < 0.75 * random, "tpe {tpe}, random {random}");
    assert_eq!(rows(folder.path(), "tpe").len(), 40);
    // What it draws follows from the results on disk.
    let before = rows(folder.path(), "tpe");
    fs::remove_dir_all(folder.path().join("tpe").join(before[35]["dir"].as_str().unwrap())).unwrap();
    ran(folder.path(), &script("tpe"));
    let values = |rows: &[Value]| rows.iter().map(|row| (row["x"].clone(), row["loss"].clone())).collect::<Vec<_>>();
    assert_eq!(values(&rows(folder.path(), "tpe")), values(&before));
}

/// The optimum of each rank is known: a learning rate of 0.01 / rank.
#[test]
fn each_setting_tunes_its_own_learning_rate() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
let result = sweep(#{ grid: #{ rank: [1, 10, 100], seed: 2 }, tune: "lr", out: "tuned", charts: false, metric: "loss",
    trial: |point, run| #{ loss: log2(point.lr * point.rank / 1e-2) ** 2.0 + 0.001 * point.seed } });
print(result.rows.map(|row| [row.rank, row.lr, row.seed]));
let tuning = open_sweep("tuned/tuning");
print(tuning.rows.len());
print(tuning.rows.filter(|row| row.seed != 0).len());"#;
    let end = ran(folder.path(), script);
    let expected = "[[1, 0.01, 0], [1, 0.01, 1], [10, 0.001, 0], [10, 0.001, 1], [100, 0.0001, 0], [100, 0.0001, 1]]";
    // Rank 1 goes up to the end from 3e-4, 10 stays near, 100 goes down by one.
    assert_eq!(end.output, format!("{expected}\n13\n0\n"));
    assert!(end.errors.contains("tuned lr: rank=1: 0.01; rank=10: 0.001; rank=100: 0.0001"), "{}", end.errors);
    assert!(end.errors.contains("warning: tune: the best lr of rank=1 is the first or the last"), "{}", end.errors);
    assert_eq!(ran(folder.path(), script).output, end.output);
    // The rank names each setting, so that charts have one line over it.
    let tuned = SweepResult::open(&folder.path().join("tuned")).unwrap();
    assert_eq!((tuned.settled_axis(), tuned.varying_axes()), (Some("lr"), vec!["rank"]));
    let series = tuned.series("rank", "loss", Some("seed"), None).unwrap();
    assert_eq!(series.iter().map(|series| series.points.len()).collect::<Vec<_>>(), [3]);
}

#[test]
fn a_tuned_sweep_of_adapters_trains_each_rank_at_its_rate() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        r#"{BEGIN}
let result = sweep(base, data, #{{ grid: #{{ rank: [2, 4] }}, tune: #{{ lr: [1e-4, 1e-2, 1e9] }},
    lora: #{{ target_modules: "all-linear" }}, train: #{{ steps: 2, batch: 4 }}, out: "tuned" }});
print(result.rows.map(|row| row.lr));"#
    );
    assert_eq!(ran(folder.path(), &script).output, "[0.01, 0.01]\n");
    assert!(folder.path().join("tuned/report.html").is_file());
    assert_eq!(rows(folder.path(), "tuned/tuning").len(), 6);
    let both = script.replace("steps: 2", "lr: 1e-3, steps: 2");
    let end = run_with(folder.path(), &both, &["run"]);
    assert!(end.errors.contains("`lr` varies in this sweep and `train.lr` is given too"), "{}", end.errors);
}

/// Seeds are added to the settings in play alone, and the answer is that of all seeds of all settings.
#[test]
fn seeds_are_added_until_it_is_decided() {
    let folder = tempfile::tempdir().unwrap();
    let adaptive = format!(
        r#"{NOISY}
let result = sweep(#{{ grid: #{{ rank: [4, 16, 64] }}, decide: #{{ margin: 0.01, metric: "loss" }}, trial: noisy,
    out: "adaptive", charts: false }});
print(result.decide(#{{ margin: 0.01, metric: "loss" }}).summary);"#
    );
    let end = ran(folder.path(), &adaptive);
    let full = format!(
        r#"{NOISY}
let result = sweep(#{{ grid: #{{ rank: [4, 16, 64], seed: 12 }}, trial: noisy, out: "full", charts: false }});
print(result.decide(#{{ margin: 0.01, metric: "loss" }}).summary);"#
    );
    assert_eq!(ran(folder.path(), &full).output, end.output);
    assert!(end.output.starts_with("by loss, rank 16 is enough"), "{}", end.output);
    assert!(end.errors.contains(end.output.trim()), "{}", end.errors);
    let trained = rows(folder.path(), "adaptive");
    let of_rank = |rank: u64| trained.iter().filter(|row| row["rank"] == rank).count();
    assert!(of_rank(4) < of_rank(16) && of_rank(16) == of_rank(64) && of_rank(16) <= 12, "{trained:?}");
    assert!(end.errors.contains("not decided yet: another seed of rank=16; rank=64"), "{}", end.errors);
    // Cut off: the same trials and the same answer.
    for at in [1, trained.len() - 1] {
        fs::remove_dir_all(folder.path().join("adaptive").join(trained[at]["dir"].as_str().unwrap())).unwrap();
    }
    assert_eq!(ran(folder.path(), &adaptive).output, end.output);
    let values = |rows: &[Value]| rows.iter().map(|row| (row["dir"].clone(), row["loss"].clone())).collect::<Vec<_>>();
    assert_eq!(values(&rows(folder.path(), "adaptive")), values(&trained));
    let marker = read_json(folder.path().join("adaptive/sweep.json"));
    assert_eq!((&marker["decide"]["margin"], &marker["decide"]["metric"]), (&json!(0.01), &json!("loss")));
}

#[test]
fn an_adaptive_sweep_is_rehearsed_by_its_first_round() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        r#"{BEGIN}
let result = sweep(base, data, #{{ grid: #{{ rank: [2, 4] }}, tune: "lr", decide: #{{ margin: 0.01 }},
    lora: #{{ target_modules: "all-linear" }}, train: #{{ steps: 20, batch: 4 }}, out: "rehearsed" }});
print(result.best().summary);"#
    );
    let checked = run_with(folder.path(), &script, &["check"]);
    assert!(checked.output.contains("no problems found"), "{}{}", checked.output, checked.errors);
    let end = run_with(folder.path(), &script, &["run", "--dry-run"]);
    assert_eq!(end.code, Some(0), "{}", end.errors);
    assert!(!folder.path().join("rehearsed").exists());
    let text = format!("{}{}", end.output, end.errors);
    assert!(
        text.contains("sweep, rehearsed/tuning") && text.contains("3 seeds of each setting; there may be up to 12"),
        "{text}"
    );
}

#[test]
fn options_that_do_not_go_together_are_refused_before_anything_trains() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (r#"search: #{ lr: log_uniform(1e-5, 1e-3) }"#, "option `trials`: expected the number of points to draw"),
        (
            r#"search: #{ lr: log_uniform(1e-3, 1e-5) }, trials: 2"#,
            "log_uniform: expected 0 < low < high, found 0.001 and 1e-5",
        ),
        (
            r#"search: #{ lr: 1e-3 }, trials: 2"#,
            "sweep: option `search.lr`: expected values to draw from: log_uniform(low, high)",
        ),
        (r#"search: #{ rnak: choice([1, 2]) }, trials: 2"#, "search: unknown option `rnak`"),
        (r#"search: #{ seed: choice([1, 2]) }, trials: 2"#, "search: `seed` cannot be drawn"),
        (r#"search: #{ rank: choice([2, 2]) }, trials: 2"#, "choice: expected values that differ, found array [2, 2]"),
        (
            r#"grid: #{ rank: [2, 4] }, search: #{ rank: [1] }, trials: 2"#,
            "`rank` is an axis of the grid and drawn by `search`",
        ),
        (r#"grid: #{ rank: [2, 4] }, trials: 2"#, "option `trials`: expected none without `search`"),
        (
            r#"grid: #{ rank: [2, 4] }, tune: "rank""#,
            "option `tune`: expected \"lr\", or one option with the values to try",
        ),
        (r#"grid: #{ rank: [2, 4], lr: [1e-3] }, tune: "lr""#, "`lr` is tuned, and also in `grid` or `search`"),
        (r#"grid: #{ rank: [2, 4] }, decide: #{ }"#, "option `decide.margin`"),
        (
            r#"grid: #{ rank: [2] }, decide: #{ margin: 0.1 }"#,
            "`decide` compares settings: expected at least two, found one",
        ),
        (
            r#"grid: #{ rank: [2, 4] }, decide: #{ margin: 0.1, over: "rank" }"#,
            "option `decide.over`: expected \"seed\"",
        ),
        (
            r#"grid: #{ rank: [2, 4], seed: [] }, tune: "lr", decide: #{ margin: 0.1 }"#,
            "grid: seed: expected at least one value",
        ),
        (r#"charts: true"#, "option `grid`: expected at least one axis, found none"),
    ];
    for (options, expected) in cases {
        let script = format!(r#"{BEGIN} sweep(base, data, #{{ {options}, train: #{{ steps: 1 }}, out: "wrong" }});"#);
        let end = run_with(folder.path(), &script, &["run"]);
        assert_eq!(end.code, Some(1), "{options}: {}", end.errors);
        assert!(end.errors.contains(expected), "{options}: {}", end.errors);
        assert!(!folder.path().join("wrong").exists(), "{options}");
    }
    // A folder with other files is refused before the trials that tune.
    fs::create_dir(folder.path().join("other")).unwrap();
    fs::write(folder.path().join("other/notes.txt"), "mine").unwrap();
    let script =
        r#"sweep(#{ grid: #{ rank: [1, 2] }, tune: "lr", out: "other", trial: |point, run| #{ loss: 1.0 } });"#;
    let end = run_with(folder.path(), script, &["run"]);
    assert!(end.errors.contains("holds files that do not belong to a sweep: notes.txt"), "{}", end.errors);
    assert_eq!(fs::read_dir(folder.path().join("other")).unwrap().count(), 1);
}
