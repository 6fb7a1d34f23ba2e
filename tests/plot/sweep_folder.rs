//! Folders of sweeps that nobody trained: what charts and reports read of a sweep, written by hand.

use serde_json::{json, Map, Value};
use std::fs;
use std::path::Path;

/// The numbers of a trial by its point; `None` if it failed.
pub type Numbers<'a> = &'a dyn Fn(&Map<String, Value>) -> Option<Trial>;

#[derive(Clone, Copy)]
pub struct Trial {
    pub loss: f64,
    pub seconds: f64,
    /// Is the loss that of an evaluation?
    pub is_evaluated: bool,
}

/// How the sweep is written.
pub struct Writing {
    /// The steps that each trial logged.
    pub steps: u64,
    /// The margin of the decision that the sweep was asked for.
    pub margin: Option<f64>,
}

/// Writes a sweep over the product of `axes`; points without numbers failed, and those that `keeps` refuses were not run.
pub fn write(
    out: &Path,
    axes: &[(&str, Value)],
    writing: &Writing,
    keeps: &dyn Fn(&Map<String, Value>) -> bool,
    numbers: Numbers,
) {
    let grid: Map<String, Value> = axes.iter().map(|(key, values)| ((*key).to_owned(), values.clone())).collect();
    let mut marker = json!({ "format": "lorhai sweep 1", "identity": { "model": "scripts/tiny" }, "grid": grid });
    if let Some(margin) = writing.margin {
        marker["decide"] = json!({
            "metric": null, "margin": margin, "confidence": 0.95, "max_seeds": 12, "over": "seed",
        });
    }
    fs::create_dir_all(out).unwrap();
    fs::write(out.join("sweep.json"), marker.to_string()).unwrap();
    fs::write(out.join("throughput.json"), json!({ "tokens": 98_000, "seconds": 6.0 }).to_string()).unwrap();
    let mut points: Vec<Map<String, Value>> = vec![Map::new()];
    for (key, values) in axes {
        let with = |point: &Map<String, Value>, value: &Value| {
            let mut point = point.clone();
            point.insert((*key).to_owned(), value.clone());
            point
        };
        points = points
            .iter()
            .flat_map(|point| values.as_array().unwrap().iter().map(|value| with(point, value)).collect::<Vec<_>>())
            .collect();
    }
    points.iter().filter(|point| keeps(point)).for_each(|point| write_trial(out, point, writing, numbers(point)));
}

fn write_trial(out: &Path, values: &Map<String, Value>, writing: &Writing, trial: Option<Trial>) {
    let folder = out.join(lorhai::sweep::Point { values: values.clone() }.folder_name());
    fs::create_dir_all(&folder).unwrap();
    let config = json!({ "point": values, "fingerprint": "00", "settings": { "train": { "lr": 1e-3 } } });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let Some(Trial { loss, seconds, is_evaluated }) = trial else {
        let failed = json!({ "fingerprint": "00", "failed": { "kind": "numeric", "message": "the loss is NaN" } });
        return fs::write(folder.join("result.json"), failed.to_string()).unwrap();
    };
    let rank = values.get("rank").and_then(Value::as_u64).unwrap_or(8);
    let finished = json!({
        "trainable_params": 1000 * rank, "train_loss": loss, "eval_loss": is_evaluated.then_some(loss), "tokens": 512 * writing.steps,
        "seconds": seconds, "metrics": { "peak_memory": 1_000_000_000 + 1_000_000 * rank },
    });
    fs::write(folder.join("result.json"), json!({ "fingerprint": "00", "finished": finished }).to_string()).unwrap();
    let mut log = String::new();
    for step in 1..=writing.steps {
        let value = loss + 1.0 / step as f64;
        let row = json!({
            "step": step, "loss": value, "learning_rate": 1e-3, "grad_norm": 1.0 / step as f64,
            "tokens_per_s": 512.0 * writing.steps as f64 / seconds, "num_input_tokens_seen": 512 * step,
        });
        log += &format!("{row}\n");
        if is_evaluated && step % writing.steps.div_ceil(5) == 0 {
            log += &format!("{}\n", json!({ "step": step, "eval_loss": value }));
        }
    }
    fs::write(folder.join("metrics.jsonl"), log).unwrap();
}
