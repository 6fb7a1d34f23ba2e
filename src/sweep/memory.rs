//! How many trials fit into memory side by side: measured by a step of one of them.

use super::lora::{Shared, Task};
use crate::error::Result;
use crate::lora::AdapterSet;
use crate::lora::{Adapter, Trainable};
use crate::model::Decoder;
use crate::train::memory::process::{free, growth};
use crate::train::step::{backward, predicted_labels};

/// The share of the free memory that is planned for: other programs want some, and the
/// allocator keeps holes.
const SHARE: f64 = 0.7;
/// Parameters, gradients and two moments.
const COPIES: u64 = 4;

/// How many trials of `one` bytes each fit into `free`: at least 1.
pub fn that_fit(free: u64, one: u64) -> usize {
    ((free as f64 * SHARE / one.max(1) as f64) as usize).max(1)
}

/// At least 1. Without the system's word on memory there is no bound: groups are halved when
/// it runs out.
pub fn trials_that_fit(decoder: &Decoder, shared: Shared, task: &Task) -> Result<usize> {
    let Some(free) = free(decoder.device) else { return Ok(usize::MAX) };
    let adapter = Adapter::new(task.spec.clone(), decoder, 0)?;
    let states = adapter.parameters.count() * 4 * COPIES;
    let Some(activations) = growth(decoder.device, || longest_step(decoder, shared, task, &adapter))? else {
        return Ok(usize::MAX);
    };
    Ok(that_fit(free, states + activations))
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
