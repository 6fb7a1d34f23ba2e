//! The chart of single runs: the logged losses, in training and on held-out rows.

use super::chart::{Chart, Series};
use super::presets::{eval_curves, training_curves, Curve, CurveOptions};
use super::scale::Scale;
use crate::bail;
use crate::error::{Kind, Result};
use crate::sandbox;
use crate::train::metrics::{read_metrics, MetricsRow};
use crate::train::overfitting::OVERFITS_AFTER;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The losses of the runs in `folders`, each named by its folder: training losses smoothed,
/// held-out losses as points. The chart shows overfitting: a held-out loss that rises while the
/// training loss falls.
///
/// # Errors
/// A folder without `metrics.jsonl`, or no folder whose log has a loss.
pub fn run_chart(folders: &[PathBuf], y_scale: Scale) -> Result<Chart> {
    folders.iter().try_for_each(|folder| sandbox::ensure_may_read(folder))?;
    let logs = folders.iter().zip(distinct_names(folders)).map(|(folder, name)| Ok((name, log(folder)?)));
    let logs = logs.collect::<Result<Vec<(String, Vec<MetricsRow>)>>>()?;
    let curves = |label: &str, value: fn(&MetricsRow) -> Option<f64>| -> Vec<Curve> {
        let named = logs.iter().map(|(name, rows)| Curve {
            group: if folders.len() > 1 { format!("{name}: {label}") } else { label.to_owned() },
            run: String::new(),
            points: rows.iter().filter_map(|row| Some((row.step as f64, value(row)?))).collect(),
            trial: None,
        });
        named.filter(|curve| !curve.points.is_empty()).collect()
    };
    let options = CurveOptions { title: "Loss over steps".into(), y_scale, ..CurveOptions::default() };
    let mut chart = training_curves(&curves("training", |row| row.loss), &options);
    let mut evaluated = eval_curves(&curves("held out", |row| row.eval_loss), &options);
    if logs.iter().any(|(_, rows)| overfits_after(rows).is_some()) {
        chart.notes.push(OVERFITTING_NOTE.to_owned());
    }
    let evaluated_logs = logs.iter().filter(|(_, rows)| rows.iter().any(|row| row.eval_loss.is_some()));
    for (series, (_, rows)) in evaluated.series.iter_mut().zip(evaluated_logs) {
        let best = overfits_after(rows).and_then(|step| series.points.iter_mut().find(|point| point.x == step));
        if let Some(best) = best {
            best.label = best_label(best.x);
        }
    }
    chart.series.extend(evaluated.series);
    if chart.series.iter().all(|series: &Series| series.points.is_empty()) {
        if folders.is_empty() {
            bail!(Kind::Input, "run_chart: expected at least one folder of a run, found none"; hint: "as in run_chart([\"runs/one\"], #{{}})");
        }
        bail!(Kind::Data, "no loss was logged in {}", names(folders); hint: "train with a smaller log_every");
    }
    Ok(chart)
}

/// The note below charts that mark where a run begins to overfit.
pub const OVERFITTING_NOTE: &str =
    "Best step: the run overfits after it; held-out loss rises while training loss falls.";

/// The label of the best evaluation of a run that overfits.
pub fn best_label(step: f64) -> String {
    format!("best: step {step}")
}

/// The step of the best evaluation, where the run overfits after it.
fn overfits_after(rows: &[MetricsRow]) -> Option<f64> {
    rows.iter().find_map(|row| row.get(OVERFITS_AFTER))
}

fn log(folder: &Path) -> Result<Vec<MetricsRow>> {
    let path = folder.join("metrics.jsonl");
    if !path.is_file() {
        bail!(Kind::File, "`{}` is not a run's folder: expected metrics.jsonl in it", folder.display();
            hint: "train with out: \"{}\"", folder.display());
    }
    read_metrics(&path)
}

/// The last parts of the paths, or the full paths if two of those are the same.
fn distinct_names(folders: &[PathBuf]) -> Vec<String> {
    let last = |folder: &PathBuf| folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
    let short: Vec<String> = folders.iter().map(last).collect();
    let is_distinct = short.iter().collect::<HashSet<_>>().len() == short.len();
    if is_distinct {
        short
    } else {
        folders.iter().map(|folder| folder.display().to_string()).collect()
    }
}

fn names(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| format!("`{}`", folder.display())).collect::<Vec<_>>().join(", ")
}
