//! Where the rows of a data set are kept: in memory while they are few, otherwise as JSON text in a file without a name, from
//! which each is parsed as it is read.
//!
//! The text is what `serde_json` writes, which reads back as the same value, and what fingerprints are made of. A columnar
//! format would need one type for each column, which rows of JSON do not have.
//! Leaves to others: what is done with rows (`dataset.rs`), the formats of files (`read/`).

mod file;
mod iter;
mod json;
mod offsets;
mod row;
mod table;
mod threaded_writer;
mod writer;

pub use row::{Row, RowRef};
pub(super) use table::RowTable;
pub(super) use writer::{memory_limit, RowWriter};
