//! Which setting of a sweep is enough: the first in the order of the grid that no other beats by a margin that matters.
//!
//! [`sequential`] is the test, on numbers alone, and [`looks`] the price of looking often; [`decision`] applies it to the
//! results of a sweep and says what came out.

pub mod decision;
mod looks;
pub mod options;
pub mod sequential;

pub use decision::Decision;
pub use options::DecideOptions;
pub use sequential::Verdict;
