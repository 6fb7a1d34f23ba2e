//! How much memory a script may take, so that one that builds too much ends with an error: an allocation that fails, or
//! a stack that overflows as nested values are dropped, would end the process.
//!
//! Counted is what the script's thread holds of Rust's memory (`heap`): values of the script, and rows and tokens of data
//! sets; tensors are libtorch's. After each operation of the script [`check`] compares the count with the limit. One
//! operation at most triples what there is (`a += a`), hence a limit of a third of the memory that is free; functions that
//! make more of less ask [`charge`] first (`sizes.rs`).
//!
//! The blocks of the script's values are limited too, those of data sets not. Every level of a nested value is a block of
//! its own at least, and dropping, copying or printing it takes a piece of the stack: as many blocks as the stack has such
//! pieces cannot overflow it.

use crate::error::{Error, Kind};
use crate::heap::{self, Held};
use crate::train::memory::process;
use crate::{bail, format};
use std::cell::{Cell, RefCell};
use tch::Device;

/// The part of the free memory that a script may take: one in three.
const SHARE: u64 = 3;
/// Where the system does not tell what is free.
const UNKNOWN: u64 = 16 << 30;
/// What one block of a nested value may take of the stack; a nested closure is of two or more, and takes at most 540
/// bytes to drop.
const STACK_PER_BLOCK: u64 = 512;
/// Growth that an input of a conversation may need to free the values that took too much.
const SLACK: i64 = 16 << 20;

/// What is known of a thread that runs scripts. One place for all: it is read after each operation.
struct Budget {
    bytes: Cell<i64>,
    blocks: Cell<i64>,
    /// Blocks that the thread holds and that are no script's.
    elsewhere: Cell<i64>,
    /// The blocks that the thread held as the native function began that runs now; `None` while the script does.
    native: Cell<Option<i64>>,
    has_begun: Cell<bool>,
    is_refused: Cell<bool>,
    /// The size of the thread's stack; 0 if unknown.
    stack: Cell<u64>,
}

thread_local! {
    static BUDGET: Budget = const {
        Budget {
            bytes: Cell::new(i64::MAX),
            blocks: Cell::new(i64::MAX),
            elsewhere: Cell::new(0),
            native: Cell::new(None),
            has_begun: Cell::new(false),
            is_refused: Cell::new(false),
            stack: Cell::new(0),
        }
    };
    /// A refusal that a function of the engine could not return.
    static REFUSAL: RefCell<Option<Error>> = const { RefCell::new(None) };
}

/// Says how large the stack of this thread is.
pub fn set_stack(bytes: u64) {
    BUDGET.with(|budget| budget.stack.set(bytes));
}

/// A script begins, whose values may take `bytes`, or a third of what is free.
pub fn begin(bytes: Option<u64>) {
    REFUSAL.take();
    let bytes = bytes.unwrap_or_else(|| free().unwrap_or(UNKNOWN) / SHARE);
    BUDGET.with(|budget| {
        budget.is_refused.set(false);
        budget.native.set(None);
        if !budget.has_begun.replace(true) {
            // What the thread holds by now belongs to no script.
            budget.elsewhere.set(heap::held().blocks);
        }
        let now = budget.script();
        let blocks = match budget.stack.get() {
            0 => i64::MAX,
            stack => (stack / STACK_PER_BLOCK) as i64,
        };
        // Values of earlier inputs stay, so that one can be replaced by a smaller one.
        budget.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX).max(now.bytes.saturating_add(SLACK)));
        budget.blocks.set(blocks.max(now.blocks.saturating_add(1000)));
    });
}

/// What the system could give this process.
fn free() -> Option<u64> {
    let free = process::free(Device::Cpu);
    free.into_iter().chain(process::addresses_left()).min()
}

impl Budget {
    /// What the script takes.
    fn script(&self) -> Held {
        let held = heap::held();
        if held.blocks < self.elsewhere.get() {
            // More was freed than the script holds: it was no script's.
            self.elsewhere.set(held.blocks);
        }
        Held { blocks: held.blocks - self.elsewhere.get(), ..held }
    }

    fn refusal(&self) -> Option<Error> {
        if self.is_refused.replace(false) {
            return REFUSAL.take();
        }
        // The native function calls a closure of the script: what it keeps is the script's from here on.
        self.native.set(None);
        let held = self.script();
        if held.bytes > self.bytes.get() {
            return Some(too_large("the script", held.bytes as u64, self.bytes.get()));
        }
        (held.blocks > self.blocks.get()).then(|| {
            let (most, blocks) = (format::thousands(self.blocks.get() as u64), format::thousands(held.blocks as u64));
            let message = format!("the script holds too many values: expected at most {most}, found {blocks}");
            Error::new(Kind::Memory, message)
                .with_hint("keep rows in a data set, which holds them outside the script, and nest values less deeply")
        })
    }
}

