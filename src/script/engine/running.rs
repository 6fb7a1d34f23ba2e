//! Which native function runs, and the line that called it: for the message of a program that ends without an error,
//! because the system refused it memory. The handler of a signal reads it, so it lies in atomics, and names live for good.

use rhai::NativeCallContext;
use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The name of a function; null while the script itself runs.
static FUNCTION: AtomicPtr<&'static str> = AtomicPtr::new(ptr::null_mut());
/// 0 if unknown.
static LINE: AtomicUsize = AtomicUsize::new(0);
/// At a prompt, where lines are counted through all inputs, a number would say nothing.
static HAS_LINES: AtomicBool = AtomicBool::new(true);

/// The native function that runs, or ran as the program was interrupted, and the line that called it. May be called in
/// the handler of a signal.
pub fn running() -> Option<(&'static str, Option<usize>)> {
    // SAFETY: null, or from `for_good`.
    let name = unsafe { FUNCTION.load(Ordering::Relaxed).as_ref() }?;
    let line = LINE.load(Ordering::Relaxed);
    Some((name, (line > 0 && HAS_LINES.load(Ordering::Relaxed)).then_some(line)))
}

/// From now on leaves out lines.
pub fn leave_out_lines() {
    HAS_LINES.store(false, Ordering::Relaxed);
}

/// The name where a handler can read it by one load. Each is kept once in a process.
pub fn for_good(name: &'static str) -> &'static &'static str {
    static NAMES: Mutex<Option<HashMap<&'static str, &'static &'static str>>> = Mutex::new(None);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names.get_or_insert_default().entry(name).or_insert_with(|| Box::leak(Box::new(name)))
}

/// As long as it lives, a function runs.
pub struct Running {
    outer: *mut &'static str,
    line: usize,
}

impl Running {
    pub fn begin(name: &'static &'static str, context: Option<&NativeCallContext>) -> Running {
        let position = context.and_then(|context| context.call_position().line());
        Running {
            outer: FUNCTION.swap(ptr::from_ref(name).cast_mut(), Ordering::Relaxed),
            line: LINE.swap(position.unwrap_or(0), Ordering::Relaxed),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        FUNCTION.store(self.outer, Ordering::Relaxed);
        LINE.store(self.line, Ordering::Relaxed);
    }
}
