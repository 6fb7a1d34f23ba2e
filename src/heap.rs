//! How much memory a thread's Rust values hold, and whether the system refused any: a counter in front of the system's
//! allocator.
//!
//! The script language builds values without asking anybody, and an allocation that fails ends the process. With this
//! counter a script's growth is seen after each of its operations, long before that (`script/engine/budget.rs`).
//! Tensors are libtorch's and are not counted.
//!
//! The program installs the counter; the library does not, so that a program that embeds it chooses its own allocator.
//! Without [`Counting`] nothing is counted, and a script that grows without end ends the process:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: lorhai::heap::Counting = lorhai::heap::Counting;
//!
//! let before = lorhai::heap::held();
//! let values = vec![0_u8; 1000];
//! assert_eq!((lorhai::heap::held() - before).bytes, 1000);
//! # drop(values);
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes and blocks that a thread has allocated, less those that it has freed. Memory that one thread allocates and
/// another frees makes them negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    pub bytes: i64,
    pub blocks: i64,
}

impl std::ops::Sub for Held {
    type Output = Held;

    #[inline]
    fn sub(self, other: Held) -> Held {
        Held { bytes: self.bytes.wrapping_sub(other.bytes), blocks: self.blocks.wrapping_sub(other.blocks) }
    }
}

impl std::ops::Add for Held {
    type Output = Held;

    #[inline]
    fn add(self, other: Held) -> Held {
        Held { bytes: self.bytes.wrapping_add(other.bytes), blocks: self.blocks.wrapping_add(other.blocks) }
    }
}

impl Held {
    pub const MOST: Held = Held { bytes: i64::MAX, blocks: i64::MAX };
    pub const LEAST: Held = Held { bytes: i64::MIN, blocks: i64::MIN };

    #[inline]
    fn exceeds(self, other: Held) -> bool {
        self.bytes > other.bytes || self.blocks > other.blocks
    }
}

/// What a thread holds, and the bounds outside of which it raises a flag. The allocator compares, for that is rarer than
/// looking at the flag.
struct Meter {
    held: Cell<Held>,
    least: Cell<Held>,
    most: Cell<Held>,
    is_outside: Cell<bool>,
}

thread_local! {
    static METER: Meter = const {
        Meter {
            held: Cell::new(Held { bytes: 0, blocks: 0 }),
            least: Cell::new(Held::LEAST),
            most: Cell::new(Held::MOST),
            is_outside: Cell::new(false),
        }
    };
}

/// What this thread holds now.
#[inline]
pub fn held() -> Held {
    METER.with(|meter| meter.held.get())
}

/// Sets the bounds of this thread. Says whether it holds less or more than they allow.
pub fn set_bounds(least: Held, most: Held) -> bool {
    METER.with(|meter| {
        meter.least.set(least);
        meter.most.set(most);
        let held = meter.held.get();
        meter.is_outside.set(held.exceeds(most) || least.exceeds(held));
        meter.is_outside.get()
    })
}

/// Whether this thread has left its bounds since they were set.
#[inline]
pub fn is_outside() -> bool {
    METER.with(|meter| meter.is_outside.get())
}

/// As if this thread had left its bounds.
pub fn mark_outside() {
    METER.with(|meter| meter.is_outside.set(true));
}

/// A value that one thread makes for another. Its memory counts as held by the thread that takes it, or drops it.
#[derive(Debug)]
pub struct HandedOver<T> {
    value: Option<T>,
    held: Held,
}

impl<T> HandedOver<T> {
    pub fn new(make: impl FnOnce() -> T) -> Self {
        let before = held();
        let value = Some(make());
        let made = HandedOver { value, held: held() - before };
        count(Held::default() - made.held);
        made
    }

    /// The value; `None` if it was taken before.
    pub fn take(&mut self) -> Option<T> {
        count(std::mem::take(&mut self.held));
        self.value.take()
    }
}

