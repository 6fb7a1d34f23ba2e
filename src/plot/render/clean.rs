//! The part of a chart's data that can be drawn, and a note on what cannot.

use super::font;
use crate::error::{Error, Result};
use crate::plot::charts::chart::{Chart, Point};
use crate::plot::charts::scale::Scale;

/// The series of a chart, in its order, without the points that cannot be drawn.
#[derive(Debug)]
pub struct CleanData {
    pub series: Vec<CleanSeries>,
    /// The chart's notes, and one on what was left out.
    pub notes: Vec<String>,
}

/// A series of which every coordinate can be drawn; its points are in order of x.
#[derive(Debug, Default)]
pub struct CleanSeries {
    pub points: Vec<Point>,
    pub runs: Vec<Point>,
    pub raw: Vec<(f64, f64)>,
}

/// # Errors
/// No series, or none with a point that can be drawn.
pub fn clean(chart: &Chart) -> Result<CleanData> {
    let name = if chart.title.is_empty() {
        "the chart".into()
    } else {
        format!("the chart \"{}\"", font::one_line(&chart.title))
    };
    if chart.series.iter().all(|series| series.points.is_empty()) {
        return Err(Error::input(format!(
            "{name} has no points: expected at least one, found {} empty series",
            chart.series.len()
        ))
        .with_hint("draw it after at least one trial has finished"));
    }
    let (mut lost, mut series) = (Lost::default(), vec![]);
    for all in &chart.series {
        // The values of a horizontal series lie on the x axis.
        let scale = if all.is_horizontal { chart.x.scale } else { chart.y.scale };
        let swapped = |x: f64, y: f64| if all.is_horizontal { (y, x) } else { (x, y) };
        let points = all.points.iter().filter(|point| lost.keeps(chart, swapped(point.x, point.y)));
        let mut points: Vec<Point> = points.map(|point| with_spread_on(scale, point)).collect();
        points.sort_by(|one, two| one.x.total_cmp(&two.x));
        let shows = |x: f64, y: f64| {
            let (x, y) = swapped(x, y);
            chart.x.scale.shows(x) && chart.y.scale.shows(y)
        };
        let runs = all.runs.iter().filter(|run| shows(run.x, run.y)).cloned().collect();
        let raw = all.raw.iter().copied().filter(|(x, y)| shows(*x, *y)).collect();
        series.push(CleanSeries { points, runs, raw });
    }
    if series.iter().all(|series| series.points.is_empty()) {
        let total: usize = chart.series.iter().map(|series| series.points.len()).sum();
        return Err(Error::input(format!("{name} has no point that can be drawn: of {total}, {}", lost.describe()))
            .with_hint("a log axis needs values above 0; a diverged run has no finite loss"));
    }
    let mut notes = chart.notes.clone();
    if lost.count() > 0 {
        notes.push(format!("Not drawn: {}.", lost.describe()));
    }
    Ok(CleanData { series, notes })
}

/// An error bar that reaches below a log axis ends at the point; one with a NaN is left out.
fn with_spread_on(scale: Scale, point: &Point) -> Point {
    let fits = |end: f64| if scale.shows(end) { end } else { point.y };
    let spread = point.spread.filter(|(low, high)| !low.is_nan() && !high.is_nan());
    let spread = spread.map(|(low, high)| (fits(low).min(point.y), fits(high).max(point.y)));
    Point { spread, ..point.clone() }
}

#[derive(Default)]
struct Lost {
    not_finite: usize,
    not_positive: usize,
}

impl Lost {
    fn keeps(&mut self, chart: &Chart, (x, y): (f64, f64)) -> bool {
        if !Scale::Linear.shows(x) || !Scale::Linear.shows(y) {
            self.not_finite += 1;
            return false;
        }
        let drawn = chart.x.scale.shows(x) && chart.y.scale.shows(y);
        self.not_positive += usize::from(!drawn);
        drawn
    }

    fn count(&self) -> usize {
        self.not_finite + self.not_positive
    }

    fn describe(&self) -> String {
        let points = |count: usize| if count == 1 { "1 point".to_string() } else { format!("{count} points") };
        let mut parts = vec![];
        if self.not_finite > 0 {
            parts.push(format!("{} (NaN or infinite)", points(self.not_finite)));
        }
        if self.not_positive > 0 {
            parts.push(format!("{} (not above 0, on a log axis)", points(self.not_positive)));
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::charts::chart::{Axis, Series};

    fn chart(points: &[(f64, f64)], y: Scale) -> Chart {
        let points = points.iter().map(|(x, y)| Point::new(*x, *y)).collect();
        Chart { series: vec![Series { points, ..Series::default() }], y: Axis::new("y", y), ..Chart::default() }
    }

    #[test]
    fn what_cannot_be_drawn_is_counted_in_a_note() {
        let data =
            clean(&chart(&[(1.0, f64::NAN), (2.0, 0.0), (3.0, 1.0), (4.0, f64::INFINITY)], Scale::Log10)).unwrap();
        assert_eq!(data.series[0].points.len(), 1);
        assert_eq!(data.notes, ["Not drawn: 2 points (NaN or infinite), 1 point (not above 0, on a log axis)."]);
    }

    #[test]
    fn nothing_to_draw_is_an_error_that_says_why() {
        assert!(clean(&chart(&[], Scale::Linear)).unwrap_err().message.contains("no points"));
        let error = clean(&chart(&[(1.0, f64::NAN)], Scale::Linear)).unwrap_err();
        assert!(error.message.contains("NaN"), "{error}");
    }

    #[test]
    fn a_bar_that_leaves_a_log_axis_ends_at_its_point() {
        let mut chart = chart(&[(1.0, 2.0)], Scale::Log2);
        chart.series[0].points[0].spread = Some((-1.0, 5.0));
        assert_eq!(clean(&chart).unwrap().series[0].points[0].spread, Some((2.0, 5.0)));
    }
}
