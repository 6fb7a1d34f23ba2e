//! The stdout of one worker: all run the same script and print the same, so one of them is shown.

use crate::stdout;

/// What each worker printed, and how much of it is shown.
pub struct Printed {
    workers: Vec<Vec<u8>>,
    is_given_up: Vec<bool>,
    shown: usize,
}

impl Printed {
    pub fn new(count: usize) -> Self {
        Printed { workers: vec![Vec::new(); count], is_given_up: vec![false; count], shown: 0 }
    }

    /// A worker that is started again prints from its begin.
    pub fn restart(&mut self, number: usize) {
        if let Some(text) = self.workers.get_mut(number) {
            text.clear();
        }
    }

    pub fn take(&mut self, number: usize, bytes: &[u8]) {
        if let Some(text) = self.workers.get_mut(number) {
            text.extend_from_slice(bytes);
        }
        self.flush();
    }

    /// A worker that does not come to its end: another one is shown from where it stopped.
    pub fn give_up(&mut self, number: usize) {
        if let Some(is_given_up) = self.is_given_up.get_mut(number) {
            *is_given_up = true;
        }
        self.flush();
    }

    /// Shows whole lines of the first worker that is not given up.
    pub fn flush(&mut self) {
        let Some(first) = self.is_given_up.iter().position(|is_given_up| !is_given_up) else { return };
        let Some(rest) = self.workers.get(first).and_then(|text| text.get(self.shown..)) else { return };
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { return };
        stdout::printed(&String::from_utf8_lossy(&rest[..=end]));
        self.shown += end + 1;
    }
}
