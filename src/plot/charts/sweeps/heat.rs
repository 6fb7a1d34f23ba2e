//! The mean of the metric at each pair of values of two axes.

use super::study::Study;
use crate::bail;
use crate::error::{Kind, Result};
use crate::plot::charts::heat::Heat;
use crate::suggest;
use crate::sweep::columns::larger_is_better;
use crate::sweep::{number, Axis, Point};

/// More rows or columns would be too small to read.
const MOST_VALUES: usize = 40;
/// A grid with fewer cells filled shows nothing of two axes.
const LEAST_FILLED: f64 = 0.4;

/// # Errors
/// A name that is no axis in which settings differ; fewer than two such axes, or too many values.
pub fn heat(study: &Study, x: Option<&str>, y: Option<&str>) -> Result<Heat> {
    let (columns, rows) = axes(study, x, y)?;
    for axis in [columns, rows] {
        if axis.values.len() > MOST_VALUES {
            bail!(Kind::Input, "chart: `{}` has {} values: expected at most {MOST_VALUES} in a heat map", axis.key, axis.values.len();
                hint: "result.chart(\"pareto\") and result.chart(\"parallel\") show many values")
        }
    }
    let cells = cells(study, columns, rows);
    let values = || cells.iter().flatten().flatten().copied();
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let others: Vec<&str> =
        study.axes.iter().map(|axis| axis.key.as_str()).filter(|key| *key != columns.key && *key != rows.key).collect();
    let mut over: Vec<String> = others.iter().map(|key| (*key).to_owned()).collect();
    over.extend((study.seeds() > 1).then(|| format!("{} {}s", study.seeds(), study.over)));
    let mut notes = Vec::new();
    if !over.is_empty() {
        notes.push(format!("Mean over {}.", over.join(" and ")));
    }
    if cells.iter().flatten().any(Option::is_none) {
        notes.push("Grey: no finished trial.".to_owned());
    }
    Ok(Heat {
        title: format!("{} by {} and {}", study.metric_title(), rows.key, columns.key),
        subtitle: format!("{}; {}", study.subject, best_cell(study, columns, rows, &cells)),
        x: columns.key.clone(),
        y: rows.key.clone(),
        columns: columns.values.iter().map(number::value).collect(),
        rows: rows.values.iter().map(number::value).collect(),
        decimals: decimals(low, high),
        cells,
        low,
        high,
        notes,
        style: Default::default(),
    })
}

/// Have enough pairs of two axes a value?
pub fn has_room(study: &Study) -> bool {
    let Ok((columns, rows)) = axes(study, None, None) else { return false };
    let (across, down) = (columns.values.len(), rows.values.len());
    let filled = cells(study, columns, rows).iter().flatten().flatten().count();
    across <= MOST_VALUES && down <= MOST_VALUES && filled as f64 >= LEAST_FILLED * (across * down) as f64
}

/// The axes of the columns and of the rows: by default the one with more values lies across.
fn axes<'a>(study: &Study<'a>, x: Option<&str>, y: Option<&str>) -> Result<(&'a Axis, &'a Axis)> {
    let named = |name: &str| match study.axes.iter().find(|axis| axis.key == name) {
        Some(axis) => Ok(*axis),
        None => bail!(Kind::Input, "chart: `{name}` is no axis in which settings differ";
            hint: "{}", suggest::hint(name, study.axes.iter().map(|axis| axis.key.as_str()))),
    };
    let (x, y) = (x.map(named).transpose()?, y.map(named).transpose()?);
    let used: Vec<&str> = [x, y].into_iter().flatten().map(|axis| axis.key.as_str()).collect();
    let mut free = study.axes.iter().copied().filter(|axis| !used.contains(&axis.key.as_str()));
    let pair = match (x, y) {
        (Some(x), Some(y)) if x.key != y.key => Some((x, y)),
        (Some(_), Some(_)) => None,
        (Some(x), None) => free.next().map(|y| (x, y)),
        (None, Some(y)) => free.next().map(|x| (x, y)),
        (None, None) => free.next().zip(free.next()).map(|(one, other)| {
            if one.values.len() >= other.values.len() {
                (one, other)
            } else {
                (other, one)
            }
        }),
    };
    match pair {
        Some(pair) => Ok(pair),
        None => bail!(Kind::Input, "chart: expected two axes in which settings differ, found {}", study.axes.len();
            hint: "result.chart(#{{}}) shows the metric against one axis"),
    }
}

/// Means by row, then by column, over all settings there.
fn cells(study: &Study, columns: &Axis, rows: &Axis) -> Vec<Vec<Option<f64>>> {
    let mut sums = vec![vec![(0.0, 0_usize); columns.values.len()]; rows.values.len()];
    let place = |axis: &Axis, point: &Point| axis.values.iter().position(|value| point.get(&axis.key) == Some(value));
    for setting in &study.settings {
        if let (Some(column), Some(row)) = (place(columns, &setting.point), place(rows, &setting.point)) {
            let (sum, count) = &mut sums[row][column];
            (*sum, *count) = (*sum + setting.summary.mean, *count + 1);
        }
    }
    let mean = |(sum, count): (f64, usize)| (count > 0).then(|| sum / count as f64);
    sums.into_iter().map(|row| row.into_iter().map(mean).collect()).collect()
}

fn best_cell(study: &Study, columns: &Axis, rows: &Axis, cells: &[Vec<Option<f64>>]) -> String {
    let is_larger = larger_is_better(study.metric);
    let sign = if is_larger { -1.0 } else { 1.0 };
    let all = cells.iter().enumerate().flat_map(|(row, cells)| {
        cells.iter().enumerate().filter_map(move |(column, value)| Some((row, column, (*value)?)))
    });
    let Some((row, column, value)) = all.min_by(|one, other| (sign * one.2).total_cmp(&(sign * other.2))) else {
        return String::new();
    };
    let word = if is_larger { "highest" } else { "lowest" };
    let at = |axis: &Axis, at: usize| format!("{} {}", axis.key, number::value(&axis.values[at]));
    format!("{word} at {}, {}: {}", at(rows, row), at(columns, column), study.text(value))
}

/// As many as tell the cells apart.
fn decimals(low: f64, high: f64) -> usize {
    let span = high - low;
    if span > 0.0 {
        (2.0 - span.log10().floor()).clamp(0.0, 4.0) as usize
    } else {
        number::decimals_for([high]).min(3)
    }
}
