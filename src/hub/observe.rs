//! What a caller may watch of a fetch: it draws the bars, or does nothing.

/// Is told how a fetch goes on. Every method does nothing unless overridden.
pub trait Observer {
    /// A file begins, or is taken up again: `done` of `size` bytes are there already.
    fn begin(&mut self, _file: &str, _done: u64, _size: Option<u64>) {}
    /// So many more bytes have arrived.
    fn advance(&mut self, _bytes: u64) {}
    /// The file is whole.
    fn end(&mut self) {}
    /// Something worth a line, as a pause before the next attempt.
    fn note(&mut self, _text: &str) {}
}

impl Observer for () {}
