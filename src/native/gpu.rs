//! Our own kernels for NVIDIA GPUs, and the statistics of the GPU allocator.
//!
//! `kernels.cu` is compiled by NVRTC (`nvrtc.rs`) on the first use of a GPU: for f32 and bf16 together, in about the time
//! that CUDA itself takes to start. The kernels run on the default stream of libtorch's context. If they cannot be
//! compiled or loaded, or `LORHAI_PLAIN_CUDA=1` is set, libtorch's operations are used instead.

use super::checked;
use super::driver::{text_of, usable_gpus};
use super::images;
use super::nvrtc::{nvrtc, Target};
use crate::error::Result;
use cudarc::driver::result::{self as driver, module, DriverError};
use cudarc::driver::sys::{self, CUfunction};
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint, c_void, CStr, CString};
use std::ptr::null_mut;
use std::sync::{Mutex, OnceLock, PoisonError};
use tch::{Device, Kind as Dtype, Tensor};

/// As `THREADS` in `kernels.cu`.
const THREADS: u32 = 256;
/// The largest number of blocks of a launch; kernels loop over the rest.
const MAX_BLOCKS: i64 = 1 << 16;
/// Flash attention and bf16 need this compute capability.
const AMPERE: (i32, i32) = (8, 0);
/// GPUs that can have kernels: `MOST_GPUS` in `gpu.h`.
const MOST_GPUS: usize = 64;

type Launch = extern "C" fn(*const c_char, bool, c_int, i64, bool, *mut *mut c_void) -> *mut c_char;

extern "C" {
    fn lorhai_set_launcher(launch: Launch, device: c_int);
    fn lorhai_gpu_memory(device: c_int, reset_peak: bool, out: *mut i64) -> *mut c_char;
    fn lorhai_gpu_empty_cache() -> *mut c_char;
}

/// The state of the kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kernels {
    /// Loaded; the text says for which target, and by which compiler.
    Ready(String),
    /// `LORHAI_PLAIN_CUDA` is set.
    Disabled,
    Failed(String),
}

static STATES: [OnceLock<Kernels>; MOST_GPUS] = [const { OnceLock::new() }; MOST_GPUS];
/// The loaded modules, by device.
static MODULES: [OnceLock<usize>; MOST_GPUS] = [const { OnceLock::new() }; MOST_GPUS];

/// Compiles the kernels on the first call, and loads them on the first for each GPU. Call it after CUDA is loaded and
/// before the GPU is used.
pub fn prepare(device: usize) -> &'static Kernels {
    static NONE: Kernels = Kernels::Disabled;
    let Some(state) = STATES.get(device) else { return &NONE };
    state.get_or_init(|| {
        if are_disabled() {
            return Kernels::Disabled;
        }
        match load_best(device) {
            Ok((module, about)) => {
                MODULES[device].get_or_init(|| module as usize);
                // SAFETY: `launch` is a static function.
                unsafe { lorhai_set_launcher(launch, device as c_int) };
                Kernels::Ready(about)
            }
            Err(reason) => Kernels::Failed(reason),
        }
    })
}

/// Whether the user wants libtorch's operations instead: `LORHAI_PLAIN_CUDA=1`.
pub fn are_disabled() -> bool {
    std::env::var_os("LORHAI_PLAIN_CUDA").is_some_and(|value| value != "0")
}

fn are_ready(device: usize) -> bool {
    matches!(STATES.get(device).and_then(OnceLock::get), Some(Kernels::Ready(_)))
}

