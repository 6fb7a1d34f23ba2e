//! The columns that the results of every sweep have, and the kinds of metrics by their names.

use super::grid::Grid;
use crate::bail;
use crate::error::{Kind, Result};
use crate::train::outcome::PEAK_MEMORY;

/// The columns between the grid's and the trial's own metrics.
pub const NUMBERS: [&str; 7] =
    ["trainable_params", "train_loss", "eval_loss", "eval_perplexity", "tokens", "tokens_per_s", "seconds"];
/// The step after which a trial was stopped early: a column where one was.
pub const PRUNED_AT: &str = "pruned_at";
/// Where a trial ran: a column in sweeps that several workers share.
pub const PLACE: &str = "place";
/// The last columns.
pub const TEXTS: [&str; 3] = ["dir", "status", "error"];

/// Does a column differ from run to run, as times and memory do? `seconds`, `peak_memory`, and names that end in
/// `_seconds` or `_per_s` are such columns.
pub fn is_time(column: &str) -> bool {
    column == "seconds" || column == PEAK_MEMORY || column.ends_with("_seconds") || column.ends_with("_per_s")
}

/// Is a larger value of this metric better? True for speeds, and for names with `accuracy`, `bleu`, `rouge`, `f1`,
/// `exact_match` or `score`, and of preferences for accuracies and margins; false for losses, times and sizes.
pub fn larger_is_better(metric: &str) -> bool {
    let marks = [
        "accuracy",
        "rewards/accuracies",
        "rewards/margins",
        "rewards/chosen",
        "bleu",
        "rouge",
        "f1",
        "exact_match",
        "score",
    ];
    metric.ends_with("_per_s") || marks.iter().any(|mark| metric.contains(mark))
}

/// 1 for metrics of which smaller values are better, -1 for the others: times it, a smaller value is always better.
pub fn sign(metric: &str) -> f64 {
    if larger_is_better(metric) {
        -1.0
    } else {
        1.0
    }
}

/// Fails if an axis has the name of a column.
pub(super) fn ensure_no_axis_is_a_column(grid: &Grid) -> Result<()> {
    match grid.axes().iter().find(|axis| is_column(&axis.key)) {
        Some(axis) => bail!(Kind::Input, "grid: `{}` cannot be an axis: it is a column of the results", axis.key),
        None => Ok(()),
    }
}

/// Fails if a metric has the name of another column.
pub(super) fn ensure_no_metric_is_a_column<'a>(
    grid: &Grid,
    mut metrics: impl Iterator<Item = &'a String>,
) -> Result<()> {
    match metrics.find(|name| is_column(name) || grid.axis(name).is_some()) {
        Some(name) => bail!(Kind::Input, "the metric `{name}` has the name of another column"; hint: "rename it"),
        None => Ok(()),
    }
}

fn is_column(name: &str) -> bool {
    NUMBERS.contains(&name) || TEXTS.contains(&name) || name == PRUNED_AT
}
