//! How much memory a script may take, so that one that builds too much ends with an error: an allocation that fails, or
//! a stack that overflows as nested values are dropped, would end the process.
//!
//! Counted is what the script's thread holds of Rust's memory (`heap`); tensors are libtorch's. What native functions
//! keep (the rows and tokens of a data set) is not the script's: its limit is [`begin`]'s, theirs what is free. A value
//! that a native function returns is the script's, and so is what closures of the script keep.
//!
//! The thread raises a flag as it leaves its bounds, and after each operation of the script [`check`] looks at the flag.
//! One operation at most triples what there is (`a += a`), hence a limit of a third of the memory that is free; functions
//! that make more of less ask [`charge`] first (`sizes.rs`). In a program without [`heap::Counting`] nothing is counted,
//! and only what a function asks for is compared with the limit.
//!
//! The blocks of the script's values are limited too. Every level of a nested value is a block of its own at least, and
//! dropping, copying or printing it takes a piece of the stack: as many blocks as the stack has such pieces cannot
//! overflow it.

use crate::error::{Error, Kind};
use crate::heap::{self, Held};
use crate::train::memory::process;
use crate::{bail, format};
use std::cell::{Cell, RefCell};
use tch::Device;

/// The part of the free memory that a script may take: one in three.
const SHARE: i64 = 3;
/// Where the system does not tell what is free.
const UNKNOWN: i64 = 16 << 30;
/// What one block of a nested value may take of the stack; a nested closure is of two or more, and takes at most 540
/// bytes to drop.
const STACK_PER_BLOCK: u64 = 512;
/// Growth that an input of a conversation may need to free the values that took too much.
const SLACK: Held = Held { bytes: 16 << 20, blocks: 1000 };
/// What a script may take, however much memory the data leave it.
const LEAST: i64 = 64 << 20;

/// What is known of a thread that runs scripts.
struct Budget {
    /// What the script may hold.
    limit: Cell<Held>,
    /// Did the user set the limit?
    is_fixed: Cell<bool>,
    /// What was free as the script began, and what the thread held.
    free: Cell<i64>,
    begun: Cell<Held>,
    /// What the thread holds that is no script's.
    elsewhere: Cell<Held>,
    /// The native function that runs now; `None` while the script does.
    native: Cell<Option<Native>>,
    has_begun: Cell<bool>,
    is_refused: Cell<bool>,
    /// The size of the thread's stack; 0 if unknown.
    stack: Cell<u64>,
}

/// A native function that runs.
#[derive(Clone, Copy)]
struct Native {
    /// What the script held before.
    script: Held,
    /// What closures that it called have added to that.
    kept: Held,
    /// What the thread held as it began, or as the last of these closures ended.
    since: Held,
}

/// The values that a native function consumed of the script, and what it returned.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exchange {
    pub consumed: Held,
    pub returned: Held,
}

