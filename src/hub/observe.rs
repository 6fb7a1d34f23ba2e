//! `FetchObserver`: what a caller may follow of a fetch, to draw progress bars, and what it may refuse.

use crate::error::Result;

/// Receives the progress of a fetch. Every method does nothing unless overridden.
pub trait FetchObserver {
    /// Called before the download of `what`, a file of `size` bytes that is not cached: an error ends the fetch.
    fn permit(&mut self, _what: &str, _size: Option<u64>) -> Result<()> {
        Ok(())
    }
    /// A download starts or resumes: `done` of `size` bytes are there already.
    fn begin(&mut self, _file: &str, _done: u64, _size: Option<u64>) {}
    /// `bytes` more have arrived.
    fn advance(&mut self, _bytes: u64) {}
    /// The file is complete.
    fn end(&mut self) {}
    /// A note for the user, for example of a pause before the next attempt.
    fn note(&mut self, _text: &str) {}
}

impl FetchObserver for () {}
