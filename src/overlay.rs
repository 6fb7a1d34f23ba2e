//! A stand-in for the disk: what would be written goes into a folder of its own, and is found there again by the
//! name that it was written under. In a rehearsal that folder vanishes, of a replay it may be kept.
//!
//! Leaves to others: who writes what. Nothing outside of that folder is made, changed or removed.

use crate::error::{Error, Kind, Result};
use crate::files;
use std::fs;
use std::path::{Component, Path, PathBuf};
use tempfile::TempDir;

/// Holds what is not written below the working folder.
const OUTSIDE: &str = "outside";

#[derive(Debug)]
pub struct Overlay {
    /// Removed with everything in it when this is dropped.
    vanishing: Option<TempDir>,
    /// The folder, without links in its path.
    root: PathBuf,
    /// Where relative paths begin.
    here: PathBuf,
    /// The absolute names under which something was to be written, in that order.
    written: Vec<PathBuf>,
    /// Those too large to be written: what is read in their place, and their bytes.
    left_out: Vec<(PathBuf, PathBuf, u64)>,
}

/// Something that was written, by its true name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub path: PathBuf,
    pub is_folder: bool,
    pub files: usize,
    pub bytes: u64,
}

impl Overlay {
    pub fn new() -> Result<Self> {
        let failed = |error: std::io::Error| Error::new(Kind::File, format!("cannot make a temporary folder: {error}"));
        let folder = tempfile::Builder::new().prefix("lorhai-rehearsal-").tempdir().map_err(failed)?;
        let overlay = Overlay::within(folder.path())?;
        Ok(Overlay { vanishing: Some(folder), ..overlay })
    }

    /// In the folder `root`, which stays. What could not be written by its true name is no error.
    pub fn within(root: &Path) -> Result<Self> {
        files::create_folder(root)?;
        let root = root.canonicalize().map_err(|error| Error::file("find", root, &error))?;
        let here = std::env::current_dir().map_err(|error| Error::file("find", ".".as_ref(), &error))?;
        Ok(Overlay { vanishing: None, root, here, written: Vec::new(), left_out: Vec::new() })
    }

    /// Where to write the file `path`.
    ///
    /// # Errors
    /// Where the file could not be written.
    pub fn file(&mut self, path: &Path) -> Result<PathBuf> {
        if self.vanishing.is_some() {
            files::could_write(path)?;
        }
        Ok(self.note(path))
    }

    /// Where to write the files of the folder `path`.
    ///
    /// # Errors
    /// Where the folder could not be made or written to.
    pub fn folder(&mut self, path: &Path) -> Result<PathBuf> {
        if self.vanishing.is_some() {
            files::could_fill(path)?;
        }
        Ok(self.note(path))
    }

    /// Leaves out what would be written to `path` in `bytes` bytes: `instead` is read in its place.
    pub fn leave_out(&mut self, path: &Path, instead: &Path, bytes: u64) {
        let absolute = self.absolute(path);
        self.left_out.retain(|(known, _, _)| *known != absolute);
        self.left_out.push((absolute, instead.to_owned(), bytes));
    }

    /// Where to read `path`: here if it was written here, else where it always was.
    pub fn found(&self, path: &Path) -> PathBuf {
        let absolute = self.absolute(path);
        if let Some((_, instead, _)) = self.left_out.iter().find(|(known, _, _)| *known == absolute) {
            return instead.clone();
        }
        let place = self.place(&absolute);
        let was_written = self.written.iter().any(|written| absolute.starts_with(written));
        if place.exists() && (was_written || !path.exists()) {
            place
        } else {
            path.to_owned()
        }
    }

    /// A text with the true names in the place of those here.
    pub fn in_true_words(&self, text: &str) -> String {
        let root = self.root.display().to_string();
        text.replace(&format!("{root}/{OUTSIDE}/"), "/").replace(&format!("{root}/"), "")
    }

    /// Where `path` is written.
    pub fn place_of(&self, path: &Path) -> PathBuf {
        self.place(&self.absolute(path))
    }

    /// What was written; what lies in a folder is counted with it.
    pub fn written(&self) -> Vec<Written> {
        let mut tops: Vec<&PathBuf> = Vec::new();
        for path in &self.written {
            let is_within = |other: &&PathBuf| path.starts_with(other);
            if !tops.iter().any(is_within) && self.place(path).exists() {
                tops.retain(|other| !other.starts_with(path));
                tops.push(path);
            }
        }
        tops.into_iter().map(|path| self.described(path)).collect()
    }

