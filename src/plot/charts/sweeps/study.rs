//! The settings of a sweep with what all charts of them need: means over seeds, names shortened to what differs, units,
//! and what model and data the numbers are of.

use super::options::SweepChartOptions;
use crate::bail;
use crate::error::{Kind, Result};
use crate::plot::charts::chart::{Axis, Ticks};
use crate::plot::charts::scale::Scale;
use crate::sweep::columns::sign;
use crate::sweep::conclusion::decision_of;
use crate::sweep::decide::Decision;
use crate::sweep::folder::read_marker;
use crate::sweep::grid::DATA;
use crate::sweep::summary::Summary;
use crate::sweep::{number, Axis as GridAxis, Point, SweepResult, TrialRow, SEED};
use crate::train::origin::Origin;
use serde_json::Value;
use std::path::Path;

/// The files of data that a subtitle names.
const MOST_FILES: usize = 2;

/// A sweep by the metric that its settings are compared by.
pub struct Study<'a> {
    pub result: &'a SweepResult,
    pub metric: &'a str,
    /// The axis that repeats a setting.
    pub over: &'a str,
    /// The axes in which settings differ.
    pub axes: Vec<&'a GridAxis>,
    /// Settings with a value of the metric, in the order of the grid.
    pub settings: Vec<Setting<'a>>,
    /// The number of settings without one.
    pub without: usize,
    pub decision: Option<Decision>,
    pub subject: String,
}

/// The trials that differ in the seed alone.
pub struct Setting<'a> {
    pub point: Point,
    /// Its trials that have the metric.
    pub rows: Vec<&'a TrialRow>,
    pub values: Vec<f64>,
    pub summary: Summary,
}

impl<'a> Study<'a> {
    /// # Errors
    /// An unknown metric or axis; no finished trial with the metric.
    pub fn new(result: &'a SweepResult, options: &'a SweepChartOptions) -> Result<Self> {
        let metric = options.metric.as_deref().unwrap_or(result.default_metric());
        result.metric(metric)?;
        let over = options.over.as_deref().unwrap_or(SEED);
        let keys: Vec<&str> = result.axes().iter().map(|axis| axis.key.as_str()).filter(|key| *key != over).collect();
        let groups = result.group_by(&keys);
        let all = groups.len();
        let setting = |group: crate::sweep::results::Group<'a>| {
            let scored = |row: &&TrialRow| row.number(metric).is_some();
            let rows: Vec<&TrialRow> = group.rows.into_iter().filter(scored).collect();
            let values: Vec<f64> = rows.iter().filter_map(|row| row.number(metric)).collect();
            let summary = Summary::of(values.iter().copied())?;
            Some(Setting { point: group.point, rows, values, summary })
        };
        let settings: Vec<Setting> = groups.into_iter().filter_map(setting).collect();
        if settings.is_empty() {
            bail!(Kind::Input, "chart: no finished trial has a `{metric}` to show";
                hint: "print(result.table()) says why trials failed")
        }
        let varies = |axis: &&GridAxis| {
            let first = settings.first().and_then(|setting| setting.point.get(&axis.key));
            axis.key != over && settings.iter().any(|setting| setting.point.get(&axis.key) != first)
        };
        let axes = result.axes().iter().filter(varies).collect();
        let decision = decision_of(result).filter(|decision| decision.metric == metric);
        let without = all - settings.len();
        Ok(Study { result, metric, over, axes, without, decision, subject: subject(result), settings })
    }

    /// Has a setting more than one trial?
    pub fn is_repeated(&self) -> bool {
        self.settings.iter().any(|setting| setting.summary.n > 1)
    }

    /// The settings with the best means first.
    pub fn in_order(&self) -> Vec<&Setting<'a>> {
        let sign = sign(self.metric);
        let mut settings: Vec<&Setting> = self.settings.iter().collect();
        settings.sort_by(|one, other| (sign * one.summary.mean).total_cmp(&(sign * other.summary.mean)));
        settings
    }

    /// The setting that the sweep calls the best, which has all its seeds.
    pub fn best(&self) -> Option<&Setting<'a>> {
        let best = self.result.best_over(self.metric, self.over).ok()?;
        self.settings.iter().find(|setting| setting.point == best.point)
    }

    /// The values of a setting in which it differs from others, as "16 · 0.001".
    pub fn name(&self, point: &Point) -> String {
        let values = self.axes.iter().filter_map(|axis| point.get(&axis.key));
        let name = values.map(number::value).collect::<Vec<_>>().join(" · ");
        if name.is_empty() {
            "the one setting".to_owned()
        } else {
            name
        }
    }

    /// What the names are of, as "rank · lr".
    pub fn heading(&self) -> String {
        self.axes.iter().map(|axis| axis.key.as_str()).collect::<Vec<_>>().join(" · ")
    }

    /// The metric with its unit.
    pub fn metric_title(&self) -> String {
        unit_of(self.result, self.metric)
    }

    /// `number` of the metric, with as many decimals as the others.
    pub fn text(&self, value: f64) -> String {
        let decimals = number::decimals_for(self.settings.iter().map(|setting| setting.summary.mean));
        number::fixed(value, decimals)
    }

    pub fn seeds(&self) -> usize {
        self.settings.iter().map(|setting| setting.summary.n).max().unwrap_or(0)
    }

    /// A note on settings and trials that a chart of `shown` settings leaves out.
    pub fn left_out(&self, shown: usize) -> Vec<String> {
        let all = self.settings.len();
        let mut notes = Vec::new();
        if shown < all {
            notes.push(format!("The best {shown} of {all} settings; {} more are not shown.", all - shown));
        }
        if self.without > 0 {
            let (settings, have) = if self.without == 1 { ("setting", "has") } else { ("settings", "have") };
            notes.push(format!(
                "Left out: {} {settings} that {have} no finished trial with {}.",
                self.without, self.metric
            ));
        }
        notes
    }
}

