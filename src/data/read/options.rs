//! The options of loading data files.

use super::format::Format;
use super::quotes::Quoting;
use crate::options;
use crate::options::{Mismatch, OptionType, Value};

/// What errors name where an option cannot be used.
pub(super) const CALL: &str = "load_dataset";

options! {
    /// What to read, and how.
    #[derive(Debug, Clone)]
    pub struct LoadOptions {
        /// The format of the files.
        pub format: Option<Format> = None, words "by the extension";
        /// Which split of a folder or of a data set of the hub with files for several: "train", "validation" or "test";
        /// rows of one, as in "train[:10%]" or "train[100:200]", and several, as in "train+validation", with the rounding
        /// of datasets.
        pub split: Option<String> = None, words "`train`, or the only one";
        /// Which files of a folder or data set with several configurations: "ko/*.parquet", with `*` for any part of a
        /// name, `**` for folders too.
        pub files: Option<String> = None, words "all";
        /// The columns to read.
        pub columns: Option<Vec<String>> = None, words "all that are not bytes";
        /// The key of a JSON document whose value is the list of rows.
        pub field: Option<String> = None;
        pub table: TableOptions = TableOptions::default(), is set;
        /// The branch, tag or commit of a data set of the hub.
        pub revision: Option<String> = None, words "`main`";
    }
}

options! {
    /// How a CSV or TSV file is written, if its extension does not tell.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TableOptions {
        /// What separates the fields of a table: one character.
        pub delimiter: Option<Delimiter> = None, words "`,` of csv, a tab of tsv";
        /// Whether quotes stand around fields, "minimal", or are text, "none".
        pub quoting: Option<Quoting> = None, words "by the look of the file";
        /// Whether the first line names the columns: false calls them `0`, `1`, …; an array names them for a file without
        /// that line.
        pub header: Header = Header::FirstLine;
    }
}

impl LoadOptions {
    pub(super) fn wants(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.iter().any(|wanted| wanted == column))
    }
}

/// Where the names of the columns come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    FirstLine,
    /// The columns are called `0`, `1`, ….
    None,
    Names(Vec<String>),
}

/// One ASCII character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delimiter(pub u8);

impl OptionType for Header {
    fn type_name() -> String {
        "bool or array of string".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Bool(true) => Ok(Header::FirstLine),
            Value::Bool(false) => Ok(Header::None),
            _ => Vec::from_value(value).map(Header::Names).map_err(|_| Mismatch::of::<Self>(value)),
        }
    }
    fn to_value(&self) -> Value {
        match self {
            Header::FirstLine => Value::Bool(true),
            Header::None => Value::Bool(false),
            Header::Names(names) => names.to_value(),
        }
    }
}

impl OptionType for Delimiter {
    fn type_name() -> String {
        "string".to_owned()
    }
    fn expected() -> String {
        "one ASCII character".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value.as_str().map(str::as_bytes) {
            Some([byte]) => Ok(Delimiter(*byte)),
            _ => Err(Mismatch::of::<Self>(value)),
        }
    }
    fn to_value(&self) -> Value {
        Value::Text(char::from(self.0).to_string())
    }
}
