//! The adapters of one forward pass, each on the tokens of its batch.
//!
//! `y = base(x) + B(A(dropout(x))) · scale`, the low-rank part in the adapter's f32 and
//! the sum rounded to the base's dtype, as PEFT does. The low-rank parts of all adapters are
//! folded into one node of `native/`; what an adapter does beyond them (DoRA, biases, saved
//! modules) uses libtorch's operations, on its tokens alone. On a GPU the low-rank parts are
//! computed together (`batched.rs`), with inputs in the base's dtype.

use super::adapter::Adapter;
use super::batched::{fit_together, Batch, Serving};
use super::dora;
use super::dropout::Dropout;
use super::nested::Slice;
use super::views::{EmbeddingLowRank, LowRank, SavedModule, TrainedRows};
use crate::bail;
use crate::error::{Kind, Result};
use crate::model::linear::{self, Adapters, Linear, Table, Weight};
use crate::model::norm::RmsNorm;
use crate::model::Tokens;
use crate::native::{self, Segment};
use crate::random::Key;
use std::cell::RefCell;
use std::ops::Range;
use tch::Tensor;

/// An adapter and the part of the input that it is applied to.
#[derive(Debug)]
pub struct Active<'a> {
    pub adapter: &'a Adapter,
    /// The batch whose tokens it is applied to; `None` for every token.
    pub part: Option<usize>,
    /// `None` in evaluation.
    pub dropout: Option<Dropout>,
    /// The rows of A and columns of B that take part, if not all; the outputs of several slices add up.
    pub slices: Option<&'a [Slice]>,
}

/// Adapters that share a forward pass. Tokens without an adapter see the base alone; the low-rank parts of
/// several adapters on one token add up.
#[derive(Debug)]
pub struct AdapterSet<'a> {
    pub active: Vec<Active<'a>>,
    /// Whether they may be computed together.
    is_joint: bool,
    /// Made at the first layer, and again for other tokens.
    batch: RefCell<Option<Batch>>,
}

impl<'a> AdapterSet<'a> {
    pub fn new(active: Vec<Active<'a>>) -> Self {
        AdapterSet { active, is_joint: true, batch: RefCell::new(None) }
    }

    /// One adapter on every token.
    pub fn one(adapter: &'a Adapter, dropout: Option<Dropout>) -> Self {
        Self::new(vec![Active { adapter, part: None, dropout, slices: None }])
    }

    /// The same adapters, computed one after another on every device: a value that is not finite cannot reach the tokens
    /// of another adapter.
    pub fn one_by_one(self) -> Self {
        AdapterSet { is_joint: false, ..self }
    }

    /// The outputs of `linears`, if the adapters can be computed together.
    fn batched(&self, linears: &[&Linear], x: &Tensor, tokens: &Tokens) -> Result<Option<Vec<Tensor>>> {
        let has_slices = self.active.iter().any(|active| active.slices.is_some());
        if !self.is_joint || has_slices || !native::has_kernels(x) {
            return Ok(None);
        }
        let serving = self.active.iter().map(|active| Serving {
            adapter: active.adapter,
            tokens: tokens.of(active.part),
            dropout: active.dropout,
        });
        let serving: Vec<Serving> = serving.filter(|serving| !serving.tokens.is_empty()).collect();
        if linears.iter().any(|linear| linear.shape.layer.is_none()) || !fit_together(&serving, linears, x) {
            return Ok(None);
        }
        let mut batch = self.batch.borrow_mut();
        let kept = batch.take().filter(|batch| batch.is_for(&serving, x));
        let batch = batch.insert(kept.map_or_else(|| Batch::new(&serving, x), Ok)?);
        batch.forward(&serving, linears, x, &tokens.keys)
    }

    /// The low-rank parts of all adapters on this layer.
    fn segments(&self, linear: &Linear, tokens: &Tokens) -> Vec<Segment<'_>> {
        let parts = self.active.iter().flat_map(|active| active.segments(linear, tokens));
        parts.filter(|part| part.begin < part.end).collect()
    }

    /// `y`, `[tokens, …]`, with the rows that `own_rows` computes for some adapters spliced in.
    fn replace(
        &self,
        y: Tensor,
        tokens: &Tokens,
        own_rows: impl Fn(&Active, &Range<i64>, &Tensor) -> Result<Option<Tensor>>,
    ) -> Result<Tensor> {
        let mut pieces = Vec::new();
        for active in &self.active {
            let range = tokens.of(active.part);
            if range.is_empty() {
                continue;
            }
            if let Some(piece) = own_rows(active, &range, &y)? {
                pieces.push((range, piece));
            }
        }
        splice_rows(y, pieces)
    }
}

