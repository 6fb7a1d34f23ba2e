//! Devices and dtypes: which are available, which to use, and why.
//!
//! The program links only the CPU part of libtorch. The CUDA part is loaded at run time, before the first CUDA
//! query, and only on machines whose NVIDIA driver can use it. So one program serves both kinds of machine, and
//! starts fast on those without a GPU.

use super::config::Config;
use super::processor;
use crate::bail;
use crate::error::{Kind, Result};
use crate::native::driver::{driver, is_wsl, Driver, Unusable};
use crate::native::gpu::{self, Kernels};
use crate::options::Refusal;
use crate::stderr;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::error::Error as _;
use std::sync::{Once, OnceLock, PoisonError, RwLock};
use tch::{Device, Kind as Dtype};

/// Whether there is CUDA on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cuda {
    /// No NVIDIA driver: nothing was loaded.
    Absent,
    /// There is a driver, but no GPU can be used.
    Unusable(Unusable),
    Loaded,
}

/// Loads the CUDA part of libtorch on the first call; later calls are cheap.
pub fn cuda() -> &'static Cuda {
    static CUDA: OnceLock<Cuda> = OnceLock::new();
    CUDA.get_or_init(|| match driver() {
        Driver::Absent => Cuda::Absent,
        Driver::Unusable(unusable) => Cuda::Unusable(unusable.clone()),
        Driver::Usable(_) => load_library().map_or_else(Cuda::Unusable, |()| Cuda::Loaded),
    })
}

fn load_library() -> Result<(), Unusable> {
    // Global, so that its static initialisers register CUDA with the CPU library.
    // SAFETY: the library is libtorch's own; its initialisers are made to run at any time.
    match unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            // It stays loaded.
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => {
            let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Err(Unusable::new(
                format!("there is a GPU, but libtorch's CUDA part does not load: {reason}"),
                "run `make setup` and `make build` again on this machine, or set LD_LIBRARY_PATH to the lib folder of a \
                 torch 2.11 with CUDA",
            ))
        }
    }
}

/// The number of usable GPUs.
pub fn gpu_count() -> usize {
    match cuda() {
        Cuda::Loaded => tch::Cuda::device_count().max(0) as usize,
        _ => 0,
    }
}

/// The device of models that leave the choice; `None` until [`set_default`].
static DEFAULT: RwLock<Option<Device>> = RwLock::new(None);

/// Makes a device the one of all models of this process that leave the choice, as `--device` does: "auto" is this device
/// from now on, and if it is a GPU, "cuda" without a number is, too. With "auto" the choice is this machine's again.
///
/// # Errors
/// As [`parse_device`].
pub fn set_default(text: &str) -> Result<()> {
    let device = match text {
        "auto" => None,
        "cuda" => Some(gpu(0)?),
        _ => Some(parse_device(text)?),
    };
    *DEFAULT.write().unwrap_or_else(PoisonError::into_inner) = device;
    Ok(())
}

/// Reads "auto", "cpu", "cuda" or "cuda:1".
pub fn parse_device(text: &str) -> Result<Device> {
    let default = *DEFAULT.read().unwrap_or_else(PoisonError::into_inner);
    match (text, default) {
        ("cpu", _) => Ok(Device::Cpu),
        ("auto", Some(device)) | ("cuda", Some(device @ Device::Cuda(_))) => Ok(device),
        ("auto", None) if gpu_count() > 0 => gpu(0),
        ("auto", None) => {
            note_unusable();
            Ok(Device::Cpu)
        }
        _ => match gpu_index(text) {
            Some(index) => gpu(index),
            None => bail!(Kind::Input, "device: expected {DEVICES}, found \"{text}\""; hint: "{DEVICES_HINT}"),
        },
    }
}

const DEVICES: &str = "\"auto\", \"cpu\", \"cuda\" or \"cuda:N\" with a number N";
const DEVICES_HINT: &str =
    "\"cuda\" is the first NVIDIA GPU, or that of --device; \"auto\" is that GPU if there is one, else the CPU";

fn gpu_index(name: &str) -> Option<usize> {
    if name == "cuda" {
        return Some(0);
    }
    name.strip_prefix("cuda:")?.parse().ok()
}

/// Why `name`, given as the option `device`, names no device.
pub fn device_problem(name: &str) -> Option<Refusal> {
    let is_known = ["auto", "cpu"].contains(&name) || gpu_index(name).is_some();
    (!is_known).then(|| Refusal::new("device", DEVICES, format!("string \"{name}\"")).with_hint(DEVICES_HINT))
}

/// Says once why a GPU is not used where one seems to be.
fn note_unusable() {
    static NOTED: Once = Once::new();
    if let Cuda::Unusable(Unusable { reason, fix }) = cuda() {
        NOTED.call_once(|| stderr::note(&format!("note: the CPU is used, not a GPU: {reason}; {fix}")));
    }
}

