//! The options of loading data files.

use super::format::Format;
use super::quotes::Quoting;

/// What to read from a path, and how.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `None`: by the name of each file (`data.jsonl`).
    pub format: Option<Format>,
    /// `train`, `validation` or `test`, by the names of files and folders, or rows of them: see
    /// [`Slice::parse`](super::Slice::parse). `None`: the train split of a folder, or its only split.
    pub split: Option<String>,
    /// Which files of a folder: see [`Pattern`](crate::hub::dataset::Pattern).
    pub files: Option<String>,
    /// The columns to read. `None`: all that hold text, numbers, lists or maps.
    pub columns: Option<Vec<String>>,
    /// The key of a JSON document whose value is the list of rows.
    pub field: Option<String>,
    /// How CSV and TSV files are written.
    pub table: TableOptions,
}

impl LoadOptions {
    pub(super) fn wants(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.iter().any(|wanted| wanted == column))
    }
}

/// Where the names of the columns come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Header {
    #[default]
    FirstLine,
    /// The columns are called `0`, `1`, ….
    None,
    Names(Vec<String>),
}

/// How a CSV or TSV file is written, if its extension does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableOptions {
    pub delimiter: Option<u8>,
    pub quoting: Option<Quoting>,
    pub header: Header,
}
