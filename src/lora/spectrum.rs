//! The singular values of the change ΔW = s·B·A that an adapter makes to each layer, and what is derived
//! from them: effective ranks, truncation to a lower rank, the similarity of two adapters.
//!
//! ΔW itself is never formed. With B = Q₁R₁ and Aᵀ = Q₂R₂, ΔW = Q₁ (s·R₁R₂ᵀ) Q₂ᵀ, and the
//! small matrix in the middle has the singular values of ΔW. Everything is in f64 on the CPU.

use super::adapted::AdaptedModel;
use super::adapter::Adapter;
use super::nested_options::NestedOptions;
use super::pattern::Pattern;
use super::spec::LoraSpec;
use super::targets::Target;
use super::views::LowRank;
use crate::bail;
use crate::error::{Kind, Result};
use crate::interrupt;
use crate::model::Config;
use crate::options;
use crate::options::OptionSet;
use serde::Serialize;
use serde_json::{json, Map, Value};
use std::collections::BTreeMap;
use tch::{no_grad, Device, Kind as Dtype, Tensor};

/// The singular values of one layer's ΔW, largest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModuleSpectrum {
    /// Full module name.
    pub name: String,
    pub layer: Option<usize>,
    /// The last part of the name: `q_proj`.
    pub module: String,
    pub r: i64,
    /// The factor s of B·A.
    pub scale: f64,
    pub values: Vec<f64>,
}

impl ModuleSpectrum {
    /// e to the entropy of the singular values as fractions of their sum: a number from 1 to r,
    /// 0 where ΔW is zero (Roy and Vetterli, 2007, "The effective rank").
    pub fn effective_rank(&self) -> f64 {
        let sum: f64 = self.values.iter().sum();
        if sum <= 0.0 {
            return 0.0;
        }
        let fractions = self.values.iter().map(|value| value / sum).filter(|p| *p > 0.0);
        fractions.map(|p| -p * p.ln()).sum::<f64>().exp()
    }

    /// The least rank that keeps the fraction `energy` of Σσ², the energy of ΔW; 0 where ΔW is zero.
    pub fn energy_rank(&self, energy: f64) -> i64 {
        let all: f64 = self.values.iter().map(|value| value * value).sum();
        let mut kept = 0.0;
        let needed = self.values.iter().take_while(|value| {
            let is_needed = kept < energy * all;
            kept += *value * *value;
            is_needed
        });
        needed.count() as i64
    }

    /// The Frobenius norm of ΔW.
    pub fn norm(&self) -> f64 {
        self.values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }
}

/// ΔW as U·diag(σ)·Vᵀ: U `[out, k]`, σ `[k]`, V `[in, k]`, k at most r.
struct Factors {
    u: Tensor,
    values: Tensor,
    v: Tensor,
}

fn factors(low_rank: &LowRank) -> Result<Factors> {
    let wide = |x: &Tensor| x.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Dtype::Double);
    let (q1, r1) = Tensor::f_linalg_qr(&wide(low_rank.b)?, "reduced")?;
    let (q2, r2) = Tensor::f_linalg_qr(&wide(low_rank.a)?.f_tr()?, "reduced")?;
    let middle = r1.f_matmul(&r2.f_tr()?)?.f_mul_scalar(low_rank.scale)?;
    if !middle.f_isfinite()?.f_all()?.f_int64_value(&[]).is_ok_and(|all| all == 1) {
        bail!(Kind::Numeric, "the adapter holds numbers that are not finite");
    }
    let (u, values, v) = middle.f_svd(true, true)?;
    Ok(Factors { u: q1.f_matmul(&u)?, values, v: q2.f_matmul(&v)? })
}

/// The spectra of every layer that an adapter adapts.
#[derive(Debug, Clone)]
pub struct RankSpectrum {
    pub modules: Vec<ModuleSpectrum>,
    spec: LoraSpec,
    targets: Vec<Target>,
}

