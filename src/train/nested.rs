//! How the micro-batch of a run goes through the decoder: as it is, or, with nested ranks, its rows through the prefixes of
//! the adapter.

use super::step::predicted_labels;
use crate::data::batch::Batch;
use crate::error::{Error, Result};
use crate::lora::trainable::dropout_key;
use crate::lora::{Active, AdapterSet, Nested, NestedLoss, Trainable};
use crate::random::Key;
use std::borrow::Cow;

/// A part of a pass: rows, and the adapter that they go through.
#[derive(Debug)]
pub struct PassPart<'a> {
    pub batch: Cow<'a, Batch>,
    /// `None` where the decoder itself is trained. The number of its part is that of the pass.
    pub active: Option<Active<'a>>,
    /// How much the summed loss of the part counts.
    pub weight: f64,
}

/// The micro-batch of a step: the keys of what is random in it.
#[derive(Debug, Clone, Copy)]
pub struct MicroBatch {
    pub seed: u64,
    pub step: u64,
    pub number: usize,
    pub has_dropout: bool,
}

impl MicroBatch {
    /// The first of a run.
    pub fn first() -> Self {
        MicroBatch { seed: 0, step: 0, number: 0, has_dropout: false }
    }

    fn dropout(&self) -> Option<Key> {
        self.has_dropout.then(|| dropout_key(self.seed, self.step, self.number))
    }

    /// Of the prefixes of a step.
    fn nested(&self) -> Key {
        Key::new(self.seed).named("nested").numbered(self.step)
    }
}

/// The parts that `batch` makes in a training pass: one, or one for each prefix that takes part. Without labels, none.
pub fn pass_parts<'a>(trainable: &'a dyn Trainable, batch: &'a Batch, micro_batch: MicroBatch) -> Vec<PassPart<'a>> {
    let key = micro_batch.dropout();
    let whole = |weight: f64| PassPart { batch: Cow::Borrowed(batch), active: trainable.active(None, key), weight };
    let Some(nested) = trainable.nested() else { return vec![whole(1.0)] };
    let with_slices = |part: PassPart<'a>, slices| {
        let active = part.active.map(|active| Active { slices: Some(slices), ..active });
        PassPart { active, ..part }
    };
    match nested.options.loss {
        NestedLoss::All => {
            let shares = nested.shares().iter().enumerate().filter(|(_, share)| **share > 0.0);
            shares.map(|(at, share)| with_slices(whole(*share), nested.prefix(at))).collect()
        }
        NestedLoss::Sampled => vec![with_slices(whole(1.0), nested.prefix(nested.sampled(micro_batch.nested())))],
        NestedLoss::Outputs => vec![with_slices(whole(1.0), nested.mean())],
        NestedLoss::Rows => {
            let rows = rows_of_prefixes(nested, batch, micro_batch);
            let parts = rows.into_iter().enumerate().filter(|(_, rows)| predicted_labels(rows) > 0);
            let last = nested.ranks().len() - 1;
            parts
                .map(|(at, rows)| {
                    // Rows are counted within their part: each prefix has masks of its own.
                    let key = key.map(|key| if at == last { key } else { key.named("prefix").numbered(at as u64) });
                    let active = trainable.active(None, key);
                    with_slices(PassPart { batch: Cow::Owned(rows), active, weight: 1.0 }, nested.prefix(at))
                })
                .collect()
        }
    }
}

/// The adapters of a pass of these parts, each on its own.
pub fn adapters_of<'a>(parts: &mut [PassPart<'a>]) -> AdapterSet<'a> {
    let active = parts
        .iter_mut()
        .enumerate()
        .filter_map(|(number, part)| part.active.take().map(|active| Active { part: Some(number), ..active }));
    AdapterSet::new(active.collect())
}

/// The rows of `batch` that go through each prefix, in the order of the batch.
fn rows_of_prefixes(nested: &Nested, batch: &Batch, micro_batch: MicroBatch) -> Vec<Batch> {
    let key = micro_batch.nested().named("rows").numbered(micro_batch.number as u64);
    let prefixes = nested.of_rows(batch.rows, key);
    let of = |at: usize| (0..batch.rows).filter(|&row| prefixes[row] == at).collect::<Vec<usize>>();
    (0..nested.ranks().len()).map(|at| batch.select_rows(&of(at))).collect()
}

/// Fails for a run whose loss `what` computes, which knows the whole rank only.
///
/// # Errors
/// An adapter with nested ranks.
pub fn ensure_not_nested(nested: Option<&Nested>, what: &str) -> Result<()> {
    let Some(nested) = nested else { return Ok(()) };
    let ranks: Vec<String> = nested.ranks().iter().map(i64::to_string).collect();
    Err(Error::input(format!("{what}: expected an adapter without nested ranks, found one with {}", ranks.join(", ")))
        .with_hint("nested ranks are trained by the built-in loss on examples: leave `nested_ranks` out here"))
}
