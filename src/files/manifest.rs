//! `lorhai.json`: what a saved folder holds, with the size and SHA-256 of each file. It is written last, and read before
//! the folder is used, so that files of two saves, or half-copied ones, are noticed. Other programs ignore it.

use super::{read_json, sha256_of, write_json};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::format::thousands;
use crate::interrupt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The name of the manifest in its folder.
pub const MANIFEST: &str = "lorhai.json";
const FORMAT: &str = "lorhai folder 1";
/// A manifest of more bytes is none: ours have a few hundred for each file.
const MAX_BYTES: u64 = 16 << 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    /// What the folder is, such as "adapter".
    pub kind: String,
    /// The version of lorhai that saved it.
    pub version: String,
    /// By their paths in the folder.
    pub files: BTreeMap<String, SavedFile>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedFile {
    pub bytes: u64,
    pub sha256: String,
}

/// Writes the manifest of all files in `folder`.
pub(super) fn write(folder: &Path, kind: &str) -> Result<()> {
    let mut files = BTreeMap::new();
    for name in files_in(folder)? {
        let path = folder.join(&name);
        let failed = |error| Error::file("read", &path, &error);
        let bytes = fs::metadata(&path).map_err(failed)?.len();
        // Not interrupted: what is saved after Ctrl-C is wanted most.
        let sha256 = sha256_of(&path, || Ok(()))?;
        files.insert(name, SavedFile { bytes, sha256 });
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    write_json(&folder.join(MANIFEST), &Manifest { format: FORMAT.to_owned(), kind: kind.to_owned(), version, files })
}

/// The manifest of `folder`; `None` where there is none.
///
/// # Errors
/// A file of that name that is something else.
pub fn read(folder: &Path) -> Result<Option<Manifest>> {
    let path = folder.join(MANIFEST);
    let hint = format!("remove `{}` to use the folder without checking it", path.display());
    let size = match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(|error| Error::file("read", &path, &error))?,
    };
    let wrong = |reason: &str| {
        Error::new(Kind::File, format!("`{}` is no manifest of a folder: {reason}", path.display())).with_hint(&hint)
    };
    if !size.is_file() || size.len() > MAX_BYTES {
        return Err(wrong("it is too large, or not a regular file"));
    }
    let json = read_json(&path)?;
    match json.get("format").and_then(serde_json::Value::as_str) {
        Some(FORMAT) => {}
        Some(other) => return Err(wrong(&format!("expected the format \"{FORMAT}\", found {other:?}"))),
        None => return Err(wrong(&format!("expected the format \"{FORMAT}\", found none"))),
    }
    let manifest: Manifest = serde_json::from_value(json).map_err(|error| wrong(&error.to_string()))?;
    let is_inside = |name: &String| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    match manifest.files.keys().find(|name| name.is_empty() || !is_inside(name)) {
        Some(name) => Err(wrong(&format!("{name:?} is no file in the folder"))),
        None => Ok(Some(manifest)),
    }
}

/// Compares the files in `folder` with its manifest, if it has one: that they are there, their sizes, and the SHA-256 of
/// those up to `hashed` bytes.
///
/// # Errors
/// A file that is not as it was saved.
pub fn verify(folder: &Path, hashed: u64) -> Result<()> {
    let Some(manifest) = read(folder)? else { return Ok(()) };
    for (name, saved) in &manifest.files {
        let path = folder.join(name);
        let metadata = match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(mismatch(folder, &path, &exact(saved.bytes), "no such file"));
            }
            metadata => metadata.map_err(|error| Error::file("read", &path, &error))?,
        };
        if !metadata.is_file() {
            bail!(Kind::File, "`{}` is not a regular file", path.display());
        }
        if metadata.len() != saved.bytes {
            let (expected, actual) = (exact(saved.bytes), exact(metadata.len()));
            return Err(mismatch(folder, &path, &expected, &actual));
        }
        if saved.bytes > hashed {
            continue;
        }
        let sha256 = sha256_of(&path, interrupt::check)?;
        if sha256 != saved.sha256 {
            let (expected, actual) = (format!("SHA-256 {}", saved.sha256), format!("SHA-256 {sha256}"));
            return Err(mismatch(folder, &path, &expected, &actual));
        }
    }
    Ok(())
}

