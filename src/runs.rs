//! `lorhai runs`, `show`, `compare` and `report`: past runs as text for the terminal.
//!
//! Leaves to others: reading the folder of a run (`sweep::history`).

use crate::data::python::strftime;
use crate::error::Result;
use crate::plot::{publish, run::run_chart, Scale};
use crate::sweep::comparison::{compare_sweeps, SweepComparison};
use crate::sweep::history::{self, Best, PastKind, PastRun, RunFolder};
use crate::sweep::number::{self, significant};
use crate::sweep::settings_diff::Change;
use crate::table;
use crate::train::folder::{RunRecord, RunStatus};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Significant digits of the numbers shown.
const DIGITS: usize = 6;

/// The runs in `folder` and its subfolders, one line each.
pub fn list(folder: &Path) -> Result<String> {
    let runs = history::below(folder)?;
    if runs.is_empty() {
        return Ok(format!("no runs in `{}`\n", folder.display()));
    }
    let heads = ["run", "status", "best", "when"].map(str::to_string);
    Ok(lines(std::iter::once(heads).chain(runs.iter().map(line)).map(Vec::from)))
}

fn line(run: &RunFolder) -> [String; 4] {
    let folder = run.folder.display().to_string();
    match &run.past {
        Ok(past) => [folder, past.status(), past.best().map_or_else(String::new, best), when(past.when())],
        Err(error) => [folder, format!("unreadable: {}", error.message), String::new(), String::new()],
    }
}

fn best(best: Best) -> String {
    let of = if best.trials > 1 { format!(" (mean of {})", best.trials) } else { String::new() };
    format!("{} {}{of}", best.metric, significant(best.value, DIGITS))
}

fn when(time: Option<SystemTime>) -> String {
    let seconds = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs() as i64);
    seconds.and_then(|seconds| strftime("%Y-%m-%d %H:%M", seconds).ok()).unwrap_or_default()
}

/// Settings, results and files of a run; for a sweep, its table.
pub fn show(folder: &Path) -> Result<String> {
    let past = PastRun::open(folder)?;
    let mut text = format!("{}\n{}, {}\n", folder.display(), past.status(), when(past.when()));
    text.push_str(&match &past.kind {
        PastKind::Sweep(result) => format!("\n{}", result.table()),
        PastKind::Run(record) => settings_and_results(record),
    });
    text.push_str("\nfiles\n");
    past.files()?.iter().for_each(|name| text.push_str(&format!("  {name}\n")));
    Ok(text)
}

fn settings_and_results(record: &RunRecord) -> String {
    let settings = history::settings(record).into_iter().map(|(name, value)| vec![format!("  {name}"), value]);
    let results = history::metrics(record).into_iter().map(|(name, value)| vec![format!("  {name}"), metric(value)]);
    let failure = match &record.status {
        RunStatus::Failed { error } => format!("\nerror\n  {}\n", error.replace('\n', "\n  ")),
        _ => String::new(),
    };
    [failure, section("settings", lines(settings)), section("results", lines(results))].concat()
}

fn section(title: &str, lines: String) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("\n{title}\n{lines}")
}

/// A metric; counts are shown in full.
fn metric(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    significant(value, DIGITS)
}

/// The settings that differ and the results of two runs, side by side; with `chart`, also their
/// losses in one chart.
pub fn compare(first: &Path, second: &Path, chart: Option<&Path>) -> Result<String> {
    let (one, other) = (PastRun::open(first)?, PastRun::open(second)?);
    if let (PastKind::Sweep(one), PastKind::Sweep(other)) = (&one.kind, &other.kind) {
        let drawn = chart.map(|file| draw(first, second, file)).transpose()?.unwrap_or_default();
        return Ok([compared_sweeps(&compare_sweeps(one, other)?, (first, second)), drawn].concat());
    }
    let comparison = history::compare(&one, &other)?;
    let heads = || heads(first, second);
    let cell = |value: &Option<f64>| value.map_or_else(String::new, metric);
    let metrics = comparison.metrics.iter().map(|(name, one, other)| vec![format!("  {name}"), cell(one), cell(other)]);
    let settings = changes(&comparison.settings, heads());
    let metrics = if comparison.metrics.is_empty() {
        "\nneither has finished\n".to_string()
    } else {
        section("results", lines(std::iter::once(heads()).chain(metrics)))
    };
    let drawn = chart.map(|file| draw(first, second, file)).transpose()?.unwrap_or_default();
    Ok([settings, metrics, drawn].concat())
}

fn heads(first: &Path, second: &Path) -> Vec<String> {
    vec![String::new(), first.display().to_string(), second.display().to_string()]
}

fn changes(changes: &[Change], heads: Vec<String>) -> String {
    let setting = |value: &Option<Value>| value.as_ref().map_or_else(String::new, number::value);
    let changed = changes.iter().map(|one| vec![format!("  {}", one.key), setting(&one.old), setting(&one.new)]);
    if changes.is_empty() {
        return "no setting differs\n".to_string();
    }
    format!("settings that differ\n{}", lines(std::iter::once(heads).chain(changed)))
}

/// The settings that both sweeps have, side by side.
fn compared_sweeps(comparison: &SweepComparison, (first, second): (&Path, &Path)) -> String {
    let settings = changes(&comparison.settings, heads(first, second));
    let names = (first.display().to_string(), second.display().to_string());
    let rows = comparison.lines((&names.0, &names.1));
    let rows = rows.into_iter().map(|row| std::iter::once(String::new()).chain(row).collect());
    let notes: String = comparison.notes().iter().map(|note| format!("{note}\n")).collect();
    [settings, section(&comparison.metric, lines(rows)), notes].concat()
}

fn draw(first: &Path, second: &Path, file: &Path) -> Result<String> {
    run_chart(&[first.to_path_buf(), second.to_path_buf()], Scale::Linear)?.save(file)?;
    Ok(format!("\nchart: {}\n", file.display()))
}

/// Redraws the charts and the report of a sweep.
pub fn report(out: &Path) -> Result<String> {
    history::ensure_sweep(out)?;
    let written = publish::publish_again(out)?;
    Ok(written.iter().map(|path: &PathBuf| format!("{}\n", path.display())).collect())
}

fn lines(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    table::lines(&rows.into_iter().collect::<Vec<_>>(), &[])
}
