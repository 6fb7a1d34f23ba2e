//! Operations that tch lacks or that are slow in it: a small C++ shim over libtorch, compiled by `build.rs`.
//!
//! | file | defines |
//! |---|---|
//! | `rows.h`, `rows.inc` | loops over rows in memory, compiled for several kinds of processor |
//! | `vectors.inc` | the vectors that these loops work on, and their exponential |
//! | `products.inc`, `product.h` | matrix products: our own for small ones, else libtorch's |
//! | `layers.cpp` | RMSNorm, rotary embedding, SwiGLU as single nodes of the autograd graph |
//! | `attention.inc`, `attention.cpp`, `attention.rs` | causal attention within documents |
//! | `linear.h`, `linear.cpp`, `adapter_part.h`, `linear.rs` | frozen linear layers of one input with the adapters of several token ranges |
//! | `batch_layout.h`, `batched.h`, `batched.cpp`, `batched.rs` | the same on a GPU, with all adapters in the same operations |
//! | `packed.h`, `packed.cpp`, `packed.rs` | frozen matrices packed for the CPU |
//! | `nf4.h`, `nf4.cpp`, `nf4.rs` | 4-bit matrices: quantised, dequantised, and as the weight of a linear layer |
//! | `training.cpp` | cross-entropy over a large vocabulary, AdamW |
//! | `threads.cpp` | teams of OpenMP's threads |
//! | `memory.cpp`, `memory.rs` | tensors over memory that Rust owns |
//! | `process_group.cpp`, `process_group.rs`, `gloo_declarations/` | sums over several processes |
//! | `driver.rs` | NVIDIA's driver: whether it can be used, and its GPUs |
//! | `loaded.rs` | where the libraries of this process were loaded from |
//! | `nvrtc.rs` | NVIDIA's compiler of kernels: which library, from source to an image |
//! | `images.rs` | compiled kernels, kept for the next start |
//! | `kernels.cu`, `gpu.rs` | the same loops as GPU kernels, compiled on first use |
//!
//! Every operation supports autograd and works for each dtype on each device: loops for f32 and bf16 on the
//! CPU, kernels for both on a GPU, libtorch's own operations for the rest. A foundation: it knows tensors, but
//! no model.

mod attention;
mod batched;
pub mod driver;
pub mod gpu;
mod images;
mod linear;
pub mod loaded;
mod memory;
mod nf4;
pub mod nvrtc;
mod packed;
pub mod process_group;

pub use attention::{document_attention, has_document_attention, has_rotated_attention, rotated_attention};
pub use batched::{AdaptedLayer, BatchedAdapters, Matrices, Member};
pub use linear::{dropout_mask, linear, linears, merging_pays, Layer, Matrix, Segment};
pub use memory::tensor_over;
pub use nf4::{dynamic_map, tensor_bytes, Nf4, Scales};
pub use packed::{can_pack, is_packed, make_packed_copies, pack, packed_bytes};

use crate::error::{Error, Result};
use std::ffi::{c_char, c_int, c_void, CStr};
use std::ptr::{null, null_mut};
use tch::Tensor;

/// Whether there are kernels for tensors like `x`: in f32 and bf16 on a GPU.
pub fn has_kernels(x: &Tensor) -> bool {
    // SAFETY: a pure query.
    unsafe { lorhai_has_kernels(raw(x)) }
}

/// The largest second matrix, in elements, that our own f32 loops multiply: `SMALL` in `product.h`.
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
    /// The square root of the bias correction of the squared gradient.
    pub bias2: f32,
    /// The factor that clips the gradient.
    pub clip: f32,
}

extern "C" {
    fn lorhai_rms_norm(x: Raw, w: Raw, eps: f64, out: *mut *mut c_void) -> *mut c_char;
    fn lorhai_add_rms_norm(x: Raw, delta: Raw, w: Raw, eps: f64, out: *mut *mut c_void) -> *mut c_char;
    fn lorhai_rotate(x: Raw, cos: Raw, sin: Raw, out: *mut *mut c_void) -> *mut c_char;
    fn lorhai_swiglu(gate: Raw, up: Raw, out: *mut *mut c_void) -> *mut c_char;
    fn lorhai_take_rows(x: Raw, index: Raw, inverse: Raw, out: *mut *mut c_void) -> *mut c_char;
    fn lorhai_repeat_rows(x: Raw, index: Raw, out: *mut *mut c_void) -> *mut c_char;
    fn lorhai_token_losses(
        hidden: Raw,
        w: Raw,
        targets: Raw,
        divisor: f64,
        cap: f64,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn lorhai_loss_piece(vocabulary: i64, width: i64, size: i64, is_cpu: bool) -> i64;
    fn lorhai_has_adamw(theta: Raw) -> bool;
    fn lorhai_adamw(theta: Raw, gradient: Raw, mean: Raw, square: Raw, decayed: Raw, step: AdamStep) -> *mut c_char;
    fn lorhai_norm(x: Raw) -> f64;
    fn lorhai_openmp_processors() -> c_int;
    fn lorhai_hold_team(count: c_int);
    fn lorhai_set_machine_is_busy(is_busy: bool);
    fn lorhai_backward(y: Raw, dy: Raw) -> *mut c_char;
    fn lorhai_set_grad(leaf: Raw, gradient: Raw) -> *mut c_char;
    fn lorhai_has_kernels(x: Raw) -> bool;
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
    // SAFETY: the shim made the text with strdup and gives up its ownership.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    unsafe { libc::free(message.cast()) };
    Err(Error::from(tch::TchError::Torch(text)))
}

/// Calls a function of the shim that returns a new tensor.
fn new_tensor(call: impl FnOnce(*mut *mut c_void) -> *mut c_char) -> Result<Tensor> {
    let mut out = null_mut();
    checked(call(&mut out))?;
    // SAFETY: without an error `out` is a new `at::Tensor` that we own.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}

/// `w · x / sqrt(mean(x²) + eps)` over every `width` channels of the last dimension; x
/// `[…, times * width]`, w `[width]`.
pub fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    // SAFETY (here and below): the tensors outlive the call, and C++ exceptions are caught.
    new_tensor(|out| unsafe { lorhai_rms_norm(raw(x), raw(w), eps, out) })
}

/// x + delta, and [`rms_norm`] of it, as one node, for tensors with kernels. The weight is frozen.
pub fn add_rms_norm(x: &Tensor, delta: &Tensor, w: &Tensor, eps: f64) -> Result<[Tensor; 2]> {
    let mut out = [null_mut(); 2];
    checked(unsafe { lorhai_add_rms_norm(raw(x), raw(delta), raw(w), eps, out.as_mut_ptr()) })?;
    // SAFETY: without an error both are new tensors that we own.
    Ok(out.map(|y: *mut c_void| unsafe { Tensor::from_ptr(y.cast()) }))
}

/// Rotary embedding: x `[tokens, heads * head_dim]`, cos and sin f32 `[tokens, head_dim / 2]`.
/// Returns `[tokens, heads, head_dim]`.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    new_tensor(|out| unsafe { lorhai_rotate(raw(x), raw(cos), raw(sin), out) })
}

