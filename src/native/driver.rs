//! NVIDIA's driver: whether it can be used, and the GPUs that it has, in the order in which CUDA numbers them.
//!
//! The library is opened here by its own name before cudarc looks for it: cudarc tries other names first, and panics
//! where it finds none.

use crate::fence;
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
const TRACES: [&str; 2] = ["proc/driver/nvidia/version", "dev/nvidiactl"];
/// Where WSL2 shows the drivers of Windows, each in a folder; NVIDIA's are named nv….inf_amd64_….
const WINDOWS_DRIVERS: &str = "usr/lib/wsl/drivers";

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
        if !open_first(&LIBRARIES) {
            return without_library(Path::new("/"));
        }
        match fence::catch(gpus) {
            Ok(Ok(gpus)) => Driver::Usable(gpus),
            Ok(Err(unusable)) => Driver::Unusable(unusable),
            // cudarc panics where the library lacks a function.
            Err(panicked) => Driver::Unusable(Unusable::new(
                format!("the library of the NVIDIA driver is not complete: {}", panicked.message),
                "install the driver again; see what `nvidia-smi` says",
            )),
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

/// Opens the first of these libraries that there is, for good.
fn open_first(names: &[&str]) -> bool {
    // Global, so that libtorch and cudarc find this one.
    // SAFETY: the library is the driver's; its initialisers are made to run at any time.
    let library = names.iter().find_map(|name| unsafe { Library::open(Some(*name), RTLD_NOW | RTLD_GLOBAL) }.ok());
    // It stays open.
    library.map(std::mem::forget).is_some()
}

/// What the file system below `root` shows of a driver whose library does not open.
fn without_library(root: &Path) -> Driver {
    if TRACES.iter().any(|path| root.join(path).exists()) {
        return Driver::Unusable(Unusable::new(
            "there is an NVIDIA driver, but its library libcuda.so.1 is not found",
            "in a container, start it with the GPUs (as in `docker run --gpus all`); else install the driver again",
        ));
    }
    if windows_has_driver(root) {
        return Driver::Unusable(Unusable::new(
            "Windows has an NVIDIA driver, but WSL2 does not show its library /usr/lib/wsl/lib/libcuda.so.1",
            "update NVIDIA's driver in Windows (install none in Linux), then run `wsl --update` and `wsl --shutdown` there",
        ));
    }
    Driver::Absent
}

fn windows_has_driver(root: &Path) -> bool {
    let entries = std::fs::read_dir(root.join(WINDOWS_DRIVERS)).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("nv"))
}

/// Whether this system runs in WSL, where the driver is that of Windows.
pub fn is_wsl() -> bool {
    names_wsl(&std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())
}

/// A kernel's release, such as "5.15.153.1-microsoft-standard-WSL2".
fn names_wsl(release: &str) -> bool {
    release.to_lowercase().contains("microsoft")
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
    use super::super::loaded;
    use super::*;
    use std::fs;

    /// The reason that is reported where these files are there and no library opens.
    fn reason(files: &[&str]) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        match without_library(root.path()) {
            Driver::Unusable(unusable) => Some(unusable.reason),
            Driver::Absent => None,
            Driver::Usable(gpus) => panic!("{gpus:?}"),
        }
    }

    #[test]
    fn a_driver_without_its_library_is_told_from_none() {
        assert_eq!(reason(&[]), None);
        for trace in ["proc/driver/nvidia/version", "dev/nvidiactl"] {
            assert!(reason(&[trace]).unwrap().contains("libcuda.so.1 is not found"));
        }
    }

    #[test]
    fn in_wsl_the_driver_of_windows_is_missed_only_where_windows_has_one() {
        assert_eq!(reason(&["usr/lib/wsl/drivers/iigd_dch.inf_amd64_17b2/igd.dll"]), None);
        let missed = reason(&["usr/lib/wsl/drivers/nv_dispi.inf_amd64_0afe/nvcubins.bin"]).unwrap();
        assert!(missed.contains("WSL2") && missed.contains("/usr/lib/wsl/lib/libcuda.so.1"), "{missed}");
        assert!(names_wsl("5.15.153.1-microsoft-standard-WSL2\n") && names_wsl("4.4.0-19041-Microsoft\n"));
        assert!(!names_wsl("6.8.0-45-generic\n"));
    }

    /// WSL2 keeps the library in a folder that the loader does not search.
    #[test]
    fn a_library_outside_the_searched_folders_opens_by_its_path() {
        assert_eq!(LIBRARIES[1], "/usr/lib/wsl/lib/libcuda.so.1");
        let folder = tempfile::tempdir().unwrap();
        let (absent, path) = ("libcuda-absent.so.1", folder.path().join("libcuda-present.so.1"));
        assert!(!open_first(&[absent, path.to_str().unwrap()]));
        fs::copy(loaded::path_of("libm.so.6").unwrap(), &path).unwrap();
        assert!(open_first(&[absent, path.to_str().unwrap()]));
        assert_eq!(loaded::path_of("libcuda-present.so.1"), Some(path));
    }

    #[test]
    fn versions_are_written_as_nvidia_writes_them() {
        assert_eq!([written(12_080), written(13_000), written(11_040)], ["12.8", "13.0", "11.4"]);
        assert!(too_old(12_080).reason.ends_with("it supports CUDA 12.8, not 13.0"));
    }
}
