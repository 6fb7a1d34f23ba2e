//! A row, and one that is read from a data set.

use serde_json::Value;
use std::borrow::Cow;
use std::ops::Deref;

/// A row: column names and JSON values, in the order of the file.
pub type Row = serde_json::Map<String, Value>;

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

/// About the bytes of the JSON text of a row.
pub fn text_size(row: &Row) -> u64 {
    row.iter().map(|(name, value)| name.len() as u64 + 4 + value_size(value)).sum()
}

fn value_size(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64 + 2,
        Value::Array(items) => 2 + items.iter().map(|item| value_size(item) + 1).sum::<u64>(),
        Value::Object(fields) => 2 + text_size(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}
