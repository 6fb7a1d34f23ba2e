//! What this process holds of memory, by the system's word (Linux; proc(5)), and on a GPU by
//! that of libtorch's allocator.
//!
//! The three fields of /proc are read by hand: crates for it parse whole tables.

use crate::error::Result;
use crate::native::gpu;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tch::Device;

/// The bytes that memory in use grew by at the height of `work`: of this process, with the
/// holes that the allocator keeps, or of the tensors on a GPU. `None` where the system does not
/// tell.
pub fn growth(device: Device, work: impl FnOnce() -> Result<()>) -> Result<Option<u64>> {
    if let Device::Cuda(index) = device {
        let before = gpu::memory(index, true)?.held;
        work()?;
        return Ok(Some(gpu::memory(index, false)?.peak.saturating_sub(before)));
    }
    give_back();
    let before = held();
    let reset = forget_peak();
    work()?;
    Ok(before.zip(peak()).filter(|_| reset).map(|(before, peak)| peak.saturating_sub(before)))
}

/// Watches that are under way: they share one peak, which only the first of them may start anew.
static WATCHES: AtomicUsize = AtomicUsize::new(0);
/// Whether the system let the first of them do so.
static STARTED_ANEW: AtomicBool = AtomicBool::new(false);

/// The most that is held while it lives: of this process (its resident memory, the mapped files of the
/// base among it), or of the tensors on a GPU. What runs beside it counts too.
#[derive(Debug)]
pub struct PeakWatch(Device);

impl PeakWatch {
    pub fn begin(device: Device) -> Self {
        if WATCHES.fetch_add(1, Ordering::SeqCst) == 0 {
            let started = match device {
                Device::Cuda(index) => gpu::memory(index, true).is_ok(),
                _ => {
                    give_back();
                    forget_peak()
                }
            };
            STARTED_ANEW.store(started, Ordering::SeqCst);
        }
        PeakWatch(device)
    }

    /// In bytes; `None` where the system does not tell.
    pub fn peak(&self) -> Option<u64> {
        if !STARTED_ANEW.load(Ordering::SeqCst) {
            return None;
        }
        match self.0 {
            Device::Cuda(index) => gpu::memory(index, false).ok().map(|memory| memory.peak),
            _ => peak(),
        }
    }
}

impl Drop for PeakWatch {
    fn drop(&mut self) {
        WATCHES.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Has the allocator give freed memory back to the system, so that [`held`] is what is in use.
pub fn give_back() {
    // SAFETY: takes a number of bytes to keep, and no memory of ours.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has every tensor of 16 MiB or more, such as logits, given back as it is freed, by memory pages of
/// its own, rather than leave a hole in glibc's heap: by default that keeps all below 32 MiB after the
/// first. Fresh pages cost time: from 1 MiB on, steps of a model of half a billion parameters took a
/// third longer. The heap's end stays, or each step would fetch it again. Settings of the user go first.
pub fn leave_no_large_holes() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (name, option, bytes) in [
        ("MALLOC_MMAP_THRESHOLD_", libc::M_MMAP_THRESHOLD, 16 << 20),
        ("MALLOC_TRIM_THRESHOLD_", libc::M_TRIM_THRESHOLD, 64 << 20),
    ] {
        if std::env::var_os(name).is_none() {
            // SAFETY: sets numbers of the allocator; it takes its own lock.
            unsafe { libc::mallopt(option, bytes) };
        }
    }
}

/// Bytes that are held now.
pub fn held() -> Option<u64> {
    field("/proc/self/status", "VmRSS")
}

/// The most that was held since the start, or since [`forget_peak`].
pub fn peak() -> Option<u64> {
    field("/proc/self/status", "VmHWM")
}

/// Makes [`peak`] start anew from here: writing 5 does (proc(5)).
pub fn forget_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// How much more this process may map (`ulimit -v`); `None` without such a limit.
pub fn addresses_left() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
    Some(limit.saturating_sub(field("/proc/self/status", "VmSize")?))
}

/// The memory of this machine, in bytes.
pub fn total() -> Option<u64> {
    field("/proc/meminfo", "MemTotal")
}

/// What the system could give now, within the limits of this process's group; what a GPU has
/// free.
pub fn free(device: Device) -> Option<u64> {
    if let Device::Cuda(index) = device {
        gpu::empty_cache().ok()?;
        return gpu::memory(index, false).ok().map(|memory| memory.free);
    }
    let available = field("/proc/meminfo", "MemAvailable")?;
    let number = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    let within_group = number("memory.max").zip(number("memory.current")).map(|(most, now)| most.saturating_sub(now));
    Some(within_group.map_or(available, |limit| limit.min(available)))
}

/// A field of one of the system's tables, in bytes.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_measured() {
        let Some(grown) = growth(Device::Cpu, || {
            std::hint::black_box(vec![1_u8; 400 << 20]);
            Ok(())
        })
        .unwrap() else {
            println!("not measured: this system does not say what a process holds");
            return;
        };
        // Other tests of this process take and free memory meanwhile.
        assert!((200 << 20..1200 << 20).contains(&grown), "{grown}");
        assert!(free(Device::Cpu).is_some_and(|free| free > 0));
    }

    #[test]
    fn the_peak_of_a_stretch_is_above_what_it_took() {
        let watch = PeakWatch::begin(Device::Cpu);
        let inner = PeakWatch::begin(Device::Cpu);
        std::hint::black_box(vec![1_u8; 300 << 20]);
        let (outer, inner) = (watch.peak(), inner.peak());
        match outer.zip(inner) {
            Some((outer, inner)) => assert!(outer >= 300 << 20 && inner >= 300 << 20, "{outer} {inner}"),
            None => println!("not measured: this system does not say what a process holds"),
        }
    }
}
