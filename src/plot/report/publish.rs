//! The charts and the report of a sweep, written to `charts/` and `report.html` in its folder.

use super::about::About;
use super::page::{Cell, Figure, Report, Script, Table, TableRow, TrialEntry, TrialOutcome};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::interrupt;
use crate::plot::charts::picture::Picture;
use crate::plot::charts::sweep::{chart, evaluation_chart, training_chart, ChartOptions};
use crate::plot::charts::sweeps::report_charts;
use crate::sweep::columns::PRUNED_AT;
use crate::sweep::table::{Column, TableOptions, EVAL_LOSS_NOTE, SPEED_NOTE};
use crate::sweep::{number, SweepReport, SweepResult, TrialResult, TrialRow, SEED};
use crate::train::overfitting::OVERFITS_AFTER;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The folder of the charts within a sweep's.
pub const CHARTS: &str = "charts";
/// The report within a sweep's folder.
pub const REPORT: &str = "report.html";
/// The most charts of metrics that functions of a script measured.
const MOST_MEASURED: usize = 6;
/// What the report contains beside the results, saved so that it can be made again.
const ABOUT: &str = "about.json";

/// Draws every chart that the sweep has numbers for, as SVG and PNG, and writes the report, each file atomically.
/// Returns the paths. Without a finished trial it writes no chart.
pub fn publish(result: &SweepResult, about: &About) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    let figures = figures(result)?;
    let files = figures.iter().flat_map(|(name, figure)| ["svg", "png"].map(|ending| (name, ending, figure)));
    let files = files.map(|(name, ending, figure)| (result.out.join(CHARTS).join(format!("{name}.{ending}")), figure));
    let files: Vec<(PathBuf, &Figure)> = files.collect();
    save_all(&files)?;
    written.extend(files.into_iter().map(|(path, _)| path));
    let path = result.out.join(REPORT);
    report(result, about, figures.into_iter().map(|(_, figure)| figure).collect())?.save(&path)?;
    written.push(path);
    files::write_json(&result.out.join(ABOUT), about)?;
    Ok(written)
}

/// Draws the figures into their files, spread over threads: pixels take most of the time of a report.
fn save_all(files: &[(PathBuf, &Figure)]) -> Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_DRAWERS);
    let next = AtomicUsize::new(0);
    let draw = || -> Result<()> {
        while let Some((path, figure)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            interrupt::check()?;
            figure.picture.save(path)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(draw)).collect();
        let drawn = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Error::bug("drawing a chart ended early"))));
        drawn.collect::<Vec<Result<()>>>().into_iter().collect()
    })
}

/// Each picture of pixels takes 60 MB while it is drawn.
const MOST_DRAWERS: usize = 4;

/// As [`publish`], of a sweep that has just ended. Returns a line that says where the report is, unless it is rehearsed.
pub fn publish_report(report: &SweepReport, about: &About) -> Result<Option<String>> {
    publish(&report.result, about)?;
    let path = report.result.out.join(REPORT);
    Ok(report.forecast.is_none().then(|| format!("report: {}", path.display())))
}

/// Draws the charts and the report of an earlier sweep again, from the numbers in its folder.
///
/// # Errors
/// A folder that is missing or that no sweep made; a sweep of which no trial has ended.
pub fn publish_again(out: &Path) -> Result<Vec<PathBuf>> {
    let result = SweepResult::open(out)?;
    if result.rows().is_empty() {
        bail!(Kind::Input, "`{}`: no trial of this sweep has ended", out.display(); hint: "run its script again first");
    }
    publish(&result, &read_about(out)?)
}

/// What the sweep saved for its report; if it saved nothing, a title from its folder's name.
fn read_about(out: &Path) -> Result<About> {
    let path = out.join(ABOUT);
    if !path.exists() {
        let title = format!("Sweep {}", out.file_name().unwrap_or(out.as_os_str()).display());
        return Ok(About { title, ..About::default() });
    }
    serde_json::from_value(files::read_json(&path)?).map_err(|error| {
        Error::new(Kind::File, format!("`{}` is not the description of a sweep: {error}", path.display()))
            .with_hint("remove that file: the report is then made without it")
    })
}

