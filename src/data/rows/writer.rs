//! Collects rows: in memory up to a limit, and from there on in a file.

use super::row::{text_size, Row};
use super::table::RowTable;
use super::threaded_writer::ThreadedWriter;
use crate::error::Result;
use crate::stderr;
use std::sync::{Once, OnceLock};

/// The variable that sets how many bytes of a data set stay in memory, for its rows and for its tokens.
const VARIABLE: &str = "LORHAI_DATA_IN_MEMORY";
/// Rows take about seven times the memory of their text.
const DEFAULT: u64 = 64 << 20;

/// The bytes of text, or of tokens, that a data set keeps in memory.
pub fn memory_limit() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| std::env::var(VARIABLE).ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(DEFAULT))
}

/// Collects rows one after the other.
#[derive(Debug)]
pub struct RowWriter {
    limit: u64,
    rows: Vec<Row>,
    /// About the bytes of text of `rows`.
    bytes: u64,
    file: Option<ThreadedWriter>,
}

impl Default for RowWriter {
    fn default() -> Self {
        Self::with_limit(memory_limit())
    }
}

impl RowWriter {
    /// Keeps rows of about `limit` bytes of text in memory.
    pub fn with_limit(limit: u64) -> Self {
        RowWriter { limit, rows: Vec::new(), bytes: 0, file: None }
    }

    pub fn len(&self) -> usize {
        self.file.as_ref().map_or(self.rows.len(), ThreadedWriter::len)
    }

    /// Are rows written to a file by now?
    pub fn is_filed(&self) -> bool {
        self.file.is_some()
    }

    /// # Errors
    /// A disk that is full or fails.
    pub fn push(&mut self, row: Row) -> Result<()> {
        if let Some(file) = &mut self.file {
            return file.push(row);
        }
        self.bytes += text_size(&row);
        self.rows.push(row);
        if self.bytes > self.limit {
            self.move_to_file()
        } else {
            Ok(())
        }
    }

    fn move_to_file(&mut self) -> Result<()> {
        let mut file = match ThreadedWriter::new() {
            Ok(file) => file,
            Err(error) => {
                static NOTED: Once = Once::new();
                NOTED.call_once(|| stderr::note(&format!("note: all rows stay in memory: {}", error.message)));
                self.limit = u64::MAX;
                return Ok(());
            }
        };
        std::mem::take(&mut self.rows).into_iter().try_for_each(|row| file.push(row))?;
        self.file = Some(file);
        Ok(())
    }

    /// All rows. A column that a row lacks is null there.
    pub fn finish(self) -> Result<RowTable> {
        match self.file {
            Some(file) => Ok(RowTable::of_file(file.finish()?)),
            None => Ok(RowTable::of_rows(self.rows)),
        }
    }
}