fn gpu(index: usize) -> Result<Device> {
    let count = gpu_count();
    if index < count {
        if let Kernels::Failed(reason) = gpu::prepare(index) {
            static NOTED: Once = Once::new();
            NOTED.call_once(|| {
                stderr::note(&format!("note: the GPU is used without lorhai's own kernels, and slower: {reason}"))
            });
        }
        return Ok(Device::Cuda(index));
    }
    let (reason, fix) = match cuda() {
        Cuda::Absent if is_wsl() => (
            "this machine has no NVIDIA driver",
            "with an NVIDIA GPU, install its driver in Windows, not in WSL; else use device \"auto\" or \"cpu\"",
        ),
        Cuda::Absent => {
            ("this machine has no NVIDIA driver", "use device \"auto\" or \"cpu\"; `lorhai doctor` says more")
        }
        Cuda::Unusable(Unusable { reason, fix }) => (reason.as_str(), fix.as_str()),
        Cuda::Loaded => {
            bail!(Kind::Input, "device cuda:{index} is not available: this machine has {count} GPU(s), numbered from 0";
                hint: "`lorhai doctor` lists them")
        }
    };
    bail!(Kind::Input, "device cuda:{index} is not available: {reason}"; hint: "{fix}")
}

/// The kind of a device, "cpu" or "cuda": what numbers may depend on, whichever of several GPUs computes them.
pub fn device_kind(device: Device) -> &'static str {
    match device {
        Device::Cuda(_) => "cuda",
        _ => "cpu",
    }
}

pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// Reads "auto", "f32", "bf16" or "f16" (and torch's longer names), for a model with `config`.
pub fn parse_dtype(text: &str, device: Device, config: &Config) -> Result<Dtype> {
    match dtype_named(text) {
        Some(dtype) => Ok(dtype),
        None if text == "auto" => Ok(auto_dtype(device, config)),
        None => bail!(Kind::Input, "dtype: expected {DTYPES}, found \"{text}\""; hint: "{DTYPES_HINT}"),
    }
}

const DTYPES: &str = "\"auto\", \"f32\", \"bf16\" or \"f16\"";
const DTYPES_HINT: &str =
    "\"f32\" is exact, \"bf16\" and \"f16\" take half the memory; for 4-bit weights set load_in_4bit: true";

fn dtype_named(name: &str) -> Option<Dtype> {
    match name {
        "f32" | "float32" => Some(Dtype::Float),
        "bf16" | "bfloat16" => Some(Dtype::BFloat16),
        "f16" | "float16" | "fp16" | "half" => Some(Dtype::Half),
        _ => None,
    }
}

/// Why `name`, given as the option `dtype`, names no dtype.
pub fn dtype_problem(name: &str) -> Option<Refusal> {
    let is_known = name == "auto" || dtype_named(name).is_some();
    (!is_known).then(|| Refusal::new("dtype", DTYPES, format!("string \"{name}\"")).with_hint(DTYPES_HINT))
}

pub fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Float => "f32",
        Dtype::BFloat16 => "bf16",
        Dtype::Double => "f64",
        Dtype::Half => "f16",
        Dtype::Int64 => "i64",
        Dtype::Bool => "bool",
        _ => "other",
    }
}

fn auto_dtype(device: Device, config: &Config) -> Dtype {
    match device {
        Device::Cpu => cpu_dtype(config.has_small_matrices(), processor::multiplies_bf16()),
        Device::Cuda(index) if !gpu::has_bf16(index) => Dtype::Half,
        _ => Dtype::BFloat16,
    }
}

/// What "auto" is on a CPU. It depends on the model and the processor alone, so that a script has the same numbers
/// whatever else the machine does.
///
/// A processor that multiplies bf16 is up to seven times faster in it, and one that does not is far slower. Small
/// matrices are multiplied by our own f32 loops, which bf16 would not speed up.
pub fn cpu_dtype(has_small_matrices: bool, multiplies_bf16: bool) -> Dtype {
    if multiplies_bf16 && !has_small_matrices {
        Dtype::BFloat16
    } else {
        Dtype::Float
    }
}

/// Why "auto" is what it is on this CPU for models that are not small.
pub fn cpu_dtype_reason() -> String {
    let verb = if processor::multiplies_bf16() { "multiplies" } else { "does not multiply" };
    format!("this processor {verb} bf16 ({})", processor::BF16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_follows_the_processor_and_the_size_of_the_model() {
        assert_eq!(cpu_dtype(false, true), Dtype::BFloat16);
        assert_eq!(cpu_dtype(false, false), Dtype::Float);
        assert_eq!(cpu_dtype(true, true), Dtype::Float);
        assert_eq!(cpu_dtype(true, false), Dtype::Float);
    }
}
