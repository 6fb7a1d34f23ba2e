//! Charts (SVG, PNG) and the HTML pages. The only place that knows plotters.
//!
//! A chart passes through four hands, each in its own file(s):
//!
//! ```text
//! chart (what to show) → layout (where: ticks, margins, labels) → draw (a Scene of shapes) → svg, png
//! kinds (the usual charts), sweep, run, memory and spectrum (which of them, of what) build a
//! Chart, or one of the pictures without two scales: bars, heat;
//! report is a page of charts and tables; publish writes those of a sweep
//! before_after is a page of texts side by side; page makes both from their templates
//! ```
//!
//! Layout is our own, because it has to promise that labels never overlap or leave the
//! picture; plotters turns the shapes into SVG and pixels.

pub mod about;
mod around;
pub mod bars;
pub mod before_after;
pub mod chart;
mod clean;
mod clip;
mod draw;
mod font;
pub mod heat;
pub mod kinds;
mod layout;
mod marks;
pub mod memory;
mod names;
mod number;
mod page;
mod palette;
mod picture;
mod pixels;
mod place;
mod pointer;
pub mod publish;
pub mod report;
pub mod run;
mod scale;
mod scene;
pub mod smooth;
pub mod spectrum;
mod svg;
pub mod sweep;
mod terminal;
mod thin;
mod ticks;

pub use chart::{Annotation, Axis, Chart, Legend, Line, Mark, Numbers, Point, Series, Spread, Ticks};
pub use kinds::{Curve, Curves, Observation, Versus};
pub use report::{Cell, Figure, Outcome, Report, Script, Table, TableRow, Trial};
pub use scale::Scale;