impl Setting<'_> {
    /// Half the 95 % interval of the mean; `None` below three values, where it says nothing.
    pub fn half_width(&self) -> Option<f64> {
        self.summary.half_width().filter(|_| self.summary.n > 2)
    }

    /// The mean of another metric over its trials.
    pub fn mean_of(&self, metric: &str) -> Option<f64> {
        Summary::of(self.rows.iter().filter_map(|row| row.number(metric))).map(|summary| summary.mean)
    }
}

/// An axis of the grid as one of a chart: with names where its values are no numbers.
pub fn chart_axis(axis: &GridAxis) -> Axis {
    if !axis.values.iter().all(Value::is_number) {
        let names = axis.values.iter().enumerate().map(|(at, value)| (at as f64, number::value(value)));
        return Axis { ticks: Ticks::Named(names.collect()), ..Axis::new(&axis.key, Scale::Linear) };
    }
    let mut values: Vec<f64> = axis.values.iter().filter_map(Value::as_f64).collect();
    values.sort_by(f64::total_cmp);
    let scale = Scale::natural(&values);
    let ticks = if values.len() <= MOST_TICKS { Ticks::At(values) } else { Ticks::Round };
    Axis { ticks, ..Axis::new(&axis.key, scale) }
}

/// Up to this many values of an axis are ticks.
const MOST_TICKS: usize = 12;

/// The place of a value on the chart's axis.
pub fn position(axis: &GridAxis, value: &Value) -> f64 {
    match value.as_f64().filter(|_| axis.values.iter().all(Value::is_number)) {
        Some(number) => number,
        None => axis.values.iter().position(|known| known == value).map_or(f64::NAN, |at| at as f64),
    }
}

/// A metric with its unit, where that is known: "eval_loss (nats per token)".
pub fn unit_of(result: &SweepResult, metric: &str) -> String {
    let has = |row: &TrialRow, name: &str| row.number(name).is_some();
    // What an experiment of the caller calls a loss may be any number, and that of preferences is no cross-entropy.
    let is_of_preferences = result.metrics().iter().any(|name| name.contains("rewards/"));
    let is_ours = result.rows().iter().any(|row| has(row, "trainable_params") && has(row, metric));
    match metric {
        "eval_loss" | "train_loss" if is_ours && !is_of_preferences => format!("{metric} (nats per token)"),
        "seconds" => "seconds of training, a trial's share".to_owned(),
        "tokens_per_s" => "tokens per second of a trial's worker".to_owned(),
        other => other.to_owned(),
    }
}

/// The model and the data of the sweep in a line, as far as its folder says: "scripts/tiny · train.jsonl · 18 trials".
pub fn subject(result: &SweepResult) -> String {
    let mut parts = Vec::new();
    let marker = read_marker(&result.out).ok().flatten().unwrap_or_default();
    let model =
        marker.pointer("/identity/model").and_then(Value::as_str).filter(|_| result.axis_values("base").is_none());
    parts.extend(model.map(|name| format!("model {}", short_name(name))));
    let origin = result.rows().first().and_then(|row| Origin::read(&result.out.join(&row.dir)).ok());
    let is_model = |name: &&String| model.is_some_and(|model| name.starts_with(model));
    if let Some(origin) = origin.filter(|_| result.axis_values(DATA).is_none()) {
        let names: Vec<String> = origin
            .files
            .keys()
            .filter(|name| !is_model(name) || name.ends_with("l"))
            .map(|name| short_name(name))
            .collect();
        let more =
            if names.len() > MOST_FILES { format!(" and {} more", names.len() - MOST_FILES) } else { String::new() };
        if !names.is_empty() {
            parts.push(format!("data {}{more}", names[..names.len().min(MOST_FILES)].join(", ")));
        }
    }
    let failed = result.failed().count();
    let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    let trials = result.rows().len();
    parts.push(format!("{trials} {}{failures}", if trials == 1 { "trial" } else { "trials" }));
    parts.join(" · ")
}

/// The last two parts of a path.
fn short_name(name: &str) -> String {
    let path = Path::new(name);
    let last = |path: &Path| path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    match path.parent().map(last).filter(|parent| !parent.is_empty() && name.len() > 32) {
        Some(parent) => format!("{parent}/{}", last(path)),
        None if name.len() > 32 => last(path),
        None => name.to_owned(),
    }
}
