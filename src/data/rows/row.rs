//! A row, and one that is read from a data set.

use std::borrow::Cow;
use std::ops::Deref;

/// A row: column names and JSON values, in the order of the file.
pub type Row = serde_json::Map<String, serde_json::Value>;

/// A row of a data set: a reference to one in memory, or one that was read from a file.
#[derive(Debug, PartialEq)]
pub struct RowRef<'a>(Cow<'a, Row>);

impl RowRef<'_> {
    pub fn into_owned(self) -> Row {
        self.0.into_owned()
    }
}

impl Deref for RowRef<'_> {
    type Target = Row;

    fn deref(&self) -> &Row {
        &self.0
    }
}

impl<'a> From<&'a Row> for RowRef<'a> {
    fn from(row: &'a Row) -> Self {
        RowRef(Cow::Borrowed(row))
    }
}

impl From<Row> for RowRef<'_> {
    fn from(row: Row) -> Self {
        RowRef(Cow::Owned(row))
    }
}
