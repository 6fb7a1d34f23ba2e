//! NVRTC, NVIDIA's compiler of kernels: which library is used, and from source to an image that the driver loads.
//!
//! cudarc has a binding too, but it opens the first libnvrtc of any version that the loader finds, and cannot be told
//! which. A driver may refuse what another version than libtorch's makes.

use super::loaded;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::error::Error;
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

/// The name of the version that libtorch is built with.
const LIBRARY: &str = "libnvrtc.so.13";
/// Where NVIDIA's wheels have it, from the folder of libtorch's libraries.
const IN_WHEELS: &str = "../../nvidia/cu13/lib";
/// A library beside it that NVRTC opens by name when it compiles, where only LD_LIBRARY_PATH would lead to it.
const BUILTINS: &str = "libnvrtc-builtins.so";
/// Other names that a system may have. What an older version makes runs too, but it may not know this GPU.
const OTHERS: [&str; 2] = ["libnvrtc.so", "libnvrtc.so.12"];
/// The oldest architecture of NVRTC 13: every later GPU runs its PTX, once the driver has compiled that.
const OLDEST: &str = "compute_75";

type Program = *mut c_void;
type Count = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Bytes = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Strings = *const *const c_char;

/// NVRTC, opened. It stays open.
pub struct Nvrtc {
    path: PathBuf,
    version: (c_int, c_int),
    create: unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, Strings, Strings) -> c_int,
    compile: unsafe extern "C" fn(Program, c_int, Strings) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    error: unsafe extern "C" fn(c_int) -> *const c_char,
    ptx: (Count, Bytes),
    cubin: (Count, Bytes),
    log: (Count, Bytes),
    architectures: Vec<c_int>,
}

/// What kernels are compiled for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Machine code for one compute capability.
    Cubin(c_int, c_int),
    /// Code that the driver compiles for its GPU.
    Ptx,
}

/// Compiled kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// PTX ends with a zero.
    pub bytes: Vec<u8>,
    /// What the compiler said: warnings, and what it was asked to say.
    pub log: String,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Cubin(major, minor) => write!(out, "sm_{major}{minor}"),
            Target::Ptx => out.write_str(OLDEST),
        }
    }
}

impl fmt::Display for Nvrtc {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.version;
        write!(out, "NVRTC {major}.{minor}, {}", self.path.display())
    }
}

/// The NVRTC of this machine: the one that comes with libtorch, else the system's. Opened on the first call.
pub fn nvrtc() -> Result<&'static Nvrtc, String> {
    static NVRTC: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
    let opened = NVRTC.get_or_init(|| {
        let libtorch = loaded::folder_of("libtorch_cuda.so").or_else(|| loaded::folder_of("libtorch_cpu.so"));
        let mut reason = None;
        for path in candidates(libtorch.as_deref()) {
            match Nvrtc::open(&path) {
                Ok(nvrtc) => return Ok(nvrtc),
                // The first that is there and does not work is the one to mend.
                Err(error) if path.is_file() => reason = reason.or(Some(error)),
                Err(_) => {}
            }
        }
        Err(reason.unwrap_or_else(|| format!("NVRTC ({LIBRARY}) is not found")))
    });
    opened.as_ref().map_err(String::clone)
}

/// The files that may be NVRTC, best first: beside libtorch, among its wheels, and what the loader finds by name.
fn candidates(libtorch: Option<&Path>) -> Vec<PathBuf> {
    let folders = libtorch.into_iter().flat_map(|folder| [folder.to_owned(), folder.join(IN_WHEELS)]);
    let of_libtorch = folders.map(|folder| folder.join(LIBRARY)).filter(|path| path.is_file());
    // `..` and links are resolved for people who read the path.
    let of_libtorch = of_libtorch.map(|path| path.canonicalize().unwrap_or(path));
    of_libtorch.chain([LIBRARY].into_iter().chain(OTHERS).map(PathBuf::from)).collect()
}

impl Nvrtc {
    /// Opens the library at a path, or the one that the loader finds by a name.
    pub fn open(path: &Path) -> Result<Nvrtc, String> {
        // SAFETY: the library is NVIDIA's; its initialisers are made to run at any time.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string))?;
        // SAFETY: the types are those of nvrtc.h.
        let nvrtc = unsafe { Nvrtc::of(&library, path) }.map_err(|error| format!("{}: {error}", path.display()));
        // It stays open: its functions are called later.
        std::mem::forget(library);
        nvrtc
    }

