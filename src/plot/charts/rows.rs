//! Named rows with a value each, as dots with intervals or as bars: the data.
//!
//! `render/rows.rs` draws them. For settings by their names, which have no place on an axis.

use super::chart::{Axis, Numbers};
use super::style::Style;

#[derive(Debug, Clone, Default)]
pub struct RowChart {
    pub title: String,
    pub subtitle: String,
    /// The axis of the values.
    pub x: Axis,
    /// What the names of the rows are, such as "rank · lr".
    pub heading: String,
    pub rows: Vec<Row>,
    pub mark: RowMark,
    /// A vertical line with a text.
    pub line: Option<(f64, String)>,
    /// Two ends of a shaded range.
    pub band: Option<(f64, f64)>,
    pub notes: Vec<String>,
    pub style: Style,
}

#[derive(Debug, Clone, Default)]
pub struct Row {
    pub name: String,
    pub value: f64,
    /// Ends of the interval of the value.
    pub interval: Option<(f64, f64)>,
    /// The values of which this one is the mean, drawn as faint dots.
    pub singles: Vec<f64>,
    /// The text at the end of the row.
    pub label: String,
    pub emphasis: Emphasis,
}

/// How a row is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowMark {
    #[default]
    Dots,
    /// Bars from 0.
    Bars,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emphasis {
    #[default]
    Usual,
    /// The chosen row.
    Strong,
    /// Rows of less interest.
    Faint,
}

impl RowChart {
    /// Values as in the other charts, without the thousands of a count.
    pub fn of(title: impl Into<String>, x: Axis) -> Self {
        RowChart { title: title.into(), x: Axis { numbers: Numbers::Auto, ..x }, ..RowChart::default() }
    }
}
