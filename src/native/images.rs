//! The compiled kernels: kept in memory for GPUs of one kind, and in the cache folder for the next start, because
//! compiling takes seconds.

use super::nvrtc::{Nvrtc, Target};
use crate::files;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The folder in lorhai's cache.
const FOLDER: &str = "kernels";

/// An image that the driver loads, and whether it comes from the cache folder, where a file may be damaged.
#[derive(Debug, Clone)]
pub struct CachedImage {
    pub bytes: Arc<Vec<u8>>,
    pub is_from_disk: bool,
}

/// The image of a source for a target. `is_fresh` compiles it whatever the cache has.
pub fn image(nvrtc: &Nvrtc, source: &str, target: &Target, is_fresh: bool) -> Result<CachedImage, String> {
    static IMAGES: OnceLock<Mutex<HashMap<Target, CachedImage>>> = OnceLock::new();
    let mut images = IMAGES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(image) = images.get(target).filter(|image| !(is_fresh && image.is_from_disk)) {
        return Ok(image.clone());
    }
    let folder = files::cache_folder().map(|cache| cache.join(FOLDER));
    let path = folder.map(|folder| path_in(&folder, &nvrtc.to_string(), source, target));
    let image = of_disk_or_compiled(path.as_deref(), is_fresh, || Ok(nvrtc.compile(source, target, &[])?.bytes))?;
    images.insert(target.clone(), image.clone());
    Ok(image)
}

fn of_disk_or_compiled(
    path: Option<&Path>,
    is_fresh: bool,
    compile: impl FnOnce() -> Result<Vec<u8>, String>,
) -> Result<CachedImage, String> {
    if let Some(bytes) = path.filter(|_| !is_fresh).and_then(|path| std::fs::read(path).ok()) {
        return Ok(CachedImage { bytes: Arc::new(bytes), is_from_disk: true });
    }
    let bytes = compile()?;
    // Without a cache, as in the sandbox, the next start compiles again.
    if let Some(path) = path {
        let _ = files::write_atomic(path, &bytes);
    }
    Ok(CachedImage { bytes: Arc::new(bytes), is_from_disk: false })
}

/// The file for this compiler, source and target: another of any of them is another file.
fn path_in(folder: &Path, compiler: &str, source: &str, target: &Target) -> PathBuf {
    let mut hash = Sha256::new();
    for part in [compiler, source] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digest: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    folder.join(format!("{target}-{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_compiled_once_and_again_where_the_file_is_of_no_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(folder.path(), "NVRTC 13.0", "source", &Target::Ptx);
        let get = |is_fresh: bool, made: &'static str| {
            let image = of_disk_or_compiled(Some(&path), is_fresh, || Ok(made.into())).unwrap();
            (String::from_utf8(image.bytes.to_vec()).unwrap(), image.is_from_disk)
        };
        assert_eq!(get(false, "first"), ("first".into(), false));
        assert_eq!(get(false, "second"), ("first".into(), true));
        assert_eq!(get(true, "third"), ("third".into(), false));
        assert_eq!(get(false, "fourth"), ("third".into(), true));
        let no_compiler = || Err("cannot compile".to_owned());
        assert_eq!(of_disk_or_compiled(None, false, no_compiler).unwrap_err(), "cannot compile");
    }

    #[test]
    fn another_compiler_source_or_target_is_another_file() {
        let name = |compiler, source, target| path_in(Path::new("x"), compiler, source, &target);
        let names = [
            name("a", "bc", Target::Ptx),
            name("ab", "c", Target::Ptx),
            name("a", "bd", Target::Ptx),
            name("a", "bc", Target::Cubin(8, 0)),
        ];
        for (at, one) in names.iter().enumerate() {
            assert!(names[at + 1..].iter().all(|other| one != other), "{names:?}");
        }
        assert_eq!(names[0], name("a", "bc", Target::Ptx));
    }
}
