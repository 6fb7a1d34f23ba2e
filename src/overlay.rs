//! `Overlay`: redirects writes into a separate folder, and reads of the written files to there. A rehearsal
//! deletes that folder at its end; a replay may keep it.
//!
//! Creates, changes and removes nothing outside that folder. Leaves to others: what is written.

use crate::error::{Error, Kind, Result};
use crate::files;
use std::fs;
use std::path::{Component, Path, PathBuf};
use tempfile::TempDir;

/// The subfolder for files outside the working folder.
const OUTSIDE: &str = "outside";

#[derive(Debug)]
pub struct Overlay {
    /// Deletes the folder when dropped; `None` for a folder that stays.
    temporary: Option<TempDir>,
    /// The folder, with links in its path resolved.
    root: PathBuf,
    /// The working folder.
    working_folder: PathBuf,
    /// The absolute paths that were redirected, in order.
    written: Vec<PathBuf>,
    /// Files too large to write in a rehearsal: the path, the path to read instead, and the bytes.
    left_out: Vec<(PathBuf, PathBuf, u64)>,
}

/// A file or folder that was written, by its real path.
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
        Ok(Overlay { temporary: Some(folder), ..overlay })
    }

    /// Redirects into the folder `root`, which stays. Does not check whether the real paths are writable.
    pub fn within(root: &Path) -> Result<Self> {
        files::create_folder(root)?;
        let root = root.canonicalize().map_err(|error| Error::file("find", root, &error))?;
        let working_folder = std::env::current_dir().map_err(|error| Error::file("find", ".".as_ref(), &error))?;
        Ok(Overlay { temporary: None, root, working_folder, written: Vec::new(), left_out: Vec::new() })
    }

    /// The path to write the file `path` to.
    ///
    /// # Errors
    /// If a rehearsed file could not really be written.
    pub fn file(&mut self, path: &Path) -> Result<PathBuf> {
        if self.temporary.is_some() {
            files::could_write(path)?;
        }
        Ok(self.note(path))
    }

    /// The folder to write the files of the folder `path` to.
    ///
    /// # Errors
    /// If a rehearsed folder could not really be made or written to.
    pub fn folder(&mut self, path: &Path) -> Result<PathBuf> {
        if self.temporary.is_some() {
            files::could_fill(path)?;
        }
        Ok(self.note(path))
    }

    /// Skips writing `bytes` bytes to `path`: reads of it go to `substitute`.
    pub fn leave_out(&mut self, path: &Path, substitute: &Path, bytes: u64) {
        let absolute = self.absolute(path);
        self.left_out.retain(|(known, _, _)| *known != absolute);
        self.left_out.push((absolute, substitute.to_owned(), bytes));
    }

    /// The path to read `path` from: redirected if it was written, else itself.
    pub fn to_read(&self, path: &Path) -> PathBuf {
        let absolute = self.absolute(path);
        if let Some((_, substitute, _)) = self.left_out.iter().find(|(known, _, _)| *known == absolute) {
            return substitute.clone();
        }
        let redirected = self.redirect(&absolute);
        let was_written = self.written.iter().any(|written| absolute.starts_with(written));
        if redirected.exists() && (was_written || !path.exists()) {
            redirected
        } else {
            path.to_owned()
        }
    }

    /// Replaces redirected paths in `text` by the real ones.
    pub fn with_real_paths(&self, text: &str) -> String {
        let root = self.root.display().to_string();
        text.replace(&format!("{root}/{OUTSIDE}/"), "/").replace(&format!("{root}/"), "")
    }

    /// The redirected path of `path`.
    pub fn redirected(&self, path: &Path) -> PathBuf {
        self.redirect(&self.absolute(path))
    }

    /// The files and folders that were written. A folder counts the files in it.
    pub fn written(&self) -> Vec<Written> {
        let mut tops: Vec<&PathBuf> = Vec::new();
        for path in &self.written {
            let is_within = |other: &&PathBuf| path.starts_with(other);
            if !tops.iter().any(is_within) && self.redirect(path).exists() {
                tops.retain(|other| !other.starts_with(path));
                tops.push(path);
            }
        }
        tops.into_iter().map(|path| self.described(path)).collect()
    }

    /// The first disk that lacks space for what would be written to it: a path on it and the missing bytes.
    pub fn missing_space(&self) -> Option<(PathBuf, u64)> {
        let written = self.written().into_iter().map(|entry| (self.working_folder.join(entry.path), entry.bytes));
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
        Some((path.strip_prefix(&self.working_folder).map(Path::to_owned).unwrap_or(path), bytes - disk.free))
    }

    fn described(&self, path: &Path) -> Written {
        let redirected = self.redirect(path);
        let (files, bytes) = content(&redirected);
        let shown = path.strip_prefix(&self.working_folder).unwrap_or(path);
        Written { path: shown.to_owned(), is_folder: redirected.is_dir(), files, bytes }
    }

    fn note(&mut self, path: &Path) -> PathBuf {
        let absolute = self.absolute(path);
        let redirected = self.redirect(&absolute);
        if !self.written.contains(&absolute) {
            self.written.push(absolute);
        }
        redirected
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        normalized(&self.working_folder.join(path))
    }

    /// Paths below the working folder keep their relative path; others go below [`OUTSIDE`].
    fn redirect(&self, absolute: &Path) -> PathBuf {
        if absolute.starts_with(&self.root) {
            return absolute.to_owned();
        }
        match absolute.strip_prefix(&self.working_folder) {
            Ok(inside) => self.root.join(inside),
            Err(_) => self.root.join(OUTSIDE).join(absolute.strip_prefix("/").unwrap_or(absolute)),
        }
    }
}

