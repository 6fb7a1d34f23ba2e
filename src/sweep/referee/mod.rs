//! Was a sweep over ranks needed? Sets the prefixes of runs with nested ranks, and the highest rank cut by its singular
//! values, against the ranks that were trained, all on the same held-out rows.
//!
//! `measure.rs` has the measurements, `comparison.rs` holds them, `distance.rs` has the statistics, `summary.rs` the sentence
//! and the table.

mod comparison;
mod distance;
mod measure;
mod summary;

pub use comparison::{RankLosses, Referee, Shortcut};
pub use distance::{Closeness, Distance, SeedLoss};
pub use measure::{referee, RefereeOptions};
