//! The charts of a sweep, from its results and its trials' logs.
//!
//! Decides which chart suits which axis. `presets.rs` builds the charts; `report/publish.rs` gathers them.

use super::chart::{Axis, Chart, Mark, Series, Ticks};
use super::presets::{
    against, against_size, eval_curves, training_curves, Curve, CurveOptions, Observation, VersusOptions,
};
use super::run::{best_label, OVERFITTING_NOTE};
use super::scale::Scale;
use super::style::Theme;
use super::sweeps::{best_trials, subject, unit_of};
use crate::bail;
use crate::error::{Kind, Result};
use crate::options;
use crate::sweep::{number, Axis as GridAxis, Point, SummaryPoint, SummarySeries, SweepResult, TrialRow, SEED};
use crate::train::metrics::{read_metrics, MetricsRow};
use crate::train::overfitting::OVERFITS_AFTER;
use serde_json::Value;
use std::collections::HashMap;

options! {
    /// What to show; everything has a default that follows from the grid.
    #[derive(Debug, Clone)]
    pub struct ChartOptions {
        /// An axis of the grid, or a metric.
        pub x: Option<String> = None, words "the first axis that varies";
        /// A metric.
        pub y: Option<String> = None, words "\"eval_loss\", or \"train_loss\" where nothing was evaluated";
        /// The axis over which means and error bars are taken.
        pub over: Option<String> = None, words "\"seed\", where the grid has it";
        /// An axis of the grid: one line for each of its values.
        pub group: Option<String> = None, words "the one other axis that varies";
        /// The scale of the x axis.
        pub x_scale: Option<Scale> = None, words "what suits the values of the axis";
        /// The scale of the y axis.
        pub y_scale: Scale = Scale::Linear;
        /// The title of the chart.
        pub title: String = String::new();
        /// Dark on light, or light on dark.
        pub theme: Theme = Theme::Light;
    }
}

/// Beside more points than this no names have room.
const MOST_LABELLED: usize = 200;

/// A metric against a key: means with error bars, single runs as faint dots.
///
/// # Errors
/// An unknown key or metric; an axis that varies but is in none of the options; no finished trial.
pub fn chart(result: &SweepResult, options: &ChartOptions) -> Result<Chart> {
    let keys = ChartKeys::choose(result, options)?;
    let series = result.series(keys.x, keys.y, keys.over, keys.group)?;
    if series.iter().all(|series| series.points.is_empty()) {
        bail!(Kind::Input, "chart: no finished trial has a `{}` to show", keys.y; hint: "print(result.table()) says why trials failed");
    }
    let axis = result.axes().iter().find(|axis| axis.key == keys.x);
    let versus = VersusOptions {
        title: if options.title.is_empty() { format!("{} against {}", keys.y, keys.x) } else { options.title.clone() },
        x: keys.x.to_owned(),
        y: unit_of(result, keys.y),
        x_scale: options.x_scale.unwrap_or_else(|| axis.map_or(Scale::Linear, natural_scale)),
        y_scale: options.y_scale,
        group: keys.group.unwrap_or_default().to_owned(),
        over: keys.over.unwrap_or(SEED).to_owned(),
    };
    let observations: Vec<Observation> = series.iter().flat_map(|series| observations(series, keys.group)).collect();
    let mut chart = match axis {
        Some(_) => against(&observations, &versus),
        None => against_size(&observations, &versus),
    };
    chart.subtitle = subject(result);
    chart.style.theme = options.theme;
    let has_labels = chart.series.iter().map(|series| series.points.len()).sum::<usize>() <= MOST_LABELLED;
    for series in &mut chart.series {
        if !has_labels {
            series.points.iter_mut().for_each(|point| point.label.clear());
        }
        // A vertical line would suggest a trend where there is none.
        if series.points.windows(2).any(|two| two[0].x == two[1].x) {
            series.mark = Mark::Points;
        }
    }
    if let Some(scale) = options.x_scale {
        chart.x.scale = scale;
    }
    if let Some(axis) = axis.filter(|axis| !is_numeric(axis)) {
        let names = axis.values.iter().enumerate().map(|(index, value)| (index as f64, number::value(value)));
        chart.x = Axis { ticks: Ticks::Named(names.collect()), ..Axis::new(keys.x, Scale::Linear) };
        // A line between names would suggest a trend where there is none.
        chart.series.iter_mut().for_each(|series| series.mark = Mark::Points);
    }
    Ok(chart)
}

/// The logged training loss, smoothed: one line for each point of the grid, averaged over seeds.
/// `None` if no trial logged a loss.
pub fn training_chart(result: &SweepResult) -> Result<Option<Chart>> {
    curves_of(result, |row| row.loss, "train_loss", training_curves)
}