impl<T> Drop for HandedOver<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Whether the system has refused an allocation: Rust aborts after most of them.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether the system has refused an allocation to [`Counting`]. May be called in the handler of a signal.
pub fn was_refused() -> bool {
    REFUSED.load(Ordering::Relaxed)
}

/// The system's allocator with the counter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

#[inline]
fn grow(bytes: i64, blocks: i64) {
    count(Held { bytes, blocks });
}

/// Counts what this thread allocated, or was handed.
#[inline]
fn count(change: Held) {
    // A value without a destructor is there as long as its thread; where it is not, nothing is counted.
    let _ = METER.try_with(|meter| {
        let held = meter.held.get() + change;
        meter.held.set(held);
        if held.exceeds(meter.most.get()) {
            meter.is_outside.set(true);
        }
    });
}

#[inline]
fn shrink(bytes: i64, blocks: i64) {
    let _ = METER.try_with(|meter| {
        let held = meter.held.get() - Held { bytes, blocks };
        meter.held.set(held);
        if meter.least.get().exceeds(held) {
            meter.is_outside.set(true);
        }
    });
}

/// Counts what the system gave, or notes that it gave nothing.
#[inline]
fn counted(memory: *mut u8, bytes: i64, blocks: i64) -> *mut u8 {
    if memory.is_null() {
        REFUSED.store(true, Ordering::Relaxed);
    } else {
        grow(bytes, blocks);
    }
    memory
}

// SAFETY: every call goes to the system's allocator as it is; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted(System.alloc(layout), layout.size() as i64, 1)
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        counted(System.alloc_zeroed(layout), layout.size() as i64, 1)
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        System.dealloc(memory, layout);
        shrink(layout.size() as i64, 1);
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted(System.realloc(memory, layout, size), size as i64 - layout.size() as i64, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For all tests of the library.
    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    #[test]
    fn bytes_and_blocks_are_counted() {
        let before = held();
        let mut list: Vec<u8> = Vec::with_capacity(1000);
        assert_eq!(held() - before, Held { bytes: 1000, blocks: 1 });
        list.reserve_exact(5000);
        assert_eq!(held() - before, Held { bytes: 5000, blocks: 1 });
        let boxed = Box::new([0_u64; 8]);
        assert_eq!(held() - before, Held { bytes: 5064, blocks: 2 });
        drop((list, boxed));
        assert_eq!(held() - before, Held::default());
    }

    #[test]
    fn what_another_thread_made_counts_where_it_is_taken() {
        let make = || HandedOver::new(|| Vec::<u8>::with_capacity(1000));
        let before = held();
        let own = make();
        assert_eq!(held() - before, Held::default(), "made, but not taken");
        drop(own);
        assert_eq!(held() - before, Held::default());
        let [mut one, other] = [(); 2].map(|()| std::thread::spawn(make).join().unwrap());
        let before = held();
        let list = one.take().unwrap();
        assert_eq!(held() - before, Held { bytes: 1000, blocks: 1 });
        assert!(one.take().is_none());
        drop((list, one, other));
        assert_eq!(held() - before, Held::default());
    }

    #[test]
    fn a_thread_that_leaves_its_bounds_raises_the_flag() {
        let kept: Vec<u8> = Vec::with_capacity(500);
        let now = held();
        assert!(!set_bounds(now, now + Held { bytes: 1000, blocks: 1 }));
        let list: Vec<u8> = Vec::with_capacity(1000);
        assert!(!is_outside(), "as much as is allowed");
        drop(list);
        assert!(!is_outside());
        let list: Vec<u8> = Vec::with_capacity(1001);
        assert!(is_outside(), "a byte more");
        drop(list);
        assert!(is_outside(), "it stays up");
        assert!(!set_bounds(now, now + Held { bytes: 1000, blocks: 1 }));
        let boxes = (Box::new(1), Box::new(2));
        assert!(is_outside(), "a block more");
        drop(boxes);
        assert!(!set_bounds(now, Held::MOST));
        drop(kept);
        assert!(is_outside(), "less than at the least");
        set_bounds(Held::LEAST, Held::MOST);
    }
}
