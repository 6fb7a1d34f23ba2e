//! Frozen linear layers that read the same input, with the adapters of several token ranges.

use super::nf4::RawNf4;
use super::{checked, new_tensor, optional, raw, Nf4, Raw};
use crate::error::{Error, Result};
use crate::random::Key;
use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};
use tch::Tensor;

/// One adapter in a linear layer, on the tokens from `begin` to `end`.
#[derive(Debug)]
pub struct Segment<'a> {
    /// `[r, in_features]`
    pub a: &'a Tensor,
    /// `[out_features, r]`
    pub b: &'a Tensor,
    /// The tensors that the backward pass adds the gradients of `a` and `b` to, with their shapes; `None` if
    /// they are frozen.
    pub gradients: Option<(&'a Tensor, &'a Tensor)>,
    pub begin: i64,
    pub end: i64,
    pub scale: f64,
    /// The probability that dropout zeroes a channel; 0 in evaluation.
    pub p: f64,
    /// The key of the dropout mask.
    pub key: Key,
}

/// The matrix of a layer, `[out_features, in_features]`.
#[derive(Debug, Clone, Copy)]
pub enum Matrix<'a> {
    Dense(&'a Tensor),
    /// Made dense in forward and again in backward, not kept in between.
    Nf4(&'a Nf4),
}

/// One of the layers of [`linears`].
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    pub w: Matrix<'a>,
    /// `[out_features]`
    pub bias: Option<&'a Tensor>,
    pub segments: &'a [Segment<'a>],
}

/// As `Segment` in `linear.h`.
#[repr(C)]
pub(super) struct RawSegment {
    a: Raw,
    b: Raw,
    grad_a: Raw,
    grad_b: Raw,
    begin: i64,
    end: i64,
    scale: f64,
    p: f64,
    key: u64,
}

/// As `Layer` in `linear.h`.
#[repr(C)]
pub(super) struct RawLayer {
    w: Raw,
    nf4: *const RawNf4,
    bias: Raw,
    segments: *const RawSegment,
    count: usize,
}

extern "C" {
    fn lorhai_linears(
        x: Raw,
        layers: *const RawLayer,
        count: usize,
        token_keys: Raw,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn lorhai_merging_pays(tokens: i64, in_features: i64, out_features: i64, r: i64) -> bool;
    fn lorhai_dropout_mask(token_keys: Raw, width: i64, p: f64, key: u64, out: *mut *mut c_void) -> *mut c_char;
}

/// For each layer `x Wᵀ + b`, and on the tokens of each of its segments `+ scale · drop(x) Aᵀ Bᵀ`:
/// `[tokens, out_features]`.
///
/// x `[tokens, in_features]`; `token_keys` int64 `[tokens]` identifies each token for its dropout:
/// `row << 40 | column << 20`.
pub fn linears(x: &Tensor, layers: &[Layer], token_keys: &Tensor) -> Result<Vec<Tensor>> {
    with_raw(layers, |raw_layers, out| {
        // SAFETY: what the layers point to outlives the call, and `out` has an element for each output.
        unsafe { lorhai_linears(raw(x), raw_layers.as_ptr(), raw_layers.len(), raw(token_keys), out) }
    })
}

/// Calls a function of the shim that writes a new tensor for each of `layers`.
pub(super) fn with_raw(
    layers: &[Layer],
    call: impl FnOnce(&[RawLayer], *mut *mut c_void) -> *mut c_char,
) -> Result<Vec<Tensor>> {
    let segments: Vec<Vec<RawSegment>> =
        layers.iter().map(|layer| layer.segments.iter().map(RawSegment::new).collect()).collect();
    let packed: Vec<Option<RawNf4>> = layers.iter().map(|layer| layer.w.packed().map(Nf4::raw)).collect();
    let rows = layers.iter().zip(segments.iter().zip(&packed));
    let raw_layers: Vec<RawLayer> = rows
        .map(|(layer, (segments, packed))| RawLayer {
            w: optional(layer.w.dense()),
            nf4: packed.as_ref().map_or(null(), |packed| packed),
            bias: optional(layer.bias),
            segments: segments.as_ptr(),
            count: segments.len(),
        })
        .collect();
    let mut out = vec![null_mut(); layers.len()];
    checked(call(&raw_layers, out.as_mut_ptr()))?;
    // SAFETY: without an error every element is a new `at::Tensor` that we own.
    Ok(out.into_iter().map(|y| unsafe { Tensor::from_ptr(y.cast()) }).collect())
}

/// As [`linears`], for one layer.
pub fn linear(x: &Tensor, layer: Layer, token_keys: &Tensor) -> Result<Tensor> {
    linears(x, &[layer], token_keys)?.pop().ok_or_else(|| Error::bug("a layer without an output"))
}

/// Whether [`linears`] merges an adapter of rank `r` on so many tokens into a copy of the layer's matrix for
/// the step, because that takes fewer multiplications. It does so only in the dtype of the adapter, on the CPU
/// and without dropout.
pub fn merging_pays(tokens: i64, in_features: i64, out_features: i64, r: i64) -> bool {
    // SAFETY: a pure function of numbers.
    unsafe { lorhai_merging_pays(tokens, in_features, out_features, r) }
}

/// The dropout mask of the tokens with these keys, as [`linears`] applies it: f32 `[tokens, width]` on their device.
pub fn dropout_mask(token_keys: &Tensor, width: i64, p: f64, key: Key) -> Result<Tensor> {
    // SAFETY: as above.
    new_tensor(|out| unsafe { lorhai_dropout_mask(raw(token_keys), width, p, key.value(), out) })
}

impl Matrix<'_> {
    fn dense(&self) -> Option<&Tensor> {
        match self {
            Matrix::Dense(w) => Some(w),
            Matrix::Nf4(_) => None,
        }
    }

    fn packed(&self) -> Option<&Nf4> {
        match self {
            Matrix::Dense(_) => None,
            Matrix::Nf4(w) => Some(w),
        }
    }
}

impl RawSegment {
    fn new(segment: &Segment) -> Self {
        RawSegment {
            a: raw(segment.a),
            b: raw(segment.b),
            grad_a: optional(segment.gradients.map(|(a, _)| a)),
            grad_b: optional(segment.gradients.map(|(_, b)| b)),
            begin: segment.begin,
            end: segment.end,
            scale: segment.scale,
            p: segment.p,
            key: segment.key.value(),
        }
    }
}
