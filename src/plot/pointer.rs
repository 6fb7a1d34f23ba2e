//! What the pointer reads off a chart on a page: the points that the picture shows, each with
//! its place there and its numbers as they are. `report.js` answers with them.

use super::chart::{Chart, Point, Ticks};
use super::clean::{Clean, Data};
use super::draw::Drawn;
use super::layout::Layout;
use super::names::slot_look;
use super::palette::Colour;
use super::scene::Spot;
use super::{svg, thin};
use serde::Serialize;

/// `x` and `y` are the titles of the axes, `key` that of the legend.
#[derive(Debug, Serialize)]
pub struct Readings {
    x: String,
    y: String,
    key: String,
    /// The names of places on x, where it has names in place of numbers.
    names: Vec<(f64, String)>,
    /// In the order of the chart, as the groups of the SVG are numbered.
    series: Vec<Reading>,
}

/// The points of a series, and behind them its single runs. Column by column, for the names
/// of fields would be longer than the numbers; a column that tells nothing is left out.
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
    #[serde(skip_serializing_if = "tells_nothing")]
    low: Vec<Option<f64>>,
    #[serde(skip_serializing_if = "tells_nothing")]
    high: Vec<Option<f64>>,
    /// The value before smoothing.
    #[serde(skip_serializing_if = "tells_nothing")]
    logged: Vec<Option<f64>>,
    /// The trials of a point, where it has some of its own.
    #[serde(skip_serializing_if = "all_empty")]
    of: Vec<Vec<usize>>,
    /// How many of the points, from the first, are no single runs.
    means: usize,
}

fn tells_nothing(column: &[Option<f64>]) -> bool {
    column.iter().all(Option::is_none)
}

fn all_empty(column: &[Vec<usize>]) -> bool {
    column.iter().all(Vec::is_empty)
}

pub fn read(chart: &Chart, data: &Data, layout: &Layout) -> Readings {
    let drawn = Drawn::all(chart, data, layout);
    let series =
        chart.series.iter().zip(&data.series).zip(&drawn).enumerate().map(|(index, ((series, own), drawn))| {
            let mut reading = Reading {
                name: series.name.clone(),
                colour: hex(slot_look(chart, index).colour),
                trials: series.trials.clone(),
                ..Reading::default()
            };
            reading.take(&own.points, own, drawn, layout);
            reading.means = reading.x.len();
            reading.take(&own.runs, &Clean::default(), drawn, layout);
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
    /// Adds what of `points` can be seen: a long curve is drawn with few of its points.
    fn take(&mut self, points: &[Point], own: &Clean, drawn: &Drawn, layout: &Layout) {
        let spots: Vec<Spot> = points.iter().map(|point| drawn.spot(point.x, point.y)).collect();
        let mut raw = own.raw.clone();
        raw.sort_by(|one, two| one.0.total_cmp(&two.0));
        for place in thin::kept(&spots) {
            let (spot, point) = (spots[place], &points[place]);
            if !layout.panel.holds(spot) {
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
