//! Refuses what several processes cannot train yet. tests/data_parallel.rs compares the rest with one process.

use super::super::callbacks::Callbacks;
use super::super::config::TrainConfig;
use super::super::nested::ensure_not_nested;
use crate::error::{Error, Result};
use crate::lora::Trainable;
use crate::model::Decoder;
use tch::Kind as Dtype;

/// Fails where the run is none that several processes can train.
///
/// # Errors
/// What it has that they cannot, by name.
pub fn ensure_supported(
    config: &TrainConfig,
    callbacks: &Callbacks,
    decoder: &Decoder,
    trainable: &dyn Trainable,
) -> Result<()> {
    let refused = [
        (callbacks.rollout.is_some(), "rewards (objective: \"grpo\")"),
        (config.objective.is_preference(), "preferences (`objective`)"),
        (callbacks.loss.is_some(), "a `loss` of the script"),
        (decoder.dtype == Dtype::Half, "a base in f16"),
    ];
    if let Some((_, what)) = refused.into_iter().find(|(is_used, _)| *is_used) {
        return Err(Error::input(format!(
            "train: several processes train by the built-in loss on examples, found {what}"
        ))
        .with_hint("run the script in one process: without --processes and --data-parallel"));
    }
    ensure_not_nested(trainable.nested(), "train by several processes")
}