/// Loads machine code for this very GPU, which any driver of its CUDA version takes; else PTX, which a driver older than
/// the compiler refuses, but which runs on GPUs that the compiler does not know.
fn load_best(device: usize) -> std::result::Result<(sys::CUmodule, String), String> {
    let (nvrtc, source) = (nvrtc()?, kernel_source());
    let best = nvrtc.target(capability(device));
    let (mut targets, mut reason) = (vec![best], None);
    if targets[0] != Target::Ptx {
        targets.push(Target::Ptx);
    }
    for target in targets {
        let mut is_fresh = false;
        loop {
            let image = images::image(nvrtc, &source, &target, is_fresh);
            let is_from_disk = image.as_ref().is_ok_and(|image| image.is_from_disk);
            match image.and_then(|image| load(&image.bytes, device as c_int)) {
                Ok(module) => return Ok((module, format!("compiled for {target} by {nvrtc}"))),
                Err(error) => reason = reason.or(Some(error)),
            }
            // The file may be damaged.
            if !is_from_disk {
                break;
            }
            is_fresh = true;
        }
    }
    Err(reason.unwrap_or_default())
}

/// Loads the kernels into the primary context of a device, which libtorch uses.
fn load(image: &[u8], device: c_int) -> std::result::Result<sys::CUmodule, String> {
    let load = || -> std::result::Result<sys::CUmodule, DriverError> {
        let before = driver::ctx::get_current()?.unwrap_or(null_mut());
        // SAFETY: the driver is initialised. The context is never released, as the module is never unloaded; the one
        // that was current before is made current again. The image is a whole cubin, or PTX that ends with a zero.
        unsafe {
            driver::ctx::set_current(driver::primary_ctx::retain(driver::device::get(device)?)?)?;
            let loaded = module::load_data(image.as_ptr().cast());
            driver::ctx::set_current(before)?;
            loaded
        }
    };
    let module = load().map_err(|error| text_of(&error))?;
    // A kernel that is missing would otherwise end a run in the middle of a step.
    for name in kernel_names() {
        // SAFETY: the module is loaded, and unloaded only if it is not used.
        if let Err(error) = unsafe { module::get_function(module, name.clone()) } {
            let _ = unsafe { module::unload(module) };
            return Err(format!("the kernel {}: {}", name.to_string_lossy(), text_of(&error)));
        }
    }
    Ok(module)
}

/// The names of all kernels, with their dtypes.
fn kernel_names() -> Vec<CString> {
    let after = |text: &'static str| text.split_once(')').map(|(name, _)| name);
    let names = include_str!("kernels.cu").split("KERNEL NAMED(").skip(1).filter_map(after);
    names.flat_map(|name| [format!("{name}_f32"), format!("{name}_bf16")]).flat_map(CString::new).collect()
}

/// The source for NVRTC: every kernel twice, with `_f32` and `_bf16` added to its name.
pub fn kernel_source() -> String {
    let source = include_str!("kernels.cu");
    let (prelude, kernels) = source.split_once("DEVICE float as_stored").unwrap_or((source, ""));
    let of = |element: &str, name: &str| {
        format!(
            "#define ELEMENT {element}\n#define NAMED(name) {name}\nnamespace of_{element} {{\n\
             DEVICE float as_stored{kernels}\n}}\n#undef ELEMENT\n#undef NAMED\n"
        )
    };
    format!("{prelude}{}{}", of("float", "name##_f32"), of("bf16", "name##_bf16"))
}

/// Kernel functions by device and name.
type Functions = HashMap<(c_int, CString), usize>;

/// Called by the shim: see `Launch` in `gpu.h`.
extern "C" fn launch(
    kernel: *const c_char,
    is_bf16: bool,
    device: c_int,
    work: i64,
    by_rows: bool,
    arguments: *mut *mut c_void,
) -> *mut c_char {
    // SAFETY: the shim passes a string literal.
    let name = unsafe { CStr::from_ptr(kernel) };
    let blocks = if by_rows { work } else { (work + i64::from(THREADS) - 1) / i64::from(THREADS) };
    let blocks = blocks.clamp(1, MAX_BLOCKS) as c_uint;
    let started = function(name, is_bf16, device).and_then(|function| {
        // SAFETY: the shim passes the arguments that this kernel of kernels.cu declares, and their tensors
        // outlive the kernel, because libtorch's allocator works in stream order.
        let status =
            unsafe { sys::cuLaunchKernel(function, blocks, 1, 1, THREADS, 1, 1, 0, null_mut(), arguments, null_mut()) };
        status.result().map_err(|error| text_of(&error))
    });
    match started {
        Ok(()) => null_mut(),
        Err(reason) => {
            let text = format!("cannot start the GPU kernel {}: {reason}", name.to_string_lossy());
            // SAFETY: the shim frees the text.
            CString::new(text).map_or(null_mut(), |text| unsafe { libc::strdup(text.as_ptr()) })
        }
    }
}

