//! What a script writes, sent elsewhere: a replay must not touch what the first run left.
//!
//! Every function that writes asks [`State::output`] where to, and every one that reads asks
//! [`State::input`] where from, for a script may read what it wrote. Also the files that were read, by
//! which a run is told from one over other data.

use super::state::State;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Held by the [`State`] of a session.
#[derive(Default)]
pub(super) struct Redirect {
    into: Option<PathBuf>,
    written: BTreeSet<PathBuf>,
    read: BTreeSet<PathBuf>,
}

impl State {
    /// Where to write what the script calls `path`.
    pub fn output(&self, path: &Path) -> PathBuf {
        let redirect = &mut self.redirect_mut();
        redirect.written.insert(plain(path));
        redirect.into.as_deref().map_or_else(|| path.to_path_buf(), |into| moved(into, path))
    }

    /// Where to read what the script calls `path`: from where it was written by this session, if it was.
    pub fn input(&self, path: &Path) -> PathBuf {
        let into = self.redirect_mut().into.clone();
        let written = into.map(|into| moved(&into, path)).filter(|written| written.exists());
        written.unwrap_or_else(|| path.to_path_buf())
    }

    /// As [`input`](Self::input), for names that may be a folder or something else, such as a model's.
    pub fn input_name(&self, name: &str) -> String {
        let is_redirected = self.redirect_mut().into.is_some();
        match is_redirected {
            true => self.input(Path::new(name)).display().to_string(),
            false => name.to_owned(),
        }
    }

    /// Notes that the script has read a file, unless it wrote it itself.
    pub fn note_read(&self, path: &Path) {
        let redirect = &mut self.redirect_mut();
        let path_from_root = plain(path);
        if !path_from_root.ancestors().any(|above| redirect.written.contains(above)) {
            redirect.read.insert(path.to_path_buf());
        }
    }

    /// All that was read so far, as the script named it.
    pub fn files_read(&self) -> Vec<PathBuf> {
        self.redirect_mut().read.iter().cloned().collect()
    }

    /// From now on everything is written below the folder `into`.
    pub(super) fn redirect(&self, into: &Path) {
        self.redirect_mut().into = Some(plain(into));
    }
}

/// The place below `into` that stands for `path`: as it lies from the working folder on, and what lies
/// outside below `outside`.
pub fn moved(into: &Path, path: &Path) -> PathBuf {
    let (into, path) = (plain(into), plain(path));
    if path.starts_with(&into) {
        return path;
    }
    match path.strip_prefix(plain(Path::new("."))) {
        Ok(inside) => into.join(inside),
        Err(_) => into.join("outside").join(path.strip_prefix("/").unwrap_or(&path)),
    }
}

/// From the root on, without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut plain = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_written_below_the_folder_and_read_back_from_there() {
        let scratch = tempfile::tempdir().unwrap();
        let into = scratch.path().join("into");
        let state = State::default();
        assert_eq!(state.output(Path::new("runs/a")), Path::new("runs/a"));
        state.redirect(&into);
        let output = |path: &str| state.output(Path::new(path));
        assert_eq!(output("runs/a"), into.join("runs/a"));
        assert_eq!(output("runs/../b/./c"), into.join("b/c"));
        assert_eq!(output("/elsewhere/x"), into.join("outside/elsewhere/x"));
        assert_eq!(output("/elsewhere/../../x"), into.join("outside/x"));
        assert_eq!(output(into.join("runs/a").to_str().unwrap()), into.join("runs/a"));
        assert_eq!(state.input(Path::new("Cargo.toml")), Path::new("Cargo.toml"));
        std::fs::create_dir_all(into.join("runs/a")).unwrap();
        assert_eq!(state.input(Path::new("runs/a")), into.join("runs/a"));
        assert_eq!(state.input_name("owner/model"), "owner/model");
    }

    #[test]
    fn what_the_script_wrote_itself_is_no_data_that_it_read() {
        let state = State::default();
        state.output(Path::new("runs/a"));
        ["runs/a/results.json", "data/../data/x.jsonl", "runs/b.json"].map(|path| state.note_read(Path::new(path)));
        assert_eq!(state.files_read(), [Path::new("data/../data/x.jsonl"), Path::new("runs/b.json")]);
    }
}
