//! The data of a chart, without drawing.
//!
//! Knows nothing of sweeps or training, nor of drawing: `presets.rs` builds the usual charts, and
//! `render/output.rs` makes SVG and PNG of them.

use super::scale::Scale;

/// A chart with two axes. Sizes are CSS pixels; all texts may be empty and in any language.
#[derive(Debug, Clone)]
pub struct Chart {
    pub title: String,
    pub subtitle: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    pub lines: Vec<Line>,
    pub annotations: Vec<Annotation>,
    pub legend: Legend,
    /// The heading of the legend: the key whose values name the series.
    pub legend_title: String,
    /// Notes below the chart, one line each: what a band or bar means, and n.
    pub notes: Vec<String>,
    pub width: u32,
    pub height: u32,
}

#[derive(Debug, Clone, Default)]
pub struct Axis {
    pub title: String,
    pub scale: Scale,
    pub ticks: Ticks,
    pub numbers: Numbers,
    /// Fixed ends; data beyond them is clipped.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

#[derive(Debug, Clone, Default)]
pub enum Ticks {
    /// Round values.
    #[default]
    Round,
    /// At exactly these values, such as the ranks that were run. Labels that would overlap are left out.
    At(Vec<f64>),
    /// At these values, with these names, for keys that are not numbers.
    Named(Vec<(f64, String)>),
}

/// How tick labels are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbers {
    /// Digits up to a million, then 1M; 1e-4 for small numbers.
    #[default]
    Auto,
    /// 8.8K, 40M, 7.6B.
    Short,
    /// Digits with thousands separators.
    Plain,
}

#[derive(Debug, Clone, Default)]
pub struct Series {
    pub name: String,
    pub points: Vec<Point>,
    pub mark: Mark,
    pub spread: Spread,
    /// The single runs of which the points are means, drawn as faint dots.
    pub runs: Vec<Point>,
    /// The curve before smoothing, drawn as a faint line.
    pub raw: Vec<(f64, f64)>,
    /// Is `raw` grey, as of runs that are not compared with the others?
    pub is_grey: bool,
    /// Index in the palette; by default the index in [`Chart::series`].
    pub slot: Option<usize>,
    /// The numbers of the trials that it shows: a page highlights their rows with it.
    pub trials: Vec<usize>,
}

#[derive(Debug, Clone, Default)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    /// Ends of the error bar or band, in units of y.
    pub spread: Option<(f64, f64)>,
    /// A short text beside the point; left out where it would hide data.
    pub label: String,
    /// The numbers of the trials behind the point, if they are not all of its series.
    pub trials: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    #[default]
    LineAndPoints,
    /// A line; with a few markers if the chart has several series, to tell them apart.
    Line,
    Points,
}

/// How [`Point::spread`] is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spread {
    #[default]
    Bars,
    Band,
}

/// A straight line over the whole panel, with a text at one end.
#[derive(Debug, Clone)]
pub enum Line {
    Horizontal { y: f64, label: String },
    Vertical { x: f64, label: String },
}

/// A text beside the point (x, y) of the data.
#[derive(Debug, Clone)]
pub struct Annotation {
    pub x: f64,
    pub y: f64,
    pub text: String,
}

/// Where the names of the series are drawn; never over the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Legend {
    /// At the ends of the lines if there are few, else beside the panel; none for a single series.
    #[default]
    Auto,
    Ends,
    Side,
    Hidden,
}

impl Default for Chart {
    fn default() -> Self {
        Chart {
            title: String::new(),
            subtitle: String::new(),
            x: Axis::default(),
            y: Axis::default(),
            series: vec![],
            lines: vec![],
            annotations: vec![],
            legend: Legend::default(),
            legend_title: String::new(),
            notes: vec![],
            width: 720,
            height: 440,
        }
    }
}

impl Axis {
    pub fn new(title: impl Into<String>, scale: Scale) -> Self {
        Axis { title: title.into(), scale, ..Axis::default() }
    }
}

impl Point {
    pub fn new(x: f64, y: f64) -> Self {
        Point { x, y, ..Point::default() }
    }
}