impl Adapters for AdapterSet<'_> {
    fn forward(&self, linears: &[&Linear], x: &Tensor, tokens: &Tokens) -> Result<Vec<Tensor>> {
        let outputs = match self.batched(linears, x, tokens)? {
            Some(outputs) => outputs,
            None => {
                let segments: Vec<Vec<Segment>> = linears.iter().map(|linear| self.segments(linear, tokens)).collect();
                linear::forward(linears, x, &segments, tokens)?
            }
        };
        let outputs = outputs.into_iter().zip(linears);
        outputs
            .map(|(y, linear)| {
                self.replace(y, tokens, |active, range, y| active.apply_dora_and_bias(linear, range, x, y, tokens))
            })
            .collect()
    }

    fn embed(&self, table: &Table, ids: &Tensor, tokens: &Tokens) -> Result<Tensor> {
        self.replace(table.rows(ids)?, tokens, |active, range, x| {
            active.embed(table.padding, &rows(ids, range)?, &rows(x, range)?)
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
        let serves = |active: &&Active| active.part.is_none_or(|served| served == part);
        let mut serving = self.active.iter().filter(serves);
        linear.weight.is_trained() || serving.any(|active| active.adapter.affects(&linear.shape))
    }
}

impl Active<'_> {
    /// The low-rank parts on this layer: the trained one, and the initial one, subtracted.
    fn segments(&self, linear: &Linear, tokens: &Tokens) -> Vec<Segment<'_>> {
        // Where the adapter's file replaces the weight, `apply_dora_and_bias` computes the whole product.
        let is_over_base = self.adapter.replaced(&linear.shape).is_none();
        let whole = self.adapter.low_rank(&linear.shape).filter(|_| is_over_base && self.slices.is_none());
        let slices = self.slices.filter(|_| is_over_base).unwrap_or_default();
        let slices = slices.iter().filter_map(|slice| self.adapter.sliced_low_rank(&linear.shape, slice));
        let low_ranks = whole.into_iter().chain(slices);
        low_ranks.flat_map(|low_rank| self.segments_of(linear, &low_rank, tokens.of(self.part))).collect()
    }

    fn segments_of<'b>(&self, linear: &Linear, low_rank: &LowRank<'b>, range: Range<i64>) -> Vec<Segment<'b>> {
        let Range { start: begin, end } = range;
        let (p, key) = self.dropout_of(linear);
        let trained = Segment {
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
        let is_separate = low_rank.magnitude.is_some() && p > 0.0;
        let trained = Some(trained).filter(|_| !is_separate);
        trained.into_iter().chain(initial_segment(low_rank, begin..end)).collect()
    }

    /// The layer's output for the adapter's tokens, where the adapter is more than a low-rank part:
    /// `x` is the input of all tokens, `y` their output with the low-rank parts.
    fn apply_dora_and_bias(
        &self,
        linear: &Linear,
        range: &Range<i64>,
        x: &Tensor,
        y: &Tensor,
        tokens: &Tokens,
    ) -> Result<Option<Tensor>> {
        let SavedModule { weight, bias } = self.adapter.saved_module(&linear.shape);
        let dtype = y.f_kind()?;
        if let Some(weight) = weight {
            let bias = bias.map(|bias| bias.f_to_kind(dtype)).transpose()?;
            return Ok(Some(rows(x, range)?.f_linear(&weight.f_to_kind(dtype)?, bias.as_ref())?));
        }
        let mut output = match self.adapter.replaced(&linear.shape) {
            Some(weight) => Some(self.with_weight(weight, linear, range, x, tokens)?),
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

    /// The output of the adapter's tokens with `weight` instead of the base's.
    fn with_weight(
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
        let segments: Vec<Segment> = segments.into_iter().flatten().collect();
        let weight = Weight::Dense(weight.shallow_clone());
        weight.product(&x, linear.bias.as_ref(), &segments, &rows(&tokens.keys, range)?)
    }

    /// `y`, `[tokens, vocabulary]`, with the columns of trained tokens computed from the trained rows
    /// instead of the head's: what low-rank parts add stays. In f32, for it is the difference of two
    /// close products.
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

    /// The embeddings of the adapter's tokens, if it changes them; `x` holds the base's.
    fn embed(&self, padding: Option<i64>, ids: &Tensor, x: &Tensor) -> Result<Option<Tensor>> {
        let dtype = x.f_kind()?;
        let table = Table { weight: self.adapter.embedding().unwrap_or(x), padding };
        let mut embedded = match self.adapter.embedding() {
            Some(_) => Some(table.rows(ids)?.f_to_kind(dtype)?),
            None => None,
        };
        if let Some(TrainedRows { index, rows }) = self.adapter.embedding_rows() {
            let replaced = index.replace(embedded.as_ref().unwrap_or(x), ids, rows)?;
            embedded = Some(table.without_padding_gradient(replaced, ids)?);
        }
        if let Some(EmbeddingLowRank { a, b, scale }) = self.adapter.embedding_low_rank() {
            let of_ids = table.without_padding_gradient(a.f_index_select(1, ids)?.f_tr()?, ids)?;
            let change = of_ids.f_linear(b, None::<&Tensor>)?;
            let sum = embedded.as_ref().unwrap_or(x).f_add(&change.f_mul_scalar(scale)?)?;
            embedded = Some(sum.f_to_kind(dtype)?);
        }
        Ok(embedded)
    }

    /// The output of the adapter's tokens under DoRA, in the adapter's dtype, bias included.
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
            return Ok(Some(y.f_add(&dora::change_under_dropout(&factors, &base, &dropped, &low_rank)?)?));
        }
        Ok(Some(match &linear.bias {
            Some(bias) => y.f_sub(bias)?.f_mul(&factors)?.f_add(bias)?,
            None => y.f_mul(&factors)?,
        }))
    }

    /// The probability that a channel of this layer is dropped, and the key of its randomness.
    fn dropout_of(&self, linear: &Linear) -> (f64, Key) {
        match self.dropout {
            Some(dropout) => (dropout.p, dropout.key_of(&linear.shape)),
            None => (0.0, Key::new(0)),
        }
    }
}