fn exact(bytes: u64) -> String {
    format!("{} bytes", thousands(bytes))
}

fn mismatch(folder: &Path, path: &Path, expected: &str, actual: &str) -> Error {
    let message = format!("`{}` is not the file that was saved: expected {expected}, found {actual}", path.display());
    Error::new(Kind::File, message).with_hint(format!(
        "copy or save the folder again; if the change is wanted, remove `{}`, which describes the files as they were saved",
        folder.join(MANIFEST).display()
    ))
}

/// The paths of the files in `folder` and its subfolders, sorted; without the manifest.
pub(super) fn files_in(folder: &Path) -> Result<Vec<String>> {
    fn visit(folder: &Path, within: &Path, names: &mut Vec<String>) -> Result<()> {
        let failed = |error: std::io::Error| Error::file("list the folder", folder, &error);
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name: PathBuf = within.join(entry.file_name());
            if entry.file_type().map_err(failed)?.is_dir() {
                visit(&entry.path(), &name, names)?;
            } else {
                names.push(name.to_string_lossy().into_owned());
            }
        }
        Ok(())
    }
    let mut names = Vec::new();
    visit(folder, Path::new(""), &mut names)?;
    names.retain(|name| name != MANIFEST);
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("weights"), "abc").unwrap();
        fs::create_dir(folder.path().join("templates")).unwrap();
        fs::write(folder.path().join("templates/tool"), "").unwrap();
        write(folder.path(), "adapter").unwrap();
        folder
    }

    #[test]
    fn sizes_and_hashes_are_those_of_the_files() {
        let folder = saved();
        let manifest = read(folder.path()).unwrap().unwrap();
        assert_eq!((manifest.kind.as_str(), manifest.files.len()), ("adapter", 2));
        // The examples of FIPS 180-2.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(manifest.files["weights"], SavedFile { bytes: 3, sha256: abc.into() });
        assert_eq!(manifest.files["templates/tool"], SavedFile { bytes: 0, sha256: empty.into() });
        verify(folder.path(), u64::MAX).unwrap();
        verify(tempfile::tempdir().unwrap().path(), u64::MAX).unwrap();
    }

    #[test]
    fn a_file_that_is_not_the_saved_one_is_refused_by_name() {
        for (content, most, expected) in [
            (Some("abcd"), 0, Some("expected 3 bytes, found 4 bytes")),
            (None, 0, Some("expected 3 bytes, found no such file")),
            (Some("abd"), 3, Some("found SHA-256 a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9")),
            // Larger than the files that are hashed.
            (Some("abd"), 2, None),
        ] {
            let folder = saved();
            let path = folder.path().join("weights");
            fs::remove_file(&path).unwrap();
            content.map_or(Ok(()), |content| fs::write(&path, content)).unwrap();
            let error = verify(folder.path(), most).err();
            assert_eq!(error.is_some(), expected.is_some(), "{content:?}");
            if let (Some(error), Some(expected)) = (error, expected) {
                assert!(error.message.contains("weights") && error.message.contains(expected), "{error}");
                assert!(error.hint.unwrap().contains(MANIFEST));
            }
        }
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let entry = r#"{"bytes": 1, "sha256": ""}"#;
        let with = |name: &str| {
            format!(r#"{{"format": "{FORMAT}", "kind": "adapter", "version": "1", "files": {{"{name}": {entry}}}}}"#)
        };
        for text in ["", "[]", "{}", r#"{"format": "lorhai folder 9"}"#, &with("../x"), &with("/dev/zero"), &with("")] {
            fs::write(folder.path().join(MANIFEST), text).unwrap();
            let error = verify(folder.path(), u64::MAX).unwrap_err();
            assert!(error.message.contains(MANIFEST), "{text}: {error}");
        }
    }
}