/// The error of a script whose values take too much.
#[inline]
pub fn check() -> Option<Error> {
    BUDGET.with(|budget| {
        let (held, elsewhere) = (heap::held(), budget.elsewhere.get());
        let blocks = held.blocks.wrapping_sub(elsewhere);
        let fits = held.bytes <= budget.bytes.get() && blocks <= budget.blocks.get() && !blocks.is_negative();
        if fits && !budget.is_refused.get() && budget.native.get().is_none() {
            return None;
        }
        budget.refusal()
    })
}

/// Fails if the script's values and `bytes` more would take too much. `function` is about to allocate them.
pub fn charge(function: &str, bytes: u128) -> Result<(), Error> {
    BUDGET.with(|budget| {
        let total = bytes.saturating_add(budget.script().bytes.max(0) as u128);
        if total > budget.bytes.get() as u128 {
            return Err(too_large(function, u64::try_from(total).unwrap_or(u64::MAX), budget.bytes.get()));
        }
        Ok(())
    })
}

/// As [`charge`], for functions whose errors the engine ignores: the script ends at its next operation.
pub fn charge_or_end(function: &str, bytes: u128) -> Result<(), Error> {
    charge(function, bytes).inspect_err(|error| {
        REFUSAL.replace(Some(error.clone()));
        BUDGET.with(|budget| budget.is_refused.set(true));
    })
}

fn too_large(function: &str, bytes: u64, most: i64) -> Error {
    let (most, bytes) = (format::bytes(most as u64), format::bytes(bytes));
    let message = format!(
        "{function}: the script and its data would take too much memory: expected at most {most}, found {bytes}"
    );
    Error::new(Kind::Memory, message).with_hint("keep less at a time, or allow more: lorhai run --max-memory 16GB")
}

/// Runs a native function: blocks that it keeps are no script's. It also returns how many of the script's it took.
pub fn native<T>(work: impl FnOnce() -> (T, i64)) -> T {
    if BUDGET.with(|budget| budget.native.get().is_some()) {
        // Counted by the function that this is a part of.
        return work().0;
    }
    BUDGET.with(|budget| budget.native.set(Some(heap::held().blocks)));
    let (result, taken) = work();
    BUDGET.with(|budget| {
        if let Some(since) = budget.native.take() {
            budget.elsewhere.set(budget.elsewhere.get() + taken + heap::held().blocks - since);
        }
    });
    result
}

/// Runs a closure of the script that a native function calls.
pub fn closure<T>(work: impl FnOnce() -> T) -> T {
    let native = BUDGET.with(|budget| {
        let native = budget.native.take();
        if let Some(since) = native {
            budget.elsewhere.set(budget.elsewhere.get() + heap::held().blocks - since);
        }
        native
    });
    let result = work();
    BUDGET.with(|budget| budget.native.set(native.map(|_| heap::held().blocks)));
    result
}

/// Reads a size: bytes, or with a unit as in "500MB", "16GB", "8GiB".
pub fn parse_size(text: &str) -> Result<u64, Error> {
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let unit: f64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => f64::NAN,
    };
    match text[..digits].parse::<f64>().map(|number| number * unit) {
        Ok(bytes) if bytes >= 1.0 && bytes < 1e18 => Ok(bytes as u64),
        _ => bail!(Kind::Input, "expected a size as in 16GB, found `{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::engine::session::printed_within;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("1000", 1000), ("16GB", 16_000_000_000), ("1.5 MiB", 1_572_864), ("8gib", 8 << 30)] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "GB", "-1", "1TBs", "0", "nan"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn blocks_that_native_functions_keep_are_no_scripts() {
        set_stack(1000 * STACK_PER_BLOCK);
        begin(Some(1 << 30));
        let boxes = |count: u32| (0..count).map(Box::new).collect::<Vec<_>>();
        let kept = native(|| (boxes(5000), 0));
        assert!(check().is_none());
        let own = boxes(900);
        assert!(check().is_none());
        let more = boxes(900);
        assert!(check().is_some_and(|error| error.message.starts_with("the script holds too many values")));
        drop((own, more, kept));
        assert!(check().is_none());
    }

    #[test]
    fn values_that_are_nested_without_end_end_with_an_error() {
        for script in [
            "fn f(x) { x } let a = Fn(\"f\"); loop { let g = Fn(\"f\"); a = g.curry(take(a)); }",
            "let f = || 0; loop { let g = f; f = || g.call(); }",
        ] {
            let error = printed_within(200 << 20, script).unwrap_err();
            assert!(error.contains("expected at most"), "{script}: {error}");
        }
    }

    #[test]
    fn a_script_that_grows_without_end_ends_with_an_error() {
        for script in [
            "let s = \"ab\"; loop { s += s; }",
            "let a = [1, 2]; loop { a += a; }",
            "let a = [1, 2]; loop { a.push(a); }",
            "let m = #{}; let i = 0; loop { m[`${i}`] = m; i += 1; }",
        ] {
            let error = printed_within(300 << 20, script).unwrap_err();
            assert!(error.contains("expected at most 314.6 MB"), "{script}: {error}");
        }
    }
}
