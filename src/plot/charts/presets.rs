//! The usual charts of a sweep, built from numbers: a metric against a key or the adapter's size, and
//! curves over training steps.

use super::chart::{Axis, Chart, Mark, Numbers, Point, Series, Spread, Ticks};
use super::scale::Scale;
use super::smooth;
use super::tally::Tally;
use std::collections::HashSet;

/// The result of one trial.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// The value of the key on the x axis.
    pub x: f64,
    /// The metric.
    pub y: f64,
    /// The value of the second key, which has a series for each; empty if there is none.
    pub group: String,
    /// A text beside the point in [`against_size`], such as "r=8".
    pub label: String,
    /// The trial's number.
    pub trial: Option<usize>,
}

/// Titles, scales and keys for [`against`] and [`against_size`].
#[derive(Debug, Clone)]
pub struct VersusOptions {
    /// Empty: "y against x".
    pub title: String,
    pub x: String,
    pub y: String,
    pub x_scale: Scale,
    pub y_scale: Scale,
    /// The name of the second key; empty if there is none.
    pub group: String,
    /// The name of the key over which means are taken.
    pub over: String,
}

/// A value of one trial over its steps.
#[derive(Debug, Clone, Default)]
pub struct Curve {
    /// The runs of one group are averaged, such as "rank 8".
    pub group: String,
    /// The name of the run within its group, such as "seed 0".
    pub run: String,
    /// (step, value), in order.
    pub points: Vec<(f64, f64)>,
    /// The trial's number.
    pub trial: Option<usize>,
}

/// Titles, scale and smoothing for [`training_curves`] and [`eval_curves`].
#[derive(Debug, Clone)]
pub struct CurveOptions {
    /// Empty: "y over x".
    pub title: String,
    pub x: String,
    pub y: String,
    pub y_scale: Scale,
    /// The heading of the legend, such as "rank"; may be empty.
    pub group: String,
    /// The name of the key over which means are taken.
    pub over: String,
    /// The weight of the moving average (see [`smooth::ema`]); `None` chooses it by the number of steps.
    pub smoothing: Option<f64>,
}

/// Up to this many trials have a curve each; more are averaged by group.
const MOST_SINGLE: usize = 4;
/// Up to this many bands are drawn; more would be indistinguishable.
const MOST_BANDS: usize = 3;
/// Up to this many values of the key are ticks.
const MOST_VALUES: usize = 16;

impl Default for VersusOptions {
    fn default() -> Self {
        VersusOptions {
            title: String::new(),
            x: "rank".into(),
            y: "eval_loss".into(),
            x_scale: Scale::Log2,
            y_scale: Scale::Linear,
            group: String::new(),
            over: "seed".into(),
        }
    }
}

impl Default for CurveOptions {
    fn default() -> Self {
        CurveOptions {
            title: String::new(),
            x: "step".into(),
            y: "loss".into(),
            y_scale: Scale::Linear,
            group: String::new(),
            over: "seed".into(),
            smoothing: None,
        }
    }
}

/// A metric against a key of the grid: mean, standard deviation as error bars, single runs
/// as faint dots; the values that were run are the ticks.
pub fn against(observations: &[Observation], versus: &VersusOptions) -> Chart {
    metric_against_key(observations, versus, false)
}

