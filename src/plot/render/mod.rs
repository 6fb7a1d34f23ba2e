//! Rendering: from the data in `charts/` to SVG, PNG, PDF and text for a terminal.
//!
//! ```text
//! Chart → clean (the points that can be drawn) → layout (panel, ticks, labels) → draw (a Scene of shapes) → svg, pixels, pdf
//! ```
//!
//! The layout is written by hand, because plotters' does not guarantee that labels neither overlap nor leave
//! the picture; plotters turns the shapes into SVG and pixels.

mod areas;
mod axis_ticks;
mod bars;
mod clean;
mod clip;
mod draw;
mod figure;
pub(super) mod font;
mod frame;
mod glyphs;
mod heat;
mod layout;
mod marks;
mod name_rows;
mod named;
mod names;
mod number;
mod output;
mod palette;
mod panels;
mod parallel;
mod pdf;
mod picture;
mod pixels;
mod placement;
pub(super) mod pointer;
mod range;
mod ranges;
mod rows;
mod scene;
mod shade;
mod sizes;
mod svg;
mod terminal;
mod thin;
mod ticks;