impl RankSpectrum {
    pub fn of(adapter: &Adapter) -> Result<Self> {
        let modules = each_layer(adapter, |target, low_rank| {
            Ok(ModuleSpectrum {
                name: target.linear.name.clone(),
                layer: target.linear.layer,
                module: short(&target.linear.name).to_owned(),
                r: target.r,
                scale: target.scale,
                values: Vec::<f64>::try_from(&factors(low_rank)?.values)?,
            })
        })?;
        Ok(RankSpectrum { modules, spec: adapter.spec.clone(), targets: adapter.targets.clone() })
    }

    /// Suggests a specification for the next training: for each layer the least rank, at least 1, that keeps the
    /// fraction `energy` of its Σσ². Scales stay the same.
    pub fn suggested(&self, options: &SuggestOptions) -> Result<LoraSpec> {
        options.ensure_valid("suggest")?;
        let ranks = self.modules.iter().map(|module| module.energy_rank(options.energy).max(1));
        let ranks: Vec<i64> = ranks.collect();
        let r = most_common(ranks.iter().copied()).unwrap_or(self.spec.r);
        Ok(with_ranks(&self.spec, &self.targets, &ranks, r))
    }
}

/// What `compute` returns for each target of the adapter.
fn each_layer<T>(adapter: &Adapter, mut compute: impl FnMut(&Target, &LowRank) -> Result<T>) -> Result<Vec<T>> {
    adapter.ensure_lora_only("the rank spectrum").map_err(|error| {
        error.with_hint("save a PiSSA or OLoRA adapter with as_lora: true and load that; DoRA's ΔW has no low rank")
    })?;
    let layers = adapter.targets.iter().filter_map(|target| Some((target, adapter.low_rank(&target.linear)?)));
    no_grad(|| {
        let each = layers.map(|(target, low_rank)| {
            interrupt::check()?;
            compute(target, &low_rank).map_err(|error| error.context(format!("`{}`", target.linear.name)))
        });
        each.collect()
    })
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The best approximation of each layer's ΔW at rank `rank`: its largest singular values (Eckart
/// and Young, 1936), split evenly between A and B. Layers of a lower rank keep theirs, and every
/// layer its scale.
pub fn truncate(adapter: &Adapter, rank: i64, config: &Config) -> Result<Adapter> {
    let most = adapter.targets.iter().map(|target| target.r).max().unwrap_or(0);
    if !(1..=most).contains(&rank) {
        bail!(Kind::Input, "truncate_adapter: expected a rank from 1 to {most}, the adapter's rank, found {rank}");
    }
    let ranks: Vec<i64> = adapter.targets.iter().map(|target| target.r.min(rank)).collect();
    let spec = with_ranks(&adapter.spec, &adapter.targets, &ranks, rank);
    let mut lower = Adapter::zeros(spec, config, Dtype::Float, adapter.parameters.flat().device())?;
    let matrices =
        each_layer(adapter, |target, low_rank| halves(&factors(low_rank)?, target.r.min(rank), low_rank.scale))?;
    for (at, (a, b)) in matrices.iter().enumerate() {
        lower.parameters.set(2 * at, a)?;
        lower.parameters.set(2 * at + 1, b)?;
    }
    Ok(lower)
}

/// A = √Σ·Vᵀ `[r, in]` and B = U·√Σ / scale `[out, r]`, f32, zero where ΔW has no such rank.
fn halves(factors: &Factors, r: i64, scale: f64) -> Result<(Tensor, Tensor)> {
    let kept = r.min(factors.values.size()[0]);
    let root = factors.values.f_narrow(0, 0, kept)?.f_sqrt()?;
    let a = factors.v.f_narrow(1, 0, kept)?.f_mul(&root)?.f_tr()?;
    let b = factors.u.f_narrow(1, 0, kept)?.f_mul(&root)?.f_div_scalar(scale)?;
    let a = a.f_constant_pad_nd([0, 0, 0, r - kept])?;
    let b = b.f_constant_pad_nd([0, r - kept])?;
    Ok((a.f_to_kind(Dtype::Float)?, b.f_to_kind(Dtype::Float)?))
}

/// `spec` with these ranks, none of them nested, for its targets and their present scales: the patterns hold
/// what differs from `r` and from the most common alpha.
pub(super) fn with_ranks(spec: &LoraSpec, targets: &[Target], ranks: &[i64], r: i64) -> LoraSpec {
    let alpha_of =
        |target: &Target, rank: i64| target.scale * if spec.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
    let alphas: Vec<f64> = targets.iter().zip(ranks).map(|(target, &rank)| rounded(alpha_of(target, rank))).collect();
    let alpha = most_common(alphas.iter().map(|alpha| alpha.to_bits())).map_or(spec.alpha, f64::from_bits);
    let names = || targets.iter().map(|target| target.linear.name.clone());
    LoraSpec {
        r,
        alpha,
        rank_pattern: Pattern::unordered(names().zip(ranks.iter().copied()).filter(|(_, rank)| *rank != r)),
        alpha_pattern: Pattern::unordered(names().zip(alphas).filter(|(_, value)| *value != alpha)),
        nested: NestedOptions::default(),
        ..spec.clone()
    }
}

/// `x` to 40 bits, so that 2 · 8 / 8 is an integer again.
fn rounded(x: f64) -> f64 {
    let scale = 2.0_f64.powi(40 - x.abs().max(f64::MIN_POSITIVE).log2().ceil() as i32);
    (x * scale).round() / scale
}

fn most_common<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(value, _)| value)
}

