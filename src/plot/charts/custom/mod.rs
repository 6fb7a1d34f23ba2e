//! Charts of any data: marks of arrays or of the columns of rows, with axes, small multiples and references.
//!
//! ```text
//! options (what the caller writes) → table (columns) → marks → axes (positions) → series of a Chart
//! ```
//!
//! Statistics (bins, quartiles, means with intervals) are computed here; `render/` knows shapes only.

mod axes;
mod build;
mod choices;
mod columns;
mod estimate;
mod groups;
mod marks;
pub mod options;
mod references;
mod series;
mod statistics;

pub use build::{build, References};
pub use choices::MarkKind;
pub use marks::MarkOptions;
pub use options::{
    AnnotationOptions, BandOptions, BarsOptions, BoxOptions, FigureOptions, HeatmapOptions, HistogramOptions,
    LineOptions, PointsOptions, ReferenceOptions, StripOptions,
};
