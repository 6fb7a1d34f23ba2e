//! Stops trials of a sweep early that fall behind the others.
//!
//! A trial pauses at some steps, its rungs. When all have come to a rung, the rule decides which settings go on.
//! [`options`] says what users choose, [`rungs`] where trials pause, [`rule`] which settings go on, on numbers alone;
//! [`record`] keeps measurements and decisions on disk, and [`pruner`] applies all of it to the trials of a plan.
//! [`forecast`] says what it saves. Leaves to others: pausing and going on (`train/`), and running trials (`sweep/run.rs`).

pub mod forecast;
pub mod options;
pub mod pruner;
pub mod record;
pub mod rule;
pub mod rungs;

pub use options::{PruneOptions, PruneRule, Pruning};
pub use pruner::{Entrant, Pruner};