    /// The bytes that are missing on the disks that all of it would be written to, with one folder of such a disk.
    pub fn missing_space(&self) -> Option<(PathBuf, u64)> {
        let written = self.written().into_iter().map(|found| (self.here.join(found.path), found.bytes));
        let left_out = self.left_out.iter().map(|(path, _, bytes)| (path.clone(), *bytes));
        let mut disks: Vec<(files::Disk, PathBuf, u64)> = Vec::new();
        for (path, bytes) in written.chain(left_out) {
            let Some(disk) = files::disk_of(&path) else { continue };
            match disks.iter_mut().find(|(known, _, _)| known.id == disk.id) {
                Some((_, _, sum)) => *sum += bytes,
                None => disks.push((disk, path, bytes)),
            }
        }
        let (disk, path, bytes) = disks.into_iter().find(|(disk, _, bytes)| *bytes > disk.free)?;
        Some((path.strip_prefix(&self.here).map(Path::to_owned).unwrap_or(path), bytes - disk.free))
    }

    fn described(&self, path: &Path) -> Written {
        let place = self.place(path);
        let (files, bytes) = content(&place);
        let shown = path.strip_prefix(&self.here).unwrap_or(path);
        Written { path: shown.to_owned(), is_folder: place.is_dir(), files, bytes }
    }

    fn note(&mut self, path: &Path) -> PathBuf {
        let absolute = self.absolute(path);
        let place = self.place(&absolute);
        if !self.written.contains(&absolute) {
            self.written.push(absolute);
        }
        place
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        normalized(&self.here.join(path))
    }

    /// As it lies from the working folder on; what lies elsewhere below [`OUTSIDE`].
    fn place(&self, absolute: &Path) -> PathBuf {
        if absolute.starts_with(&self.root) {
            return absolute.to_owned();
        }
        match absolute.strip_prefix(&self.here) {
            Ok(inside) => self.root.join(inside),
            Err(_) => self.root.join(OUTSIDE).join(absolute.strip_prefix("/").unwrap_or(absolute)),
        }
    }
}

/// Without `.` and `..`, links left as they are.
pub fn normalized(path: &Path) -> PathBuf {
    let mut normalized = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normalized.pop();
            }
            part => normalized.push(part),
        }
    }
    normalized
}

/// The number and the bytes of all files in `path`, or of that file.
fn content(path: &Path) -> (usize, u64) {
    let Ok(entries) = fs::read_dir(path) else {
        return (1, fs::metadata(path).map_or(0, |found| found.len()));
    };
    let all = entries.flatten().map(|entry| content(&entry.path()));
    all.fold((0, 0), |(files, bytes), (more, larger)| (files + more, bytes + larger))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_again_and_nothing_else_is_touched() {
        let scratch = tempfile::tempdir().unwrap();
        let old = scratch.path().join("run/old.txt");
        files::write_whole(&old, b"old").unwrap();
        let mut overlay = Overlay::new().unwrap();
        let (new, root) = (scratch.path().join("run/x/../new.txt"), overlay.root.clone());
        assert_eq!(overlay.found(&new), new);
        files::write_whole(&overlay.file(&new).unwrap(), b"new").unwrap();
        assert_eq!(fs::read(overlay.found(&new)).unwrap(), b"new");
        // A folder that is truly there is read there, unless it was itself written anew.
        assert_eq!(overlay.found(&scratch.path().join("run")), scratch.path().join("run"));
        files::write_whole(&overlay.folder(&scratch.path().join("run")).unwrap().join("more"), b"m").unwrap();
        assert!(overlay.found(&scratch.path().join("run")).starts_with(&root));
        assert_eq!(overlay.found(&old), old);
        let written = overlay.written();
        assert_eq!((written.len(), written[0].files, written[0].bytes), (1, 2, 4));
        let shown = overlay.in_true_words(&format!("see `{}`", overlay.found(&new).display()));
        assert_eq!(shown, format!("see `{}/run/new.txt`", scratch.path().display()));
        assert_eq!(fs::read_dir(scratch.path().join("run")).unwrap().count(), 1);
        assert_eq!(overlay.missing_space(), None);
        overlay.leave_out(&old, Path::new("owner/model"), u64::MAX / 2);
        assert_eq!(overlay.found(&old), Path::new("owner/model"));
        assert_eq!(overlay.missing_space().unwrap().0, scratch.path().join("run"));
        drop(overlay);
        assert!(!root.exists());
    }

    #[test]
    fn what_could_not_be_written_is_refused_in_the_words_of_a_true_write() {
        let scratch = tempfile::tempdir().unwrap();
        let (file, folder) = (scratch.path().join("file"), scratch.path().join("folder"));
        fs::write(&file, b"x").unwrap();
        fs::create_dir(&folder).unwrap();
        let mut overlay = Overlay::new().unwrap();
        for path in [file.join("a/b.txt"), folder.clone()] {
            let truly = files::write_whole(&path, b"y").unwrap_err();
            assert_eq!(overlay.file(&path).unwrap_err().to_string(), truly.to_string());
        }
        let truly = files::create_folder(&file).unwrap_err();
        assert_eq!(overlay.folder(&file).unwrap_err().to_string(), truly.to_string());
        assert!(overlay.written().is_empty());
    }
}
