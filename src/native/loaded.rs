//! Where the libraries of this process were loaded from.
//!
//! A line of /proc is read directly: dl_iterate_phdr says the same through a callback of C.

use std::ffi::{c_void, CStr, OsStr};
use std::mem::zeroed;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The file of a loaded library, by its name, such as "libtorch_cpu.so".
pub fn path_of(name: &str) -> Option<PathBuf> {
    path_in(&std::fs::read_to_string("/proc/self/maps").ok()?, name)
}

/// The folder of a loaded library: an installed program's is not the one that it was built with.
pub fn folder_of(name: &str) -> Option<PathBuf> {
    path_of(name)?.parent().map(Path::to_owned)
}

/// The file of the library that a function is in.
pub(super) fn file_of(function: *const c_void) -> Option<PathBuf> {
    // SAFETY: fills the structure, whose name is a text of the loader that stays while the library does.
    unsafe {
        let mut info: libc::Dl_info = zeroed();
        let is_known = libc::dladdr(function, &mut info) != 0 && !info.dli_fname.is_null();
        is_known.then(|| OsStr::from_bytes(CStr::from_ptr(info.dli_fname).to_bytes()).into())
    }
}

/// `maps` has lines as in proc(5), which end with the path of a file.
fn path_in(maps: &str, name: &str) -> Option<PathBuf> {
    let paths = maps.lines().filter_map(|line| Some(Path::new(&line[line.find('/')?..])));
    paths.into_iter().find(|path| path.file_name().is_some_and(|file| file == name)).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_found_by_its_whole_name() {
        let maps = "7f10-7f20 r--p 00000000 fe:00 42 [heap]\n\
                    7f20-7f30 r-xp 00000000 fe:00 42                         /opt/a b/libtorch_cpu.so\n\
                    7f30-7f40 r-xp 00000000 fe:00 43                         /usr/lib/libc.so.6\n";
        assert_eq!(path_in(maps, "libtorch_cpu.so"), Some("/opt/a b/libtorch_cpu.so".into()));
        assert_eq!(path_in(maps, "torch_cpu.so"), None);
        assert_eq!(path_in(maps, "libtorch_cuda.so"), None);
        assert_eq!(folder_of("libtorch_cpu.so").map(|folder| folder.join("libtorch_cpu.so").exists()), Some(true));
        let of_malloc = file_of(libc::malloc as *const c_void).unwrap();
        assert_eq!(of_malloc.canonicalize().unwrap().file_name(), Some("libc.so.6".as_ref()));
    }
}
