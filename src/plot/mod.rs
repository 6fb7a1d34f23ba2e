//! Charts (SVG, PNG, text) and HTML pages. The only folder that names plotters.
//!
//! | folder | defines |
//! |---|---|
//! | `charts/` | the data of charts, without drawing |
//! | `render/` | layout and drawing: charts as SVG, PNG and text |
//! | `report/` | HTML pages of charts, tables and texts |
//!
//! `report/` imports `render/` and `charts/`; `render/` imports `charts/`; `charts/` imports neither.

pub mod charts;
mod render;
pub mod report;

pub use charts::chart::{Annotation, Axis, Chart, Legend, Line, Mark, Numbers, Point, Series, Spread, Ticks};
pub use charts::picture::Picture;
pub use charts::presets::{Curve, CurveOptions, Observation, VersusOptions};
pub use charts::scale::Scale;
pub use charts::{bars, heat, memory, nested, parallel, presets, rows, run, smooth, spectrum, sweep, sweeps};
pub use report::page::{Cell, Figure, Report, Script, Table, TableRow, TrialEntry, TrialOutcome};
pub use report::{about, before_after, publish};
