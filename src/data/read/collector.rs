//! The rows of the files read so far, and the columns that are kept of them.

use super::json_text;
use super::options::{LoadOptions, CALL};
use crate::data::dataset::{Dataset, Row};
use crate::data::rows::RowWriter;
use crate::error::{Error, Result};
use crate::suggest;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Rows, and notes for the user on how they were read.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    pub data: Dataset,
    pub notes: Vec<String>,
}

/// Collects rows from one file after the other, and decides which columns are kept.
pub(super) struct RowCollector<'a> {
    pub options: &'a LoadOptions,
    rows: RowWriter,
    /// The last row, which may prove to be a document.
    last: Option<Row>,
    notes: Vec<String>,
    /// Columns of bytes that are not text, and where the first such bytes are.
    left_out: BTreeMap<String, String>,
    /// All columns of the files, recorded if the option `columns` names some.
    seen: BTreeSet<String>,
}

impl<'a> RowCollector<'a> {
    pub fn new(options: &'a LoadOptions) -> Self {
        let (rows, notes) = (RowWriter::default(), Vec::new());
        RowCollector { options, rows, last: None, notes, left_out: BTreeMap::new(), seen: BTreeSet::new() }
    }

    /// The number of rows so far.
    pub fn len(&self) -> usize {
        self.rows.len() + usize::from(self.last.is_some())
    }

    /// Are the rows more than stay in memory?
    pub fn is_large(&self) -> bool {
        self.rows.is_filed()
    }

    /// Adds a note, once for all files it is true of.
    pub fn note(&mut self, path: &Path, text: &str) {
        if !self.notes.iter().any(|note| note.ends_with(text)) {
            self.notes.push(format!("`{}`: {text}", path.display()));
        }
    }

    /// Adds a row of JSON, with its wanted columns. `location` says where in the file it is.
    pub fn push(&mut self, mut row: Row, location: impl Fn() -> String, path: &Path) -> Result<()> {
        if self.options.columns.is_some() {
            self.seen.extend(row.keys().cloned());
            row.retain(|name, _| self.options.wants(name));
        }
        for (name, value) in &row {
            if let Some(number) = json_text::large_integer(value) {
                let message = format!(
                    "`{}` {}: column `{name}`: the whole number {number} has more than 64 bits",
                    path.display(),
                    location()
                );
                return Err(Error::data(message)
                    .with_hint("write it as text, or load the other columns: #{ columns: [\"…\"] }"));
            }
        }
        self.add(row)
    }

    /// Adds a row as it is.
    pub fn add(&mut self, row: Row) -> Result<()> {
        self.last.replace(row).map_or(Ok(()), |before| self.rows.push(before))
    }

    /// Takes the last row back.
    pub fn pop(&mut self) -> Option<Row> {
        self.last.take()
    }

    /// Records the columns of a file.
    pub fn add_columns(&mut self, names: &[String]) {
        if self.options.columns.is_some() {
            self.seen.extend(names.iter().cloned());
        }
    }

    pub fn is_left_out(&self, name: &str) -> bool {
        self.left_out.contains_key(name)
    }

    /// Leaves a column of bytes out; an error if the option `columns` names it.
    pub fn leave_out(&mut self, name: &str, location: String) -> Result<()> {
        if self.options.columns.is_some() {
            return Err(Error::data(format!("{location}: expected text, found bytes that are not UTF-8"))
                .with_hint("columns of images or audio cannot be loaded: leave it out of `columns`"));
        }
        self.left_out.insert(name.to_owned(), location);
        Ok(())
    }

    /// Fails if the option `columns` names a column that no file has.
    pub fn ensure_columns(&self) -> Result<()> {
        let unknown = self.options.columns.iter().flatten().find(|name| !self.seen.contains(*name));
        match unknown.filter(|_| !self.seen.is_empty()) {
            Some(name) => Err(Error::input(format!("{CALL}: option `columns`: no column `{name}`"))
                .with_hint(suggest::hint(name, self.seen.iter().map(String::as_str)))),
            None => Ok(()),
        }
    }

    pub fn finish(mut self) -> Result<Loaded> {
        self.last.take().map_or(Ok(()), |last| self.rows.push(last))?;
        let mut data = Dataset::of_writer(self.rows)?;
        for (name, location) in &self.left_out {
            self.notes.push(format!("column `{name}` is left out: it holds bytes that are not text ({location})"));
        }
        if !self.left_out.is_empty() {
            // Rows before the first such bytes have the column.
            data = data.map(|mut row, _| {
                row.retain(|name, _| !self.left_out.contains_key(name));
                Ok(row)
            })?;
        }
        Ok(Loaded { data, notes: self.notes })
    }
}
