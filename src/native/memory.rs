//! Tensors over memory that Rust owns, such as mapped files.

use super::{new_tensor, raw, Raw};
use crate::error::Result;
use std::ffi::{c_char, c_void};
use tch::{Device, Kind as Dtype, Tensor};

extern "C" {
    fn lorhai_owned(
        x: Raw,
        owner: *mut c_void,
        drop: unsafe extern "C" fn(*mut c_void),
        out: *mut *mut c_void,
    ) -> *mut c_char;
}

/// A tensor on the CPU over `bytes`, which hold `shape` numbers of `kind`. It keeps their `owner` alive, as does
/// everything that shares its memory: views, and nodes of a graph before their backward pass.
///
/// # Safety
/// As long as `owner` lives, the bytes do not move and are readable and writable. They are aligned for `kind`
/// and as many as `shape` needs.
pub unsafe fn tensor_over<T: Send + Sync>(bytes: &[u8], owner: T, shape: &[i64], kind: Dtype) -> Result<Tensor> {
    unsafe extern "C" fn drop_box<T>(owner: *mut c_void) {
        // SAFETY: made by `Box::into_raw` below, and libtorch calls this once.
        drop(unsafe { Box::from_raw(owner.cast::<T>()) });
    }
    // SAFETY: guaranteed by the caller.
    let bare = unsafe { Tensor::f_from_blob(bytes.as_ptr(), shape, &[], kind, Device::Cpu)? };
    let owner = Box::into_raw(Box::new(owner)).cast();
    // SAFETY: C++ exceptions are caught. After one the owner is leaked, which is safe.
    new_tensor(|out| unsafe { lorhai_owned(raw(&bare), owner, drop_box::<T>, out) })
}
