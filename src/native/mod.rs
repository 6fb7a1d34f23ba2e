//! What tch lacks or is slow at: a small C++ shim over libtorch, compiled by `build.rs`.
//!
//! | file | defines |
//! |---|---|
//! | `rows.h`, `rows.inc` | loops over plain memory, compiled for several kinds of processor |
//! | `vectors.inc` | the vectors that these loops go by; e to the power of them |
//! | `products.inc`, `product.h` | matrix products, of our own where they are small |
//! | `layers.cpp` | RMSNorm, rotary embedding, SwiGLU as single nodes of the autograd graph |
//! | `attention.inc`, `attention.cpp`, `attention.rs` | causal attention within documents |
//! | `linear.cpp`, `linear.rs` | frozen linear layers of one input with the adapters of several token ranges |
//! | `nf4.h`, `nf4.cpp`, `nf4.rs` | 4-bit matrices: made, read, and as the weight of a linear layer |
//! | `training.cpp` | cross-entropy over a large vocabulary, AdamW |
//! | `memory.cpp`, `memory.rs` | tensors over memory of the Rust side, which hold on to its owner |
//! | `kernels.cu`, `gpu.rs` | the same loops as kernels of a GPU, compiled when first wanted |
//!
//! Every operation takes part in autograd and works for each dtype on each device: loops
//! for f32 and bf16 on the CPU, kernels for both on a GPU, libtorch's own operations
//! elsewhere. A foundation: it knows
//! tensors, but no model.

mod attention;
pub mod gpu;
mod linear;
mod memory;
mod nf4;

pub use attention::{document_attention, has_document_attention};
pub use linear::{dropout_mask, linear, linears, merging_pays, Layer, Matrix, Segment};
pub use memory::tensor_over;
pub use nf4::{dynamic_map, tensor_bytes, Nf4, Scales};

use crate::error::{Error, Result};
use std::ffi::{c_char, c_void, CStr};
use std::ptr::{null, null_mut};
use tch::Tensor;

/// Matrices of up to so many elements are multiplied in f32 by loops of our own: `SMALL` in
/// `product.h`.
pub const SMALL_PRODUCT: i64 = 1 << 17;

/// A tensor as C++ sees it: `at::Tensor*`.
type Raw = *const c_void;

/// As `AdamStep` in `rows.h`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct AdamStep {
    pub one_minus_beta1: f32,
    pub beta2: f32,
    pub one_minus_beta2: f32,
    pub eps: f32,
    /// Learning rate times weight decay.
    pub decay: f32,
    /// Learning rate over the bias correction of the mean.
    pub step_size: f32,
    /// The square root of the bias correction of the square.
    pub bias2: f32,
    /// What the gradient is multiplied by first.
    pub clip: f32,
}

extern "C" {
    fn lorhai_rms_norm(x: Raw, w: Raw, eps: f64, out: *mut *mut c_void) -> *mut c_char;
    fn lorhai_rotate(x: Raw, cos: Raw, sin: Raw, out: *mut *mut c_void) -> *mut c_char;
    fn lorhai_swiglu(gate: Raw, up: Raw, out: *mut *mut c_void) -> *mut c_char;
    fn lorhai_take_rows(x: Raw, index: Raw, inverse: Raw, out: *mut *mut c_void) -> *mut c_char;
    fn lorhai_token_losses(hidden: Raw, w: Raw, targets: Raw, out: *mut *mut c_void) -> *mut c_char;
    fn lorhai_loss_piece(vocabulary: i64, width: i64, size: i64, is_cpu: bool) -> i64;
    fn lorhai_has_adamw(theta: Raw) -> bool;
    fn lorhai_adamw(theta: Raw, gradient: Raw, mean: Raw, square: Raw, decayed: Raw, step: AdamStep) -> *mut c_char;
    fn lorhai_norm(x: Raw) -> f64;
    fn lorhai_backward(y: Raw, dy: Raw) -> *mut c_char;
    fn lorhai_set_grad(leaf: Raw, gradient: Raw) -> *mut c_char;
}

