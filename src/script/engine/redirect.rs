//! Where a script writes and reads: by the names it gives, or in an [`Overlay`] of a rehearsal or a replay. Also
//! which files it read, by which a run is told from one over other data.
//!
//! Every function that writes asks [`State::file_to_write`] or [`State::folder_to_write`] where to, and every one
//! that reads asks [`State::to_read`] where from, for a script may read what it wrote.

use crate::error::Result;
use crate::overlay::{normalized, Overlay};
use crate::script::engine::state::State;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Held by the [`State`] of a session.
#[derive(Default)]
pub(in crate::script) struct Redirect {
    pub(in crate::script) overlay: Option<Overlay>,
    written: BTreeSet<PathBuf>,
    read: BTreeSet<PathBuf>,
}

impl State {
    /// Where to write the file that the script calls `path`.
    pub fn file_to_write(&self, path: &str) -> Result<PathBuf> {
        self.to_write(Path::new(path), Overlay::file)
    }

    /// Where to write the files of the folder that the script calls `path`.
    pub fn folder_to_write(&self, path: &Path) -> Result<PathBuf> {
        self.to_write(path, Overlay::folder)
    }

    fn to_write(&self, path: &Path, place: impl Fn(&mut Overlay, &Path) -> Result<PathBuf>) -> Result<PathBuf> {
        let redirect = &mut *self.redirect_mut();
        redirect.written.insert(from_root(path));
        redirect.overlay.as_mut().map_or_else(|| Ok(path.to_owned()), |overlay| place(overlay, path))
    }

    /// Where to read what the script calls `path`: from where it was written by this session, if it was. A name
    /// that is no path stays.
    pub fn to_read(&self, path: &str) -> String {
        let found = self.in_overlay(|overlay| overlay.to_read(Path::new(path)).display().to_string());
        found.unwrap_or_else(|| path.to_owned())
    }

    /// A text with the names that the script knows.
    pub fn in_true_words(&self, text: &str) -> String {
        self.in_overlay(|overlay| overlay.with_real_paths(text)).unwrap_or_else(|| text.to_owned())
    }

    /// Notes that the script has read a file, unless it wrote it itself.
    pub fn note_read(&self, path: &Path) {
        let redirect = &mut *self.redirect_mut();
        if !from_root(path).ancestors().any(|above| redirect.written.contains(above)) {
            redirect.read.insert(path.to_path_buf());
        }
    }

    /// All that was read so far, as the script named it.
    pub fn files_read(&self) -> Vec<PathBuf> {
        self.redirect_mut().read.iter().cloned().collect()
    }

    /// From now on everything is written there.
    pub(in crate::script) fn redirect(&self, overlay: Overlay) {
        self.redirect_mut().overlay = Some(overlay);
    }

    /// Does something with the overlay, if there is one.
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
    fn what_the_script_wrote_itself_is_no_data_that_it_read() {
        let state = State::default();
        state.folder_to_write(Path::new("runs/a")).unwrap();
        for path in ["runs/a/results.json", "data/../data/x.jsonl", "runs/b.json"] {
            state.note_read(Path::new(path));
        }
        assert_eq!(state.files_read(), [Path::new("data/../data/x.jsonl"), Path::new("runs/b.json")]);
    }
}
