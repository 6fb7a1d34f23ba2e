//! Charts (SVG, PNG, PDF, text) and HTML pages. The only folder that names plotters and pdf-writer.
//!
//! | folder | defines |
//! |---|---|
//! | `charts/` | the data of charts, without drawing |
//! | `render/` | layout and drawing: charts as SVG, PNG, PDF and text |
//! | `report/` | HTML pages of charts, tables and texts |
//!
//! `report/` imports `render/` and `charts/`; `render/` imports `charts/`; `charts/` imports neither.

pub mod charts;
mod render;
pub mod report;

pub use charts::chart::{Annotation, Axis, Band, Chart, Legend, Line, Mark, Numbers, Panels, Point};
pub use charts::chart::{Series, Shades, Spread, Ticks};
pub use charts::picture::Picture;
pub use charts::presets::{Curve, CurveOptions, Observation, VersusOptions};
pub use charts::scale::Scale;
pub use charts::style::{FontFile, Style, TextMode, Theme};
pub use charts::{bars, custom, heat, memory, nested, parallel, presets, rows, run, smooth, spectrum, sweep, sweeps};
pub use report::page::{Cell, Figure, Report, Script, Table, TableRow, TrialEntry, TrialOutcome};
pub use report::{about, before_after, publish};
