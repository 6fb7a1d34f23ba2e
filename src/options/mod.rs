//! Options of calls, declared once: beside the struct that holds their values, by [`options!`](crate::options!).
//!
//! From a declaration come the struct with its defaults, the reader, the ranges, and the table that the reference,
//! completion and `lorhai check` show. Where the values come from is a [`Source`]: this module knows no scripts.
//!
//! No crate does this: `clap` and others read command lines, and `serde` neither names the option in its errors nor
//! gives access to aliases, ranges and documentation.

mod declare;
pub mod range;
mod table;
mod types;
mod value;

pub use range::NumberRange;
pub use table::{range_problem, update_option, Declared, Entry, OptionSet, Refusal, Source, Table};
pub use types::{Mismatch, Number, OneOrMany, OptionType};
pub use value::{Other, Value};
