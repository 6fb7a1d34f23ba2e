//! A prefix of an adapter with nested ranks as an adapter of its own.

use super::adapter::Adapter;
use super::nested_options::{NestedOptions, NestedScale};
use super::spec::LoraSpec;
use super::spectrum::with_ranks;
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::model::Config;
use tch::{no_grad, Kind as Dtype};

/// The first `rank` rows of A and columns of B as an adapter of that rank, with the scale that they were trained with.
///
/// # Errors
/// A rank that is none of the adapter's nested ranks.
pub fn prefix(adapter: &Adapter, rank: i64, config: &Config) -> Result<Adapter> {
    let Some(nested) = &adapter.nested else {
        bail!(Kind::Input, "prefix_adapter: expected an adapter with nested ranks, found one of rank {} alone", adapter.spec.r; hint: "train it with `nested_ranks: [1, 2, 4, 8]`, or cut it by its singular values with truncate_adapter")
    };
    let Some(at) = nested.ranks().iter().position(|known| *known == rank) else {
        let ranks: Vec<String> = nested.ranks().iter().map(i64::to_string).collect();
        bail!(Kind::Input, "prefix_adapter: expected one of the nested ranks {}, found {rank}", ranks.join(", "))
    };
    let spec = match nested.options.scale {
        NestedScale::Rank => LoraSpec { r: rank, nested: NestedOptions::default(), ..adapter.spec.clone() },
        NestedScale::Fixed => with_ranks(&adapter.spec, &adapter.targets, &vec![rank; adapter.targets.len()], rank),
    };
    let mut lower = Adapter::zeros(spec, config, Dtype::Float, adapter.parameters.flat().device())?;
    let [slice] = nested.prefix(at) else { return Err(Error::bug("a prefix of several slices")) };
    no_grad(|| {
        for target in 0..adapter.targets.len() {
            let low_rank = slice.low_rank(target).ok_or_else(|| Error::bug("a target without a prefix"))?;
            lower.parameters.set(2 * target, low_rank.a)?;
            lower.parameters.set(2 * target + 1, low_rank.b)?;
        }
        Ok(lower)
    })
}
