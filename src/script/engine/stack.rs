//! The thread that scripts run on. Values that a script nests deeply (`a = [a]` in a loop)
//! are cloned and dropped recursively, and would end the process on a default stack.

use crate::error::{Error, Result};
use crate::script::engine::budget;
use crate::train::memory::process;
use std::sync::Mutex;
use std::thread::Builder;

/// Where a larger one is refused. All are reserved, not used: the system hands out stack pages as they are touched.
const SIZES: [usize; 2] = [512 << 20, 64 << 20];

const MOST: u64 = 64 << 30;

/// Half of the memory, for the number of values that a script may hold goes by it (`budget`); less under a limit on
/// addresses (`ulimit -v`).
fn preferred_size() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    let memory = process::total().unwrap_or(0);
    let size = (memory / 2).min(MOST).min(limit.map_or(u64::MAX, |limit| limit / 8));
    usize::try_from(size).unwrap_or(0).max(SIZES[0]) & !0xffff
}

/// Runs `work` on a thread with a large stack, and waits for it.
///
/// Scripts and everything they hold stay on that thread: open the session inside `work`.
/// Fails where the system grants no such stack, and if `work` itself panics.
pub fn on_large_stack<T, F>(work: F) -> Result<T>
where
    T: Send,
    F: FnOnce() -> T + Send,
{
    // The closure leaves this slot only once a thread has started to run it.
    let slot = Mutex::new(Some(work));
    let run = |size: usize| {
        budget::set_stack(size as u64);
        slot.lock().ok().and_then(|mut slot| slot.take()).map(|work| work())
    };
    let run = &run;
    std::thread::scope(|scope| {
        let mut refusal = String::new();
        for size in [preferred_size()].into_iter().chain(SIZES) {
            match Builder::new().name("script".into()).stack_size(size).spawn_scoped(scope, move || run(size)) {
                Ok(thread) => return finished(thread.join()),
                Err(error) => refusal = error.to_string(),
            }
        }
        let message = format!("cannot start the script's thread: {refusal}");
        Err(Error::new(crate::Kind::Memory, message)
            .with_hint("raise the limits on memory and threads (ulimit -v, ulimit -u)"))
    })
}

fn finished<T>(outcome: std::thread::Result<Option<T>>) -> Result<T> {
    match outcome {
        Ok(Some(value)) => Ok(value),
        _ => Err(Error::bug("the script's thread ended early")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_recursion_fits() {
        fn depth(n: u64) -> u64 {
            let kept = std::hint::black_box([n; 64]);
            match n {
                0 => 0,
                _ => depth(n - 1) + 1 + (kept[0] - n),
            }
        }
        assert_eq!(on_large_stack(|| depth(100_000)).unwrap(), 100_000);
    }
}
