//! Adapters at work in one forward pass: each on the tokens of its own batch.
//!
//! `y = base(x) + B(A(dropout(x))) · scale`, the low-rank part in the adapter's f32 and
//! the sum rounded to the base's dtype, as PEFT does. The low-rank parts of all adapters are
//! folded into one node of `native/`; what an adapter does beyond them (DoRA, biases, layers
//! of its own) is made of libtorch's operations, on its own tokens.

use super::adapter::{Adapter, EmbeddingLowRank, LowRank, TrainedRows, Whole};
use super::dora;
use super::dropout::Dropout;
use crate::bail;
use crate::error::{Kind, Result};
use crate::model::linear::{self, Adapters, Linear, Weight};
use crate::model::norm::RmsNorm;
use crate::model::Tokens;
use crate::native::{self, Segment};
use crate::random::Key;
use std::ops::Range;
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
/// be served by several, whose low-rank parts add up.
#[derive(Debug, Default)]
pub struct AdapterSet<'a> {
    pub active: Vec<Active<'a>>,
}

impl<'a> AdapterSet<'a> {
    /// One adapter on every token.
    pub fn one(adapter: &'a Adapter, dropout: Option<Dropout>) -> Self {
        AdapterSet { active: vec![Active { adapter, part: None, dropout }] }
    }

    /// The low-rank parts of all adapters on this layer.
    fn segments(&self, linear: &Linear, tokens: &Tokens) -> Vec<Segment<'_>> {
        let parts = self.active.iter().flat_map(|active| active.segments(linear, tokens)).flatten();
        parts.filter(|part| part.begin < part.end).collect()
    }

    /// `y`, `[tokens, …]`, with the rows of some adapters put in the place of the common ones.
    fn replace(
        &self,
        y: Tensor,
        tokens: &Tokens,
        own: impl Fn(&Active, &Range<i64>, &Tensor) -> Result<Option<Tensor>>,
    ) -> Result<Tensor> {
        let mut pieces = Vec::new();
        for active in &self.active {
            let range = tokens.of(active.part);
            if range.is_empty() {
                continue;
            }
            if let Some(piece) = own(active, &range, &y)? {
                pieces.push((range, piece));
            }
        }
        joined(y, pieces)
    }
}

impl Adapters for AdapterSet<'_> {
    fn forward(&self, linears: &[&Linear], x: &Tensor, tokens: &Tokens) -> Result<Vec<Tensor>> {
        let segments: Vec<Vec<Segment>> = linears.iter().map(|linear| self.segments(linear, tokens)).collect();
        let outputs = linear::forward(linears, x, &segments, tokens)?.into_iter().zip(linears);
        outputs
            .map(|(y, linear)| self.replace(y, tokens, |active, range, y| active.rework(linear, range, x, y, tokens)))
            .collect()
    }

    fn embed(&self, table: &Tensor, ids: &Tensor, tokens: &Tokens) -> Result<Tensor> {
        self.replace(look_up(table, ids)?, tokens, |active, range, x| {
            active.embed(&rows(ids, range)?, &rows(x, range)?)
        })
    }

    fn norm(&self, norm: &RmsNorm, x: &Tensor, tokens: &Tokens) -> Result<Tensor> {
        if self.active.iter().all(|active| active.adapter.norm(&norm.name).is_none()) {
            return norm.forward(x);
        }
        self.replace(norm.forward(x)?, tokens, |active, range, _| {
            let weight = active.adapter.norm(&norm.name);
            weight.map(|weight| norm.forward_with(weight, &rows(x, range)?)).transpose()
        })
    }

    fn trains_norm(&self, norm: &RmsNorm) -> bool {
        norm.weight.requires_grad() || self.active.iter().any(|active| active.adapter.norm(&norm.name).is_some())
    }

    fn affects(&self, linear: &Linear, part: usize) -> bool {
        let serves = |active: &&Active| active.part.is_none_or(|own| own == part);
        let mut serving = self.active.iter().filter(serves);
        linear.weight.is_trained() || serving.any(|active| active.adapter.affects(&linear.shape))
    }
}

