//! What goes to stdout: the output of scripts, and of the commands.
//!
//! A terminal that was closed, a full disk or a reader that went away is no reason to lose a run: what cannot be
//! written is lost, and work goes on or stops in order.

use crate::{foreign, interrupt, stderr};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Once;

static IS_DISCARDED: AtomicBool = AtomicBool::new(false);

/// Writes nothing from now on: another process writes the same.
pub fn discard() {
    IS_DISCARDED.store(true, Ordering::Relaxed);
}

/// Writes a line.
pub fn line(text: &str) {
    write(&format!("{text}\n"));
}

/// Writes a line that a script prints.
pub fn printed_line(text: &str) {
    printed(&format!("{text}\n"));
}

/// Writes what a script prints. At a terminal, what would act on it is escaped, except for colours: `ls` does so with
/// names of files. A file or pipe gets the text as it is.
pub fn printed(text: &str) {
    if io::stdout().is_terminal() {
        write(&foreign::printed(text));
    } else {
        write(text);
    }
}

/// Writes a text.
pub fn write(text: &str) {
    static NOTED: Once = Once::new();
    if IS_DISCARDED.load(Ordering::Relaxed) {
        return;
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => interrupt::output_closed(),
        Err(error) => NOTED.call_once(|| {
            stderr::note(&format!("stdout takes no more, and what is printed is lost: {error}"));
        }),
    }
}
