//! Adapters that go through the layers of a GPU together, packed by `native/`.
//!
//! Sets of adapters that do not fit take the loop over adapters in `native::linears`.

use super::adapter::Adapter;
use super::dropout::Dropout;
use crate::error::Result;
use crate::model::linear::Linear;
use crate::model::shapes::{group_of, LinearShape};
use crate::native::{AdaptedLayer, BatchedAdapters, Layer, Matrices, Member};
use crate::random::Key;
use std::ops::Range;
use tch::{Kind as Dtype, Tensor};

/// An adapter and its tokens, at least one.
#[derive(Debug)]
pub struct Serving<'a> {
    pub adapter: &'a Adapter,
    pub tokens: Range<i64>,
    /// `None` in evaluation.
    pub dropout: Option<Dropout>,
}

/// Packed adapters, and the tokens that they are packed for.
#[derive(Debug)]
pub struct Batch {
    ranges: Vec<Range<i64>>,
    count: i64,
    dtype: Dtype,
    adapters: BatchedAdapters,
}

/// Whether these adapters can be packed for `linears`, which read `x`: trained ones over frozen layers of the decoder,
/// without a residual of the base, each on tokens of its own.
pub fn fit_together(serving: &[Serving], linears: &[&Linear], x: &Tensor) -> bool {
    let fits = |serving: &Serving| {
        let Serving { adapter, dropout, .. } = serving;
        // Under dropout DoRA needs the base's output alone.
        let needs_base = adapter.spec.use_dora && dropout.is_some();
        !adapter.splits_base() && !needs_base && BatchedAdapters::supports(x, adapter.parameters.flat())
    };
    let is_trained =
        |linear: &&Linear| linear.weight.is_trained() || linear.bias.as_ref().is_some_and(Tensor::requires_grad);
    let mut ranges: Vec<&Range<i64>> = serving.iter().map(|serving| &serving.tokens).collect();
    ranges.sort_by_key(|range| range.start);
    let are_disjoint = ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
    !serving.is_empty() && are_disjoint && serving.iter().all(fits) && !linears.iter().any(is_trained)
}

impl Batch {
    pub fn new(serving: &[Serving], x: &Tensor) -> Result<Self> {
        let members = serving.iter().map(|serving| Member {
            tokens: serving.tokens.clone(),
            p: serving.dropout.map_or(0.0, |dropout| dropout.p),
        });
        let groups = serving.first().map_or(&[][..], |serving| serving.adapter.input_groups());
        let groups = groups.iter().map(|layers| layers.iter().map(|linear| adapted(serving, linear)).collect());
        let groups: Vec<Vec<AdaptedLayer>> = groups.collect();
        Ok(Batch {
            ranges: serving.iter().map(|serving| serving.tokens.clone()).collect(),
            count: x.size()[0],
            dtype: x.f_kind()?,
            adapters: BatchedAdapters::new(x, &members.collect::<Vec<_>>(), &groups)?,
        })
    }

    /// Whether it was made for the same tokens of adapters that have not changed.
    pub fn is_for(&self, serving: &[Serving], x: &Tensor) -> bool {
        let ranges = serving.iter().map(|serving| &serving.tokens);
        self.count == x.size()[0] && self.dtype == x.kind() && self.ranges.iter().eq(ranges)
    }

    /// The output of each of `linears`; `None` if they are not the layers of the decoder that read one input.
    pub fn forward(
        &self,
        serving: &[Serving],
        linears: &[&Linear],
        x: &Tensor,
        token_keys: &Tensor,
    ) -> Result<Option<Vec<Tensor>>> {
        let shapes: Vec<&LinearShape> = linears.iter().map(|linear| &linear.shape).collect();
        let Some(group) = group_of(&shapes).filter(|group| self.adapters.has_group(*group)) else { return Ok(None) };
        let layers: Vec<Layer> = linears.iter().map(|linear| linear.without_adapters()).collect();
        let matrices =
            shapes.iter().flat_map(|shape| serving.iter().filter_map(|serving| serving.adapter.low_rank(shape)));
        let leaf = matrices.map(|low_rank| low_rank.a).next();
        self.adapters.linears(group, x, &layers, leaf, token_keys).map(Some)
    }
}

fn adapted<'a>(serving: &[Serving<'a>], linear: &LinearShape) -> AdaptedLayer<'a> {
    let matrices = serving.iter().enumerate().filter_map(|(member, serving)| {
        let low_rank = serving.adapter.low_rank(linear)?;
        Some(Matrices {
            a: low_rank.a,
            b: low_rank.b,
            gradients: (low_rank.grad_a, low_rank.grad_b),
            member,
            scale: low_rank.scale,
            key: serving.dropout.map_or(Key::new(0), |dropout| dropout.key_of(linear)),
        })
    });
    AdaptedLayer { in_features: linear.in_features, out_features: linear.out_features, matrices: matrices.collect() }
}