    /// # Safety
    /// `library` is an NVRTC, and stays open.
    unsafe fn of(library: &Library, path: &Path) -> Result<Nvrtc, libloading::Error> {
        let mut nvrtc = Nvrtc {
            path: path.to_owned(),
            version: (0, 0),
            create: *library.get(b"nvrtcCreateProgram")?,
            compile: *library.get(b"nvrtcCompileProgram")?,
            destroy: *library.get(b"nvrtcDestroyProgram")?,
            error: *library.get(b"nvrtcGetErrorString")?,
            ptx: (*library.get(b"nvrtcGetPTXSize")?, *library.get(b"nvrtcGetPTX")?),
            cubin: (*library.get(b"nvrtcGetCUBINSize")?, *library.get(b"nvrtcGetCUBIN")?),
            log: (*library.get(b"nvrtcGetProgramLogSize")?, *library.get(b"nvrtcGetProgramLog")?),
            architectures: Vec::new(),
        };
        if let Some(file) = loaded::file_of(nvrtc.create as *const c_void) {
            open_builtins(&file);
            nvrtc.path = file;
        }
        let version = library.get::<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int>(b"nvrtcVersion")?;
        version(&mut nvrtc.version.0, &mut nvrtc.version.1);
        let mut count = 0;
        library.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"nvrtcGetNumSupportedArchs")?(&mut count);
        nvrtc.architectures.resize(count.max(0) as usize, 0);
        let list = library.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"nvrtcGetSupportedArchs")?;
        list(nvrtc.architectures.as_mut_ptr());
        Ok(nvrtc)
    }

    /// The best target for a GPU of this compute capability.
    pub fn target(&self, (major, minor): (c_int, c_int)) -> Target {
        if self.architectures.contains(&(10 * major + minor)) {
            Target::Cubin(major, minor)
        } else {
            Target::Ptx
        }
    }

    /// Compiles a source. `options` are added to those that every kernel needs.
    pub fn compile(&self, source: &str, target: &Target, options: &[&str]) -> Result<Image, String> {
        let architecture = format!("--gpu-architecture={target}");
        let options = [architecture.as_str(), "--fmad=true"].into_iter().chain(options.iter().copied());
        let options = options.map(CString::new).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let source = CString::new(source).map_err(|error| error.to_string())?;
        let mut program = null_mut();
        // SAFETY: the strings outlive the calls, and the program is destroyed once.
        unsafe {
            let name = c"kernels.cu".as_ptr();
            self.checked((self.create)(&mut program, source.as_ptr(), name, 0, null(), null()))?;
            let status = (self.compile)(program, options.len() as c_int, options.as_ptr());
            let log = self.read(self.log, program).map(|bytes| text_of(&bytes)).unwrap_or_default();
            let image = self.checked(status).map_err(|error| format!("{error}: {log}"));
            let image =
                image.and_then(|()| self.read(if *target == Target::Ptx { self.ptx } else { self.cubin }, program));
            (self.destroy)(&mut program);
            image.map(|bytes| Image { bytes, log })
        }
    }

    /// # Safety
    /// `program` is one of this NVRTC.
    unsafe fn read(&self, (count, bytes): (Count, Bytes), program: Program) -> Result<Vec<u8>, String> {
        let mut size = 0;
        self.checked(count(program, &mut size))?;
        let mut buffer = vec![0_u8; size];
        self.checked(bytes(program, buffer.as_mut_ptr().cast()))?;
        Ok(buffer)
    }

    fn checked(&self, status: c_int) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: NVRTC returns a constant text for every number.
        let text = unsafe { (self.error)(status) };
        if text.is_null() {
            return Err(format!("NVRTC error {status}"));
        }
        Err(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }
}

/// Opens what NVRTC would not find by itself.
fn open_builtins(nvrtc: &Path) {
    let entries = nvrtc.parent().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(BUILTINS)) {
        // SAFETY: as NVRTC itself.
        if let Ok(library) = unsafe { Library::open(Some(entry.path()), RTLD_NOW | RTLD_LOCAL) } {
            std::mem::forget(library);
        }
    }
}

/// A text of NVRTC, which ends with a zero.
fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_nvrtc_of_libtorch_comes_before_that_of_the_system() {
        let packages = tempfile::tempdir().unwrap();
        let libtorch = packages.path().join("torch/lib");
        let wheel = packages.path().join("nvidia/cu13/lib");
        fs::create_dir_all(&libtorch).unwrap();
        fs::create_dir_all(&wheel).unwrap();
        let by_name: Vec<PathBuf> = ["libnvrtc.so.13", "libnvrtc.so", "libnvrtc.so.12"].map(PathBuf::from).to_vec();
        assert_eq!(candidates(None), by_name);
        assert_eq!(candidates(Some(&libtorch)), by_name);
        fs::write(wheel.join(LIBRARY), "").unwrap();
        let in_wheel = wheel.join(LIBRARY).canonicalize().unwrap();
        assert_eq!(candidates(Some(&libtorch))[..2], [in_wheel, LIBRARY.into()]);
    }

    #[test]
    fn a_file_that_is_no_nvrtc_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LIBRARY);
        fs::write(&path, "no library").unwrap();
        assert!(Nvrtc::open(&path).err().unwrap().contains(&path.display().to_string()));
    }

    #[test]
    fn targets_are_written_as_nvidia_writes_them() {
        let written = [Target::Cubin(8, 6), Target::Cubin(12, 0), Target::Ptx].map(|target| target.to_string());
        assert_eq!(written, ["sm_86", "sm_120", "compute_75"]);
    }
}
