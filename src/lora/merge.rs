//! An adapter added into the weights, as PEFT merges: W + ΔW with ΔW = B A · scale.
//!
//! ΔW and the sum are computed in the adapter's f32 and rounded once to the dtype of W, as
//! `merge_and_unload()` does (its `safe_merge` rounds ΔW by itself first). In memory the
//! touched layers get new tensors and the old ones are kept, so that unmerging is exact; the
//! mapped files of the base are never written to.

use super::adapter::{Adapter, LowRank};
use super::resident::AdaptedModel;
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use crate::model::shapes::parameter_shapes;
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

/// ΔW of one layer, f32 `[out_features, in_features]`.
pub fn delta(low_rank: &LowRank) -> Result<Tensor> {
    let (a, b) = (low_rank.a.f_detach()?, low_rank.b.f_detach()?);
    Ok(b.f_matmul(&a)?.f_mul_scalar(low_rank.scale)?)
}

/// W + ΔW in the dtype of `weight`, `[out_features, in_features]`.
///
/// # Errors
/// `Kind::Numeric` where the sum is not finite.
pub fn merged(weight: &Tensor, low_rank: &LowRank) -> Result<(Tensor, Rounding)> {
    let weight = weight.f_detach()?;
    let delta = delta(low_rank)?;
    let wide = weight.f_to_kind(Dtype::Float)?;
    let sum = wide.f_add(&delta)?.f_to_kind(weight.f_kind()?)?;
    if sum.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
        bail!(Kind::Numeric, "the merged weight is not finite"; hint: "the adapter's training diverged, or its values do not fit the dtype: look at its loss, or merge in f32");
    }
    let kept = sum.f_to_kind(Dtype::Float)?.f_sub(&wide)?;
    let squared = |x: &Tensor| Ok::<_, Error>(x.f_norm()?.f_double_value(&[])?.powi(2));
    let rounding = Rounding { wanted: squared(&delta)?, lost: squared(&delta.f_sub(&kept)?)? };
    Ok((sum, rounding))
}

/// The weights of a base with an adapter in them, made one at a time.
pub struct MergedWeights<'a> {
    /// The base's, but with a head of its own where an adapter changes a tied one.
    pub config: Config,
    dtype: Dtype,
    weights: HashMap<String, Tensor>,
    low_rank: HashMap<String, LowRank<'a>>,
}

impl<'a> MergedWeights<'a> {
    /// The weights of `decoder` in `dtype`, with `adapter` in them if there is one.
    pub fn new(decoder: &Decoder, adapter: Option<&'a Adapter>, dtype: Dtype) -> Result<Self> {
        let mut shared = decoder.share();
        let low_rank: HashMap<String, LowRank> = adapter.map(low_ranks).unwrap_or_default();
        if low_rank.contains_key("lm_head.weight") {
            shared.config.tie_word_embeddings = false;
        }
        let weights = shared.named_weights()?.into_iter().collect();
        Ok(MergedWeights { config: shared.config.clone(), dtype, weights, low_rank })
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
        let weight = weight.f_detach()?.f_to_kind(self.dtype)?;
        match self.low_rank.get(name) {
            None => Ok((weight, None)),
            Some(low_rank) => {
                let (weight, rounding) =
                    merged(&weight, low_rank).map_err(|error| error.context(format!("tensor `{name}`")))?;
                Ok((weight, Some(rounding)))
            }
        }
    }
}

/// By the name of the weight that they change.
fn low_ranks(adapter: &Adapter) -> HashMap<String, LowRank<'_>> {
    let changed = |target: &super::targets::Target| {
        Some((format!("{}.weight", target.linear.name), adapter.low_rank(&target.linear)?))
    };
    adapter.targets.iter().filter_map(changed).collect()
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
        self.refuse_merged()?;
        let adapter = self.adapter(name)?;
        let (mut fresh, mut total) = (Vec::new(), Rounding::default());
        for linear in self.decoder.linears() {
            interrupt::check()?;
            let Some(low_rank) = adapter.low_rank(&linear.shape) else { continue };
            let (weight, rounding) = merged(&linear.weight, &low_rank)
                .map_err(|error| error.context(format!("layer `{}`", linear.shape.name)))?;
            total.add(rounding);
            fresh.push((format!("{}.weight", linear.shape.name), weight));
        }
        let adapter = name.or(self.active_name()).unwrap_or_default().to_owned();
        let tied = self.decoder.config.tie_word_embeddings;
        // A head that the adapter changes is no longer the embedding.
        self.decoder.config.tie_word_embeddings = tied && !fresh.iter().any(|(name, _)| name == "lm_head.weight");
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
    pub fn refuse_merged(&self) -> Result<()> {
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
