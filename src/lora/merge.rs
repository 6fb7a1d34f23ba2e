//! An adapter added into the weights, as PEFT merges: W + ΔW with ΔW = B A · scale.
//!
//! DoRA, PiSSA and OLoRA, trained biases, rows and saved modules are merged as they act.
//! ΔW and the sum are computed in the adapter's f32 and rounded once to the dtype of W, as
//! `merge_and_unload()` does (its `safe_merge` rounds ΔW separately first). The mapped files of the
//! base are never written to. Merging in memory is in `in_place.rs`.

use super::adapter::Adapter;
use super::dora;
use super::views::{EmbeddingLowRank, LowRank, TrainedRows};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::model::linear::Weight;
use crate::model::shapes::{parameter_shapes, EMBEDDING, HEAD};
use crate::model::{Config, Decoder};
use std::collections::HashMap;
use tch::{Kind as Dtype, Tensor};

/// How much of ΔW is lost when W + ΔW is rounded to a dtype.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rounding {
    /// ‖ΔW‖², in f32.
    change: f64,
    /// ‖ΔW − (round(W + ΔW) − W)‖²
    lost: f64,
}

impl Rounding {
    /// ‖ΔW − (round(W + ΔW) − W)‖ / ‖ΔW‖: 0 where nothing is lost, about 1 where W does not
    /// change at all. 0 for an empty change.
    pub fn relative_error(&self) -> f64 {
        if self.change > 0.0 {
            (self.lost / self.change).sqrt()
        } else {
            0.0
        }
    }

    pub fn add(&mut self, other: Rounding) {
        self.change += other.change;
        self.lost += other.lost;
    }
}

/// How an adapter changes one tensor of the base: the parts act in this order.
#[derive(Default)]
pub struct Change<'a> {
    /// A copy of the tensor that replaces the base's.
    replacement: Option<&'a Tensor>,
    /// Trained rows that replace some of the tensor's.
    rows: Option<TrainedRows<'a>>,
    /// W + ΔW, with DoRA scaled to the trained lengths of its rows.
    low_rank: Option<LowRank<'a>>,
    /// W + ΔW of the embeddings.
    embedding: Option<EmbeddingLowRank<'a>>,
    /// The bias of B (`lora_bias`), and its scale.
    lora_bias: Option<(&'a Tensor, f64)>,
}

impl<'a> Change<'a> {
    /// A low-rank change alone.
    pub fn low_rank(low_rank: LowRank<'a>) -> Self {
        Change { low_rank: Some(low_rank), ..Change::default() }
    }

    fn is_some(&self) -> bool {
        let Change { replacement, rows, low_rank, embedding, lora_bias } = self;
        replacement.is_some() || rows.is_some() || low_rank.is_some() || embedding.is_some() || lora_bias.is_some()
    }

    /// The changed tensor, in f32, of `wide`, the base's in f32.
    fn apply(&self, wide: &Tensor) -> Result<Tensor> {
        let mut x = match self.replacement {
            Some(weight) => weight.f_detach()?.f_to_kind(Dtype::Float)?,
            None => wide.shallow_clone(),
        };
        if let Some(TrainedRows { index, rows }) = self.rows {
            x = x.f_index_copy(0, &index.ids, &rows.f_detach()?.f_to_kind(Dtype::Float)?)?;
        }
        if let Some(low_rank) = &self.low_rank {
            x = adapted(&x, low_rank)?;
        }
        if let Some(EmbeddingLowRank { a, b, scale }) = self.embedding {
            let delta = b.f_detach()?.f_matmul(&a.f_detach()?)?.f_tr()?;
            x = x.f_add(&delta.f_mul_scalar(scale)?)?;
        }
        if let Some((bias, scale)) = self.lora_bias {
            x = x.f_add(&bias.f_detach()?.f_mul_scalar(scale)?)?;
        }
        Ok(x)
    }
}

/// The adapted weight of one layer in f32, `[out_features, in_features]`: W + s BA, less s B₀A₀
/// with PiSSA and OLoRA; with DoRA its rows scaled to their lengths.
fn adapted(wide: &Tensor, low_rank: &LowRank) -> Result<Tensor> {
    let product = |b: &Tensor, a: &Tensor| b.f_detach().and_then(|b| b.f_matmul(&a.f_detach()?));
    let mut delta = product(low_rank.b, low_rank.a)?;
    if let Some(initial) = low_rank.initial {
        delta = delta.f_sub(&product(&initial.b, &initial.a)?)?;
    }
    let sum = wide.f_add(&delta.f_mul_scalar(low_rank.scale)?)?;
    Ok(match low_rank.magnitude {
        None => sum,
        Some(magnitude) => dora::factors(&magnitude.f_detach()?, wide, low_rank)?.f_unsqueeze(1)?.f_mul(&sum)?,
    })
}

/// A tensor of the base with `change` merged into it, in `dtype`: added in f32 and rounded once.
///
/// # Errors
/// `Kind::Numeric` where it is not finite.
pub fn merged(weight: &Tensor, change: &Change, dtype: Dtype) -> Result<(Tensor, Rounding)> {
    let wide = weight.f_detach()?.f_to_kind(Dtype::Float)?;
    let exact = change.apply(&wide)?;
    let kept = exact.f_to_kind(dtype)?;
    if kept.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
        bail!(Kind::Numeric, "the merged weight is not finite"; hint: "the adapter's training diverged, or its values do not fit the dtype: look at its loss, or merge in f32");
    }
    let delta = exact.f_sub(&wide)?;
    // Measured from the base in the same dtype: its rounding is no loss of ΔW.
    let moved = kept.f_to_kind(Dtype::Float)?.f_sub(&wide.f_to_kind(dtype)?.f_to_kind(Dtype::Float)?)?;
    let squared = |x: &Tensor| Ok::<_, Error>(x.f_norm()?.f_double_value(&[])?.powi(2));
    let rounding = Rounding { change: squared(&delta)?, lost: squared(&delta.f_sub(&moved)?)? };
    Ok((kept, rounding))
}