fn raw(x: &Tensor) -> Raw {
    x.as_ptr().cast()
}

fn optional(x: Option<&Tensor>) -> Raw {
    x.map_or(null(), raw)
}

fn checked(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the shim gives a text that it made with strdup, and forgets it.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    unsafe { libc::free(message.cast()) };
    Err(Error::from(tch::TchError::Torch(text)))
}

/// Calls a function of the shim that gives a new tensor.
fn made(call: impl FnOnce(*mut *mut c_void) -> *mut c_char) -> Result<Tensor> {
    let mut out = null_mut();
    checked(call(&mut out))?;
    // SAFETY: without a message `out` is a new `at::Tensor` that is ours to delete.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}

/// `w · x / sqrt(mean(x²) + eps)` over every `width` channels of the last dimension; x
/// `[…, times * width]`, w `[width]`.
pub fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    // SAFETY (here and below): the tensors live as long as the call, and errors are caught.
    made(|out| unsafe { lorhai_rms_norm(raw(x), raw(w), eps, out) })
}

/// Rotary embedding: x `[tokens, heads * head_dim]`, cos and sin f32 `[tokens, head_dim / 2]`. Gives
/// `[tokens, heads, head_dim]`.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    made(|out| unsafe { lorhai_rotate(raw(x), raw(cos), raw(sin), out) })
}

/// `silu(gate) · up`, entry by entry.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    made(|out| unsafe { lorhai_swiglu(raw(gate), raw(up), out) })
}

/// Rows of x by number (int64); `inverse` says at which place each row of x is found again,
/// and gradients are taken from there alone.
pub fn take_rows(x: &Tensor, index: &Tensor, inverse: &Tensor) -> Result<Tensor> {
    made(|out| unsafe { lorhai_take_rows(raw(x), raw(index), raw(inverse), out) })
}

/// The cross-entropy in nats of every token, `[tokens]`, in f32 at least: hidden
/// `[tokens, width]`, the frozen output matrix `[vocabulary, width]`, targets int64.
pub fn token_losses(hidden: &Tensor, w: &Tensor, targets: &Tensor) -> Result<Tensor> {
    made(|out| unsafe { lorhai_token_losses(raw(hidden), raw(w), raw(targets), out) })
}

/// The tokens of which [`token_losses`] holds logits at a time, with `size` bytes a number.
pub fn loss_piece(vocabulary: u64, width: u64, size: u64, is_cpu: bool) -> u64 {
    // SAFETY: a function of its numbers.
    unsafe { lorhai_loss_piece(vocabulary as i64, width as i64, size as i64, is_cpu) as u64 }
}

/// Is there an [`adamw`] for tensors like `theta`?
pub fn has_adamw(theta: &Tensor) -> bool {
    unsafe { lorhai_has_adamw(raw(theta)) }
}

/// One AdamW step in place; flat f32 tensors of equal length.
pub fn adamw(
    theta: &Tensor,
    gradient: &Tensor,
    mean: &Tensor,
    square: &Tensor,
    decayed: Option<&Tensor>,
    step: AdamStep,
) -> Result<()> {
    checked(unsafe { lorhai_adamw(raw(theta), raw(gradient), raw(mean), raw(square), optional(decayed), step) })
}

/// The Euclidean norm of a contiguous f32 tensor on the CPU, summed in f64.
pub fn norm(x: &Tensor) -> f64 {
    unsafe { lorhai_norm(raw(x)) }
}

/// Goes backward from `y` with `dy`, the gradient of a loss with respect to it.
pub fn backward(y: &Tensor, dy: &Tensor) -> Result<()> {
    checked(unsafe { lorhai_backward(raw(y), raw(dy)) })
}

/// Makes `gradient` the tensor that gradients of `leaf` are added to.
pub fn set_grad(leaf: &Tensor, gradient: &Tensor) -> Result<()> {
    checked(unsafe { lorhai_set_grad(raw(leaf), raw(gradient)) })
}