impl Active<'_> {
    /// The low-rank parts on this layer: the adapter's own, and what the base lacks under it.
    fn segments(&self, linear: &Linear, tokens: &Tokens) -> [Option<Segment<'_>>; 2] {
        // Over a weight of the adapter's own the base's product is not wanted: see `rework`.
        let is_over_base = self.adapter.replaced(&linear.shape).is_none();
        let low_rank = self.adapter.low_rank(&linear.shape).filter(|_| is_over_base);
        let Some(low_rank) = low_rank else { return [None, None] };
        self.segments_of(linear, &low_rank, tokens.of(self.part))
    }

    fn segments_of<'b>(&self, linear: &Linear, low_rank: &LowRank<'b>, range: Range<i64>) -> [Option<Segment<'b>>; 2] {
        let Range { start: begin, end } = range;
        let (p, key) = self.dropout_of(linear);
        let own = Segment {
            a: low_rank.a,
            b: low_rank.b,
            gradients: Some((low_rank.grad_a, low_rank.grad_b)),
            begin,
            end,
            scale: low_rank.scale,
            p,
            key,
        };
        // Under dropout DoRA needs the base's output without the low-rank part.
        let is_apart = low_rank.magnitude.is_some() && p > 0.0;
        [Some(own).filter(|_| !is_apart), lacking(low_rank, begin..end)]
    }

    /// The layer's output for the adapter's tokens, where more is asked than a low-rank part:
    /// `x` is the input of all tokens, `y` their output with the low-rank parts.
    fn rework(
        &self,
        linear: &Linear,
        range: &Range<i64>,
        x: &Tensor,
        y: &Tensor,
        tokens: &Tokens,
    ) -> Result<Option<Tensor>> {
        let Whole { weight, bias } = self.adapter.whole(&linear.shape);
        let dtype = y.f_kind()?;
        if let Some(weight) = weight {
            let bias = bias.map(|bias| bias.f_to_kind(dtype)).transpose()?;
            return Ok(Some(rows(x, range)?.f_linear(&weight.f_to_kind(dtype)?, bias.as_ref())?));
        }
        let mut output = match self.adapter.replaced(&linear.shape) {
            Some(weight) => Some(self.over(weight, linear, range, x, tokens)?),
            None => self.with_dora(linear, range, x, y, tokens)?,
        };
        if let (Some(trained), Some(base)) = (bias, &linear.bias) {
            output = Some(output.map_or_else(|| rows(y, range), Ok)?.f_add(&trained.f_sub(base)?)?);
        }
        if let Some(LowRank { bias: Some(bias), scale, .. }) = self.adapter.low_rank(&linear.shape) {
            output = Some(output.map_or_else(|| rows(y, range), Ok)?.f_add(&bias.f_mul_scalar(scale)?)?);
        }
        if let Some(trained) = self.adapter.head_rows(&linear.shape) {
            let y = output.map_or_else(|| rows(y, range), Ok)?;
            output = Some(self.with_rows(&trained, linear, &rows(x, range)?, &y)?);
        }
        Ok(output.map(|y| y.f_to_kind(dtype)).transpose()?)
    }

    /// The output of its own tokens with `weight` in the place of the base's.
    fn over(
        &self,
        weight: &Tensor,
        linear: &Linear,
        range: &Range<i64>,
        x: &Tensor,
        tokens: &Tokens,
    ) -> Result<Tensor> {
        let x = rows(x, range)?;
        let low_rank = self.adapter.low_rank(&linear.shape);
        let segments = low_rank.map(|low_rank| self.segments_of(linear, &low_rank, 0..x.size()[0]));
        let segments: Vec<Segment> = segments.into_iter().flatten().flatten().collect();
        let weight = Weight::Dense(weight.shallow_clone());
        weight.product(&x, linear.bias.as_ref(), &segments, &rows(&tokens.keys, range)?)
    }

    /// `y`, `[tokens, vocabulary]`, with the columns of trained tokens moved from the rows that the
    /// head has to the trained ones: what low-rank parts add to them stays. In f32, for the
    /// difference of two close products.
    fn with_rows(&self, trained: &TrainedRows, linear: &Linear, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let dtype = y.f_kind()?;
        let head = match self.adapter.replaced(&linear.shape) {
            Some(weight) => weight.shallow_clone(),
            None => linear.weight.to_dense(x.f_kind()?)?,
        };
        let wide = trained.rows.f_kind()?;
        let before = head.f_index_select(0, &trained.index.ids)?.f_to_kind(wide)?;
        let moved = trained.rows.f_to_kind(x.f_kind()?)?.f_to_kind(wide)?.f_sub(&before)?;
        let change = x.f_to_kind(wide)?.f_linear(&moved, None::<&Tensor>)?;
        Ok(y.f_index_add(1, &trained.index.ids, &change.f_to_kind(dtype)?)?)
    }

    /// What the first layer reads for its own tokens, where the adapter changes the embeddings:
    /// `x` is what the base gives.
    fn embed(&self, ids: &Tensor, x: &Tensor) -> Result<Option<Tensor>> {
        let dtype = x.f_kind()?;
        let mut embedded = match self.adapter.embedding() {
            Some(table) => Some(look_up(table, ids)?.f_to_kind(dtype)?),
            None => None,
        };
        if let Some(TrainedRows { index, rows }) = self.adapter.embedding_rows() {
            embedded = Some(index.replace(embedded.as_ref().unwrap_or(x), ids, rows)?);
        }
        if let Some(EmbeddingLowRank { a, b, scale }) = self.adapter.embedding_low_rank() {
            let change = a.f_index_select(1, ids)?.f_tr()?.f_linear(b, None::<&Tensor>)?;
            let sum = embedded.as_ref().unwrap_or(x).f_add(&change.f_mul_scalar(scale)?)?;
            embedded = Some(sum.f_to_kind(dtype)?);
        }
        Ok(embedded)
    }

    /// The output of its own tokens under DoRA, in the adapter's dtype and over the base's bias.
    fn with_dora(
        &self,
        linear: &Linear,
        range: &Range<i64>,
        x: &Tensor,
        y: &Tensor,
        tokens: &Tokens,
    ) -> Result<Option<Tensor>> {
        let Some(low_rank) = self.adapter.low_rank(&linear.shape) else { return Ok(None) };
        let Some(magnitude) = low_rank.magnitude else { return Ok(None) };
        let factors = dora::factors(magnitude, &linear.weight.to_dense(magnitude.f_kind()?)?, &low_rank)?;
        let y = rows(y, range)?.f_to_kind(magnitude.f_kind()?)?;
        let (p, key) = self.dropout_of(linear);
        if p > 0.0 {
            let token_keys = rows(&tokens.keys, range)?;
            let dropped = dropped(&rows(x, range)?, low_rank.a, &token_keys, p, key)?;
            let dropped_rows = dropped.f_to_kind(x.f_kind()?)?;
            let base = base_product(linear, &low_rank, &dropped_rows, &token_keys)?.f_to_kind(dropped.f_kind()?)?;
            return Ok(Some(y.f_add(&dora::beside_dropout(&factors, &base, &dropped, &low_rank)?)?));
        }
        Ok(Some(match &linear.bias {
            Some(bias) => y.f_sub(bias)?.f_mul(&factors)?.f_add(bias)?,
            None => y.f_mul(&factors)?,
        }))
    }

    /// The probability that a channel of this layer is dropped, and the key of its randomness.
    fn dropout_of(&self, linear: &Linear) -> (f64, Key) {
        match self.dropout {
            Some(Dropout { p, key }) => (p, key.named(&linear.shape.name)),
            None => (0.0, Key::new(0)),
        }
    }
}

