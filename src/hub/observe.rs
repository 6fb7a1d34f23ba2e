//! What a caller may watch of a fetch: it draws the bars, or does nothing; and what it may refuse.

use crate::error::Result;

/// Is told how a fetch goes on. Every method does nothing unless overridden.
pub trait FetchObserver {
    /// Whether `what` may be fetched, a file of `size` bytes that is not in the cache: an error ends the fetch.
    fn permit(&mut self, _what: &str, _size: Option<u64>) -> Result<()> {
        Ok(())
    }
    /// A file begins, or is taken up again: `done` of `size` bytes are there already.
    fn begin(&mut self, _file: &str, _done: u64, _size: Option<u64>) {}
    /// So many more bytes have arrived.
    fn advance(&mut self, _bytes: u64) {}
    /// The file is whole.
    fn end(&mut self) {}
    /// Something worth a line, as a pause before the next attempt.
    fn note(&mut self, _text: &str) {}
}

impl FetchObserver for () {}
