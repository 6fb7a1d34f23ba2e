//! The stop flag that Ctrl-C raises and every long native loop polls.
//!
//! A first signal raises the flag: work stops at the next micro-batch or mapped row and
//! leaves whole files behind. A second one ends the program at once.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(false)));

/// The exit code of a program that Ctrl-C stopped (128 + SIGINT).
pub const EXIT_CODE: i32 = 130;

/// Installs the handlers of SIGINT and SIGTERM.
pub fn install() -> std::io::Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Registered first, so that it sees the flag as the *previous* signal left it.
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_CODE, STOP.clone())?;
        signal_hook::flag::register(signal, STOP.clone())?;
    }
    Ok(())
}

pub fn requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Asks every loop to stop, as Ctrl-C does: for embedders and tests.
pub fn request() {
    STOP.store(true, Ordering::Relaxed);
}

/// Forgets an earlier request: the REPL does so before each line.
pub fn clear() {
    STOP.store(false, Ordering::Relaxed);
}

/// Fails with [`crate::Kind::Stopped`] once a stop was requested.
pub fn check() -> Result<()> {
    if requested() {
        Err(Error::stopped())
    } else {
        Ok(())
    }
}
