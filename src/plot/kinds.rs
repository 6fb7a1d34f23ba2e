//! The usual charts of a sweep, from plain numbers: a metric against a key, against
//! adapter size, and curves over the steps of training.

use super::chart::{Axis, Chart, Mark, Numbers, Point, Series, Spread, Ticks};
use super::scale::Scale;
use super::smooth;
use std::collections::HashSet;

/// One trial's result at one value of the key on the x axis.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    pub x: f64,
    pub y: f64,
    /// Value of the second key, one series for each; empty if there is none.
    pub group: String,
    /// Text beside the point in [`against_size`], e.g. "r=8".
    pub label: String,
    /// The trial that it is of.
    pub trial: Option<usize>,
}

/// What [`against`] and [`against_size`] draw.
#[derive(Debug, Clone)]
pub struct Versus {
    /// Empty: "y against x".
    pub title: String,
    pub x: String,
    pub y: String,
    pub x_scale: Scale,
    pub y_scale: Scale,
    /// Name of the second key; empty if there is none.
    pub group: String,
    /// Name of the key over which means are taken.
    pub over: String,
}

/// The course of one trial: (step, value), in order.
#[derive(Debug, Clone, Default)]
pub struct Curve {
    /// Runs of one group are averaged, e.g. "rank 8".
    pub group: String,
    /// What tells runs of a group apart, e.g. "seed 0".
    pub run: String,
    pub points: Vec<(f64, f64)>,
    /// The trial that it is of.
    pub trial: Option<usize>,
}

/// What [`training_curves`] and [`eval_curves`] draw.
#[derive(Debug, Clone)]
pub struct Curves {
    /// Empty: "y over x".
    pub title: String,
    pub x: String,
    pub y: String,
    pub y_scale: Scale,
    /// Above the names of the groups, e.g. "rank"; may be empty.
    pub group: String,
    pub over: String,
    /// Weight of the moving average (see [`smooth::ema`]); `None` chooses by the length.
    pub smoothing: Option<f64>,
}

/// Up to this many trials get a curve each; more are averaged by group.
const MOST_SINGLE: usize = 4;
/// Up to this many bands can be told apart.
const MOST_BANDS: usize = 3;
/// Up to this many values of the key stand on the axis themselves.
const MOST_VALUES: usize = 16;

