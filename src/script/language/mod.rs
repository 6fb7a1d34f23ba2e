//! The user's side of the language: errors as people read them, `lorhai check`, habits from Python.

pub mod brackets;
pub mod check;
pub mod explain;
pub mod grammar;
pub mod locate;
pub mod messages;
pub mod names;
pub mod python;
pub mod render;
pub mod report;
pub mod unknown;
