//! What a chart shows, as plain data; and the ways to get it as SVG, PNG or a file.
//!
//! Knows nothing of sweeps or training: `kinds` builds the usual charts from their numbers.

use super::pointer::{self, Readings};
use super::{clean, draw, layout, picture, pixels, scale::Scale, svg};
use crate::error::{Error, Result};
use std::path::Path;

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
    /// Above the legend: the name of the key that tells the series apart.
    pub legend_title: String,
    /// Small print below the chart, one line each: what a band or bar means, and n.
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
    /// Fixed ends; what lies beyond them is clipped.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

#[derive(Debug, Clone, Default)]
pub enum Ticks {
    /// Round values.
    #[default]
    Round,
    /// Exactly at these values, e.g. the ranks that were run. Labels that would overlap are left out.
    At(Vec<f64>),
    /// At these values with these names, for keys that are not numbers.
    Named(Vec<(f64, String)>),
}

/// How tick labels are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbers {
    /// Plain up to a million, then 1M; 1e-4 for small ones.
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
    /// Single runs behind the mean, drawn as faint dots.
    pub runs: Vec<Point>,
    /// The curve before smoothing, drawn as a faint line.
    pub raw: Vec<(f64, f64)>,
    /// Place in the palette; by default the place in [`Chart::series`].
    pub slot: Option<usize>,
    /// The trials that it shows, by number: a page lights up their rows along with it.
    pub trials: Vec<usize>,
}

#[derive(Debug, Clone, Default)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    /// Ends of the error bar or band, in units of y.
    pub spread: Option<(f64, f64)>,
    /// A short text beside the point, placed where it hides nothing, or left out.
    pub label: String,
    /// The trials that the point is of, where it is not of all that its series shows.
    pub trials: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    #[default]
    LineAndPoints,
    /// A line; where there are several, with a few marks on it that tell them apart.
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

/// Where the names of the series stand; never over the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Legend {
    /// At the ends of the lines where they are few, else beside the panel; none for a single series.
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

impl Chart {
    /// Bounds of `width` and `height`: below, labels have no room; above, memory runs out.
    pub const SIZES: std::ops::RangeInclusive<u32> = 200..=8000;

    /// The chart as an SVG document: texts stay text, no ids, no scripts, nothing external.
    ///
    /// # Errors
    /// No point can be drawn, or a size is out of [`Chart::SIZES`].
    pub fn to_svg(&self) -> Result<String> {
        let (width, height) = self.checked_size(self.width, self.height)?;
        svg::write(&self.scene(width, height)?, &self.title)
    }

    /// The SVG document, and what the pointer reads off it on a page.
    pub(super) fn for_page(&self) -> Result<(String, Readings)> {
        let (width, height) = self.checked_size(self.width, self.height)?;
        let data = clean::clean(self)?;
        let layout = layout::lay_out(self, &data, width, height)?;
        let svg = svg::write(&draw::draw(self, &data, &layout), &self.title)?;
        Ok((svg, pointer::read(self, &data, &layout)))
    }

    /// The chart as an RGB PNG of `width × scale` by `height × scale` pixels. `width` and
    /// `height` are CSS pixels: a larger `scale` makes the same picture sharper.
    ///
    /// # Errors
    /// As [`Chart::to_svg`]; `scale` not within 0.5 to 8; more than 64 million pixels.
    pub fn to_png(&self, width: u32, height: u32, scale: f64) -> Result<Vec<u8>> {
        let (width, height) = self.checked_size(width, height)?;
        if !(0.5..=8.0).contains(&scale) {
            return Err(Error::input(format!("option `scale`: expected a number from 0.5 to 8, found {scale}")));
        }
        pixels::write(&self.scene(width, height)?, scale)
    }

    /// Writes the chart, whole or not at all, in the format that the ending of `path` names:
    /// `.svg`, or `.png` at twice the chart's size.
    ///
    /// # Errors
    /// Another ending; what [`Chart::to_svg`] refuses; a folder that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (width, height) = self.checked_size(self.width, self.height)?;
        picture::save(&self.scene(width, height)?, &self.title, path)
    }

    fn scene(&self, width: f64, height: f64) -> Result<super::scene::Scene> {
        let data = clean::clean(self)?;
        let layout = layout::lay_out(self, &data, width, height)?;
        Ok(draw::draw(self, &data, &layout))
    }

    fn checked_size(&self, width: u32, height: u32) -> Result<(f64, f64)> {
        for (name, size) in [("width", width), ("height", height)] {
            if !Chart::SIZES.contains(&size) {
                let (low, high) = (Chart::SIZES.start(), Chart::SIZES.end());
                return Err(Error::input(format!("option `{name}`: expected {low} to {high} pixels, found {size}")));
            }
        }
        Ok((f64::from(width), f64::from(height)))
    }
}
