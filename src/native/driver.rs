//! NVIDIA's driver: whether it can be used, and the GPUs that it has, in the order in which CUDA numbers them.
//!
//! The library is opened here by its own name before cudarc looks for it: cudarc tries other names first, and panics
//! where it finds none.

use cudarc::driver::result::{self as driver, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute, CUresult};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::ffi::c_int;
use std::path::Path;
use std::sync::OnceLock;

/// The CUDA version of this libtorch, as drivers write it, and the oldest driver that has it.
const CUDA: i32 = 13_000;
const OLDEST_DRIVER: &str = "580";
/// The second is where WSL2 keeps it, which not every distribution searches.
const LIBRARIES: [&str; 2] = ["libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"];
/// What a driver of this machine leaves in the file system, also where a container lacks its library.
const TRACES: [&str; 2] = ["/proc/driver/nvidia/version", "/dev/nvidiactl"];

/// The driver of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// No NVIDIA driver: the usual case on machines without a GPU.
    Absent,
    Unusable(Unusable),
    Usable(Vec<Gpu>),
}

/// Why there is no GPU to use, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    pub reason: String,
    pub fix: String,
}

/// A GPU as its driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    pub name: String,
    /// Major and minor number of its compute capability.
    pub capability: (i32, i32),
}

impl Unusable {
    pub fn new(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Unusable { reason: reason.into(), fix: fix.into() }
    }
}

/// Asks the driver, once. Starts it, which takes a tenth of a second with a GPU and no time without one.
pub fn driver() -> &'static Driver {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    DRIVER.get_or_init(|| {
        if !open_library() {
            return without_library(TRACES.iter().any(|path| Path::new(path).exists()));
        }
        match gpus() {
            Ok(gpus) => Driver::Usable(gpus),
            Err(unusable) => Driver::Unusable(unusable),
        }
    })
}

/// The GPUs, or none if they cannot be used.
pub fn usable_gpus() -> &'static [Gpu] {
    match driver() {
        Driver::Usable(gpus) => gpus,
        _ => &[],
    }
}

fn open_library() -> bool {
    // Global, so that libtorch and cudarc find this one.
    // SAFETY: the library is the driver's; its initialisers are made to run at any time.
    let library = LIBRARIES.iter().find_map(|name| unsafe { Library::open(Some(*name), RTLD_NOW | RTLD_GLOBAL) }.ok());
    // It stays open.
    library.map(std::mem::forget).is_some()
}

fn without_library(has_traces: bool) -> Driver {
    if has_traces {
        return Driver::Unusable(Unusable::new(
            "there is an NVIDIA driver, but its library libcuda.so.1 is not found",
            "in a container, start it with the GPUs (as in `docker run --gpus all`); else install the driver again",
        ));
    }
    Driver::Absent
}

fn gpus() -> Result<Vec<Gpu>, Unusable> {
    let mut version = 0;
    // SAFETY: writes one number, and needs no initialised driver.
    let status = unsafe { sys::cuDriverGetVersion(&mut version) };
    if status == CUresult::CUDA_SUCCESS && version < CUDA {
        return Err(too_old(version));
    }
    driver::init().map_err(not_started)?;
    let count = driver::device::get_count().map_err(not_started)?;
    if count == 0 {
        return Err(no_gpu());
    }
    Ok((0..count).map(gpu).collect())
}

fn gpu(index: c_int) -> Gpu {
    let attribute = |which| {
        // SAFETY: asks the driver, which is initialised, for a number.
        let value =
            driver::device::get(index).and_then(|device| unsafe { driver::device::get_attribute(device, which) });
        value.unwrap_or(0)
    };
    let name = driver::device::get(index).and_then(driver::device::get_name);
    Gpu {
        name: name.unwrap_or_else(|_| "unnamed".to_owned()),
        capability: (
            attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        ),
    }
}

/// A version of CUDA as people write it: 12080 is 12.8.
fn written(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn too_old(version: i32) -> Unusable {
    let reason = format!("the NVIDIA driver is too old: it supports CUDA {}, not {}", written(version), written(CUDA));
    Unusable::new(reason, format!("update it to version {OLDEST_DRIVER} or newer"))
}

fn no_gpu() -> Unusable {
    let fix = match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(visible) => {
            format!("CUDA_VISIBLE_DEVICES is \"{visible}\": unset it, or name a GPU that `nvidia-smi` lists")
        }
        Err(_) => {
            "see whether `nvidia-smi` lists one; start a container with them (`docker run --gpus all`)".to_owned()
        }
    };
    Unusable::new("the NVIDIA driver sees no GPU", fix)
}

fn not_started(error: DriverError) -> Unusable {
    if error.0 == CUresult::CUDA_ERROR_NO_DEVICE {
        return no_gpu();
    }
    Unusable::new(
        format!("the NVIDIA driver does not start: {}", text_of(&error)),
        "see what `nvidia-smi` says; after an update of the driver, restart this machine",
    )
}

/// An error in the driver's own words.
pub(super) fn text_of(error: &DriverError) -> String {
    error.error_string().map_or_else(|_| error.to_string(), |text| text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_without_its_library_is_told_from_none() {
        assert_eq!(without_library(false), Driver::Absent);
        assert!(matches!(without_library(true), Driver::Unusable(why) if why.reason.contains("libcuda.so.1")));
    }

    #[test]
    fn versions_are_written_as_nvidia_writes_them() {
        assert_eq!([written(12_080), written(13_000), written(11_040)], ["12.8", "13.0", "11.4"]);
        assert!(too_old(12_080).reason.ends_with("it supports CUDA 12.8, not 13.0"));
    }
}
