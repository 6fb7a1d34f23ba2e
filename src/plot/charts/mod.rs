//! What charts show: the data of a chart, and charts of sweeps, runs, memory plans and spectra.
//!
//! Knows nothing of layout, colours or files, which are for `render/`.

pub mod bars;
pub mod chart;
pub mod custom;
pub mod heat;
pub mod memory;
pub mod nested;
pub mod parallel;
pub mod picture;
pub mod presets;
pub mod rows;
pub mod run;
pub mod scale;
pub mod smooth;
pub mod spectrum;
pub mod style;
pub mod sweep;
pub mod sweeps;
mod tally;
