//! The unchanged program with the stand-in for an NVIDIA GPU (tests/standin/README.md): its numbers against those of
//! the CPU, its kernels in any order of threads, GPUs that cannot be used, and what a step asks of the device.
//!
//! It shows that tensors are where they belong, that arguments and numbers are right, and how often the device is
//! called. It says nothing of time, of cuBLAS, or of the GPU's own kernels.
//!
//! On other systems than Linux on x86_64 there is no stand-in, and nothing is tested.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

#[path = "standin/counts.rs"]
mod counts;
#[path = "standin/devices.rs"]
mod devices;
#[path = "standin/failures.rs"]
mod failures;
#[path = "standin/gpu.rs"]
mod gpu;
#[path = "standin/kernels.rs"]
mod kernels;
#[path = "standin/parity.rs"]
mod parity;
#[path = "standin/unusable.rs"]
mod unusable;