/// The path without `.` and `..`; links are not resolved.
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
        return (1, fs::metadata(path).map_or(0, |metadata| metadata.len()));
    };
    let all = entries.flatten().map(|entry| content(&entry.path()));
    all.fold((0, 0), |(files, bytes), (more, larger)| (files + more, bytes + larger))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_files_are_read_back_and_nothing_else_is_touched() {
        let scratch = tempfile::tempdir().unwrap();
        let old = scratch.path().join("run/old.txt");
        files::write_atomic(&old, b"old").unwrap();
        let mut overlay = Overlay::new().unwrap();
        let (new, root) = (scratch.path().join("run/x/../new.txt"), overlay.root.clone());
        assert_eq!(overlay.to_read(&new), new);
        files::write_atomic(&overlay.file(&new).unwrap(), b"new").unwrap();
        assert_eq!(fs::read(overlay.to_read(&new)).unwrap(), b"new");
        // An existing folder is read where it is, unless it was itself written.
        assert_eq!(overlay.to_read(&scratch.path().join("run")), scratch.path().join("run"));
        files::write_atomic(&overlay.folder(&scratch.path().join("run")).unwrap().join("more"), b"m").unwrap();
        assert!(overlay.to_read(&scratch.path().join("run")).starts_with(&root));
        assert_eq!(overlay.to_read(&old), old);
        let written = overlay.written();
        assert_eq!((written.len(), written[0].files, written[0].bytes), (1, 2, 4));
        let shown = overlay.with_real_paths(&format!("see `{}`", overlay.to_read(&new).display()));
        assert_eq!(shown, format!("see `{}/run/new.txt`", scratch.path().display()));
        assert_eq!(fs::read_dir(scratch.path().join("run")).unwrap().count(), 1);
        assert_eq!(overlay.missing_space(), None);
        overlay.leave_out(&old, Path::new("owner/model"), u64::MAX / 2);
        assert_eq!(overlay.to_read(&old), Path::new("owner/model"));
        assert_eq!(overlay.missing_space().unwrap().0, scratch.path().join("run"));
        drop(overlay);
        assert!(!root.exists());
    }

    #[test]
    fn unwritable_paths_give_the_error_of_a_real_write() {
        let scratch = tempfile::tempdir().unwrap();
        let (file, folder) = (scratch.path().join("file"), scratch.path().join("folder"));
        fs::write(&file, b"x").unwrap();
        fs::create_dir(&folder).unwrap();
        let mut overlay = Overlay::new().unwrap();
        for path in [file.join("a/b.txt"), folder.clone()] {
            let real = files::write_atomic(&path, b"y").unwrap_err();
            assert_eq!(overlay.file(&path).unwrap_err().to_string(), real.to_string());
        }
        let real = files::create_folder(&file).unwrap_err();
        assert_eq!(overlay.folder(&file).unwrap_err().to_string(), real.to_string());
        assert!(overlay.written().is_empty());
    }
}
