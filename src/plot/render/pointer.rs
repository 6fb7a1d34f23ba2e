//! The data of a chart's tooltips on a page: the points that the picture shows, each with its position
//! and its exact numbers. `report.js` shows them.

use super::clean::CleanData;
use super::draw::DrawnSeries;
use super::layout::Layout;
use super::named::slot_look;
use super::palette::Colour;
use super::scene::Spot;
use super::{svg, thin};
use crate::plot::charts::chart::{Chart, Point, Ticks};
use serde::Serialize;

/// The tooltips of a chart. `x` and `y` are the titles of the axes, `key` that of the legend.
#[derive(Debug, Serialize)]
pub struct Readings {
    x: String,
    y: String,
    key: String,
    /// The names of values on the x axis, if it has names instead of numbers.
    names: Vec<(f64, String)>,
    /// In the order of the chart, as the groups of the SVG are numbered.
    series: Vec<Reading>,
}

/// The points of a series, followed by its single runs. Column by column, because field names for each
/// point would be longer than the numbers; an empty column is left out.
#[derive(Debug, Default, Serialize)]
struct Reading {
    name: String,
    colour: String,
    trials: Vec<usize>,
    /// In the units of the SVG.
    left: Vec<i32>,
    top: Vec<i32>,
    x: Vec<f64>,
    y: Vec<f64>,
    /// Ends of the error bar or band.
    #[serde(skip_serializing_if = "is_all_none")]
    low: Vec<Option<f64>>,
    #[serde(skip_serializing_if = "is_all_none")]
    high: Vec<Option<f64>>,
    /// The value before smoothing.
    #[serde(skip_serializing_if = "is_all_none")]
    logged: Vec<Option<f64>>,
    /// The trials of each point, if they are not all of the series.
    #[serde(skip_serializing_if = "is_all_empty")]
    of: Vec<Vec<usize>>,
    /// The number of points before the single runs.
    means: usize,
}

fn is_all_none(column: &[Option<f64>]) -> bool {
    column.iter().all(Option::is_none)
}

fn is_all_empty(column: &[Vec<usize>]) -> bool {
    column.iter().all(Vec::is_empty)
}

pub fn read(chart: &Chart, data: &CleanData, layout: &Layout) -> Readings {
    let drawn = DrawnSeries::all(chart, data, layout);
    let series =
        chart.series.iter().zip(&data.series).zip(&drawn).enumerate().map(|(index, ((series, clean), drawn))| {
            let mut reading = Reading {
                name: series.name.clone(),
                colour: hex(slot_look(chart, index).colour),
                trials: series.trials.clone(),
                ..Reading::default()
            };
            reading.add(&clean.points, &clean.raw, drawn);
            reading.means = reading.x.len();
            reading.add(&clean.runs, &[], drawn);
            reading
        });
    Readings {
        x: chart.x.title.clone(),
        y: chart.y.title.clone(),
        key: chart.legend_title.clone(),
        names: match &chart.x.ticks {
            Ticks::Named(names) => names.clone(),
            Ticks::Round | Ticks::At(_) => vec![],
        },
        series: series.collect(),
    }
}

impl Reading {
    /// Adds the points that are drawn: a long curve is drawn with few of its points.
    fn add(&mut self, points: &[Point], raw: &[(f64, f64)], drawn: &DrawnSeries) {
        let spots: Vec<Spot> = points.iter().map(|point| drawn.spot(point.x, point.y)).collect();
        let mut raw = raw.to_vec();
        raw.sort_by(|one, two| one.0.total_cmp(&two.0));
        for index in thin::kept(&spots) {
            let (spot, point) = (spots[index], &points[index]);
            if !drawn.holds(spot) {
                continue;
            }
            self.left.push(svg::units(spot.0));
            self.top.push(svg::units(spot.1));
            self.x.push(point.x);
            self.y.push(point.y);
            self.low.push(point.spread.map(|(low, _)| low));
            self.high.push(point.spread.map(|(_, high)| high));
            let before = raw.partition_point(|(x, _)| *x < point.x);
            self.logged.push(raw.get(before).filter(|(x, _)| *x == point.x).map(|(_, y)| *y));
            self.of.push(point.trials.clone());
        }
    }
}

fn hex(colour: Colour) -> String {
    let (red, green, blue) = colour.rgb;
    format!("#{red:02x}{green:02x}{blue:02x}")
}
