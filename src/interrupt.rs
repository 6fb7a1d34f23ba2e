//! The stop flag that Ctrl-C sets and every long loop polls.
//!
//! The first signal sets the flag: work stops at the next micro-batch or row and leaves no partial files.
//! The second signal ends the program at once.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(false)));

/// The exit code after Ctrl-C (128 + SIGINT).
pub const EXIT_CODE: i32 = 130;

/// Installs the handlers of SIGINT and SIGTERM.
pub fn install() -> std::io::Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Registered first, so that it sees the flag before this signal sets it.
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_CODE, STOP.clone())?;
        signal_hook::flag::register(signal, STOP.clone())?;
    }
    Ok(())
}

pub fn requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Requests a stop, as Ctrl-C does: for programs that embed lorhai, and tests.
pub fn request() {
    STOP.store(true, Ordering::Relaxed);
}

/// Clears the flag. The REPL does so before each line.
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
