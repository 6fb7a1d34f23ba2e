//! Frozen matrices packed for the CPU, so that products need not lay them out anew: see `packed.cpp`.

use super::{checked, raw, Raw};
use crate::error::Result;
use std::ffi::c_char;
use std::sync::OnceLock;
use tch::{Device, Kind as Dtype, Tensor};

extern "C" {
    fn lorhai_can_pack() -> bool;
    fn lorhai_pack(w: Raw, is_mapped: bool) -> *mut c_char;
    fn lorhai_is_packed(w: Raw, tokens: i64) -> bool;
    fn lorhai_packed_bytes(w: Raw) -> u64;
    fn lorhai_make_packed_copies(w: Raw) -> *mut c_char;
}

/// Whether matrices of this dtype can be packed here; `multiplies_bf16` is a property of the processor.
pub fn can_pack(dtype: Dtype, multiplies_bf16: bool) -> bool {
    static HAS_OPERATORS: OnceLock<bool> = OnceLock::new();
    let is_served = match dtype {
        Dtype::Float => true,
        Dtype::BFloat16 => multiplies_bf16,
        _ => false,
    };
    // On aarch64 other kernels multiply, whose layouts depend on the number of tokens.
    // SAFETY: a query.
    let has_operators = || *HAS_OPERATORS.get_or_init(|| unsafe { lorhai_can_pack() });
    cfg!(target_arch = "x86_64") && is_served && has_operators()
}

/// Packs a frozen matrix `[out_features, in_features]` on the CPU, of a dtype that [`can_pack`] allows: from now on
/// [`linears`](super::linears) and [`token_losses`](super::token_losses) read its packed copies, one for forward and one
/// for backward passes, which their first product makes. They belong to the tensor: all handles on it share them. Once it
/// is written to or requires a gradient, they are not read any more.
///
/// The pages of the tensor are dropped whenever a copy was made, if `is_mapped`.
///
/// # Safety
/// If `is_mapped`, its memory is a private mapping of a file, unchanged. No other thread has a handle on the tensor.
pub unsafe fn pack(w: &Tensor, is_mapped: bool) -> Result<()> {
    debug_assert!(w.device() == Device::Cpu && w.is_contiguous());
    // SAFETY: the tensor outlives the call, C++ exceptions are caught, and the caller guarantees the rest.
    checked(unsafe { lorhai_pack(raw(w), is_mapped) })
}

/// Whether products of so many tokens with `w` read packed copies of it.
pub fn is_packed(w: &Tensor, tokens: i64) -> bool {
    // SAFETY: a query.
    unsafe { lorhai_is_packed(raw(w), tokens) }
}

/// The bytes by which both packed copies of `w` exceed `w` itself in memory; 0 if it is not packed.
pub fn packed_bytes(w: &Tensor) -> u64 {
    // SAFETY: a query.
    unsafe { lorhai_packed_bytes(raw(w)) }
}

/// Makes both packed copies of `w` now, if it is packed.
pub fn make_packed_copies(w: &Tensor) -> Result<()> {
    // SAFETY: the tensor outlives the call, and C++ exceptions are caught.
    checked(unsafe { lorhai_make_packed_copies(raw(w)) })
}
