//! A linear layer of the frozen base, and the trait through which adapters take part in it.

use super::input::Tokens;
use super::norm::RmsNorm;
use super::shapes::LinearShape;
use crate::bail;
use crate::error::{Kind, Result};
use crate::native::{self, tensor_bytes, Layer, Matrix, Nf4, Segment};
use tch::{Kind as Dtype, Tensor};

/// `y = x Wᵀ + b`
#[derive(Debug)]
pub struct Linear {
    pub shape: LinearShape,
    /// `[out_features, in_features]`
    pub weight: Weight,
    /// `[out_features]`
    pub bias: Option<Tensor>,
}

/// The matrix of a linear layer.
#[derive(Debug)]
pub enum Weight {
    Dense(Tensor),
    /// 4-bit and frozen.
    Nf4(Nf4),
}

impl Linear {
    /// The layer of the base.
    pub fn without_adapters(&self) -> Layer<'_> {
        Layer { w: self.weight.matrix(), bias: self.bias.as_ref(), segments: &[] }
    }
}

impl Weight {
    /// The matrix if it is dense; a 4-bit one is an error.
    pub fn dense(&self) -> Result<&Tensor> {
        match self {
            Weight::Dense(weight) => Ok(weight),
            Weight::Nf4(_) => bail!(Kind::Model, "expected a dense weight, found a 4-bit one"),
        }
    }

    /// The matrix in `dtype`; a 4-bit one is dequantised into a new tensor.
    pub fn to_dense(&self, dtype: Dtype) -> Result<Tensor> {
        match self {
            Weight::Dense(weight) => Ok(weight.f_to_kind(dtype)?),
            Weight::Nf4(weight) => weight.dense(dtype),
        }
    }

    /// `x Wᵀ + b` plus the part of each adapter; see [`native::linears`].
    pub fn product(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        segments: &[Segment],
        token_keys: &Tensor,
    ) -> Result<Tensor> {
        match self {
            Weight::Dense(weight) if segments.is_empty() && !native::is_packed(weight, x.size2()?.0) => {
                Ok(x.f_linear(weight, bias)?)
            }
            _ => native::linear(x, Layer { w: self.matrix(), bias, segments }, token_keys),
        }
    }

    fn matrix(&self) -> Matrix<'_> {
        match self {
            Weight::Dense(weight) => Matrix::Dense(weight),
            Weight::Nf4(weight) => Matrix::Nf4(weight),
        }
    }

    pub fn is_trained(&self) -> bool {
        matches!(self, Weight::Dense(weight) if weight.requires_grad())
    }

    /// The bytes of the matrix.
    pub fn bytes(&self) -> u64 {
        match self {
            Weight::Dense(weight) => tensor_bytes(weight),
            Weight::Nf4(weight) => weight.bytes(),
        }
    }

    /// Another handle on the same matrix. Copies nothing.
    pub fn shallow_clone(&self) -> Weight {
        match self {
            Weight::Dense(weight) => Weight::Dense(weight.shallow_clone()),
            Weight::Nf4(weight) => Weight::Nf4(weight.shallow_clone()),
        }
    }
}

/// The output of each layer for the same `x` `[tokens, in]`, with the parts of its adapters (`segments`, by
/// layer): `[tokens, out]`.
pub fn forward(linears: &[&Linear], x: &Tensor, segments: &[Vec<Segment>], tokens: &Tokens) -> Result<Vec<Tensor>> {
    let layers_with_parts = linears.iter().zip(segments);
    if segments.iter().all(Vec::is_empty) {
        return layers_with_parts
            .map(|(linear, parts)| linear.weight.product(x, linear.bias.as_ref(), parts, &tokens.keys))
            .collect();
    }
    let layers: Vec<Layer> = layers_with_parts
        .map(|(linear, segments)| Layer { w: linear.weight.matrix(), bias: linear.bias.as_ref(), segments })
        .collect();
    native::linears(x, &layers, &tokens.keys)
}

/// How adapters take part in a forward pass: `lora/` implements it for sets of adapters.
///
/// The decoder knows adapters only through this trait, so that one definition of the forward pass serves the
/// base alone, one adapter, and several adapters together.
pub trait Adapters {
    /// The output of each layer for the same `x` `[tokens, in]`, with the adapters' parts:
    /// `[tokens, out]`.
    fn forward(&self, linears: &[&Linear], x: &Tensor, tokens: &Tokens) -> Result<Vec<Tensor>>;

    /// The embeddings `[tokens, width]` of token ids, from `table` or from an adapter's own copy of it.
    fn embed(&self, table: &Table, ids: &Tensor, _: &Tokens) -> Result<Tensor> {
        table.rows(ids)
    }

    /// `x` `[tokens, …]` normalised, with an adapter's own weight if it has one.
    fn norm(&self, norm: &RmsNorm, x: &Tensor, _: &Tokens) -> Result<Tensor> {
        norm.forward(x)
    }

    /// Whether the weight of this norm is trained, the model's or an adapter's.
    fn trains_norm(&self, norm: &RmsNorm) -> bool {
        norm.weight.requires_grad()
    }

    /// Whether an adapter changes the output of this layer on batch `part`, or the layer itself is trained.
    fn affects(&self, linear: &Linear, part: usize) -> bool;
}

/// A table of embeddings.
#[derive(Debug)]
pub struct Table<'a> {
    /// `[vocabulary, width]`
    pub weight: &'a Tensor,
    /// The row that has no gradient, as in `torch.nn.Embedding`.
    pub padding: Option<i64>,
}

impl Table<'_> {
    /// The rows `ids`, `[tokens, width]`.
    pub fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_embedding(self.weight, ids, self.padding.unwrap_or(-1), false, false)?)
    }

    /// `x` `[tokens, …]`, without a gradient at padding.
    pub fn without_padding_gradient(&self, x: Tensor, ids: &Tensor) -> Result<Tensor> {
        match self.padding {
            Some(padding) if x.requires_grad() => {
                Ok(x.f_detach()?.f_where_self(&ids.f_eq(padding)?.f_unsqueeze(-1)?, &x)?)
            }
            _ => Ok(x),
        }
    }
}

/// The base alone.
#[derive(Debug, Clone, Copy)]
pub struct NoAdapters;

impl Adapters for NoAdapters {
    fn forward(&self, linears: &[&Linear], x: &Tensor, tokens: &Tokens) -> Result<Vec<Tensor>> {
        linears.iter().map(|linear| linear.weight.product(x, linear.bias.as_ref(), &[], &tokens.keys)).collect()
    }

    fn affects(&self, linear: &Linear, _: usize) -> bool {
        linear.weight.is_trained()
    }
}