/// The matrix of the adapters that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Side {
    /// The directions that A reads from: right singular vectors of A.
    A,
    /// The directions that B writes to: left singular vectors of B.
    B,
}

crate::choices!(Side, [("A", Side::A), ("B", Side::B)]);

/// The similarity of the leading directions of two adapters in one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Similarity {
    /// Full module name.
    pub name: String,
    /// φ(i, j), i from 1 for the first adapter, j from 1 for the second: 0 for orthogonal
    /// subspaces, 1 where one lies in the other.
    pub grid: Vec<Vec<f64>>,
}

/// φ(i, j) = ‖Uᵢᵀ Vⱼ‖² / min(i, j) over the first i and j singular directions, for every layer
/// that both adapt (Hu et al., 2021, "LoRA", section 7.2, equation 4).
pub fn similarities(one: &Adapter, other: &Adapter, side: Side) -> Result<Vec<Similarity>> {
    let similarities = each_layer(one, |target, low_rank| {
        let Some(counterpart) = other.low_rank(&target.linear) else { return Ok(None) };
        let (left, right) = (directions(low_rank, side)?, directions(&counterpart, side)?);
        let grid = grid(&left.f_tr()?.f_matmul(&right)?)?;
        Ok(Some(Similarity { name: target.linear.name.clone(), grid }))
    })?;
    let similarities: Vec<Similarity> = similarities.into_iter().flatten().collect();
    if similarities.is_empty() {
        bail!(Kind::Input, "subspace_similarity: the adapters have no layer in common"; hint: "compare adapters with the same target_modules");
    }
    Ok(similarities)
}

/// Orthonormal columns `[width, k]`, by descending singular value.
fn directions(low_rank: &LowRank, side: Side) -> Result<Tensor> {
    let wide = |x: &Tensor| x.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Dtype::Double);
    let tall = match side {
        Side::A => wide(low_rank.a)?.f_tr()?,
        Side::B => wide(low_rank.b)?,
    };
    Ok(tall.f_svd(true, true)?.0)
}

fn grid(products: &Tensor) -> Result<Vec<Vec<f64>>> {
    let sums = products.f_square()?.f_cumsum(0, Dtype::Double)?.f_cumsum(1, Dtype::Double)?;
    let rows: Vec<Vec<f64>> = Vec::try_from(&sums)?;
    let phi = |i: usize, j: usize, sum: f64| sum / (i.min(j) + 1) as f64;
    let row = |(i, row): (usize, Vec<f64>)| row.into_iter().enumerate().map(|(j, sum)| phi(i, j, sum)).collect();
    Ok(rows.into_iter().enumerate().map(row).collect())
}

