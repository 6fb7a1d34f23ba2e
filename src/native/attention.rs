//! Causal attention within documents that lie one after another in a row of tokens.

use super::{gpu, new_tensor, raw, Raw};
use crate::error::Result;
use std::ffi::{c_char, c_void};
use tch::{Device, Kind as Dtype, Tensor};

extern "C" {
    fn lorhai_document_attention(
        q: Raw,
        k: Raw,
        v: Raw,
        starts: Raw,
        longest: i64,
        window: i64,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn lorhai_has_rotated_attention(q: Raw, window: i64) -> bool;
    fn lorhai_rotated_attention(
        q: Raw,
        k: Raw,
        v: Raw,
        cos: Raw,
        sin: Raw,
        starts: Raw,
        longest: i64,
        window: i64,
        out: *mut *mut c_void,
    ) -> *mut c_char;
}

/// Whether [`document_attention`] supports queries like `q` `[tokens, heads, head_dim]`.
pub fn has_document_attention(q: &Tensor) -> bool {
    match q.device() {
        Device::Cpu => matches!(q.f_kind(), Ok(Dtype::Float)),
        _ => gpu::has_flash_attention(q),
    }
}

/// Causal attention within documents that lie one after another: q `[tokens, heads, head_dim]`, k and v with
/// fewer heads. starts int32 `[documents + 1]`: the first token of each document, then the number of tokens. A
/// query sees the last `window` tokens, its own included. Returns `[tokens, heads * head_dim]`.
pub fn document_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    starts: &Tensor,
    longest: i64,
    window: Option<i64>,
) -> Result<Tensor> {
    let window = window.unwrap_or(0);
    // SAFETY: the tensors outlive the call, and C++ exceptions are caught.
    new_tensor(|out| unsafe { lorhai_document_attention(raw(q), raw(k), raw(v), raw(starts), longest, window, out) })
}

/// Whether [`rotated_attention`] supports queries like `q` `[tokens, heads, head_dim]`: in bf16 on a GPU.
pub fn has_rotated_attention(q: &Tensor, window: Option<i64>) -> bool {
    // SAFETY: a pure query.
    q.device() != Device::Cpu
        && gpu::has_flash_attention(q)
        && unsafe { lorhai_has_rotated_attention(raw(q), window.unwrap_or(0)) }
}

/// [`rotate`](super::rotate) for q `[tokens, heads * head_dim]` and k, and [`document_attention`] to v, as one node.
pub fn rotated_attention(
    [q, k, v]: [&Tensor; 3],
    [cos, sin]: [&Tensor; 2],
    starts: &Tensor,
    longest: i64,
    window: Option<i64>,
) -> Result<Tensor> {
    let window = window.unwrap_or(0);
    // SAFETY: as above.
    new_tensor(|out| unsafe {
        lorhai_rotated_attention(raw(q), raw(k), raw(v), raw(cos), raw(sin), raw(starts), longest, window, out)
    })
}
