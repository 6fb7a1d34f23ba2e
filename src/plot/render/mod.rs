//! Rendering: from the data in `charts/` to SVG, PNG and text for a terminal.
//!
//! ```text
//! Chart → clean (the points that can be drawn) → layout (panel, ticks, labels) → draw (a Scene of shapes) → svg, pixels
//! ```
//!
//! The layout is written by hand, because plotters' does not guarantee that labels neither overlap nor leave
//! the picture; plotters turns the shapes into SVG and pixels.

mod bars;
mod clean;
mod clip;
mod draw;
mod figure;
pub(super) mod font;
mod frame;
mod heat;
mod layout;
mod marks;
mod names;
mod number;
mod output;
mod palette;
mod parallel;
mod picture;
mod pixels;
mod placement;
pub(super) mod pointer;
mod range;
mod rows;
mod scene;
mod svg;
mod terminal;
mod thin;
mod ticks;
