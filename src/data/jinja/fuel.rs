//! The limits of one rendering: steps, bytes of new text, and stack.
//!
//! They are thread-local because comparing and printing values count too, and have no reference to the rendering.

use super::error::{Cause, Failure, Result};
use std::cell::Cell;

/// Threads have at least 2 MiB of stack, and a rendering starts near its top.
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

/// Starts a rendering with these limits.
pub(super) fn begin(steps: u64, bytes: u64) {
    STEPS.set(steps);
    BYTES.set(bytes);
    begin_stack();
}

/// Takes the current stack address as the top.
pub(super) fn begin_stack() {
    STACK_TOP.set(stack_address());
}

/// Fails if the stack has little room left for recursion.
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
        None => Err(Failure::new(Cause::OutOfFuel, "the template does not end")),
    }
}

pub(super) fn steps(amount: usize) -> Result<()> {
    STEPS.with(|left| take(left, amount as u64))
}

pub(super) fn bytes(amount: usize) -> Result<()> {
    BYTES.with(|left| take(left, amount as u64))
}

/// One step, at another level of recursion.
pub(super) fn descend() -> Result<()> {
    steps(1)?;
    stack()
}
