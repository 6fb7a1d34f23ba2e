//! Writes rows to a file by a thread of its own, so that whoever makes rows does not wait until they are text.

use super::file::{FileWriter, RowFile};
use super::row::{text_size, Row};
use crate::error::{Error, Kind, Result};
use crate::files::ScratchFile;
use crate::heap::HandedOver;
use std::sync::mpsc::{channel, sync_channel, Receiver, SyncSender};
use std::thread::{Builder, JoinHandle};

/// About the bytes of text that are handed to the thread at once.
const BATCH: u64 = 1 << 20;
/// Batches that may wait for the thread.
const WAITING: usize = 2;

/// Collects rows and has a thread write them.
#[derive(Debug)]
pub struct ThreadedWriter {
    len: usize,
    batch: Vec<Row>,
    /// The bytes of text of `batch`.
    size: u64,
    /// `None` as soon as there are no more.
    batches: Option<SyncSender<Vec<Row>>>,
    /// Batches that have been written. They are dropped here and not by the thread, because memory is counted for the thread
    /// that allocates it and that frees it (`heap`).
    written: Receiver<Vec<Row>>,
    thread: Option<JoinHandle<HandedOver<Result<RowFile>>>>,
}

impl ThreadedWriter {
    /// # Errors
    /// No folder for the file; a system that gives no thread.
    pub fn new() -> Result<Self> {
        let scratch = ScratchFile::new()?;
        let (batches, waiting) = sync_channel::<Vec<Row>>(WAITING);
        let (done, written) = channel();
        let write = move || {
            HandedOver::new(|| {
                let mut file = FileWriter::new(scratch);
                for batch in waiting {
                    batch.iter().try_for_each(|row| file.push(row))?;
                    // Nobody waits for them where the writer was dropped.
                    let _ = done.send(batch);
                }
                file.finish()
            })
        };
        let thread = Builder::new()
            .name("rows".into())
            .spawn(write)
            .map_err(|error| Error::new(Kind::Memory, format!("cannot start a thread that writes rows: {error}")))?;
        Ok(ThreadedWriter { len: 0, batch: Vec::new(), size: 0, batches: Some(batches), written, thread: Some(thread) })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// # Errors
    /// A disk that is full or fails, also for rows before this one.
    pub fn push(&mut self, row: Row) -> Result<()> {
        self.len += 1;
        self.size += text_size(&row);
        self.batch.push(row);
        if self.size < BATCH {
            return Ok(());
        }
        self.written.try_iter().for_each(drop);
        if self.hand_over() {
            Ok(())
        } else {
            Err(self.end().err().unwrap_or_else(ended_early))
        }
    }

    /// Waits until all rows are written.
    pub fn finish(mut self) -> Result<RowFile> {
        // Where the thread has ended, it says why.
        self.hand_over();
        let file = self.end()?;
        if file.len() == self.len {
            Ok(file)
        } else {
            Err(ended_early())
        }
    }

    /// Hands the batch to the thread. Says whether there still is one.
    fn hand_over(&mut self) -> bool {
        self.size = 0;
        let batch = std::mem::take(&mut self.batch);
        self.batches.as_ref().is_some_and(|batches| batches.send(batch).is_ok())
    }

    /// Waits for the thread.
    fn end(&mut self) -> Result<RowFile> {
        self.batches = None;
        let result = self.thread.take().and_then(|thread| thread.join().ok());
        result.and_then(|mut result| result.take()).unwrap_or_else(|| Err(ended_early()))
    }
}

impl Drop for ThreadedWriter {
    /// The thread ends first, so that its last batches come back.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn ended_early() -> Error {
    Error::bug("the thread that writes rows ended early")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap;
    use serde_json::json;

    fn written(count: usize) -> ThreadedWriter {
        let mut writer = ThreadedWriter::new().unwrap();
        for number in 0..count {
            let row = json!({"n": number, "text": "x".repeat(10_000)});
            writer.push(row.as_object().unwrap().clone()).unwrap();
        }
        writer
    }

    #[test]
    fn rows_keep_their_order_across_batches() {
        let file = written(1000).finish().unwrap();
        assert_eq!(file.len(), 1000);
        assert!((0..1000).all(|row| file.row(row).unwrap()["n"] == json!(row)));
    }

    #[test]
    fn memory_is_given_back_where_it_was_taken() {
        for is_finished in [true, false] {
            let before = heap::held();
            let writer = written(1000);
            if is_finished {
                drop(writer.finish().unwrap());
            } else {
                drop(writer);
            }
            let bytes = (heap::held() - before).bytes;
            assert!(bytes.abs() < 20_000, "finished: {is_finished}, {bytes} bytes");
        }
    }
}