/// The charts with their file names; first that of what the sweep concludes.
fn figures(result: &SweepResult) -> Result<Vec<(String, Figure)>> {
    let mut figures = Vec::new();
    if result.rows().iter().all(|row| row.outcome().is_none()) {
        return Ok(figures);
    }
    let mut add = |name: &str, picture: Picture, caption: String| {
        figures.push((name.to_owned(), Figure { caption, picture }));
    };
    let varying = result.varying_axes();
    let metric = result.default_metric();
    let has_numbers = |metric: &str| result.rows().iter().any(|row| row.number(metric).is_some());
    if !has_numbers(metric) {
        return Ok(figures);
    }
    let (first, others) = report_charts(result)?;
    first.into_iter().for_each(|chart| add(&chart.name, chart.picture, chart.caption));
    // A chart shows at most two axes; a script may choose which.
    if let [x] | [x, _] = varying.as_slice() {
        let measured = result.measured().into_iter().filter(|name| *name != metric).take(MOST_MEASURED);
        for metric in [metric].into_iter().chain(measured) {
            let chart = chart(result, &ChartOptions { y: Some(metric.to_owned()), ..ChartOptions::default() })?;
            add(
                &format!("{}_by_{x}", file_name(metric)),
                chart.into(),
                format!("{metric} of the finished trials against {x}."),
            );
        }
    }
    if varies(result, "trainable_params") {
        let options = ChartOptions {
            x: Some("trainable_params".to_owned()),
            y: Some(metric.to_owned()),
            ..ChartOptions::default()
        };
        let caption = format!("{metric} against the number of trainable parameters.");
        add(&format!("{metric}_by_size"), chart(result, &options)?.into(), caption);
    }
    if let Some(chart) = training_chart(result)? {
        add("train_loss", chart.into(), "Loss on the training batches, as logged.".to_owned());
    }
    if let Some(chart) = evaluation_chart(result)? {
        add("eval_loss", chart.into(), "Loss on the held-out rows during training.".to_owned());
    }
    others.into_iter().for_each(|chart| add(&chart.name, chart.picture, chart.caption));
    Ok(figures)
}

/// A metric's name as part of a file's.
fn file_name(metric: &str) -> String {
    metric.chars().map(|c| if c.is_alphanumeric() || "_-.".contains(c) { c } else { '_' }).collect()
}

fn varies(result: &SweepResult, metric: &str) -> bool {
    let mut values = result.rows().iter().filter_map(|row| row.number(metric));
    values.next().is_some_and(|first| values.any(|value| value != first))
}

fn report(result: &SweepResult, about: &About, figures: Vec<Figure>) -> Result<Report> {
    let columns = result.columns_with(&TableOptions::default())?;
    let summary: Vec<&Column> = columns.keys.iter().chain(&columns.metrics).collect();
    let paired: Vec<&Column> = columns.keys.iter().chain(&columns.differences).collect();
    let note = |start: char| columns.footnotes.iter().find(|line| line.starts_with(start)).cloned();
    let failed = result.failed().count();
    let failures = (failed > 0)
        .then(|| format!("{failed} of {} trials failed: the means are over the others.", result.rows().len()));
    let (conclusion, subtitle) = conclusion(result);
    let warnings = failures.into_iter().chain(pruning(result)).chain(overfitting(result)).collect();
    Ok(Report {
        title: about.title.clone(),
        conclusion,
        subtitle,
        command: about.command.clone(),
        when: about.when.clone(),
        notes: columns
            .footnotes
            .iter()
            .filter(|line| *line == EVAL_LOSS_NOTE || line.starts_with(SPEED_NOTE))
            .cloned()
            .collect(),
        warnings,
        figures,
        summary: table(
            note('±').map_or("Means".to_owned(), |note| format!("Means; {note}")),
            &summary,
            &columns.trials,
        ),
        paired: match columns.differences {
            Some(_) => table(note('Δ').unwrap_or_else(|| "Differences".to_owned()), &paired, &columns.trials),
            None => Table::default(),
        },
        results: results(result),
        trials: result.rows().iter().map(trial).collect(),
        settings: about.settings.clone(),
        environment: about.environment.clone(),
        script: about.script.clone().map(|(path, text)| Script { path, text }),
    })
}