/// `silu(gate) · up`, elementwise.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    new_tensor(|out| unsafe { lorhai_swiglu(raw(gate), raw(up), out) })
}

/// The rows `index` (int64) of x. `inverse` is the index in the result of each row of x; the gradient of a row is
/// taken from there only.
pub fn take_rows(x: &Tensor, index: &Tensor, inverse: &Tensor) -> Result<Tensor> {
    new_tensor(|out| unsafe { lorhai_take_rows(raw(x), raw(index), raw(inverse), out) })
}

/// The rows `index` (int64) of x, which has every row of x at least once. The gradient of a row is the sum of those of its
/// copies.
pub fn repeat_rows(x: &Tensor, index: &Tensor) -> Result<Tensor> {
    // SAFETY: the tensors outlive the call, and C++ exceptions are caught.
    new_tensor(|out| unsafe { lorhai_repeat_rows(raw(x), raw(index), out) })
}

/// The cross-entropy in nats of every token, `[tokens]`, in f32 at least: hidden
/// `[tokens, width]`, the frozen output matrix `[vocabulary, width]`, targets int64.
pub fn token_losses(hidden: &Tensor, w: &Tensor, targets: &Tensor, shape: LogitShape) -> Result<Tensor> {
    let LogitShape { divisor, softcap } = shape;
    let cap = softcap.unwrap_or(0.0);
    new_tensor(|out| unsafe { lorhai_token_losses(raw(hidden), raw(w), raw(targets), divisor, cap, out) })
}

/// What becomes of the products of the output head: `cap · tanh(product / divisor / cap)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitShape {
    pub divisor: f64,
    pub softcap: Option<f64>,
}

impl Default for LogitShape {
    /// The products are the logits.
    fn default() -> Self {
        LogitShape { divisor: 1.0, softcap: None }
    }
}

impl LogitShape {
    /// The logits for `products` of the head.
    pub fn apply(self, products: Tensor) -> Result<Tensor> {
        let logits = if self.divisor == 1.0 { products } else { products.f_div_scalar(self.divisor)? };
        match self.softcap {
            None => Ok(logits),
            Some(cap) => Ok(logits.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap)?),
        }
    }
}

/// The number of tokens whose logits [`token_losses`] holds at a time, at `size` bytes a number.
pub fn loss_piece(vocabulary: u64, width: u64, size: u64, is_cpu: bool) -> u64 {
    // SAFETY: a pure function of numbers.
    unsafe { lorhai_loss_piece(vocabulary as i64, width as i64, size as i64, is_cpu) as u64 }
}

/// Whether [`adamw`] supports tensors like `theta`.
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

/// The processors that OpenMP counts on.
pub fn openmp_processors() -> usize {
    // SAFETY: a pure query.
    unsafe { lorhai_openmp_processors() }.max(1) as usize
}

/// Starts a team of `count` OpenMP threads, which wait until this thread ends. If the system refuses them, OpenMP ends
/// the program.
pub fn hold_team(count: usize) {
    // SAFETY: starts threads that touch nothing.
    unsafe { lorhai_hold_team(c_int::try_from(count).unwrap_or(c_int::MAX)) }
}

/// Whether other programs want the processors too. If so, small work is not split among threads; its results are the
/// same.
pub fn set_machine_is_busy(is_busy: bool) {
    // SAFETY: sets a flag.
    unsafe { lorhai_set_machine_is_busy(is_busy) }
}

/// Runs the backward pass from `y` with `dy`, the gradient of the loss with respect to it.
pub fn backward(y: &Tensor, dy: &Tensor) -> Result<()> {
    checked(unsafe { lorhai_backward(raw(y), raw(dy)) })
}

/// Makes `gradient` the tensor that gradients of `leaf` are added to.
pub fn set_grad(leaf: &Tensor, gradient: &Tensor) -> Result<()> {
    checked(unsafe { lorhai_set_grad(raw(leaf), raw(gradient)) })
}