/// The held-out loss over the steps; `None` if trials were evaluated only at their end.
pub fn evaluation_chart(result: &SweepResult) -> Result<Option<Chart>> {
    let chart = curves_of(result, |row| row.eval_loss, "eval_loss", eval_curves)?;
    Ok(chart.map(|chart| with_best_steps(chart, result)))
}

/// Labels the lowest held-out loss of each series that has a trial that overfits.
fn with_best_steps(mut chart: Chart, result: &SweepResult) -> Chart {
    let keys = result.varying_axes();
    let overfit = result.rows().iter().filter(|row| row.number(OVERFITS_AFTER).is_some());
    let names: Vec<[String; 3]> = overfit.map(|row| series_names(&row.point, &keys)).collect();
    for series in chart.series.iter_mut().filter(|series| names.iter().flatten().any(|name| *name == series.name)) {
        if let Some(best) = series.points.iter_mut().min_by(|left, right| left.y.total_cmp(&right.y)) {
            best.label = best_label(best.x);
        }
    }
    if !names.is_empty() {
        chart.notes.push(OVERFITTING_NOTE.to_owned());
    }
    chart
}

/// The names that a trial's curve may have: with its group and seed, its group alone, its seed alone.
fn series_names(point: &Point, keys: &[&str]) -> [String; 3] {
    let (group, run) = (group_name(point, keys), run_name(point));
    [format!("{group}, {run}"), group, run]
}

/// The keys of a chart: its options, with the defaults that follow from the grid.
struct ChartKeys<'a> {
    x: &'a str,
    y: &'a str,
    over: Option<&'a str>,
    group: Option<&'a str>,
}

impl<'a> ChartKeys<'a> {
    fn choose(result: &'a SweepResult, options: &'a ChartOptions) -> Result<Self> {
        let has_seeds = result.axis_values(SEED).is_some();
        let over = options.over.as_deref().or(has_seeds.then_some(SEED));
        let free = |used: &[Option<&str>]| -> Option<&'a str> {
            let is_free = |axis: &&GridAxis| {
                axis.values.len() > 1 && result.settled_axis() != Some(&axis.key) && !used.contains(&Some(&axis.key))
            };
            result.axes().iter().find(is_free).map(|axis| axis.key.as_str())
        };
        let x = options.x.as_deref().or_else(|| free(&[over, options.group.as_deref()]));
        let Some(x) = x.or_else(|| result.axes().first().map(|axis| axis.key.as_str())) else {
            bail!(Kind::Input, "chart: the grid has no axis")
        };
        let over = over.filter(|over| *over != x);
        let group = options.group.as_deref().or_else(|| match result.axis_values(x) {
            Some(_) => free(&[Some(x), over]),
            None => idle_axis(result, x, over),
        });
        let y = options.y.as_deref().unwrap_or(result.default_metric());
        Ok(ChartKeys { x, y, over, group })
    }
}

/// The first axis that does not change the metric `x`, as the learning rate does not change the size. With a
/// line for each of its values, lines connect different `x`; a single line would jump up and down at the
/// same `x`.
fn idle_axis<'a>(result: &'a SweepResult, x: &str, over: Option<&str>) -> Option<&'a str> {
    let mut xs = result.rows().iter().filter_map(|row| row.number(x));
    let first = xs.next()?;
    if xs.all(|x| x == first) {
        return None;
    }
    let is_idle = |axis: &&GridAxis| {
        let numbers = |row: &'a TrialRow| Some((row.point.without(&axis.key).to_string(), row.number(x)?));
        let mut first: HashMap<String, f64> = HashMap::new();
        axis.values.len() > 1
            && result.settled_axis() != Some(&axis.key)
            && over != Some(axis.key.as_str())
            && result.rows().iter().filter_map(numbers).all(|(others, x)| *first.entry(others).or_insert(x) == x)
    };
    result.axes().iter().find(is_idle).map(|axis| axis.key.as_str())
}

fn observations(series: &SummarySeries, group: Option<&str>) -> Vec<Observation> {
    let name = match group {
        Some(key) => series.name.strip_prefix(&format!("{key}=")).unwrap_or(&series.name),
        None => "",
    };
    let of = |point: &SummaryPoint| {
        let (x, label, group) = (point.x, point.label.clone(), name.to_owned());
        let values = point.values.clone().into_iter().zip(point.trials.clone());
        values.map(move |(y, trial)| Observation {
            x,
            y,
            group: group.clone(),
            label: label.clone(),
            trial: Some(trial),
        })
    };
    series.points.iter().flat_map(of).collect()
}

fn is_numeric(axis: &GridAxis) -> bool {
    axis.values.iter().all(Value::is_number)
}

/// The scale of an axis of numbers; linear for other values.
fn natural_scale(axis: &GridAxis) -> Scale {
    let values: Option<Vec<f64>> = axis.values.iter().map(Value::as_f64).collect();
    values.map_or(Scale::Linear, |values| Scale::natural(&values))
}

