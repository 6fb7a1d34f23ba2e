//! The memory of this process as Linux reports it in /proc, and on a GPU as libtorch's allocator reports it.
//!
//! The three fields of /proc are read by hand: crates for it parse entire tables.

use crate::error::Result;
use crate::native::gpu;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tch::Device;

/// Returns by how many bytes the peak during `work` exceeds the memory before it: of the process, with the holes that
/// the allocator keeps, or of the tensors on a GPU. `None` where the system does not report it.
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

/// The watches of one device. They share its peak, which only the first of them may reset.
struct Watches {
    count: AtomicUsize,
    /// Could the first of them reset it?
    was_reset: AtomicBool,
}

/// Devices that are watched apart: the CPU, then GPUs by number. Any beyond share the last.
const DEVICES: usize = 65;

fn watches(device: Device) -> &'static Watches {
    static ALL: [Watches; DEVICES] =
        [const { Watches { count: AtomicUsize::new(0), was_reset: AtomicBool::new(false) } }; DEVICES];
    match device {
        Device::Cuda(index) => &ALL[(index + 1).min(DEVICES - 1)],
        _ => &ALL[0],
    }
}

/// Measures the peak memory while it lives: of this process (resident memory, with the mapped files of the base), or
/// of the tensors on a GPU. Other work of the process counts too.
#[derive(Debug)]
pub struct PeakWatch(Device);

impl PeakWatch {
    pub fn begin(device: Device) -> Self {
        let watches = watches(device);
        if watches.count.fetch_add(1, Ordering::SeqCst) == 0 {
            let was_reset = match device {
                Device::Cuda(index) => gpu::memory(index, true).is_ok(),
                _ => {
                    give_back();
                    forget_peak()
                }
            };
            watches.was_reset.store(was_reset, Ordering::SeqCst);
        }
        PeakWatch(device)
    }

    /// The peak in bytes; `None` where the system does not report it.
    pub fn peak(&self) -> Option<u64> {
        if !watches(self.0).was_reset.load(Ordering::SeqCst) {
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
        watches(self.0).count.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns freed memory to the system, so that [`held`] counts only memory in use.
pub fn give_back() {
    // SAFETY: takes the number of bytes to keep, no pointer.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes glibc map every allocation of 16 MiB or more, such as logits, so that its memory returns to the system when
/// it is freed. By default glibc raises that threshold up to 32 MiB, and smaller allocations leave holes in its heap.
/// A lower threshold costs time for fresh pages: at 1 MiB, steps of a model of half a billion parameters took a third
/// longer. The end of the heap is kept, or each step would fetch it again. Environment variables of the user take
/// precedence.
pub fn leave_no_large_holes() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (name, option, bytes) in [
        ("MALLOC_MMAP_THRESHOLD_", libc::M_MMAP_THRESHOLD, 16 << 20),
        ("MALLOC_TRIM_THRESHOLD_", libc::M_TRIM_THRESHOLD, 64 << 20),
    ] {
        if std::env::var_os(name).is_none() {
            // SAFETY: sets parameters of the allocator, under its lock.
            unsafe { libc::mallopt(option, bytes) };
        }
    }
}

/// The resident memory in bytes.
pub fn held() -> Option<u64> {
    field("/proc/self/status", "VmRSS")
}

/// The most resident memory since the start, or since [`forget_peak`].
pub fn peak() -> Option<u64> {
    field("/proc/self/status", "VmHWM")
}

/// Resets [`peak`]; writing 5 does so (proc(5)).
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

/// The free memory in bytes: of the system, within the limit of this process's control group, or of a GPU.
pub fn free(device: Device) -> Option<u64> {
    if let Device::Cuda(index) = device {
        gpu::empty_cache().ok()?;
        return gpu::memory(index, false).ok().map(|memory| memory.free);
    }
    let available = field("/proc/meminfo", "MemAvailable")?;
    let groups = groups().into_iter().map(|group| group.most.saturating_sub(group.now));
    let addresses = address_limit().map(|most| most.saturating_sub(field("/proc/self/status", "VmSize").unwrap_or(0)));
    Some(groups.chain(addresses).fold(available, u64::min))
}

/// The most that this process could ever hold on a device: of the machine, within the limits of its groups and of
/// its addresses.
pub fn limit(device: Device) -> Option<u64> {
    if let Device::Cuda(index) = device {
        return gpu::memory(index, false).ok().map(|memory| memory.total);
    }
    let all = field("/proc/meminfo", "MemTotal")?;
    Some(groups().into_iter().map(|group| group.most).chain(address_limit()).fold(all, u64::min))
}

/// The limit on addresses (`ulimit -v`), where there is one.
fn address_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the limits to `limit`.
    let is_known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    (is_known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// A limit on the memory of a group of processes, and what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GroupLimit {
    most: u64,
    now: u64,
}

/// The limits of the control groups that this process is in, from its own up to the root (cgroups(7)). Schedulers put
/// each job into a group of its own.
fn groups() -> Vec<GroupLimit> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups_below(Path::new("/sys/fs/cgroup"), &text)
}

/// `text` has lines as `0::/path` for version 2, and `4:memory:/path` for version 1.
fn groups_below(root: &Path, text: &str) -> Vec<GroupLimit> {
    let mut limits = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (root, most, now) = match controllers {
            "" => (root.to_owned(), "memory.max", "memory.current"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        // Seen from a container, the path may not be there, but the root is its own group.
        for folder in root.join(path.trim_start_matches('/')).ancestors().take_while(|folder| folder.starts_with(&root))
        {
            let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
            limits.extend(number(most).zip(number(now)).map(|(most, now)| GroupLimit { most, now }));
        }
    }
    limits
}

/// Reads a field of a file in /proc, in bytes.
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
        // Other tests of this process allocate and free memory meanwhile.
        assert!((200 << 20..1200 << 20).contains(&grown), "{grown}");
        assert!(free(Device::Cpu).is_some_and(|free| free > 0));
    }

    #[test]
    fn limits_of_all_groups_above_count() {
        let root = tempfile::tempdir().unwrap();
        let job = root.path().join("slurm/job_1");
        fs::create_dir_all(&job).unwrap();
        let write = |path: &Path, most: &str, now: &str| {
            fs::write(path.join("memory.max"), most).unwrap();
            fs::write(path.join("memory.current"), now).unwrap();
        };
        write(&job, "max\n", "100\n");
        write(&root.path().join("slurm"), "5000\n", "1000\n");
        let version_2 = [GroupLimit { most: 5000, now: 1000 }];
        assert_eq!(groups_below(root.path(), "0::/slurm/job_1\n"), version_2);
        let old = root.path().join("memory/job");
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("memory.limit_in_bytes"), "700\n").unwrap();
        fs::write(old.join("memory.usage_in_bytes"), "70\n").unwrap();
        assert_eq!(groups_below(root.path(), "3:cpu:/x\n4:memory:/job\n"), [GroupLimit { most: 700, now: 70 }]);
        assert_eq!(groups_below(root.path(), "0::/not/here\n"), []);
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