fn metric_against_key(observations: &[Observation], versus: &VersusOptions, is_labelled: bool) -> Chart {
    let mut values: Vec<f64> = observations.iter().map(|observation| observation.x).filter(|x| x.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let ticks = if values.len() <= MOST_VALUES { Ticks::At(values) } else { Ticks::Round };
    let title =
        if versus.title.is_empty() { format!("{} against {}", versus.y, versus.x) } else { versus.title.clone() };
    let (mut series, mut tally) = (vec![], Tally::default());
    for group in in_order(observations.iter().map(|observation| &observation.group)) {
        let members: Vec<&Observation> = observations.iter().filter(|observation| observation.group == group).collect();
        let mut series_of_group = averaged(&members, &group, &mut tally);
        if !is_labelled {
            series_of_group.points.iter_mut().for_each(|point| point.label.clear());
        }
        series.push(series_of_group);
    }
    Chart {
        title,
        x: Axis { ticks, ..Axis::new(&versus.x, versus.x_scale) },
        y: Axis::new(&versus.y, versus.y_scale),
        series,
        legend_title: versus.group.clone(),
        notes: tally.notes(&versus.over, "Error bars"),
        ..Chart::default()
    }
}

/// A metric against the adapter's size, in trainable parameters or bytes: as [`against`], with a
/// logarithmic axis in K, M, B and each observation's label beside its point.
pub fn against_size(observations: &[Observation], versus: &VersusOptions) -> Chart {
    let mut chart = metric_against_key(observations, &VersusOptions { x_scale: Scale::Log10, ..versus.clone() }, true);
    chart.x.ticks = Ticks::Round;
    chart.x.numbers = Numbers::Short;
    chart
}

/// Training losses as logged: smoothed, with the unsmoothed curve faint behind.
pub fn training_curves(curves: &[Curve], options: &CurveOptions) -> Chart {
    let longest = curves.iter().map(|curve| curve.points.len()).max().unwrap_or(0);
    // The average covers about a twentieth of the steps; short curves are not smoothed.
    let weight = options.smoothing.unwrap_or((1.0 - 20.0 / longest.max(1) as f64).clamp(0.0, 0.97));
    let weight = if (0.0..1.0).contains(&weight) { weight } else { 0.0 };
    // The spread of the runs does not apply to their smoothed mean.
    let mut chart = curves_chart(curves, options, Mark::Line, weight == 0.0);
    if weight > 0.0 {
        for series in &mut chart.series {
            let values: Vec<f64> = series.points.iter().map(|point| point.y).collect();
            series.raw = series.points.iter().map(|point| (point.x, point.y)).collect();
            let smooth = smooth::ema(&values, weight);
            series.points.iter_mut().zip(smooth).for_each(|(point, y)| point.y = y);
        }
        chart.notes.push(format!("Smoothed: moving average of weight {weight:.2}. Faint: as logged."));
    }
    chart
}

/// Evaluations during training: a point for each, without smoothing.
pub fn eval_curves(curves: &[Curve], options: &CurveOptions) -> Chart {
    curves_chart(curves, options, Mark::LineAndPoints, true)
}

fn curves_chart(curves: &[Curve], options: &CurveOptions, mark: Mark, has_bands: bool) -> Chart {
    let groups = in_order(curves.iter().map(|curve| &curve.group));
    let has_single_curves = curves.len() <= MOST_SINGLE || curves.len() == groups.len();
    let mut tally = Tally::default();
    let mut series = vec![];
    for group in &groups {
        let runs: Vec<&Curve> = curves.iter().filter(|curve| curve.group == *group).collect();
        if has_single_curves {
            series.extend(runs.iter().map(|run| single_curve(run, runs.len() > 1)));
        } else {
            series.push(mean_curve(&runs, group, has_bands && groups.len() <= MOST_BANDS, &mut tally));
        }
    }
    series.iter_mut().for_each(|series| series.mark = mark);
    let title =
        if options.title.is_empty() { format!("{} over {}", options.y, options.x) } else { options.title.clone() };
    Chart {
        title,
        x: Axis::new(&options.x, Scale::Linear),
        y: Axis::new(&options.y, options.y_scale),
        series,
        legend_title: options.group.clone(),
        notes: tally.notes(&options.over, "Bands"),
        ..Chart::default()
    }
}

fn single_curve(curve: &Curve, names_run: bool) -> Series {
    let name = match (curve.group.is_empty(), names_run) {
        (false, true) => format!("{}, {}", curve.group, curve.run),
        (false, false) => curve.group.clone(),
        (true, _) => curve.run.clone(),
    };
    let points = curve.points.iter().map(|(x, y)| Point::new(*x, *y)).collect();
    Series { name, points, trials: curve.trial.into_iter().collect(), ..Series::default() }
}

/// The mean of several runs at the steps that all of them have: past the end of the shortest run it
/// would jump only because a run is missing.
fn mean_curve(runs: &[&Curve], group: &str, has_band: bool, tally: &mut Tally) -> Series {
    let mut points = vec![];
    let shared = runs.first().map_or(&[][..], |run| &run.points);
    for (x, _) in shared {
        let values: Vec<f64> = runs.iter().filter_map(|run| value_at(&run.points, *x)).collect();
        if values.len() == runs.len() {
            let (mean, spread) = tally.mean_of(&values);
            points.push(Point { x: *x, y: mean, spread: spread.filter(|_| has_band), ..Point::default() });
        }
    }
    tally.shows_spread &= has_band;
    let trials = runs.iter().filter_map(|run| run.trial).collect();
    Series { name: group.to_string(), points, spread: Spread::Band, trials, ..Series::default() }
}

fn value_at(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let index = points.partition_point(|(step, _)| *step < x);
    points.get(index).filter(|(step, _)| *step == x).map(|(_, y)| *y)
}

/// A point of the chart for each x and label: observations at the same x with different labels differ in
/// more than the seed, and are not averaged.
fn averaged(observations: &[&Observation], group: &str, tally: &mut Tally) -> Series {
    let mut keys: Vec<(f64, &str)> = observations.iter().map(|one| (one.x, one.label.as_str())).collect();
    keys.sort_by(|one, two| one.0.total_cmp(&two.0));
    let mut seen = HashSet::new();
    keys.retain(|(x, label)| seen.insert((x.to_bits(), *label)));
    let (mut points, mut runs) = (vec![], vec![]);
    for (x, label) in keys {
        let is_member = |one: &&Observation| one.x.total_cmp(&x).is_eq() && one.label == label;
        let members: Vec<&Observation> = observations.iter().copied().filter(is_member).collect();
        let (mean, spread) = tally.mean_of(&members.iter().map(|one| one.y).collect::<Vec<_>>());
        let trials = members.iter().filter_map(|one| one.trial).collect();
        points.push(Point { spread, trials, label: label.to_owned(), ..Point::new(x, mean) });
        if members.len() > 1 {
            let run = |one: &&Observation| Point { trials: one.trial.into_iter().collect(), ..Point::new(x, one.y) };
            runs.extend(members.iter().map(run));
        }
    }
    let trials = observations.iter().filter_map(|one| one.trial).collect();
    Series { name: group.to_string(), points, runs, trials, ..Series::default() }
}

/// Each value once, in the order of first appearance.
fn in_order<'a>(values: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut unique: Vec<String> = vec![];
    for value in values {
        if !unique.contains(value) {
            unique.push(value.clone());
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(x: f64, y: f64) -> Observation {
        Observation { x, y, ..Observation::default() }
    }

    #[test]
    fn means_and_deviations_are_those_of_a_sample() {
        let chart = against(
            &[observation(2.0, 1.0), observation(4.0, 5.0), observation(2.0, 3.0), observation(2.0, 5.0)],
            &VersusOptions::default(),
        );
        let points = &chart.series[0].points;
        assert_eq!((points[0].y, points[0].spread), (3.0, Some((1.0, 5.0))));
        assert_eq!((points[1].y, points[1].spread), (5.0, None));
        assert_eq!(chart.notes, ["Mean over 1 to 3 seeds. Error bars: ± 1 standard deviation."]);
        assert!(matches!(&chart.x.ticks, Ticks::At(values) if values == &[2.0, 4.0]));
    }

    #[test]
    fn points_of_the_grid_that_meet_at_one_x_are_not_averaged() {
        let one = |lr: &str, y: f64| Observation { label: format!("rank=4, lr={lr}"), ..observation(16_384.0, y) };
        let chart = against_size(
            &[one("1e-4", 1.0), one("1e-3", 5.0), one("1e-4", 3.0), one("1e-3", 7.0)],
            &VersusOptions::default(),
        );
        let points: Vec<(&str, f64)> =
            chart.series[0].points.iter().map(|point| (point.label.as_str(), point.y)).collect();
        assert_eq!(points, [("rank=4, lr=1e-4", 2.0), ("rank=4, lr=1e-3", 6.0)]);
        assert_eq!(chart.notes, ["Mean over 2 seeds. Error bars: ± 1 standard deviation."]);
    }

    #[test]
    fn smoothed_means_show_no_bands_and_say_none() {
        let curve = |run: usize| Curve {
            group: "rank 2".into(),
            run: run.to_string(),
            points: (0..60).map(|step| (f64::from(step), f64::from(step % 7 + run as i32))).collect(),
            trial: None,
        };
        let chart = training_curves(&(0..5).map(curve).collect::<Vec<_>>(), &CurveOptions::default());
        assert_eq!(chart.notes[0], "Mean over 5 seeds.");
        assert!(chart.series[0].points.iter().all(|point| point.spread.is_none()));
    }

    #[test]
    fn a_diverged_run_is_left_out_and_told() {
        let chart = against(
            &[observation(2.0, 1.0), observation(2.0, f64::NAN), observation(2.0, 3.0)],
            &VersusOptions::default(),
        );
        assert_eq!(chart.series[0].points[0].y, 2.0);
        assert!(chart.notes[1].contains("1 value that is NaN"), "{:?}", chart.notes);
    }

    #[test]
    fn few_trials_are_shown_singly_and_many_as_means() {
        let curve = |group: &str, run: &str, scale: f64| Curve {
            group: group.into(),
            trial: None,
            run: run.into(),
            points: (1..=3).map(|step| (f64::from(step), scale * f64::from(step))).collect(),
        };
        let two = [curve("rank 2", "seed 0", 1.0), curve("rank 2", "seed 1", 3.0)];
        let names = |chart: &Chart| chart.series.iter().map(|series| series.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&eval_curves(&two, &CurveOptions::default())), ["rank 2, seed 0", "rank 2, seed 1"]);
        let mut six = two.to_vec();
        six.extend((0..4).map(|seed| curve("rank 4", &format!("seed {seed}"), 1.0)));
        six[1].points.pop();
        let chart = eval_curves(&six, &CurveOptions::default());
        assert_eq!(names(&chart), ["rank 2", "rank 4"]);
        let values: Vec<f64> = chart.series[0].points.iter().map(|point| point.y).collect();
        assert_eq!(values, [2.0, 4.0], "the mean ends with the shortest run");
    }

    #[test]
    fn smoothing_keeps_what_was_logged_behind() {
        let points = (0..100).map(|step| (f64::from(step), f64::from(step % 2))).collect();
        let chart = training_curves(&[Curve { run: "a".into(), points, ..Curve::default() }], &CurveOptions::default());
        let series = &chart.series[0];
        assert_eq!(series.raw[7], (7.0, 1.0));
        assert!((series.points[99].y - 0.5).abs() < 0.2 && chart.notes[0].contains("0.80"), "{:?}", chart.notes);
    }
}
