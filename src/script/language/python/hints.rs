//! The type of the tables of hints.

/// Options, the one function in which they stand for something else (or none: anywhere), and what to do instead.
pub type Hints = &'static [(&'static [&'static str], &'static str, &'static str)];