impl Default for Versus {
    fn default() -> Self {
        Versus {
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

impl Default for Curves {
    fn default() -> Self {
        Curves {
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
pub fn against(observations: &[Observation], versus: &Versus) -> Chart {
    drawn_against(observations, versus, false)
}

fn drawn_against(observations: &[Observation], versus: &Versus, labelled: bool) -> Chart {
    let mut values: Vec<f64> = observations.iter().map(|own| own.x).filter(|x| x.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let ticks = if values.len() <= MOST_VALUES { Ticks::At(values) } else { Ticks::Round };
    let title =
        if versus.title.is_empty() { format!("{} against {}", versus.y, versus.x) } else { versus.title.clone() };
    let (mut series, mut tally) = (vec![], Tally::default());
    for group in in_order(observations.iter().map(|own| &own.group)) {
        let own: Vec<&Observation> = observations.iter().filter(|one| one.group == group).collect();
        let mut series_of_group = averaged(&own, &group, &mut tally);
        if !labelled {
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

/// As [`against`], with x the number of trainable parameters or bytes of the adapter:
/// a logarithmic axis in K, M, B, and each observation's label beside its point.
pub fn against_size(observations: &[Observation], versus: &Versus) -> Chart {
    let mut chart = drawn_against(observations, &Versus { x_scale: Scale::Log10, ..versus.clone() }, true);
    chart.x.ticks = Ticks::Round;
    chart.x.numbers = Numbers::Short;
    chart
}

/// Losses as logged during training: smoothed, with the values before smoothing faint behind.
pub fn training_curves(curves: &[Curve], options: &Curves) -> Chart {
    let longest = curves.iter().map(|curve| curve.points.len()).max().unwrap_or(0);
    // A twentieth of the course is averaged; short courses are shown as they are.
    let weight = options.smoothing.unwrap_or((1.0 - 20.0 / longest.max(1) as f64).clamp(0.0, 0.97));
    let weight = if (0.0..1.0).contains(&weight) { weight } else { 0.0 };
    // Between smoothed lines there is no spread to show.
    let mut chart = courses(curves, options, Mark::Line, weight == 0.0);
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

/// Evaluations during training: every one a point, nothing smoothed.
pub fn eval_curves(curves: &[Curve], options: &Curves) -> Chart {
    courses(curves, options, Mark::LineAndPoints, true)
}

fn courses(curves: &[Curve], options: &Curves, mark: Mark, bands: bool) -> Chart {
    let groups = in_order(curves.iter().map(|curve| &curve.group));
    let single = curves.len() <= MOST_SINGLE || curves.len() == groups.len();
    let mut tally = Tally::default();
    let mut series = vec![];
    for group in &groups {
        let runs: Vec<&Curve> = curves.iter().filter(|curve| curve.group == *group).collect();
        if single {
            series.extend(runs.iter().map(|run| one_course(run, runs.len() > 1)));
        } else {
            series.push(mean_course(&runs, group, bands && groups.len() <= MOST_BANDS, &mut tally));
        }
    }
    series.iter_mut().for_each(|own| own.mark = mark);
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

fn one_course(curve: &Curve, name_run: bool) -> Series {
    let name = match (curve.group.is_empty(), name_run) {
        (false, true) => format!("{}, {}", curve.group, curve.run),
        (false, false) => curve.group.clone(),
        (true, _) => curve.run.clone(),
    };
    let points = curve.points.iter().map(|(x, y)| Point::new(*x, *y)).collect();
    Series { name, points, trials: curve.trial.into_iter().collect(), ..Series::default() }
}

/// The mean of several runs at the steps that all of them have: behind the end of the
/// shortest run it would jump for no reason but that a run is missing.
fn mean_course(runs: &[&Curve], group: &str, band: bool, tally: &mut Tally) -> Series {
    let mut points = vec![];
    let shared = runs.first().map_or(&[][..], |run| &run.points);
    for (x, _) in shared {
        let values: Vec<f64> = runs.iter().filter_map(|run| value_at(&run.points, *x)).collect();
        if values.len() == runs.len() {
            let (mean, spread) = tally.take(&values);
            points.push(Point { x: *x, y: mean, spread: spread.filter(|_| band), ..Point::default() });
        }
    }
    tally.shown &= band;
    let trials = runs.iter().filter_map(|run| run.trial).collect();
    Series { name: group.to_string(), points, spread: Spread::Band, trials, ..Series::default() }
}

fn value_at(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let place = points.partition_point(|(own, _)| *own < x);
    points.get(place).filter(|(own, _)| *own == x).map(|(_, y)| *y)
}

/// A point of the chart for each point of the grid: those at the same x with other labels differ in more
/// than a seed, and are not averaged.
fn averaged(own: &[&Observation], group: &str, tally: &mut Tally) -> Series {
    let mut places: Vec<(f64, &str)> = own.iter().map(|one| (one.x, one.label.as_str())).collect();
    places.sort_by(|one, two| one.0.total_cmp(&two.0));
    let mut seen = HashSet::new();
    places.retain(|(x, label)| seen.insert((x.to_bits(), *label)));
    let (mut points, mut runs) = (vec![], vec![]);
    for (x, label) in places {
        let is_here = |one: &&Observation| one.x.total_cmp(&x).is_eq() && one.label == label;
        let here: Vec<&Observation> = own.iter().copied().filter(is_here).collect();
        let (mean, spread) = tally.take(&here.iter().map(|one| one.y).collect::<Vec<_>>());
        let trials = here.iter().filter_map(|one| one.trial).collect();
        points.push(Point { x, y: mean, spread, trials, label: label.to_owned() });
        if here.len() > 1 {
            let run = |one: &&Observation| Point { trials: one.trial.into_iter().collect(), ..Point::new(x, one.y) };
            runs.extend(here.iter().map(run));
        }
    }
    let trials = own.iter().filter_map(|one| one.trial).collect();
    Series { name: group.to_string(), points, runs, trials, ..Series::default() }
}

/// Each value once, in the order of first appearance.
fn in_order<'a>(values: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut found: Vec<String> = vec![];
    for value in values {
        if !found.contains(value) {
            found.push(value.clone());
        }
    }
    found
}

/// Counts what went into the means, for the note below the chart.
struct Tally {
    fewest: usize,
    most: usize,
    left_out: usize,
    /// Whether the spread is drawn.
    shown: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Tally { fewest: usize::MAX, most: 0, left_out: 0, shown: true }
    }
}

impl Tally {
    /// Mean of the finite values, and mean ± sample standard deviation (n − 1) where there
    /// are two or more. NaN if none is finite: the chart says that it is missing.
    fn take(&mut self, values: &[f64]) -> (f64, Option<(f64, f64)>) {
        let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let count = finite.len();
        if count == 0 {
            return (f64::NAN, None);
        }
        self.left_out += values.len() - count;
        (self.fewest, self.most) = (self.fewest.min(count), self.most.max(count));
        let mean = finite.iter().sum::<f64>() / count as f64;
        if count == 1 {
            return (mean, None);
        }
        let square = finite.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let deviation = (square / (count - 1) as f64).sqrt();
        (mean, Some((mean - deviation, mean + deviation)))
    }

    fn notes(&self, over: &str, bars: &str) -> Vec<String> {
        let mut notes = vec![];
        if self.most > 1 {
            let count = if self.fewest == self.most {
                self.most.to_string()
            } else {
                format!("{} to {}", self.fewest, self.most)
            };
            let bars = if self.shown { format!(" {bars}: ± 1 standard deviation.") } else { String::new() };
            notes.push(format!("Mean over {count} {over}s.{bars}"));
        }
        if self.left_out > 0 {
            let values =
                if self.left_out == 1 { "1 value that is" } else { &format!("{} values that are", self.left_out) };
            notes.push(format!("Left out of the means: {values} NaN or infinite."));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(x: f64, y: f64) -> Observation {
        Observation { x, y, ..Observation::default() }
    }

    #[test]
    fn means_and_deviations_are_those_of_a_sample() {
        let chart = against(&[seen(2.0, 1.0), seen(4.0, 5.0), seen(2.0, 3.0), seen(2.0, 5.0)], &Versus::default());
        let points = &chart.series[0].points;
        assert_eq!((points[0].y, points[0].spread), (3.0, Some((1.0, 5.0))));
        assert_eq!((points[1].y, points[1].spread), (5.0, None));
        assert_eq!(chart.notes, ["Mean over 1 to 3 seeds. Error bars: ± 1 standard deviation."]);
        assert!(matches!(&chart.x.ticks, Ticks::At(values) if values == &[2.0, 4.0]));
    }

    #[test]
    fn points_of_the_grid_that_meet_at_one_x_are_not_averaged() {
        let one = |lr: &str, y: f64| Observation { label: format!("rank=4, lr={lr}"), ..seen(16_384.0, y) };
        let chart =
            against_size(&[one("1e-4", 1.0), one("1e-3", 5.0), one("1e-4", 3.0), one("1e-3", 7.0)], &Versus::default());
        let points: Vec<(&str, f64)> = chart.series[0].points.iter().map(|own| (own.label.as_str(), own.y)).collect();
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
        let chart = training_curves(&(0..5).map(curve).collect::<Vec<_>>(), &Curves::default());
        assert_eq!(chart.notes[0], "Mean over 5 seeds.");
        assert!(chart.series[0].points.iter().all(|point| point.spread.is_none()));
    }

    #[test]
    fn a_diverged_run_is_left_out_and_told() {
        let chart = against(&[seen(2.0, 1.0), seen(2.0, f64::NAN), seen(2.0, 3.0)], &Versus::default());
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
        let names = |chart: &Chart| chart.series.iter().map(|own| own.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&eval_curves(&two, &Curves::default())), ["rank 2, seed 0", "rank 2, seed 1"]);
        let mut six = two.to_vec();
        six.extend((0..4).map(|seed| curve("rank 4", &format!("seed {seed}"), 1.0)));
        six[1].points.pop();
        let chart = eval_curves(&six, &Curves::default());
        assert_eq!(names(&chart), ["rank 2", "rank 4"]);
        let values: Vec<f64> = chart.series[0].points.iter().map(|point| point.y).collect();
        assert_eq!(values, [2.0, 4.0], "the mean ends with the shortest run");
    }

    #[test]
    fn smoothing_keeps_what_was_logged_behind() {
        let points = (0..100).map(|step| (f64::from(step), f64::from(step % 2))).collect();
        let chart = training_curves(&[Curve { run: "a".into(), points, ..Curve::default() }], &Curves::default());
        let own = &chart.series[0];
        assert_eq!(own.raw[7], (7.0, 1.0));
        assert!((own.points[99].y - 0.5).abs() < 0.2 && chart.notes[0].contains("0.80"), "{:?}", chart.notes);
    }
}