fn function(name: &CStr, is_bf16: bool, device: c_int) -> std::result::Result<CUfunction, String> {
    static FUNCTIONS: OnceLock<Mutex<Functions>> = OnceLock::new();
    let dtype: &[u8] = if is_bf16 { b"_bf16" } else { b"_f32" };
    let name = CString::new([name.to_bytes(), dtype].concat()).map_err(|error| error.to_string())?;
    let mut functions = FUNCTIONS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(&known) = functions.get(&(device, name.clone())) {
        return Ok(known as CUfunction);
    }
    let loaded = MODULES.get(device as usize).and_then(OnceLock::get).ok_or("the kernels are not loaded")?;
    // SAFETY: modules are never unloaded.
    let function = unsafe { module::get_function(*loaded as sys::CUmodule, name.clone()) };
    let function = function.map_err(|error| format!("{}: {}", name.to_string_lossy(), text_of(&error)))?;
    functions.insert((device, name), function as usize);
    Ok(function)
}

/// Whether libtorch's flash attention supports queries like `q` `[tokens, heads, head_dim]` on this GPU.
pub(super) fn has_flash_attention(q: &Tensor) -> bool {
    let head_dim = q.size().last().copied().unwrap_or(0);
    let is_supported = is_flash_head(head_dim) && matches!(q.f_kind(), Ok(Dtype::BFloat16 | Dtype::Half));
    match q.device() {
        Device::Cuda(index) => is_supported && are_ready(index) && capability(index) >= AMPERE,
        _ => false,
    }
}

/// Whether flash attention supports heads of this size.
pub fn is_flash_head(head_dim: i64) -> bool {
    head_dim % 8 == 0 && head_dim <= 256
}

/// Whether the GPU computes in bf16, rather than in f32 with values that are stored in it.
pub fn has_bf16(index: usize) -> bool {
    capability(index) >= AMPERE
}

/// The compute capability of a GPU; (0, 0) if unknown.
fn capability(index: usize) -> (i32, i32) {
    usable_gpus().get(index).map_or((0, 0), |gpu| gpu.capability)
}

/// Memory of a GPU, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuMemory {
    /// Allocated by tensors.
    pub held: u64,
    /// The most that tensors have allocated since the peak was last reset.
    pub peak: u64,
    /// Free on the device. libtorch's allocator may cache more that is unused.
    pub free: u64,
    pub total: u64,
}

/// The memory of GPU `index`. `reset_peak` resets the peak first.
pub fn memory(index: usize, reset_peak: bool) -> Result<GpuMemory> {
    let mut bytes = [0_i64; 4];
    // SAFETY: four numbers are written.
    checked(unsafe { lorhai_gpu_memory(index as c_int, reset_peak, bytes.as_mut_ptr()) })?;
    let [held, peak, free, total] = bytes.map(|bytes| bytes.max(0) as u64);
    Ok(GpuMemory { held, peak, free, total })
}

/// Returns the memory that libtorch's allocator caches to the device.
pub fn empty_cache() -> Result<()> {
    checked(unsafe { lorhai_gpu_empty_cache() })
}

impl Kernels {
    /// The state as `lorhai doctor` shows it.
    pub fn about(&self) -> String {
        match self {
            Kernels::Ready(about) => about.clone(),
            Kernels::Disabled => "not used: LORHAI_PLAIN_CUDA is set".to_owned(),
            Kernels::Failed(reason) => format!("not used: {reason}"),
        }
    }
}
