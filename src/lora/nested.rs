//! The prefixes of an adapter that is trained with nested ranks, as views of its parameters and gradients.
//!
//! What the options mean is in `nested_options.rs`. Which rows of a batch go through which prefix is for `train/`: rows
//! are unknown here.

use super::nested_options::{NestedOptions, NestedScale};
use super::spec::LoraSpec;
use super::targets::Target;
use super::views::LowRank;
use crate::error::Result;
use crate::model::Parameters;
use crate::random::Key;
use std::ops::Range;
use tch::Tensor;

/// Some rows of A and columns of B of each target, as views of the adapter's parameters and gradients.
#[derive(Debug)]
pub struct Slice {
    layers: Vec<SlicedLayer>,
}

#[derive(Debug)]
struct SlicedLayer {
    a: Tensor,
    b: Tensor,
    grad_a: Tensor,
    grad_b: Tensor,
    scale: f64,
}

impl Slice {
    fn new(
        parameters: &Parameters,
        targets: &[Target],
        ranks: &Range<i64>,
        scale: impl Fn(&Target) -> f64,
    ) -> Result<Self> {
        let (start, length) = (ranks.start, ranks.end - ranks.start);
        let layer = |(at, target): (usize, &Target)| {
            let [a, b] = [2 * at, 2 * at + 1];
            let rows = |tensor: &Tensor| tensor.f_detach()?.f_narrow(0, start, length);
            let columns = |tensor: &Tensor| tensor.f_detach()?.f_narrow(1, start, length);
            let (leaves, gradients) = (parameters.leaves(), parameters.gradients());
            // Leaves of their own: the gradients go to the buffers, not through the views.
            Ok(SlicedLayer {
                a: rows(&leaves[a])?.f_set_requires_grad(true)?,
                b: columns(&leaves[b])?.f_set_requires_grad(true)?,
                grad_a: rows(&gradients[a])?,
                grad_b: columns(&gradients[b])?,
                scale: scale(target),
            })
        };
        Ok(Slice { layers: targets.iter().enumerate().map(layer).collect::<Result<_>>()? })
    }

    /// The matrices of the target with this number.
    pub fn low_rank(&self, target: usize) -> Option<LowRank<'_>> {
        let SlicedLayer { a, b, grad_a, grad_b, scale } = self.layers.get(target)?;
        Some(LowRank { a, b, grad_a, grad_b, scale: *scale, initial: None, magnitude: None, bias: None })
    }

    fn shallow_clone(&self) -> Self {
        let layer = |layer: &SlicedLayer| SlicedLayer {
            a: layer.a.shallow_clone(),
            b: layer.b.shallow_clone(),
            grad_a: layer.grad_a.shallow_clone(),
            grad_b: layer.grad_b.shallow_clone(),
            scale: layer.scale,
        };
        Slice { layers: self.layers.iter().map(layer).collect() }
    }
}

/// The prefixes of an adapter that are trained together.
#[derive(Debug)]
pub struct Nested {
    pub options: NestedOptions,
    /// How much each prefix counts; they add up to 1.
    shares: Vec<f64>,
    /// One slice for each prefix.
    prefixes: Vec<Slice>,
    /// The rows and columns between two prefixes: together the mean of the prefixes' outputs.
    blocks: Vec<Slice>,
}

impl Nested {
    /// `None` for an adapter without nested ranks.
    pub fn new(spec: &LoraSpec, targets: &[Target], parameters: &Parameters) -> Result<Option<Self>> {
        let NestedOptions { ranks, .. } = &spec.nested;
        if !spec.nested.is_nested() {
            return Ok(None);
        }
        let shares = spec.nested.shares();
        let prefix = |rank: &i64| Slice::new(parameters, targets, &(0..*rank), |target| scale(spec, target, *rank));
        let starts = [0].into_iter().chain(ranks.iter().copied());
        let block = |(at, (start, end)): (usize, (i64, &i64))| {
            // The prefixes that hold these rows and columns.
            let holding = || ranks.iter().zip(&shares).skip(at);
            let mean = |target: &Target| holding().map(|(rank, share)| share * scale(spec, target, *rank)).sum();
            Slice::new(parameters, targets, &(start..*end), mean)
        };
        Ok(Some(Nested {
            options: spec.nested.clone(),
            prefixes: ranks.iter().map(prefix).collect::<Result<_>>()?,
            blocks: starts.zip(ranks).enumerate().map(block).collect::<Result<_>>()?,
            shares,
        }))
    }

    pub fn shallow_clone(&self) -> Self {
        Nested {
            options: self.options.clone(),
            shares: self.shares.clone(),
            prefixes: self.prefixes.iter().map(Slice::shallow_clone).collect(),
            blocks: self.blocks.iter().map(Slice::shallow_clone).collect(),
        }
    }

    pub fn ranks(&self) -> &[i64] {
        &self.options.ranks
    }

    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// The slices that a prefix consists of; all of them for a prefix that there is not.
    pub fn prefix(&self, at: usize) -> &[Slice] {
        self.prefixes.get(at).map_or(&self.prefixes[..], std::slice::from_ref)
    }

    /// The slices whose outputs add up to the mean of the prefixes' outputs.
    pub fn mean(&self) -> &[Slice] {
        &self.blocks
    }

    /// The prefix that a number from 0 to 1 stands for: each has its share of them.
    pub fn at_share(&self, number: f64) -> usize {
        let mut end = 0.0;
        let ends = self.shares.iter().map(|share| {
            end += share;
            end
        });
        let ends: Vec<f64> = ends.collect();
        let last = self.shares.iter().rposition(|share| *share > 0.0).unwrap_or(0);
        ends.iter().position(|end| number < *end).unwrap_or(last).min(last)
    }

    /// The prefix of a step whose rows all go through one.
    pub fn sampled(&self, key: Key) -> usize {
        self.at_share(key.uniform(0))
    }

    /// The prefix of each of `rows` rows, drawn by `key`: as evenly as the shares allow, and for each row with the
    /// probability that its share says.
    pub fn of_rows(&self, rows: usize, key: Key) -> Vec<usize> {
        let offset = key.named("offset").uniform(0);
        let mut prefixes = vec![0; rows];
        for (place, row) in key.permutation(rows).into_iter().enumerate() {
            prefixes[row as usize] = self.at_share((place as f64 + offset) / rows as f64);
        }
        prefixes
    }
}

/// What the prefix of rank `rank` of a target is multiplied by.
fn scale(spec: &LoraSpec, target: &Target, rank: i64) -> f64 {
    match spec.nested.scale {
        NestedScale::Rank => spec.scale(rank, target.alpha),
        NestedScale::Fixed => target.scale,
    }
}
