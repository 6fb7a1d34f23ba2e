//! A grid of numbers to be shown as a grid of shades: the data.
//!
//! `render/heat.rs` draws it.

use super::style::Style;

#[derive(Debug, Clone, Default)]
pub struct Heat {
    pub title: String,
    pub subtitle: String,
    /// The titles of the columns and the rows.
    pub x: String,
    pub y: String,
    pub columns: Vec<String>,
    pub rows: Vec<String>,
    /// By row, then by column; `None` leaves the cell empty.
    pub cells: Vec<Vec<Option<f64>>>,
    /// Digits after the decimal point in the cells.
    pub decimals: usize,
    /// The values of the lightest and the darkest shade.
    pub low: f64,
    pub high: f64,
    pub notes: Vec<String>,
    pub style: Style,
}
