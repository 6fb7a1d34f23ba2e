//! The adapters of disjoint token ranges, packed so that a GPU computes all of them in the same operations.

use super::linear::{with_raw, Layer, RawLayer};
use super::{checked, has_kernels, optional, raw, Raw};
use crate::error::Result;
use crate::random::Key;
use std::ffi::{c_char, c_void};
use std::ops::Range;
use std::ptr::null_mut;
use tch::{Kind as Dtype, Tensor};

/// One adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub tokens: Range<i64>,
    /// The probability that dropout zeroes a channel; 0 in evaluation.
    pub p: f64,
}

/// The matrices of one adapter in one layer.
#[derive(Debug)]
pub struct Matrices<'a> {
    /// f32 `[r, in_features]`
    pub a: &'a Tensor,
    /// f32 `[out_features, r]`
    pub b: &'a Tensor,
    /// What the backward pass adds the gradients of `a` and `b` to, with their shapes.
    pub gradients: (&'a Tensor, &'a Tensor),
    /// The number of the adapter.
    pub member: usize,
    pub scale: f64,
    /// The key of the dropout mask.
    pub key: Key,
}

/// A linear layer with the adapters that it has.
#[derive(Debug)]
pub struct AdaptedLayer<'a> {
    pub in_features: i64,
    pub out_features: i64,
    pub matrices: Vec<Matrices<'a>>,
}

/// Copies of the matrices of all adapters in the dtype of the base, made for one set of token ranges. Whoever changes
/// the adapters makes new ones.
#[derive(Debug)]
pub struct BatchedAdapters {
    /// `BatchedAdapters` in `batched.h`.
    object: *mut c_void,
    groups: usize,
}

/// As `Member` in `batch_layout.h`.
#[repr(C)]
struct RawMember {
    begin: i64,
    end: i64,
    p: f64,
}

/// As `Matrices` in `batch_layout.h`.
#[repr(C)]
struct RawMatrices {
    a: Raw,
    b: Raw,
    grad_a: Raw,
    grad_b: Raw,
    member: i64,
    scale: f64,
    key: u64,
}

/// As `AdaptedLayer` in `batch_layout.h`.
#[repr(C)]
struct RawAdaptedLayer {
    in_features: i64,
    out_features: i64,
    matrices: *const RawMatrices,
    count: usize,
}

/// As `LayerGroup` in `batch_layout.h`.
#[repr(C)]
struct RawGroup {
    layers: *const RawAdaptedLayer,
    count: usize,
}

extern "C" {
    fn lorhai_batched(
        x: Raw,
        members: *const RawMember,
        count: usize,
        groups: *const RawGroup,
        group_count: usize,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn lorhai_packed_size(tokens: i64, in_features: i64, out_features: i64, layers: i64, r: i64) -> i64;
    fn lorhai_batched_free(adapters: *mut c_void);
    fn lorhai_batched_linears(
        x: Raw,
        layers: *const RawLayer,
        count: usize,
        adapters: *mut c_void,
        number: usize,
        leaf: Raw,
        token_keys: Raw,
        out: *mut *mut c_void,
    ) -> *mut c_char;
}

impl BatchedAdapters {
    /// Whether adapters with matrices like `a` over inputs like `x` can be packed.
    pub fn supports(x: &Tensor, a: &Tensor) -> bool {
        has_kernels(x) && a.kind() == Dtype::Float && a.device() == x.device()
    }

    /// The numbers that the packed matrices of one adapter of rank `r` take in a group of which it adapts so many layers;
    /// `out_features` is that of the whole group.
    pub fn packed_size(tokens: u64, in_features: u64, out_features: u64, layers: u64, r: u64) -> u64 {
        let [tokens, in_features, out_features, layers, r] =
            [tokens, in_features, out_features, layers, r].map(|count| count as i64);
        // SAFETY: a pure function of numbers.
        unsafe { lorhai_packed_size(tokens, in_features, out_features, layers, r) as u64 }
    }

    /// Packs the adapters for inputs like `x` `[tokens, in_features]`. Their token ranges are disjoint and not empty. A
    /// group of layers reads the same input.
    pub fn new(x: &Tensor, members: &[Member], groups: &[Vec<AdaptedLayer>]) -> Result<Self> {
        let raw_members: Vec<RawMember> = members
            .iter()
            .map(|member| RawMember { begin: member.tokens.start, end: member.tokens.end, p: member.p })
            .collect();
        let matrices: Vec<Vec<Vec<RawMatrices>>> = groups
            .iter()
            .map(|layers| layers.iter().map(|layer| layer.matrices.iter().map(RawMatrices::new).collect()).collect())
            .collect();
        let layers: Vec<Vec<RawAdaptedLayer>> = groups
            .iter()
            .zip(&matrices)
            .map(|(layers, matrices)| {
                let pairs = layers.iter().zip(matrices);
                pairs.map(|(layer, matrices)| RawAdaptedLayer::new(layer, matrices)).collect()
            })
            .collect();
        let raw_groups: Vec<RawGroup> =
            layers.iter().map(|layers| RawGroup { layers: layers.as_ptr(), count: layers.len() }).collect();
        let mut object = null_mut();
        // SAFETY: what the groups point to outlives the call.
        checked(unsafe {
            lorhai_batched(
                raw(x),
                raw_members.as_ptr(),
                raw_members.len(),
                raw_groups.as_ptr(),
                raw_groups.len(),
                &mut object,
            )
        })?;

        Ok(BatchedAdapters { object, groups: groups.len() })
    }

    /// As [`super::linears`], for the layers of group `number`, whose segments are not read. `leaf` is a trainable matrix
    /// of their adapters, if they have one.
    pub fn linears(
        &self,
        number: usize,
        x: &Tensor,
        layers: &[Layer],
        leaf: Option<&Tensor>,
        token_keys: &Tensor,
    ) -> Result<Vec<Tensor>> {
        with_raw(layers, |raw_layers, out| {
            // SAFETY: what the layers point to outlives the call, and `out` has an element for each output. The backward
            // pass holds a reference of its own to the adapters.
            unsafe {
                lorhai_batched_linears(
                    raw(x),
                    raw_layers.as_ptr(),
                    raw_layers.len(),
                    self.object,
                    number,
                    optional(leaf),
                    raw(token_keys),
                    out,
                )
            }
        })
    }

    /// Whether group `number` is one of these.
    pub fn has_group(&self, number: usize) -> bool {
        number < self.groups
    }
}

impl Drop for BatchedAdapters {
    fn drop(&mut self) {
        // SAFETY: `new` made the object, and this is its only owner in Rust.
        unsafe { lorhai_batched_free(self.object) }
    }
}

impl RawMatrices {
    fn new(matrices: &Matrices) -> Self {
        RawMatrices {
            a: raw(matrices.a),
            b: raw(matrices.b),
            grad_a: raw(matrices.gradients.0),
            grad_b: raw(matrices.gradients.1),
            member: matrices.member as i64,
            scale: matrices.scale,
            key: matrices.key.value(),
        }
    }
}

impl RawAdaptedLayer {
    fn new(layer: &AdaptedLayer, matrices: &[RawMatrices]) -> Self {
        RawAdaptedLayer {
            in_features: layer.in_features,
            out_features: layer.out_features,
            matrices: matrices.as_ptr(),
            count: matrices.len(),
        }
    }
}