/// The most trials that were stopped early whose curves are drawn.
const MOST_PRUNED: usize = 60;

/// The chart of a logged value over the steps of every finished trial. Trials that were stopped early are grey behind them.
fn curves_of(
    result: &SweepResult,
    value: impl Fn(&MetricsRow) -> Option<f64>,
    name: &str,
    draw: fn(&[Curve], &CurveOptions) -> Chart,
) -> Result<Option<Chart>> {
    let keys = result.varying_axes();
    let mut curves = Vec::new();
    let points_of = |row: &TrialRow| -> Result<Vec<(f64, f64)>> {
        let path = result.out.join(&row.dir).join("metrics.jsonl");
        // A trial of the caller's own may log nothing.
        let has_log = row.number("trainable_params").is_some() || path.is_file();
        let log = if has_log { read_metrics(&path)? } else { Vec::new() };
        Ok(log.iter().filter_map(|row| Some((row.step as f64, value(row)?))).collect())
    };
    // More curves would be indistinguishable.
    let best = best_trials(result);
    let is_shown = |row: &&TrialRow| best.as_ref().is_none_or(|(trials, _)| trials.contains(&row.index));
    for row in result.rows().iter().filter(|row| row.outcome().is_some()).filter(is_shown) {
        let points = points_of(row)?;
        let (group, run) = (group_name(&row.point, &keys), run_name(&row.point));
        curves.push(Curve { group, run, points, trial: Some(row.index) });
    }
    curves.retain(|curve| curve.points.len() > 1);
    if curves.is_empty() {
        return Ok(None);
    }
    let group = keys.join(", ");
    let title = format!("{name} over steps");
    let y = unit_of(result, name);
    let options = CurveOptions { title, y, group, over: SEED.to_owned(), ..CurveOptions::default() };
    let mut chart = draw(&curves, &options);
    chart.subtitle = subject(result);
    let (pruned, shown) = (result.pruned().count(), result.pruned().count().min(MOST_PRUNED));
    for row in result.pruned().take(MOST_PRUNED) {
        let trials = vec![row.index];
        chart.series.push(Series { raw: points_of(row)?, is_grey: true, trials, ..Series::default() });
    }
    match pruned {
        0 => {}
        _ if shown < pruned => chart.notes.push(format!("Grey: {shown} of {pruned} trials that were stopped early.")),
        _ => chart.notes.push("Grey: trials that were stopped early.".to_owned()),
    }
    chart.notes.extend(best.map(|(_, note)| note));
    Ok(Some(chart))
}

/// "seed 1"; empty if the grid has no seeds.
fn run_name(point: &Point) -> String {
    point.get(SEED).map_or(String::new(), |seed| format!("{SEED} {}", number::value(seed)))
}

/// The values of `keys` at a point: "8", or "8, 0.001" for two keys.
fn group_name(point: &Point, keys: &[&str]) -> String {
    keys.iter().filter_map(|key| point.get(key)).map(number::value).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Grid;
    use serde_json::json;

    fn axis(values: Value) -> GridAxis {
        GridAxis { key: "x".into(), values: values.as_array().cloned().unwrap_or_default() }
    }

    #[test]
    fn the_scale_follows_from_the_values() {
        assert_eq!(natural_scale(&axis(json!([2, 4, 64]))), Scale::Log2);
        assert_eq!(natural_scale(&axis(json!([1e-5, 3e-4, 1e-2]))), Scale::Log10);
        assert_eq!(natural_scale(&axis(json!([0, 1, 1000]))), Scale::Linear);
        assert_eq!(natural_scale(&axis(json!([3, 5, 7]))), Scale::Linear);
        assert_eq!(natural_scale(&axis(json!(["a", "b"]))), Scale::Linear);
    }

    #[test]
    fn the_keys_follow_from_the_grid() {
        let grid = json!({"rank": [2, 4], "lr": [0.1, 0.2], "alpha": [8], "seed": 2});
        let grid = Grid::from_json(grid.as_object().unwrap(), &["rank", "lr", "alpha"]).unwrap();
        let result = SweepResult::new(std::path::Path::new("out"), &grid);
        let keys = |x: Option<&str>, group: Option<&str>| {
            let options = ChartOptions { x: x.map(Into::into), group: group.map(Into::into), ..Default::default() };
            let keys = ChartKeys::choose(&result, &options).unwrap();
            (keys.x.to_owned(), keys.over.map(str::to_owned), keys.group.map(str::to_owned))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(keys(None, None), ("rank".into(), some("seed"), some("lr")));
        assert_eq!(keys(Some("lr"), None), ("lr".into(), some("seed"), some("rank")));
        assert_eq!(keys(None, Some("rank")), ("lr".into(), some("seed"), some("rank")));
        assert_eq!(keys(Some("trainable_params"), None), ("trainable_params".into(), some("seed"), None));
    }
}
