//! How many trials fit into memory side by side: measured by a step of one of them.

use super::lora::{Shared, Task};
use crate::error::Result;
use crate::lora::AdapterSet;
use crate::lora::{Adapter, Trainable};
use crate::model::Decoder;
use crate::native::gpu;
use crate::train::step::{backward, predicted_labels};
use std::fs;
use tch::Device;

/// The share of the free memory that is planned for: other programs want some, and the
/// allocator keeps holes.
const SHARE: f64 = 0.7;
/// Parameters, gradients and two moments.
const COPIES: u64 = 4;

/// At least 1. Without the system's word on memory there is no bound: groups are halved when
/// it runs out.
pub fn trials_that_fit(decoder: &Decoder, shared: Shared, task: &Task) -> Result<usize> {
    let Some(free) = free_bytes(decoder.device) else { return Ok(usize::MAX) };
    let adapter = Adapter::new(task.spec.clone(), decoder, 0)?;
    let states = adapter.parameters.count() * 4 * COPIES;
    let Some(activations) = measured(decoder.device, || longest_step(decoder, shared, task, &adapter))? else {
        return Ok(usize::MAX);
    };
    let one = (states + activations).max(1);
    Ok(((free as f64 * SHARE / one as f64) as usize).max(1))
}

/// Forward and backward over the longest rows that a micro-batch can have.
fn longest_step(decoder: &Decoder, shared: Shared, task: &Task, adapter: &Adapter) -> Result<()> {
    let length = |row: u32| shared.train.row(row as usize).map_or(0, |row| row.ids().len());
    let mut rows: Vec<u32> = (0..shared.train.len() as u32).collect();
    rows.sort_by_key(|&row| std::cmp::Reverse(length(row)));
    rows.truncate(task.config.batch);
    let batch = shared.train.batch(&rows)?;
    let adapters = AdapterSet { active: adapter.active(Some(0), None).into_iter().collect() };
    if predicted_labels(&batch) > 0 {
        backward(decoder, &[&batch], &adapters, &[1.0], task.config.gradient_checkpointing)?;
    }
    Ok(())
}

/// The bytes that memory in use grew by at the height of `work`: of the process, or of the
/// tensors on a GPU.
fn measured(device: Device, work: impl FnOnce() -> Result<()>) -> Result<Option<u64>> {
    if let Device::Cuda(index) = device {
        let before = gpu::memory(index, true)?.held;
        work()?;
        return Ok(Some(gpu::memory(index, false)?.peak.saturating_sub(before)));
    }
    // Writing 5 makes the peak start anew from here (proc(5)).
    let reset = fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = field("/proc/self/status", "VmRSS");
    work()?;
    let peak = field("/proc/self/status", "VmHWM");
    Ok(before.zip(peak).filter(|_| reset).map(|(before, peak)| peak.saturating_sub(before)))
}

/// What the system could give now, within the limits of this process's group; what a GPU has
/// free.
fn free_bytes(device: Device) -> Option<u64> {
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
        let Some(grown) = measured(Device::Cpu, || {
            std::hint::black_box(vec![1_u8; 400 << 20]);
            Ok(())
        })
        .unwrap() else {
            println!("skipped: this system does not tell");
            return;
        };
        // Other tests of this process take and free memory meanwhile.
        assert!((200 << 20..1200 << 20).contains(&grown), "{grown}");
        assert!(free_bytes(Device::Cpu).is_some_and(|free| free > 0));
    }
}
