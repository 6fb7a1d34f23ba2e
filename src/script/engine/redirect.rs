//! Where a script writes and reads: at the paths it names, or in the [`Overlay`] of a rehearsal or a replay. Also
//! which files it read, which distinguishes a run from one over other data.
//!
//! Every function that writes gets its path from [`State::file_to_write`] or [`State::folder_to_write`], and every one
//! that reads from [`State::to_read`], because a script may read what it wrote.

use crate::bail;
use crate::error::{Kind, Result};
use crate::files::{self, FolderKind};
use crate::overlay::{normalized, Overlay};
use crate::sandbox;
use crate::script::engine::state::State;
use std::path::{Path, PathBuf};

impl State {
    /// Where to write the file that the script calls `path`.
    pub fn file_to_write(&self, path: &str) -> Result<PathBuf> {
        self.ensure_not_source(Path::new(path))?;
        self.to_write(Path::new(path), Overlay::file)
    }

    /// Where to write the files of the folder that the script calls `path`.
    pub fn folder_to_write(&self, path: &Path) -> Result<PathBuf> {
        self.to_write(path, Overlay::folder)
    }

    /// Where to save the folder that the script calls `path`, as [`files::publish_folder`] does. In a rehearsal the folder
    /// that the real run would replace is looked at, too.
    pub fn folder_to_publish(&self, kind: &FolderKind, path: &Path, overwrite: bool) -> Result<PathBuf> {
        files::ensure_replaceable(kind, path, overwrite)?;
        self.folder_to_write(path)
    }

    /// Refuses to replace the running script, or a module of it.
    fn ensure_not_source(&self, path: &Path) -> Result<()> {
        let Ok(real) = path.canonicalize() else { return Ok(()) };
        let is_source = |name: &String| Path::new(name).canonicalize().is_ok_and(|source| source == real);
        if self.source_names().iter().any(is_source) {
            bail!(Kind::Input, "cannot write `{}`: it is a script that is running", path.display(); hint: "give another name");
        }
        Ok(())
    }

    fn to_write(&self, path: &Path, in_overlay: impl Fn(&mut Overlay, &Path) -> Result<PathBuf>) -> Result<PathBuf> {
        sandbox::ensure_may_write(path)?;
        let redirect = &mut *self.redirect_mut();
        redirect.written.insert(from_root(path));
        redirect.overlay.as_mut().map_or_else(|| Ok(path.to_owned()), |overlay| in_overlay(overlay, path))
    }

    /// Where to read what the script calls `path`: in the overlay, if this session wrote it. A name that is no path
    /// stays.
    pub fn to_read(&self, path: &str) -> String {
        let in_overlay = self.in_overlay(|overlay| overlay.to_read(Path::new(path)).display().to_string());
        in_overlay.unwrap_or_else(|| path.to_owned())
    }

    /// A text with the paths that the script named.
    pub fn in_true_words(&self, text: &str) -> String {
        self.in_overlay(|overlay| overlay.with_real_paths(text)).unwrap_or_else(|| text.to_owned())
    }

    /// Records that the script has read a file, unless it wrote it itself.
    pub fn note_read(&self, path: &Path) {
        let redirect = &mut *self.redirect_mut();
        if !from_root(path).ancestors().any(|above| redirect.written.contains(above)) {
            redirect.read.insert(path.to_path_buf());
        }
    }

    /// The files that were read so far, as the script named them.
    pub fn files_read(&self) -> Vec<PathBuf> {
        self.redirect_mut().read.iter().cloned().collect()
    }

    /// From now on everything is written into `overlay`.
    pub(in crate::script) fn redirect(&self, overlay: Overlay) {
        self.redirect_mut().overlay = Some(overlay);
    }

    /// Calls `work` with the overlay, if there is one.
    pub(in crate::script) fn in_overlay<T>(&self, work: impl FnOnce(&mut Overlay) -> T) -> Option<T> {
        self.redirect_mut().overlay.as_mut().map(work)
    }
}

fn from_root(path: &Path) -> PathBuf {
    normalized(&std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_written_below_the_folder_and_read_back_from_there() {
        let scratch = tempfile::tempdir().unwrap();
        let into = scratch.path().canonicalize().unwrap().join("into");
        let state = State::default();
        let folder = |path: &str| state.folder_to_write(Path::new(path)).unwrap();
        assert_eq!(folder("runs/a"), Path::new("runs/a"));
        state.redirect(Overlay::within(&into).unwrap());
        assert_eq!(folder("runs/a"), into.join("runs/a"));
        assert_eq!(folder("runs/../b/./c"), into.join("b/c"));
        assert_eq!(folder("/elsewhere/x"), into.join("outside/elsewhere/x"));
        assert_eq!(folder("/elsewhere/../../x"), into.join("outside/x"));
        assert_eq!(state.file_to_write("/elsewhere/y").unwrap(), into.join("outside/elsewhere/y"));
        assert_eq!(folder(into.join("runs/a").to_str().unwrap()), into.join("runs/a"));
        assert_eq!(state.to_read("Cargo.toml"), "Cargo.toml");
        std::fs::create_dir_all(into.join("runs/a")).unwrap();
        assert_eq!(Path::new(&state.to_read("runs/a")), into.join("runs/a"));
        assert_eq!(state.to_read("owner/model"), "owner/model");
    }

    #[test]
    fn files_that_the_script_wrote_are_not_recorded_as_read() {
        let state = State::default();
        state.folder_to_write(Path::new("runs/a")).unwrap();
        for path in ["runs/a/results.json", "data/../data/x.jsonl", "runs/b.json"] {
            state.note_read(Path::new(path));
        }
        assert_eq!(state.files_read(), [Path::new("data/../data/x.jsonl"), Path::new("runs/b.json")]);
    }
}
