//! The chart of single runs: the logged losses, in training and on held-out rows.

use super::chart::{Chart, Series};
use super::presets::{eval_curves, training_curves, Curve, CurveOptions};
use super::scale::Scale;
use super::sweeps::best_settings;
use crate::bail;
use crate::error::{Kind, Result};
use crate::sandbox;
use crate::sweep::folder::SWEEP;
use crate::sweep::{number, SweepResult, SEED};
use crate::train::metrics::{read_metrics, MetricsRow};
use crate::train::overfitting::OVERFITS_AFTER;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The losses of the runs in `folders`, each named by its folder: training losses smoothed,
/// held-out losses as points. The chart shows overfitting: a held-out loss that rises while the
/// training loss falls. Of a sweep it shows a curve for each of its best settings, the mean over seeds.
///
/// # Errors
/// A folder without `metrics.jsonl` that is no sweep's, or no folder whose log has a loss.
pub fn run_chart(folders: &[PathBuf], y_scale: Scale) -> Result<Chart> {
    folders.iter().try_for_each(|folder| sandbox::ensure_may_read(folder))?;
    let (mut logs, mut notes) = (Vec::new(), Vec::new());
    for (folder, name) in folders.iter().zip(distinct_names(folders)) {
        let name = if folders.len() > 1 { name } else { String::new() };
        if folder.join(SWEEP).is_file() {
            let (of_sweep, note) = logs_of_sweep(folder, &name)?;
            logs.extend(of_sweep);
            notes.extend(note);
        } else {
            logs.push(RunLog { group: name, run: String::new(), rows: log(folder)? });
        }
    }
    let curves = |label: &str, value: fn(&MetricsRow) -> Option<f64>| -> Vec<Curve> {
        let named = logs.iter().map(|log| Curve {
            group: if log.group.is_empty() { label.to_owned() } else { format!("{}: {label}", log.group) },
            run: log.run.clone(),
            points: log.rows.iter().filter_map(|row| Some((row.step as f64, value(row)?))).collect(),
            trial: None,
        });
        named.filter(|curve| !curve.points.is_empty()).collect()
    };
    let options = CurveOptions { title: "Loss over steps".into(), y_scale, ..CurveOptions::default() };
    let mut chart = training_curves(&curves("training", |row| row.loss), &options);
    let mut evaluated = eval_curves(&curves("held out", |row| row.eval_loss), &options);
    if logs.iter().any(|log| overfits_after(&log.rows).is_some()) {
        chart.notes.push(OVERFITTING_NOTE.to_owned());
    }
    chart.notes.extend(notes);
    let evaluated_logs: Vec<&RunLog> =
        logs.iter().filter(|log| log.rows.iter().any(|row| row.eval_loss.is_some())).collect();
    // A mean over seeds has no best step.
    if evaluated.series.len() == evaluated_logs.len() {
        for (series, log) in evaluated.series.iter_mut().zip(evaluated_logs) {
            let best =
                overfits_after(&log.rows).and_then(|step| series.points.iter_mut().find(|point| point.x == step));
            if let Some(best) = best {
                best.label = best_label(best.x);
            }
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

/// What a run logged, with its names in the chart.
struct RunLog {
    /// Runs of one group are averaged, as the seeds of a setting.
    group: String,
    run: String,
    rows: Vec<MetricsRow>,
}

/// The logs of the best settings of a sweep, and a note on those that are left out.
fn logs_of_sweep(folder: &Path, name: &str) -> Result<(Vec<RunLog>, Option<String>)> {
    let result = SweepResult::open(folder)?;
    let (settings, note) = best_settings(&result);
    if settings.is_empty() {
        bail!(Kind::Input, "`{}`: no trial of this sweep has finished", folder.display(); hint: "run its script again");
    }
    let mut logs = Vec::new();
    for (setting, rows) in settings {
        let group = if name.is_empty() { setting } else { format!("{name}: {setting}") };
        for row in rows {
            let run = row.point.get(SEED).map_or_else(String::new, |seed| format!("{SEED} {}", number::value(seed)));
            logs.push(RunLog { group: group.clone(), run, rows: log(&folder.join(&row.dir))? });
        }
    }
    Ok((logs, note))
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