thread_local! {
    static BUDGET: Budget = const {
        Budget {
            limit: Cell::new(Held::MOST),
            is_fixed: Cell::new(false),
            free: Cell::new(i64::MAX),
            begun: Cell::new(Held { bytes: 0, blocks: 0 }),
            elsewhere: Cell::new(Held { bytes: 0, blocks: 0 }),
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

/// A script begins, whose values may take `bytes`; by default a third of what is free, and of what data leave free
/// later.
pub fn begin(bytes: Option<u64>) {
    REFUSAL.take();
    BUDGET.with(|budget| {
        let free = free().map_or(UNKNOWN, |free| i64::try_from(free).unwrap_or(i64::MAX));
        let fixed = bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        budget.is_refused.set(false);
        budget.native.set(None);
        budget.is_fixed.set(fixed.is_some());
        let held = heap::held();
        if !budget.has_begun.replace(true) {
            // What the thread holds by now belongs to no script.
            budget.elsewhere.set(held);
        }
        budget.lower_elsewhere();
        budget.begun.set(held);
        budget.free.set(free.max(fixed.unwrap_or(0).saturating_add(fixed.unwrap_or(0) / 9)));
        let blocks = match budget.stack.get() {
            0 => i64::MAX,
            stack => (stack / STACK_PER_BLOCK) as i64,
        };
        // Values of earlier inputs stay, so that one can be replaced by a smaller one.
        let least = sum(budget.script(), SLACK);
        budget
            .limit
            .set(Held { bytes: fixed.unwrap_or(free / SHARE).max(least.bytes), blocks: blocks.max(least.blocks) });
        budget.set_bounds();
    });
}

/// What the system could give this process.
fn free() -> Option<u64> {
    let free = process::free(Device::Cpu);
    free.into_iter().chain(process::addresses_left()).min()
}

fn sum(a: Held, b: Held) -> Held {
    Held { bytes: a.bytes.saturating_add(b.bytes), blocks: a.blocks.saturating_add(b.blocks) }
}

fn each(a: Held, b: Held, choose: impl Fn(i64, i64) -> i64) -> Held {
    Held { bytes: choose(a.bytes, b.bytes), blocks: choose(a.blocks, b.blocks) }
}

impl Budget {
    /// What the script holds.
    fn script(&self) -> Held {
        heap::held() - self.elsewhere.get()
    }

    /// If more was freed than the script held, it was no script's.
    fn lower_elsewhere(&self) {
        self.elsewhere.set(each(self.elsewhere.get(), heap::held(), i64::min));
    }

    /// What the script may hold now: where data take much of what was free, less than at its beginning.
    fn limit(&self) -> Held {
        let limit = self.limit.get();
        if self.is_fixed.get() {
            return limit;
        }
        let data = self.elsewhere.get().bytes.saturating_sub(self.begun.get().bytes).max(0);
        let share = self.free.get().saturating_sub(data) / SHARE;
        Held { bytes: limit.bytes.min(share.max(LEAST)), blocks: limit.blocks }
    }

    /// The most that the thread may hold, with what is no script's: nine tenths of what was free, and what it held then.
    fn total(&self) -> i64 {
        self.begun.get().bytes.saturating_add(self.free.get() / 10 * 9)
    }

    /// Has the allocator watch the limits. Says whether they are kept.
    fn set_bounds(&self) -> bool {
        let elsewhere = self.elsewhere.get();
        let most = sum(elsewhere, self.limit());
        !heap::set_bounds(elsewhere, Held { bytes: most.bytes.min(self.total()), ..most })
    }

    #[cold]
    fn refusal(&self) -> Option<Error> {
        if self.native.get().is_none() {
            self.lower_elsewhere();
        }
        let is_kept = self.set_bounds();
        if self.is_refused.replace(false) {
            return REFUSAL.take();
        }
        if is_kept {
            return None;
        }
        let (script, limit, held) = (self.script(), self.limit(), heap::held().bytes);
        if script.bytes > limit.bytes {
            return Some(too_large("the script", script.bytes as u64, limit.bytes));
        }
        if script.blocks > limit.blocks {
            let (most, blocks) = (format::thousands(limit.blocks as u64), format::thousands(script.blocks as u64));
            let message = format!("the script holds too many values: expected at most {most}, found {blocks}");
            let hint = "keep rows in a data set, which holds them outside the script, and nest values less deeply";
            return Some(Error::new(Kind::Memory, message).with_hint(hint));
        }
        (held > self.total()).then(|| no_room("the script and its data", held.max(0) as u64, self.total()))
    }
}

/// The error of a script whose values take too much.
#[inline]
pub fn check() -> Option<Error> {
    if heap::is_outside() {
        return BUDGET.with(Budget::refusal);
    }
    None
}

/// Fails if the script's values and `bytes` more would take too much. `function` is about to allocate them.
pub fn charge(function: &str, bytes: u128) -> Result<(), Error> {
    let (total, most) = BUDGET.with(|budget| {
        // What a native function copies of the script's values counts until it is done with them: all of them, or those
        // that its closure returned last, such as a row.
        let script = match budget.native.get() {
            Some(native) => native.script + native.kept + (heap::held() - native.since),
            None => budget.script(),
        };
        (bytes.saturating_add(script.bytes.max(0) as u128), budget.limit().bytes)
    });
    if total > most as u128 {
        return Err(too_large(function, u64::try_from(total).unwrap_or(u64::MAX), most));
    }
    charge_data(function, bytes)
}

/// Fails if the thread would hold more than is there, with `bytes` that `function` is about to allocate for data.
pub fn charge_data(function: &str, bytes: u128) -> Result<(), Error> {
    BUDGET.with(|budget| {
        let held = bytes.saturating_add(heap::held().bytes.max(0) as u128);
        if held > budget.total().max(0) as u128 {
            let held = u64::try_from(held).unwrap_or(u64::MAX);
            return Err(no_room(function, held, budget.total()));
        }
        Ok(())
    })
}

/// As [`charge`], for functions whose errors the engine ignores: the script ends at its next operation.
pub fn charge_or_end(function: &str, bytes: u128) -> Result<(), Error> {
    charge(function, bytes).inspect_err(|error| {
        REFUSAL.replace(Some(error.clone()));
        BUDGET.with(|budget| budget.is_refused.set(true));
        heap::mark_outside();
    })
}

fn too_large(function: &str, bytes: u64, most: i64) -> Error {
    let (most, bytes) = (format::bytes(most as u64), format::bytes(bytes));
    let message = format!(
        "{function}: the values of the script would take too much memory: expected at most {most}, found {bytes}"
    );
    Error::new(Kind::Memory, message).with_hint(
        "keep rows in a data set, which is not counted, or less at a time, or allow more: lorhai run --max-memory 16GB",
    )
}

fn no_room(what: &str, bytes: u64, most: i64) -> Error {
    let (most, bytes) = (format::bytes(most.max(0) as u64), format::bytes(bytes));
    let message = format!("{what}: the data take too much memory: expected at most {most}, found {bytes}");
    Error::new(Kind::Memory, message).with_hint("load fewer rows or shorter texts, or drop data: data = ()")
}

/// Runs a native function. What it keeps is no script's; what it returns is.
pub fn native<T>(work: impl FnOnce() -> (T, Exchange)) -> T {
    let (is_inner, before) = BUDGET.with(|budget| {
        let (is_inner, since) = (budget.native.get().is_some(), heap::held());
        if !is_inner {
            budget.native.set(Some(Native { script: budget.script(), kept: Held::default(), since }));
        }
        (is_inner, since)
    });
    let (result, exchange) = work();
    if is_inner {
        // Counted by the function that this is a part of.
        return result;
    }
    BUDGET.with(|budget| {
        let Some(native) = budget.native.take() else { return };
        // More than the thread has gained, or the script has lost, is shared with what there was.
        let grown = sum(heap::held() - before, exchange.consumed);
        let gained = each(sum(exchange.returned, native.kept), grown, |gained, grown| gained.min(grown.max(0)));
        budget.elsewhere.set(heap::held() - (native.script - exchange.consumed + gained));
        budget.set_bounds();
    });
    result
}

/// Runs a closure of the script that a native function calls. What the closure keeps is the script's, but for
/// `result`, which the function keeps.
pub fn closure<T>(work: impl FnOnce() -> T, result: impl FnOnce(&T) -> Held) -> T {
    let outer = BUDGET.with(|budget| {
        let native = budget.native.take()?;
        let elsewhere = budget.elsewhere.get();
        budget.elsewhere.set(heap::held() - sum(native.script, native.kept));
        budget.set_bounds();
        Some((native, elsewhere))
    });
    let value = work();
    let Some((native, elsewhere)) = outer else { return value };
    let result = result(&value);
    BUDGET.with(|budget| {
        let grown = budget.script() - sum(native.script, native.kept) - result;
        let kept = sum(native.kept, each(grown, Held::default(), i64::max));
        budget.native.set(Some(Native { kept, since: heap::held(), ..native }));
        budget.elsewhere.set(elsewhere);
        budget.set_bounds();
    });
    value
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
        Ok(bytes) if (1.0..1e18).contains(&bytes) => Ok(bytes as u64),
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
        let kept = native(|| (boxes(5000), Exchange::default()));
        assert!(check().is_none());
        let values = boxes(900);
        assert!(check().is_none());
        let more = boxes(900);
        assert!(check().is_some_and(|error| error.message.starts_with("the script holds too many values")));
        drop((values, more, kept));
        assert!(check().is_none());
    }

    fn megabytes(count: i64) -> (Vec<u8>, Held) {
        (Vec::with_capacity((count << 20) as usize), Held { bytes: count << 20, blocks: 1 })
    }

    #[test]
    fn what_a_native_function_keeps_is_not_the_scripts_and_what_it_returns_is() {
        begin(Some(100 << 20));
        let is_refused = || check().is_some_and(|error| error.message.contains("expected at most 104.9 MB"));
        let data = native(|| (megabytes(500).0, Exchange::default()));
        assert!(check().is_none());
        let (value, size) = megabytes(90);
        assert!(check().is_none());
        // What a function takes over is its own from then on.
        let consumed = native(|| (value, Exchange { consumed: size, returned: Held::default() }));
        let (value, _) = megabytes(90);
        assert!(check().is_none());
        let returned = native(|| {
            let (value, size) = megabytes(20);
            (value, Exchange { consumed: Held::default(), returned: size })
        });
        assert!(is_refused());
        drop(returned);
        assert!(check().is_none());
        // A text that a function returns again and again without a copy is counted once.
        native(|| ((), Exchange { consumed: Held::default(), returned: size }));
        assert!(check().is_none());
        drop((value, consumed, data));
        assert!(check().is_none());
    }

    #[test]
    fn what_closures_keep_is_the_scripts_and_what_they_return_to_a_function_is_not() {
        begin(Some(100 << 20));
        let rows = native(|| {
            let row = || closure(|| megabytes(20), |(_, size)| *size).0;
            ((0..20).map(|_| row()).collect::<Vec<_>>(), Exchange::default())
        });
        assert!(check().is_none());
        let mut kept = Vec::new();
        native(|| {
            for round in 0..8 {
                closure(
                    || {
                        kept.push(megabytes(19).0);
                        assert_eq!(check().is_some(), round >= 5, "within the function, round {round}");
                    },
                    |()| Held::default(),
                );
            }
            ((), Exchange::default())
        });
        assert!(check().is_some());
        drop(kept);
        assert!(check().is_none());
        drop(rows);
    }

    #[test]
    fn rows_of_a_data_set_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let row = serde_json::json!({ "text": "x".repeat(10_000) });
        std::fs::write(&path, format!("{row}\n").repeat(2000)).unwrap();
        let load = format!("load_dataset({:?})", path.display().to_string());
        // 20 MB of rows, where the values of a script may take half of that.
        let honest = format!(
            "let d = {load}; let e = d.map(|row| #{{ text: row.text + \"!\", n: row.text.len() }}); \
             let n = 0; for row in e {{ n += row.n; }} print(n);"
        );
        assert_eq!(printed_within(10 << 20, &honest).unwrap(), "20000000\n");
        for greedy in [
            "let a = []; for row in D { a.push(row.text + \"!\"); }",
            "let a = []; D.map(|row| { a.push(row.text + \"!\"); row });",
        ] {
            let error = printed_within(10 << 20, &greedy.replace('D', &load)).unwrap_err();
            assert!(error.contains("the values of the script would take too much memory"), "{greedy}: {error}");
        }
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
