//! How a command ends: what it prints at last, and its exit code.

use crate::error::Result;
use crate::script::Failure;
use crate::{interrupt, stderr, stdout};

pub const FAILED: i32 = 1;
pub const WRONG_USE: i32 = 2;
/// Some trials of a sweep failed, and others did not.
pub const SOME_FAILED: i32 = 3;

/// The exit code of an outcome; its failure goes to stderr.
pub fn exit_code(outcome: Result<(), Failure>) -> i32 {
    let Err(failure) = outcome else { return 0 };
    if failure.stopped() && interrupt::is_silent() {
        return interrupt::exit_code();
    }
    if stderr::is_json() {
        stderr::object("failed", [("error", failure.to_json())]);
    } else {
        stderr::line(&failure.to_string());
    }
    if failure.stopped() {
        interrupt::exit_code()
    } else {
        FAILED
    }
}

/// Prints the text, or the error; returns the exit code.
pub fn print_or_fail(text: Result<String>) -> i32 {
    exit_code(text.map(|text| stdout::write(&text)).map_err(Failure::from))
}
