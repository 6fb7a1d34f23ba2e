//! Rows in a file without a name, one JSON text after the other.

use super::json::write_row;
use super::offsets::Offsets;
use super::row::Row;
use crate::error::{Error, Result};
use crate::files::ScratchFile;
use indexmap::IndexSet;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// What errors call the content of the file.
const WHAT: &str = "rows of a large data set";
/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;
/// The parser refuses values that are nested deeper than 127; rows beyond this depth stay in memory.
const MAX_DEPTH: usize = 100;

/// Rows that were written to a file.
#[derive(Debug)]
pub struct RowFile {
    scratch: ScratchFile,
    ends: Offsets,
    columns: Columns,
    deep: BTreeMap<usize, Arc<Row>>,
}

impl RowFile {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The columns of every row in their order; `None` if the order differs between rows.
    pub fn columns(&self) -> Option<&IndexSet<String>> {
        self.columns.are_uniform.then_some(&self.columns.names)
    }

    /// The names of all columns, in the order they first appear.
    pub fn names(&self) -> &IndexSet<String> {
        &self.columns.names
    }

    /// A row, with the columns that it lacks as null.
    pub fn row(&self, index: usize) -> Result<Row> {
        let mut row = match self.deep.get(&index) {
            Some(row) => Row::clone(row),
            None => {
                let mut text = Vec::new();
                self.read(index, &mut text)?;
                let failed = |error: &dyn std::fmt::Display| self.scratch.cannot_read(WHAT, error);
                // The parser's own check takes most of its time where texts are not ASCII.
                let text = simdutf8::basic::from_utf8(&text).map_err(|error| failed(&error))?;
                serde_json::from_str(text).map_err(|error| failed(&error))?
            }
        };
        if row.len() < self.columns.names.len() {
            add_missing(&mut row, &self.columns.names);
        }
        Ok(row)
    }

    /// The JSON text of a row, in place of what `text` held.
    pub fn text(&self, index: usize, text: &mut Vec<u8>) -> Result<()> {
        text.clear();
        if self.columns.are_uniform && !self.deep.contains_key(&index) {
            return self.read(index, text);
        }
        write_row(&self.row(index)?, text)
    }

    fn read(&self, index: usize, text: &mut Vec<u8>) -> Result<()> {
        let (start, end) = self.ends.range(index).ok_or_else(|| Error::bug(format!("no row {index} in a file")))?;
        text.resize((end - start) as usize, 0);
        self.scratch.file.read_exact_at(text, start).map_err(|error| self.scratch.cannot_read(WHAT, error))
    }
}

/// Writes rows to a file.
#[derive(Debug)]
pub struct FileWriter {
    rows: RowFile,
    buffer: Vec<u8>,
    /// The bytes in the file.
    written: u64,
}

impl FileWriter {
    pub fn new(scratch: ScratchFile) -> Self {
        let (ends, columns, deep) = (Offsets::default(), Columns::default(), BTreeMap::new());
        let rows = RowFile { scratch, ends, columns, deep };
        FileWriter { rows, buffer: Vec::with_capacity(BUFFER + BUFFER / 4), written: 0 }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn push(&mut self, row: &Row) -> Result<()> {
        if self.len() >= u32::MAX as usize {
            return Err(Error::data(format!("a data set has at most {} rows", u32::MAX)));
        }
        let is_first = self.len() == 0;
        self.rows.columns.add(row, is_first);
        if row.values().any(|value| is_deeper(value, MAX_DEPTH)) {
            self.rows.deep.insert(self.len(), Arc::new(row.clone()));
        } else {
            write_row(row, &mut self.buffer)?;
        }
        self.rows.ends.push(self.written + self.buffer.len() as u64);
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        self.flush()
    }

    pub fn finish(mut self) -> Result<RowFile> {
        self.flush()?;
        Ok(self.rows)
    }

    fn flush(&mut self) -> Result<()> {
        let scratch = &mut self.rows.scratch;
        scratch.file.write_all(&self.buffer).map_err(|error| scratch.cannot_write(WHAT, &error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    match (value, levels.checked_sub(1)) {
        (Value::Array(_) | Value::Object(_), None) => true,
        (Value::Array(items), Some(levels)) => items.iter().any(|item| is_deeper(item, levels)),
        (Value::Object(fields), Some(levels)) => fields.values().any(|field| is_deeper(field, levels)),
        _ => false,
    }
}

/// The columns of rows.
#[derive(Debug)]
struct Columns {
    names: IndexSet<String>,
    /// Do all rows have the same columns in the same order?
    are_uniform: bool,
}

impl Default for Columns {
    fn default() -> Self {
        Columns { names: IndexSet::new(), are_uniform: true }
    }
}

impl Columns {
    fn add(&mut self, row: &Row, is_first: bool) {
        if row.len() == self.names.len() && row.keys().eq(&self.names) {
            return;
        }
        self.are_uniform = is_first;
        for name in row.keys() {
            if !self.names.contains(name) {
                self.names.insert(name.clone());
            }
        }
    }
}

/// Adds the columns that a row lacks, as null.
pub fn add_missing(row: &mut Row, names: &IndexSet<String>) {
    for name in names {
        if !row.contains_key(name) {
            row.insert(name.clone(), Value::Null);
        }
    }
}
