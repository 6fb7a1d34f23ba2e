//! Tensors over memory of the Rust side.

use super::{made, raw, Raw};
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

/// A tensor on the CPU over `bytes`, which hold `shape` numbers of `kind`. It holds on to their
/// `owner`, and so does everything that shares its memory: views, and nodes of a graph that wait
/// for their backward pass.
///
/// # Safety
/// The bytes stay where they are, readable and writable, for as long as `owner` lives, are
/// aligned for `kind`, and are as many as `shape` says.
pub unsafe fn tensor_over<T: Send + Sync>(bytes: &[u8], owner: T, shape: &[i64], kind: Dtype) -> Result<Tensor> {
    unsafe extern "C" fn drop_box<T>(owner: *mut c_void) {
        // SAFETY: made by `Box::into_raw` below, and libtorch calls this once.
        drop(unsafe { Box::from_raw(owner.cast::<T>()) });
    }
    // SAFETY: the caller's promise.
    let bare = unsafe { Tensor::f_from_blob(bytes.as_ptr(), shape, &[], kind, Device::Cpu)? };
    let owner = Box::into_raw(Box::new(owner)).cast();
    // SAFETY: errors are caught. One leaves the owner alive, which is not worse than its memory taken away.
    made(|out| unsafe { lorhai_owned(raw(&bare), owner, drop_box::<T>, out) })
}
