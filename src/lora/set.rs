//! Adapters at work in one forward pass: each on its own rows of the batch.
//!
//! `y = base(x) + B(A(dropout(x))) · scale`, the low-rank part in the adapter's f32 and
//! the sum cast back to the base's dtype, as PEFT does.

use super::adapter::{Adapter, LowRank};
use super::dropout::Dropout;
use crate::error::Result;
use crate::model::linear::Adapters;
use crate::model::shapes::LinearShape;
use std::ops::Range;
use tch::Tensor;

/// An adapter with the batch rows it serves.
#[derive(Debug)]
pub struct Active<'a> {
    pub adapter: &'a Adapter,
    pub rows: Range<i64>,
    /// `None` in evaluation.
    pub dropout: Option<Dropout>,
}

/// Adapters that share a batch. Rows served by none see the bare base; a row may be served
/// by several, whose parts add up.
#[derive(Debug, Default)]
pub struct AdapterSet<'a> {
    pub active: Vec<Active<'a>>,
}

impl<'a> AdapterSet<'a> {
    /// One adapter on every row.
    pub fn one(adapter: &'a Adapter, dropout: Option<Dropout>) -> Self {
        AdapterSet { active: vec![Active { adapter, rows: 0..i64::MAX, dropout }] }
    }
}

impl Adapters for AdapterSet<'_> {
    fn adapt(&self, linear: &LinearShape, x: &Tensor, y: Tensor) -> Result<Tensor> {
        let dtype = y.f_kind()?;
        let batch_rows = x.size().first().copied().unwrap_or(0);
        let mut sum = y;
        for active in &self.active {
            let Some(low_rank) = active.adapter.low_rank(linear) else { continue };
            let rows = active.rows.start..active.rows.end.min(batch_rows);
            sum = match rows == (0..batch_rows) {
                true => sum.f_add(&active.part(linear, low_rank, x)?)?,
                false => add_rows(&sum, rows.clone(), &active.part(linear, low_rank, &narrow(x, &rows)?)?)?,
            };
        }
        Ok(sum.f_to_kind(dtype)?)
    }
}

impl Active<'_> {
    /// What this adapter adds, in its own dtype.
    fn part(&self, linear: &LinearShape, LowRank { a, b, scale }: LowRank, x: &Tensor) -> Result<Tensor> {
        let x = x.f_to_kind(a.f_kind()?)?;
        let x = match self.dropout {
            Some(dropout) => dropout.apply(&x, &linear.name)?,
            None => x,
        };
        let no_bias = None::<&Tensor>;
        Ok(x.f_linear(a, no_bias)?.f_linear(b, no_bias)?.f_mul_scalar(scale)?)
    }
}

fn narrow(x: &Tensor, rows: &Range<i64>) -> Result<Tensor> {
    Ok(x.f_narrow(0, rows.start, (rows.end - rows.start).max(0))?)
}

/// `y` with `part` added to some of its rows.
fn add_rows(y: &Tensor, rows: Range<i64>, part: &Tensor) -> Result<Tensor> {
    let count = y.size().first().copied().unwrap_or(0);
    let before = narrow(y, &(0..rows.start))?.f_to_kind(part.f_kind()?)?;
    let after = narrow(y, &(rows.end..count))?.f_to_kind(part.f_kind()?)?;
    Ok(Tensor::f_cat(&[before, narrow(y, &rows)?.f_add(part)?, after], 0)?)
}