/// What became of trials that were stopped early.
fn pruning(result: &SweepResult) -> Option<String> {
    result.pruning_note().map(|note| format!("P{}.", &note[1..]))
}

/// A warning that names the trials that overfit, and the steps after which they do.
fn overfitting(result: &SweepResult) -> Option<String> {
    let overfit: Vec<(&TrialRow, f64)> =
        result.rows().iter().filter_map(|row| Some((row, row.number(OVERFITS_AFTER)?))).collect();
    let (first, _) = overfit.first()?;
    let from = overfit.iter().map(|(_, step)| *step).fold(f64::INFINITY, f64::min);
    let to = overfit.iter().map(|(_, step)| *step).fold(0.0, f64::max);
    let steps = if from == to { format!("step {from}") } else { format!("steps {from} to {to}") };
    let which = if overfit.len() == 1 { format!(" ({})", first.point) } else { String::new() };
    Some(format!(
        "{} of {} trials overfit{which}: held-out loss rose after {steps} while training loss fell.",
        overfit.len(),
        result.rows().len()
    ))
}

/// What the sweep comes to, and what else is to be said of it: "By eval_loss, rank 16 is enough: …." and "Best: …."
fn conclusion(result: &SweepResult) -> (String, String) {
    let lines = result.conclusions(result.default_metric(), SEED);
    // The sentence of a decision says itself that it is one.
    let mut sentences = lines.iter().map(|line| sentence(line.strip_prefix("decision: ").unwrap_or(line)));
    let first = sentences.next().unwrap_or_else(|| "No trial finished.".to_owned());
    (first, sentences.collect::<Vec<_>>().join(" "))
}

/// `text` with a capital letter and a full stop; empty if `text` is.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| format!("{}{}.", first.to_uppercase(), characters.as_str()))
}

fn table(caption: String, columns: &[&Column], trials: &[Vec<usize>]) -> Table {
    let cell = |column: &Column, line: usize| {
        let text = column.cells.get(line).cloned().unwrap_or_default();
        Cell { number: column.numbers.get(line).copied().flatten(), text }
    };
    Table {
        caption,
        columns: columns.iter().map(|column| column.title.clone()).collect(),
        rows: (trials.iter().enumerate())
            .map(|(line, trials)| TableRow {
                cells: columns.iter().map(|column| cell(column, line)).collect(),
                trials: trials.clone(),
            })
            .collect(),
    }
}

/// Every number of every trial, without the columns that the table of trials has.
fn results(result: &SweepResult) -> Table {
    let columns: Vec<&str> = result
        .columns()
        .into_iter()
        .filter(|column| !matches!(*column, "dir" | "status" | "error" | PRUNED_AT))
        .collect();
    let cell = |value: Value| match value.as_f64() {
        Some(x) => Cell::number(x, if value.is_u64() { value.to_string() } else { number::significant(x, 6) }),
        None if value.is_null() => Cell::text(""),
        None => Cell::text(number::value(&value)),
    };
    Table {
        caption: "Trials, number by number".to_owned(),
        rows: (result.rows().iter())
            .map(|row| TableRow {
                cells: columns.iter().map(|column| cell(row.value(column))).collect(),
                trials: vec![row.index],
            })
            .collect(),
        columns: columns.into_iter().map(str::to_owned).collect(),
    }
}

fn trial(row: &TrialRow) -> TrialEntry {
    let (outcome, detail) = match &row.result {
        TrialResult::Finished(_) => (TrialOutcome::Finished, String::new()),
        TrialResult::Pruned(pruned) => {
            (TrialOutcome::Pruned, format!("stopped at step {} of {}", pruned.step, pruned.steps))
        }
        TrialResult::Failed(failure) => {
            let hint = failure.hint.as_ref().map_or(String::new(), |hint| format!("\n  hint: {hint}"));
            (TrialOutcome::Failed, format!("{}{hint}", failure.message))
        }
    };
    TrialEntry { number: row.index, name: row.point.to_string(), outcome, detail, dir: row.dir.clone() }
}
