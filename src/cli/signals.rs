//! What signals and broken pipes do while a script runs.

use crate::hub::mapped;
use crate::{interrupt, stderr};

pub fn handle_signals() {
    mapped::explain_truncation();
    interrupt::survive_closed_pipes();
    if let Err(error) = interrupt::install() {
        stderr::note(&format!("warning: Ctrl-C will end the program at once: {error}"));
    }
}
