//! Where the files of this repository are, and folders for tests to write in.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// The root of the repository: cargo names it where it runs a test program, `tests/gpu/check.py` elsewhere.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    let built_in = || env!("CARGO_MANIFEST_DIR").into();
    ROOT.get_or_init(|| std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(built_in).into())
}

/// A file or folder below `tests/golden`.
pub fn golden(path: &str) -> PathBuf {
    root().join("tests/golden").join(path)
}

/// The model that is shipped.
pub fn tiny_folder() -> PathBuf {
    root().join("scripts/tiny")
}

pub fn read_json(path: impl AsRef<Path>) -> Value {
    let path = path.as_ref();
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

/// Makes `scripts` in `folder` lead to the shipped scripts, data and model.
pub fn link_scripts(folder: &Path) {
    let link = folder.join("scripts");
    if !link.exists() {
        std::os::unix::fs::symlink(root().join("scripts"), link).unwrap();
    }
}

/// A temporary folder in which `scripts` leads to the shipped ones.
pub fn folder_with_scripts() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    link_scripts(folder.path());
    folder
}

/// The same with `script` as `case.rhai`.
pub fn folder_with_script(script: &str) -> TempDir {
    let folder = folder_with_scripts();
    std::fs::write(folder.path().join("case.rhai"), script).unwrap();
    folder
}
