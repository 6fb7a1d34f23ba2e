//! Parallel coordinates: an upright axis for each key, and a line across them for each setting. The data.
//!
//! `render/parallel.rs` draws them (Inselberg 1985, "The plane with parallel coordinates").

use super::chart::Axis;
use super::style::Style;

#[derive(Debug, Clone, Default)]
pub struct Parallel {
    pub title: String,
    pub subtitle: String,
    /// From left to right; the last is the metric, whose order colours the lines.
    pub axes: Vec<Axis>,
    pub lines: Vec<ParallelLine>,
    /// Is a smaller metric better?
    pub smaller_is_better: bool,
    pub notes: Vec<String>,
    pub style: Style,
}

#[derive(Debug, Clone, Default)]
pub struct ParallelLine {
    /// By axis.
    pub values: Vec<f64>,
    /// The text at its end; empty for most.
    pub label: String,
}