/// The mean of the grids: each cell over the layers that have it.
pub fn mean_grid(similarities: &[Similarity]) -> Vec<Vec<f64>> {
    let rows = similarities.iter().map(|layer| layer.grid.len()).max().unwrap_or(0);
    let columns = similarities.iter().filter_map(|layer| layer.grid.first()).map(Vec::len).max().unwrap_or(0);
    let cell = |i: usize, j: usize| {
        let values: Vec<f64> = similarities.iter().filter_map(|layer| layer.grid.get(i)?.get(j).copied()).collect();
        values.iter().sum::<f64>() / values.len().max(1) as f64
    };
    (0..rows).map(|i| (0..columns).map(|j| cell(i, j)).collect()).collect()
}

/// How similar the subspaces of two adapters are.
#[derive(Debug, Clone)]
pub struct AdapterSimilarity {
    /// The adapters.
    pub names: (String, String),
    pub side: Side,
    pub layers: Vec<Similarity>,
}

impl AdapterSimilarity {
    /// Of two adapters on a model, by name.
    pub fn of(model: &AdaptedModel, one: &str, other: &str, side: Side) -> Result<Self> {
        let layers = similarities(model.adapter(Some(one))?, model.adapter(Some(other))?, side)?;
        Ok(AdapterSimilarity { names: (one.to_owned(), other.to_owned()), side, layers })
    }
}

impl ModuleSpectrum {
    /// As an object.
    pub fn fields(&self) -> Map<String, Value> {
        let fields = json!({
            "name": self.name, "layer": self.layer, "linear": self.module, "r": self.r, "scale": self.scale,
            "values": self.values, "norm": self.norm(), "effective_rank": self.effective_rank(),
            "rank_90": self.energy_rank(0.9), "rank_99": self.energy_rank(0.99),
        });
        fields.as_object().cloned().unwrap_or_default()
    }
}

options! {
    /// How ranks are suggested.
    #[derive(Debug, Clone)]
    pub struct SuggestOptions {
        /// The fraction of Σσ² of each layer's ΔW to keep.
        pub energy: f64 = 0.9, range above_up_to(0.0, 1.0), hint "90 % is 0.9";
    }
}

options! {
    /// Which subspaces are compared.
    #[derive(Debug, Clone)]
    pub struct SimilarityOptions {
        /// "A" compares the directions that the adapters read, "B" those that they write.
        pub matrix: Side = Side::A;
    }
}

options! {
    /// What of the similarities is drawn.
    #[derive(Debug, Clone)]
    pub struct SimilarityChartOptions {
        /// The full name of one layer, such as "model.layers.0.self_attn.q_proj".
        pub layer: Option<String> = None, words "the mean over all layers";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(values: &[f64]) -> ModuleSpectrum {
        ModuleSpectrum {
            name: "model.layers.0.self_attn.q_proj".into(),
            layer: Some(0),
            module: "q_proj".into(),
            r: values.len() as i64,
            scale: 1.0,
            values: values.to_vec(),
        }
    }

    #[test]
    fn ranks_of_known_spectra() {
        let even = module(&[2.0; 4]);
        assert!((even.effective_rank() - 4.0).abs() < 1e-12);
        assert_eq!((even.energy_rank(0.5), even.energy_rank(0.51), even.energy_rank(1.0)), (2, 3, 4));
        let one = module(&[3.0, 0.0, 0.0]);
        assert_eq!((one.effective_rank(), one.energy_rank(0.99)), (1.0, 1));
        let none = module(&[0.0, 0.0]);
        assert_eq!((none.effective_rank(), none.energy_rank(0.9)), (0.0, 0));
        assert_eq!(module(&[3.0, 4.0]).norm(), 5.0);
    }

    #[test]
    fn alphas_come_out_whole() {
        assert_eq!(rounded(32.0 / 3.0 / 7.0 * 21.0), 32.0);
        assert_eq!(rounded(0.1 + 0.2), rounded(0.3));
    }
}
