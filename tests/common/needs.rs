//! What some tests need and this repository does not hold.
//!
//! Such a test is ignored, and its reason says what it needs and how to give it. `make test-all`
//! runs them. A test that runs without what it needs fails.

use lorhai::model::device::parse_device;
use std::ffi::OsString;
use std::path::PathBuf;
use tch::Device;

/// Tokenizers, pretrained models and data: `path` in the folder that `LORHAI_ASSETS` names.
pub fn assets(path: &str) -> PathBuf {
    let folder = named("LORHAI_ASSETS", "the folder with tokenizers, models and data");
    let path = PathBuf::from(folder).join(path);
    assert!(path.exists(), "{} is missing: LORHAI_ASSETS must name the folder that has it", path.display());
    path
}

/// The Python that a variable names: `PEER_PYTHON`, `LLAMA_PYTHON` or `TENSORBOARD_PYTHON`.
pub fn python(variable: &str) -> OsString {
    named(variable, "a Python with the packages that CONTRIBUTING.md lists")
}

/// NVIDIA's compiler of kernels: the path of libnvrtc.so.13.
pub fn nvrtc() -> PathBuf {
    let path = PathBuf::from(named("NVRTC_LIBRARY", "NVIDIA's libnvrtc.so.13: run `make nvrtc`, and"));
    assert!(path.is_file(), "{} is missing: NVRTC_LIBRARY must name libnvrtc.so.13", path.display());
    path
}

/// The program that kills another at a system call of one's choice.
pub fn strace() {
    let found = std::process::Command::new("strace").arg("--version").output();
    assert!(found.is_ok_and(|output| output.status.success()), "this test needs strace: install it");
}

pub fn gpu() -> Device {
    parse_device("cuda").unwrap_or_else(|error| panic!("this test needs an NVIDIA GPU: {error}"))
}

fn named(variable: &str, what: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| panic!("this test needs {what}: set {variable}"))
}
