//! Rows one after the other. Those of files are read and parsed ahead by a thread, while whoever uses them works on the ones
//! before.

use super::row::{text_size, Row, RowRef};
use super::table::RowTable;
use crate::error::{Error, Kind, Result};
use crate::heap::HandedOver;
use std::sync::mpsc::{sync_channel, Receiver};
use std::thread::Builder;

/// About the bytes of text of the first batch: some users read only a few rows.
const FIRST_BATCH: u64 = 64 << 10;
/// And of the others.
const BATCH: u64 = 1 << 20;
/// Batches that may wait for their user.
const WAITING: usize = 2;

type Batch = Vec<Result<Row>>;

/// The rows of a table, in their order. They fail where a disk does.
#[derive(Debug)]
pub struct RowIter<'a> {
    table: &'a RowTable,
    next: usize,
    ahead: Option<RowsAhead>,
}

impl<'a> RowIter<'a> {
    pub(super) fn new(table: &'a RowTable) -> Self {
        RowIter { table, next: 0, ahead: None }
    }
}

impl<'a> Iterator for RowIter<'a> {
    type Item = Result<RowRef<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.table.len() {
            return None;
        }
        let index = self.next;
        self.next += 1;
        if matches!(self.table, RowTable::Memory(_)) {
            return Some(self.table.row(index));
        }
        let ahead = self.ahead.get_or_insert_with(|| RowsAhead::new(self.table.clone(), index));
        Some(ahead.next().map(RowRef::from))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.table.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for RowIter<'_> {}

/// The thread that reads ahead. It ends after the last row, after an error, and when this is dropped.
#[derive(Debug)]
struct RowsAhead {
    rows: std::vec::IntoIter<Result<Row>>,
    batches: Result<Receiver<HandedOver<Batch>>>,
}

impl RowsAhead {
    fn new(table: RowTable, start: usize) -> Self {
        let (sender, batches) = sync_channel(WAITING);
        let read = move || {
            let (mut next, mut size) = (start, FIRST_BATCH);
            while next < table.len() {
                let batch = HandedOver::new(|| batch(&table, &mut next, size));
                // Nobody waits for it any more.
                if sender.send(batch).is_err() {
                    return;
                }
                size = BATCH;
            }
        };
        let failed = |error| Error::new(Kind::Memory, format!("cannot start a thread that reads rows: {error}"));
        let thread = Builder::new().name("rows".into()).spawn(read).map_err(failed);
        RowsAhead { rows: Vec::new().into_iter(), batches: thread.map(|_| batches) }
    }

    fn next(&mut self) -> Result<Row> {
        if self.rows.len() == 0 {
            let batch = self.batches.as_ref().map_err(Clone::clone)?.recv().ok().and_then(|mut batch| batch.take());
            self.rows = batch.unwrap_or_default().into_iter();
        }
        self.rows.next().unwrap_or_else(|| Err(Error::bug("the thread that reads rows ended early")))
    }
}

/// Rows from `next` on, up to the first that cannot be read.
fn batch(table: &RowTable, next: &mut usize, size: u64) -> Batch {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while *next < table.len() && bytes < size {
        let row = table.row(*next).map(RowRef::into_owned);
        *next += 1;
        match &row {
            Ok(row) => bytes += text_size(row),
            Err(_) => *next = table.len(),
        }
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::RowWriter;
    use crate::heap;
    use serde_json::json;

    /// Rows of several batches.
    fn table() -> RowTable {
        let mut writer = RowWriter::with_limit(0);
        for number in 0..300 {
            let row = json!({"n": number, "text": "가".repeat(number * 50)});
            writer.push(row.as_object().unwrap().clone()).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn rows_that_are_read_ahead_are_those_of_the_table() {
        let table = table();
        let chosen = table.select((0..300).rev().filter(|number| number % 3 > 0));
        for table in [&table, &chosen, &table.select(0..1), &table.select(0..0)] {
            assert_eq!(table.iter().len(), table.len());
            let rows: Vec<Row> = table.iter().map(|row| row.unwrap().into_owned()).collect();
            let expected: Vec<Row> = (0..table.len()).map(|row| table.row(row).unwrap().into_owned()).collect();
            assert_eq!(rows, expected);
        }
    }

    #[test]
    fn memory_is_counted_where_the_rows_are_used() {
        let table = table();
        let used = |count: usize| {
            let before = heap::held();
            assert_eq!(table.iter().take(count).filter(Result::is_ok).count(), count);
            (heap::held() - before).bytes
        };
        // Without that, megabytes would be freed here that were counted elsewhere.
        for count in [1, 100, 300] {
            assert!(used(count).abs() < 10_000, "{count} rows: {} bytes", used(count));
        }
    }
}
