//! The metric against a cost, and the settings that no other beats in both: the Pareto front.

use super::study::{Setting, Study};
use crate::bail;
use crate::error::{Kind, Result};
use crate::plot::charts::chart::{Axis, Chart, Legend, Mark, Numbers, Point, Series};
use crate::plot::charts::scale::Scale;
use crate::sweep::columns::sign;
use crate::train::outcome::PEAK_MEMORY;

/// The most points of the front that have a name beside them.
const MOST_NAMED: usize = 12;
/// Less variation of a cost says nothing of settings.
const LEAST_SPAN: f64 = 1.02;

/// A cost as a word in a sentence.
pub fn words(cost: &str) -> &str {
    match cost {
        "seconds" => "time",
        PEAK_MEMORY => "memory",
        other => other,
    }
}

/// Do settings differ in this cost?
pub fn is_worth_it(study: &Study, cost: &str) -> bool {
    let costs: Vec<f64> = study.settings.iter().filter_map(|setting| setting.mean_of(cost)).collect();
    let (low, high) = costs.iter().fold((f64::MAX, 0.0_f64), |(low, high), x| (low.min(*x), high.max(*x)));
    costs.len() > 2 && low > 0.0 && high / low >= LEAST_SPAN
}

/// # Errors
/// A cost that no trial has.
pub fn pareto(study: &Study, cost: Option<&str>) -> Result<Chart> {
    let cost = cost.unwrap_or("seconds");
    study.result.metric(cost)?;
    let unit = if cost == PEAK_MEMORY { 1e9 } else { 1.0 };
    let all: Vec<(&Setting, f64)> =
        study.settings.iter().filter_map(|setting| Some((setting, setting.mean_of(cost)? / unit))).collect();
    if all.is_empty() {
        bail!(Kind::Input, "chart: no finished trial has a `{cost}` to show"; hint: "x: \"seconds\", or a metric of your own")
    }
    let front = front(study, &all);
    let point = |(setting, cost): &(&Setting, f64), is_named: bool| Point {
        spread: setting.half_width().map(|half| (setting.summary.mean - half, setting.summary.mean + half)),
        label: if is_named { study.name(&setting.point) } else { String::new() },
        trials: setting.rows.iter().map(|row| row.index).collect(),
        ..Point::new(*cost, setting.summary.mean)
    };
    let is_named = front.len() <= MOST_NAMED && !study.axes.is_empty();
    let of_front: Vec<Point> = front.iter().map(|&at| point(&all[at], is_named)).collect();
    let others = (0..all.len()).filter(|at| !front.contains(at)).map(|at| point(&all[at], false));
    let trials = |points: &[Point]| points.iter().flat_map(|point| point.trials.clone()).collect();
    let others: Vec<Point> = others.collect();
    let mut series = Vec::new();
    if !others.is_empty() {
        let name = "others".to_owned();
        series.push(Series {
            name,
            trials: trials(&others),
            points: others,
            mark: Mark::Points,
            slot: Some(0),
            ..Series::default()
        });
    }
    // Last, so that the others do not hide it.
    let name = "no other beats".to_owned();
    series.push(Series { name, trials: trials(&of_front), points: of_front, slot: Some(1), ..Series::default() });
    let mut notes = Vec::new();
    if study.settings.iter().any(|setting| setting.half_width().is_some()) {
        notes.push(format!("Error bars: 95 % interval of the mean over {} {}s.", study.seeds(), study.over));
    }
    if is_named {
        notes.push(format!("Names: {}.", study.heading()));
    }
    notes.extend(meaning(cost).map(str::to_owned));
    notes.extend(study.left_out(study.settings.len()));
    let costs: Vec<f64> = all.iter().map(|(_, cost)| *cost).collect();
    let scale = if Scale::natural(&costs) == Scale::Linear { Scale::Linear } else { Scale::Log10 };
    let title = if cost == PEAK_MEMORY { "peak memory (GB)".to_owned() } else { super::unit_of(study.result, cost) };
    Ok(Chart {
        title: format!("{} against {}", study.metric, words(cost)),
        subtitle: study.subject.clone(),
        x: Axis { numbers: Numbers::Auto, ..Axis::new(title, scale) },
        y: Axis::new(study.metric_title(), Scale::Linear),
        series,
        legend: Legend::Side,
        notes,
        ..Chart::default()
    })
}

/// What a cost means of trials side by side.
fn meaning(cost: &str) -> Option<&'static str> {
    match cost {
        "seconds" => Some("A trial's time is its share of that of its worker, in which trials train side by side."),
        PEAK_MEMORY => Some("Trials side by side have one peak."),
        _ => None,
    }
}

/// The numbers of the settings that no other beats in both, from the cheapest on.
fn front(study: &Study, all: &[(&Setting, f64)]) -> Vec<usize> {
    let sign = sign(study.metric);
    let metric = |at: usize| sign * all[at].0.summary.mean;
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|&one, &other| all[one].1.total_cmp(&all[other].1).then(metric(one).total_cmp(&metric(other))));
    let mut best = f64::INFINITY;
    order.retain(|&at| {
        let is_better = metric(at) < best;
        best = best.min(metric(at));
        is_better
    });
    order
}

#[cfg(test)]
mod tests {
    use super::super::tests::{study_of, sweep};
    use super::*;
    use serde_json::json;

    #[test]
    fn the_front_is_what_nothing_beats_in_both() {
        // (seconds, loss) by rank: 2 is cheapest, 8 beats 4 in both, 16 is best.
        let numbers = |rank: u64| match rank {
            2 => (1.0, 3.0),
            4 => (3.0, 2.5),
            8 => (2.0, 2.0),
            _ => (4.0, 1.0),
        };
        let result = sweep(json!({"rank": [2, 4, 8, 16]}), |point| {
            let (seconds, loss) = numbers(point.get("rank")?.as_u64()?);
            Some((loss, seconds))
        });
        let study = study_of(&result);
        let chart = pareto(&study, None).unwrap();
        let xs = |at: usize| chart.series[at].points.iter().map(|point| (point.x, point.y)).collect::<Vec<_>>();
        assert_eq!(xs(1), [(1.0, 3.0), (2.0, 2.0), (4.0, 1.0)]);
        assert_eq!(xs(0), [(3.0, 2.5)]);
        let names: Vec<&str> = chart.series[1].points.iter().map(|point| point.label.as_str()).collect();
        assert_eq!(names, ["2", "8", "16"]);
        assert!(is_worth_it(&study, "seconds") && !is_worth_it(&study, "tokens"));
        assert!(pareto(&study, Some("secnods")).unwrap_err().hint.unwrap().contains("seconds"));
    }
}
