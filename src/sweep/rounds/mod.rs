//! Sweeps whose trials depend on the results so far: points that are drawn from a search space, an option that each
//! setting tunes for itself, and seeds that are added until it is known which setting is enough.
//!
//! Each round runs all points so far, of which the finished ones are not run again. What a round asks for follows from
//! results alone, so that a sweep that was cut off asks for the same again. [`space`], [`tpe`] and `parzen` draw points, [`tune`]
//! searches along one option, [`driver`] runs the rounds.

pub mod driver;
mod parzen;
pub mod space;
pub mod tpe;
pub mod tune;

pub use driver::{run_in_rounds, Round};
