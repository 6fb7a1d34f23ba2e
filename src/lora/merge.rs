//! An adapter added into the weights, as PEFT merges: W + ΔW with ΔW = B A · scale.
//!
//! DoRA, PiSSA and OLoRA, trained biases, rows and whole modules end in the weights as they act.
//! ΔW and the sum are computed in the adapter's f32 and rounded once to the dtype of W, as
//! `merge_and_unload()` does (its `safe_merge` rounds ΔW by itself first). In memory the
//! touched layers get new tensors and the old ones are kept, so that unmerging is exact; the
//! mapped files of the base are never written to.

use super::adapter::{Adapter, EmbeddingLowRank, LowRank, TrainedRows};
use super::dora;
use super::resident::AdaptedModel;
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use crate::model::linear::Weight;
use crate::model::shapes::{parameter_shapes, EMBEDDING, HEAD};
use crate::model::{Config, Decoder};
use std::collections::HashMap;
use tch::{Kind as Dtype, Tensor};

/// How much of a change a dtype keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rounding {
    /// ‖ΔW‖², in f32.
    wanted: f64,
    /// ‖ΔW − (round(W + ΔW) − W)‖²
    lost: f64,
}

impl Rounding {
    /// ‖ΔW − (round(W + ΔW) − W)‖ / ‖ΔW‖: 0 where nothing is lost, about 1 where W does not
    /// change at all. 0 for an empty change.
    pub fn share(&self) -> f64 {
        if self.wanted > 0.0 {
            (self.lost / self.wanted).sqrt()
        } else {
            0.0
        }
    }

    pub fn add(&mut self, other: Rounding) {
        self.wanted += other.wanted;
        self.lost += other.lost;
    }
}

/// What an adapter makes of one tensor of the base: its parts act in this order.
#[derive(Default)]
pub struct Change<'a> {
    /// The adapter's own, in the base's place.
    over: Option<&'a Tensor>,
    /// Rows in the place of others.
    rows: Option<TrainedRows<'a>>,
    /// W + ΔW, with DoRA brought to its rows' lengths.
    low_rank: Option<LowRank<'a>>,
    /// W + ΔW of the embeddings.
    embedding: Option<EmbeddingLowRank<'a>>,
    /// The bias behind B, and its scale.
    plus: Option<(&'a Tensor, f64)>,
}

impl<'a> Change<'a> {
    /// A low-rank change alone.
    pub fn low_rank(low_rank: LowRank<'a>) -> Self {
        Change { low_rank: Some(low_rank), ..Change::default() }
    }

    fn is_some(&self) -> bool {
        let Change { over, rows, low_rank, embedding, plus } = self;
        over.is_some() || rows.is_some() || low_rank.is_some() || embedding.is_some() || plus.is_some()
    }

    /// What becomes of `wide`, in f32.
    fn of(&self, wide: &Tensor) -> Result<Tensor> {
        let mut x = match self.over {
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
        if let Some((bias, scale)) = self.plus {
            x = x.f_add(&bias.f_detach()?.f_mul_scalar(scale)?)?;
        }
        Ok(x)
    }
}

/// The adapted weight of one layer in f32, `[out_features, in_features]`: W + s BA, less s B₀A₀
/// where the adapter began with a part of W; with DoRA its rows brought to their lengths.
fn adapted(wide: &Tensor, low_rank: &LowRank) -> Result<Tensor> {
    let product = |b: &Tensor, a: &Tensor| b.f_detach().and_then(|b| b.f_matmul(&a.f_detach()?));
    let mut delta = product(low_rank.b, low_rank.a)?;
    if let Some(taken) = low_rank.taken {
        delta = delta.f_sub(&product(&taken.b, &taken.a)?)?;
    }
    let sum = wide.f_add(&delta.f_mul_scalar(low_rank.scale)?)?;
    Ok(match low_rank.magnitude {
        None => sum,
        Some(magnitude) => dora::factors(&magnitude.f_detach()?, wide, low_rank)?.f_unsqueeze(1)?.f_mul(&sum)?,
    })
}

/// A tensor of the base, changed, in `dtype`: added in f32 and rounded once.
///
/// # Errors
/// `Kind::Numeric` where it is not finite.
pub fn merged(weight: &Tensor, change: &Change, dtype: Dtype) -> Result<(Tensor, Rounding)> {
    let wide = weight.f_detach()?.f_to_kind(Dtype::Float)?;
    let wanted = change.of(&wide)?;
    let kept = wanted.f_to_kind(dtype)?;
    if kept.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
        bail!(Kind::Numeric, "the merged weight is not finite"; hint: "the adapter's training diverged, or its values do not fit the dtype: look at its loss, or merge in f32");
    }
    let delta = wanted.f_sub(&wide)?;
    // From where the base itself lies in this dtype.
    let moved = kept.f_to_kind(Dtype::Float)?.f_sub(&wide.f_to_kind(dtype)?.f_to_kind(Dtype::Float)?)?;
    let squared = |x: &Tensor| Ok::<_, Error>(x.f_norm()?.f_double_value(&[])?.powi(2));
    let rounding = Rounding { wanted: squared(&delta)?, lost: squared(&delta.f_sub(&moved)?)? };
    Ok((kept, rounding))
}

