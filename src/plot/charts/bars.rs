//! Stacked bars lying one below another, each with its name on the left and its sum on the right: the data.
//!
//! `render/bars.rs` draws them.

use super::style::Style;

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    pub name: String,
    /// One for each of [`Bars::parts`], none below 0.
    pub values: Vec<f64>,
    /// The text at the end of the bar.
    pub label: String,
    /// Leaves more space above, where a new group begins.
    pub opens_group: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Bars {
    pub title: String,
    pub subtitle: String,
    /// The title of the value axis.
    pub x: String,
    /// The names of the parts, in order.
    pub parts: Vec<String>,
    pub bars: Vec<Bar>,
    pub notes: Vec<String>,
    pub style: Style,
}
