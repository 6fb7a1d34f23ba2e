//! The data of a chart, without drawing.
//!
//! Knows nothing of sweeps or training, nor of drawing: `presets.rs` builds the usual charts, and
//! `custom/` those of any data, and `render/output.rs` makes SVG, PNG and PDF of them.

use super::scale::Scale;
use super::style::Style;

/// A chart with two axes, or several panels that share them. Sizes are CSS pixels; all texts may be empty and in any language.
#[derive(Debug, Clone)]
pub struct Chart {
    pub title: String,
    pub subtitle: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    pub lines: Vec<Line>,
    pub bands: Vec<Band>,
    pub annotations: Vec<Annotation>,
    pub panels: Panels,
    /// What the colours of [`Mark::Cells`] and of points with a value mean.
    pub shades: Shades,
    pub style: Style,
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
    /// Index in the names of [`Chart::panels`].
    pub panel: usize,
    /// `x` and `y` of the points are drawn on the other axis each, as for bars that lie.
    pub is_horizontal: bool,
    /// Opacity of areas and points, from 0 to 1; by default what suits the mark.
    pub alpha: Option<f64>,
    /// Radius of the points, in pixels.
    pub radius: Option<f64>,
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
    /// Ends of a bar or box along its axis, in units of x.
    pub edges: Option<(f64, f64)>,
    /// Of a box: the end of the lower whisker, both quartiles, the end of the upper whisker. `y` is the median.
    pub quartiles: Option<[f64; 4]>,
    /// What the colour of a cell or point shows.
    pub value: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    #[default]
    LineAndPoints,
    /// A line; with a few markers if the chart has several series, to tell them apart.
    Line,
    Points,
    /// A bar from 0 to `y` between the edges of each point.
    Bars,
    /// The quartiles of each point as a box with whiskers.
    Boxes,
    /// A cell of a heatmap around each point, one unit wide and high.
    Cells,
}

impl Mark {
    pub fn has_line(self) -> bool {
        matches!(self, Mark::LineAndPoints | Mark::Line)
    }

    /// Is it drawn as an area?
    pub fn is_area(self) -> bool {
        matches!(self, Mark::Bars | Mark::Boxes | Mark::Cells)
    }
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

/// A shaded range of one axis over the whole panel, with a text at one end.
#[derive(Debug, Clone)]
pub enum Band {
    Horizontal { low: f64, high: f64, label: String },
    Vertical { low: f64, high: f64, label: String },
}

/// Small multiples: panels with the same axes, each with some of the series.
#[derive(Debug, Clone)]
pub struct Panels {
    /// The title of each panel; empty for a chart of one panel.
    pub names: Vec<String>,
    /// The number of panels side by side, by default what suits the size.
    pub columns: Option<usize>,
    pub shares_x: bool,
    pub shares_y: bool,
}

impl Default for Panels {
    fn default() -> Self {
        Panels { names: vec![], columns: None, shares_x: true, shares_y: true }
    }
}

/// The scale of values that colours show.
#[derive(Debug, Clone, Default)]
pub struct Shades {
    pub title: String,
    /// Fixed ends, by default those of the data.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// The value of the neutral colour, where colours diverge from one.
    pub center: Option<f64>,
    /// Writes the value into each cell that has room for it.
    pub shows_numbers: bool,
}

/// A text beside the point (x, y) of the data.
#[derive(Debug, Clone, Default)]
pub struct Annotation {
    pub x: f64,
    pub y: f64,
    pub text: String,
    /// The panel that shows it; all do without.
    pub panel: Option<usize>,
}

/// Where the names of the series are drawn; never over the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Legend {
    /// At the ends of the lines if there are few, else beside the panel; none for a single series.
    #[default]
    Auto,
    Ends,
    Side,
    Top,
    Bottom,
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
            bands: vec![],
            annotations: vec![],
            panels: Panels::default(),
            shades: Shades::default(),
            style: Style::default(),
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

    /// All that it shows along y: the value, its error bar, its box.
    pub fn extent(&self) -> impl Iterator<Item = f64> + '_ {
        let spread = self.spread.iter().flat_map(|(low, high)| [*low, *high]);
        let whiskers = self.quartiles.iter().flat_map(|[low, .., high]| [*low, *high]);
        [self.y].into_iter().chain(spread).chain(whiskers)
    }
}