/// The part of the base that an adapter began with, subtracted; frozen, and without dropout.
fn lacking<'a>(low_rank: &LowRank<'a>, range: Range<i64>) -> Option<Segment<'a>> {
    let taken = low_rank.taken?;
    Some(Segment {
        a: &taken.a,
        b: &taken.b,
        gradients: None,
        begin: range.start,
        end: range.end,
        scale: -low_rank.scale,
        p: 0.0,
        key: Key::new(0),
    })
}

/// The base's product for `x`, `[tokens, in]`, without the bias.
fn base_product(linear: &Linear, low_rank: &LowRank, x: &Tensor, token_keys: &Tensor) -> Result<Tensor> {
    let segments: Vec<Segment> = lacking(low_rank, 0..x.size()[0]).into_iter().collect();
    linear.weight.product(x, None, &segments, token_keys)
}

/// `x` in the dtype of `like`, under the dropout of [`native::linears`].
fn dropped(x: &Tensor, like: &Tensor, token_keys: &Tensor, p: f64, key: Key) -> Result<Tensor> {
    let mask = native::dropout_mask(token_keys, x.size()[1], p, key)?;
    Ok(x.f_to_kind(like.f_kind()?)?.f_mul(&mask.f_to_device(x.device())?.f_to_kind(like.f_kind()?)?)?)
}

fn look_up(table: &Tensor, ids: &Tensor) -> std::result::Result<Tensor, tch::TchError> {
    Tensor::f_embedding(table, ids, -1, false, false)
}

fn rows(x: &Tensor, range: &Range<i64>) -> std::result::Result<Tensor, tch::TchError> {
    x.f_narrow(0, range.start, range.end - range.start)
}

/// `y` with the rows of each range replaced.
fn joined(y: Tensor, mut pieces: Vec<(Range<i64>, Tensor)>) -> Result<Tensor> {
    if pieces.is_empty() {
        return Ok(y);
    }
    pieces.sort_by_key(|(range, _)| range.start);
    let (mut all, mut done) = (Vec::with_capacity(2 * pieces.len() + 1), 0);
    for (range, piece) in pieces {
        if range.start < done {
            bail!(Kind::Input, "two adapters with DoRA, biases or whole modules serve the same tokens"; hint: "let one of them at a time be active");
        }
        if range.start > done {
            all.push(rows(&y, &(done..range.start))?);
        }
        done = range.end;
        all.push(piece);
    }
    if done < y.size()[0] {
        all.push(rows(&y, &(done..y.size()[0]))?);
    }
    match all.len() {
        1 => Ok(all.swap_remove(0)),
        _ => Ok(Tensor::f_cat(&all, 0)?),
    }
}
