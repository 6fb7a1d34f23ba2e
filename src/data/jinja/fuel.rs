//! What one rendering may use: steps, bytes of new text, and stack.
//!
//! Kept per thread, since comparing and printing values count too and know nothing of the
//! rendering that they are part of.

use super::error::{Cause, Failure, Result};
use std::cell::Cell;

/// Threads have 2 MiB of stack at least, and a rendering begins near the start of it.
const STACK: usize = 1 << 20;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    static STACK_TOP: Cell<usize> = const { Cell::new(0) };
}

fn stack_address() -> usize {
    let here = 0_u8;
    std::hint::black_box(&raw const here) as usize
}

/// Starts a rendering with this much.
pub(super) fn begin(steps: u64, bytes: u64) {
    STEPS.set(steps);
    BYTES.set(bytes);
    begin_stack();
}

/// Takes the present place in the stack for its start.
pub(super) fn begin_stack() {
    STACK_TOP.set(stack_address());
}

/// Fails where the stack has little room for another level of recursion.
pub(super) fn stack() -> Result<()> {
    if STACK_TOP.get().saturating_sub(stack_address()) > STACK {
        return Err(Failure::new(Cause::OutOfFuel, "the template calls itself, or nests values, too deeply"));
    }
    Ok(())
}

fn take(left: &Cell<u64>, amount: u64) -> Result<()> {
    match left.get().checked_sub(amount) {
        Some(rest) => {
            left.set(rest);
            Ok(())
        }
        None => Err(Failure::new(Cause::OutOfFuel, "the template does not come to an end")),
    }
}

pub(super) fn steps(amount: usize) -> Result<()> {
    STEPS.with(|left| take(left, amount as u64))
}

pub(super) fn bytes(amount: usize) -> Result<()> {
    BYTES.with(|left| take(left, amount as u64))
}

/// One step and another level of recursion.
pub(super) fn descend() -> Result<()> {
    steps(1)?;
    stack()
}
