//! How much memory a thread's Rust values hold, and whether the system refused any: a counter in front of its
//! allocator.
//!
//! The script language builds values without asking anybody, and an allocation that fails ends the process. With this
//! counter a script's growth is seen after each of its operations, long before that (`script/engine/budget.rs`).
//! Tensors are libtorch's and are not counted.

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

thread_local! {
    static HELD: Cell<Held> = const { Cell::new(Held { bytes: 0, blocks: 0 }) };
}

/// What this thread holds now.
#[inline]
pub fn held() -> Held {
    HELD.get()
}

/// Whether the system has refused an allocation: Rust aborts after most of them.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether the system has refused an allocation. May be called in the handler of a signal.
pub fn was_refused() -> bool {
    REFUSED.load(Ordering::Relaxed)
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[inline]
fn count(bytes: i64, blocks: i64) {
    // A `Cell` without a destructor is there as long as its thread; where it is not, nothing is counted.
    let _ = HELD.try_with(|held| held.set(held.get() + Held { bytes, blocks }));
}

/// Counts what the system gave, or notes that it gave nothing.
#[inline]
fn counted(memory: *mut u8, bytes: i64, blocks: i64) -> *mut u8 {
    if memory.is_null() {
        REFUSED.store(true, Ordering::Relaxed);
    } else {
        count(bytes, blocks);
    }
    memory
}

// SAFETY: every call goes to the system's allocator as it is; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted(System.alloc(layout), layout.size() as i64, 1)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        counted(System.alloc_zeroed(layout), layout.size() as i64, 1)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        System.dealloc(memory, layout);
        count(-(layout.size() as i64), -1);
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted(System.realloc(memory, layout, size), size as i64 - layout.size() as i64, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
