//! Blocking network calls that Ctrl-C interrupts.
//!
//! A read from a silent server blocks until its timeout, and a signal may not wake it. So the call runs
//! in its own thread while this one polls the stop flag. After a stop that thread is abandoned and ends
//! with its timeout or with the program.

use crate::error::{Error, Result};
use crate::interrupt;
use std::io::Read;
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError};
use std::time::Duration;

const POLL: Duration = Duration::from_millis(50);
const CHUNK: usize = 256 * 1024;
/// How many chunks may be buffered ahead of the writer.
const BUFFERED: usize = 8;

/// The result of `call`, or `Kind::Stopped` as soon as a stop is requested.
pub fn call<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || sender.send(call()));
    next(&receiver)?.ok_or_else(|| Error::bug("a network call ended without a result"))
}

/// The bytes of a reader, chunk by chunk. After an error no chunk follows.
pub struct Chunks(Receiver<std::io::Result<Vec<u8>>>);

impl Chunks {
    pub fn of(mut reader: impl Read + Send + 'static) -> Chunks {
        let (sender, receiver) = sync_channel(BUFFERED);
        std::thread::spawn(move || loop {
            let mut chunk = vec![0; CHUNK];
            let read = reader.read(&mut chunk).map(|count| {
                chunk.truncate(count);
                chunk
            });
            let last = !matches!(&read, Ok(chunk) if !chunk.is_empty());
            if sender.send(read).is_err() || last {
                break;
            }
        });
        Chunks(receiver)
    }

    /// The next chunk; empty at the end.
    pub fn next(&self) -> Result<std::io::Result<Vec<u8>>> {
        Ok(next(&self.0)?.unwrap_or_else(|| Ok(Vec::new())))
    }
}

/// Waits for a message, polling the stop flag; `None` once the sender is gone.
fn next<T>(receiver: &Receiver<T>) -> Result<Option<T>> {
    loop {
        interrupt::check()?;
        match receiver.recv_timeout(POLL) {
            Ok(message) => return Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}
