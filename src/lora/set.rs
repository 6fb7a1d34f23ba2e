//! Adapters at work in one forward pass: each on the tokens of its own batch.
//!
//! `y = base(x) + B(A(dropout(x))) · scale`, the low-rank part in the adapter's f32 and
//! the sum rounded to the base's dtype, as PEFT does.

use super::adapter::Adapter;
use super::dropout::Dropout;
use crate::error::Result;
use crate::model::linear::{Adapters, Linear};
use crate::model::Tokens;
use crate::native::Segment;
use crate::random::Key;
use tch::Tensor;

/// An adapter with the part of the input that it serves.
#[derive(Debug)]
pub struct Active<'a> {
    pub adapter: &'a Adapter,
    /// The batch whose tokens it serves; `None` for every token.
    pub part: Option<usize>,
    /// `None` in evaluation.
    pub dropout: Option<Dropout>,
}

/// Adapters that share a forward pass. Tokens served by none see the bare base; a token may
/// be served by several, whose parts add up.
#[derive(Debug, Default)]
pub struct AdapterSet<'a> {
    pub active: Vec<Active<'a>>,
}

impl<'a> AdapterSet<'a> {
    /// One adapter on every token.
    pub fn one(adapter: &'a Adapter, dropout: Option<Dropout>) -> Self {
        AdapterSet { active: vec![Active { adapter, part: None, dropout }] }
    }
}

impl Adapters for AdapterSet<'_> {
    fn forward(&self, linear: &Linear, x: &Tensor, tokens: &Tokens) -> Result<Tensor> {
        let segments: Vec<Segment> = self
            .active
            .iter()
            .filter_map(|active| active.segment(linear, tokens))
            .filter(|s| s.begin < s.end)
            .collect();
        linear.forward(x, &segments, tokens)
    }

    fn touch(&self, linear: &Linear) -> bool {
        linear.weight.is_trained() || self.active.iter().any(|active| active.adapter.low_rank(&linear.shape).is_some())
    }
}

impl Active<'_> {
    fn segment(&self, linear: &Linear, tokens: &Tokens) -> Option<Segment<'_>> {
        let low_rank = self.adapter.low_rank(&linear.shape)?;
        let range = tokens.of(self.part);
        let (share, key) = match self.dropout {
            Some(Dropout { share, key }) => (share, key.named(&linear.shape.name)),
            None => (0.0, Key::new(0)),
        };
        Some(Segment {
            a: low_rank.a,
            b: low_rank.b,
            grad_a: low_rank.grad_a,
            grad_b: low_rank.grad_b,
            begin: range.start,
            end: range.end,
            scale: low_rank.scale,
            share,
            key,
        })
    }
}