/// The initial factors of PiSSA and OLoRA, subtracted: frozen, and without dropout.
fn initial_segment<'a>(low_rank: &LowRank<'a>, range: Range<i64>) -> Option<Segment<'a>> {
    let initial = low_rank.initial?;
    Some(Segment {
        a: &initial.a,
        b: &initial.b,
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
    let segments: Vec<Segment> = initial_segment(low_rank, 0..x.size()[0]).into_iter().collect();
    linear.weight.product(x, None, &segments, token_keys)
}

/// `x` in the dtype of `like`, under the dropout of [`native::linears`].
fn dropped(x: &Tensor, like: &Tensor, token_keys: &Tensor, p: f64, key: Key) -> Result<Tensor> {
    let mask = native::dropout_mask(token_keys, x.size()[1], p, key)?;
    Ok(x.f_to_kind(like.f_kind()?)?.f_mul(&mask.f_to_kind(like.f_kind()?)?)?)
}

fn rows(x: &Tensor, range: &Range<i64>) -> std::result::Result<Tensor, tch::TchError> {
    x.f_narrow(0, range.start, range.end - range.start)
}

/// `y` with the rows of each range replaced by the piece that belongs to it.
fn splice_rows(y: Tensor, mut pieces: Vec<(Range<i64>, Tensor)>) -> Result<Tensor> {
    if pieces.is_empty() {
        return Ok(y);
    }
    pieces.sort_by_key(|(range, _)| range.start);
    let (mut all, mut done) = (Vec::with_capacity(2 * pieces.len() + 1), 0);
    for (range, piece) in pieces {
        if range.start < done {
            bail!(Kind::Input, "two adapters with DoRA, biases or `modules_to_save` are applied to the same tokens"; hint: "activate one of them at a time");
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