/// The weights of a base with an adapter in them, made one at a time.
pub struct MergedWeights<'a> {
    /// The base's, but untied where an adapter changes the head or the embeddings alone.
    pub config: Config,
    dtype: Dtype,
    weights: HashMap<String, Weight>,
    changes: HashMap<String, Change<'a>>,
}

impl<'a> MergedWeights<'a> {
    /// The weights of `decoder` in `dtype`, with `adapter` in them if there is one.
    pub fn new(decoder: &Decoder, adapter: Option<&'a Adapter>, dtype: Dtype) -> Result<Self> {
        let mut shared = decoder.shallow_clone();
        let mut changes = adapter.map(|adapter| changes(decoder, adapter)).transpose()?.unwrap_or_default();
        if shared.config.tie_word_embeddings && adapter.is_some_and(Adapter::keeps_tie) {
            changes.remove(&format!("{HEAD}.weight"));
        } else if unties(changes.keys()) {
            shared.config.tie_word_embeddings = false;
        }
        let named = shared.named_weights()?.into_iter();
        let mut weights: HashMap<String, Weight> = named.map(|(name, tensor)| (name, Weight::Dense(tensor))).collect();
        // 4-bit weights are stored above as parts; dense matrices replace them.
        weights.extend(
            shared.linears().map(|linear| (format!("{}.weight", linear.shape.name), linear.weight.shallow_clone())),
        );
        let config = Config { quantization: None, ..shared.config.clone() };
        Ok(MergedWeights { config, dtype, weights, changes })
    }

    /// Name and shape of every tensor, layer after layer.
    pub fn shapes(&self) -> Vec<(String, Vec<i64>)> {
        let mut shapes = parameter_shapes(&self.config);
        let order = |name: &str| match name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()) {
            Some(layer) => (1, layer.parse().unwrap_or(0)),
            None => (if name == "model.embed_tokens.weight" { 0 } else { 2 }, 0_usize),
        };
        shapes.sort_by_key(|(name, _)| order(name));
        shapes
    }

    /// The tensor, and for one that the adapter changes, how much rounding lost.
    pub fn weight(&self, name: &str) -> Result<(Tensor, Option<Rounding>)> {
        let weight = self.weights.get(name).ok_or_else(|| Error::bug(format!("`{name}` is not in the decoder")))?;
        let Some(change) = self.changes.get(name) else { return Ok((weight.to_dense(self.dtype)?.f_detach()?, None)) };
        let dense = match weight {
            Weight::Dense(weight) => weight.shallow_clone(),
            Weight::Nf4(weight) => weight.dense(self.dtype)?,
        };
        let (weight, rounding) =
            merged(&dense, change, self.dtype).map_err(|error| error.context(format!("tensor `{name}`")))?;
        Ok((weight, Some(rounding)))
    }
}

/// The changes of `adapter`, by the name of the tensor that they change.
///
/// # Errors
/// The adapter has a bias of B where the base has no bias to add it to.
pub(super) fn changes<'a>(decoder: &Decoder, adapter: &'a Adapter) -> Result<HashMap<String, Change<'a>>> {
    let mut changes = HashMap::new();
    for linear in decoder.linears() {
        let name = &linear.shape.name;
        let saved = adapter.saved_module(&linear.shape);
        let low_rank = adapter.low_rank(&linear.shape);
        let lora_bias = low_rank.and_then(|low_rank| Some((low_rank.bias?, low_rank.scale)));
        if lora_bias.is_some() && linear.bias.is_none() {
            bail!(Kind::Model, "the adapter has a bias of B (`lora_bias`) for `{name}`, and the base has no bias there to add it to"; hint: "keep this adapter unmerged");
        }
        let weight = Change {
            replacement: saved.weight.or(adapter.replaced(&linear.shape)),
            rows: adapter.head_rows(&linear.shape),
            low_rank,
            ..Change::default()
        };
        changes.insert(format!("{name}.weight"), weight);
        changes.insert(format!("{name}.bias"), Change { replacement: saved.bias, lora_bias, ..Change::default() });
    }
    let embedding = Change {
        replacement: adapter.embedding(),
        rows: adapter.embedding_rows(),
        embedding: adapter.embedding_low_rank(),
        ..Change::default()
    };
    changes.insert(format!("{EMBEDDING}.weight"), embedding);
    for norm in decoder.norms() {
        changes.insert(
            format!("{}.weight", norm.name),
            Change { replacement: adapter.norm(&norm.name), ..Change::default() },
        );
    }
    changes.retain(|_, change| change.is_some());
    Ok(changes)
}

/// Does a change to the head or the embeddings end their being one tensor?
pub(super) fn unties<'a>(mut changed: impl Iterator<Item = &'a String>) -> bool {
    changed.any(|name| matches!(name.strip_suffix(".weight"), Some(EMBEDDING | HEAD)))
}

/// The tensors that unmerging restores.
#[derive(Debug)]
pub(super) struct Originals {
    pub adapter: String,
    pub weights: Vec<(String, Tensor)>,
    pub tied: bool,
}