/// The weights of a base with an adapter in them, made one at a time.
pub struct MergedWeights<'a> {
    /// The base's, but with a head of its own where an adapter changes a tied one.
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
        let place = |name: &str| match name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()) {
            Some(layer) => (1, layer.parse().unwrap_or(0)),
            None => (if name == "model.embed_tokens.weight" { 0 } else { 2 }, 0_usize),
        };
        shapes.sort_by_key(|(name, _)| place(name));
        shapes
    }

    /// The tensor, and for a layer that the adapter changes, what rounding took.
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

/// By the name of the tensor that they change.
///
/// # Errors
/// A bias behind B where the base has none to take it.
fn changes<'a>(decoder: &Decoder, adapter: &'a Adapter) -> Result<HashMap<String, Change<'a>>> {
    let mut changes = HashMap::new();
    for linear in decoder.linears() {
        let name = &linear.shape.name;
        let own = adapter.whole(&linear.shape);
        let low_rank = adapter.low_rank(&linear.shape);
        let plus = low_rank.and_then(|low_rank| Some((low_rank.bias?, low_rank.scale)));
        if plus.is_some() && linear.bias.is_none() {
            bail!(Kind::Model, "the adapter has a bias behind B (`lora_bias`) for `{name}`, and the base has no bias there that could take it"; hint: "keep this adapter unmerged");
        }
        let weight = Change {
            over: own.weight.or(adapter.replaced(&linear.shape)),
            rows: adapter.head_rows(&linear.shape),
            low_rank,
            ..Change::default()
        };
        changes.insert(format!("{name}.weight"), weight);
        changes.insert(format!("{name}.bias"), Change { over: own.bias, plus, ..Change::default() });
    }
    let embedding = Change {
        over: adapter.embedding(),
        rows: adapter.embedding_rows(),
        embedding: adapter.embedding_low_rank(),
        ..Change::default()
    };
    changes.insert(format!("{EMBEDDING}.weight"), embedding);
    for norm in decoder.norms() {
        changes.insert(format!("{}.weight", norm.name), Change { over: adapter.norm(&norm.name), ..Change::default() });
    }
    changes.retain(|_, change| change.is_some());
    Ok(changes)
}

/// A head or an embedding that an adapter changes is no longer the other one.
fn unties<'a>(mut changed: impl Iterator<Item = &'a String>) -> bool {
    changed.any(|name| matches!(name.strip_suffix(".weight"), Some(EMBEDDING | HEAD)))
}

/// What unmerging puts back.
#[derive(Debug)]
pub(super) struct Originals {
    adapter: String,
    weights: Vec<(String, Tensor)>,
    tied: bool,
}

impl AdaptedModel {
    /// Adds an adapter, the active one if `name` is `None`, into the weights. Until
    /// [`unmerge`](Self::unmerge) the model answers from the merged weights alone.
    pub fn merge(&mut self, name: Option<&str>) -> Result<Rounding> {
        self.ensure_unmerged()?;
        let adapter = self.adapter(name)?;
        let (mut fresh, mut total) = (Vec::new(), Rounding::default());
        let changes = changes(&self.decoder, adapter)?;
        let mut weights = self.decoder.shallow_clone();
        for (name, change) in &changes {
            interrupt::check()?;
            let Some(weight) = weights.weight_mut(name) else { return Err(four_bits(name)) };
            let (weight, rounding) =
                merged(weight, change, weight.f_kind()?).map_err(|error| error.context(format!("tensor `{name}`")))?;
            total.add(rounding);
            fresh.push((name.clone(), weight));
        }
        let adapter = name.or(self.active_name()).unwrap_or_default().to_owned();
        let tied = self.decoder.config.tie_word_embeddings;
        self.decoder.config.tie_word_embeddings = tied && !unties(fresh.iter().map(|(name, _)| name));
        self.merged = Some(Originals { adapter, weights: self.exchange(fresh)?, tied });
        Ok(total)
    }

    /// Puts the weights back that [`merge`](Self::merge) replaced: the very tensors.
    pub fn unmerge(&mut self) -> Result<()> {
        let Some(originals) = self.merged.take() else {
            return Err(Error::input("no adapter is merged").with_hint("merge one first with model.merge()"));
        };
        self.exchange(originals.weights)?;
        self.decoder.config.tie_word_embeddings = originals.tied;
        Ok(())
    }

    /// The adapter that is merged into the weights.
    pub fn merged_name(&self) -> Option<&str> {
        self.merged.as_ref().map(|originals| originals.adapter.as_str())
    }

    /// Fails while an adapter is merged, which holds up whatever would go by the base's weights.
    pub fn ensure_unmerged(&self) -> Result<()> {
        match self.merged_name() {
            None => Ok(()),
            Some(name) => Err(Error::input(format!("the adapter `{name}` is merged into the weights"))
                .with_hint("call model.unmerge() first")),
        }
    }

    /// Puts `fresh` in the place of the weights of these names, and gives those back.
    fn exchange(&mut self, fresh: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
        let mut swap = |(name, weight): (String, Tensor)| match self.decoder.weight_mut(&name) {
            Some(place) => Ok((name, std::mem::replace(place, weight))),
            None => Err(Error::bug(format!("`{name}` is not in the decoder"))),
        };
        fresh.into_iter().map(&mut swap).collect()
    }
}

fn four_bits(name: &str) -> Error {
    Error::input(format!("`{name}` is 4-bit: expected a dense base to merge an adapter into"))
        .with_hint("load the model without load_in_4bit and the adapter on it; save_merged and export_gguf write dense weights as they are")
}
