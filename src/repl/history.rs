//! Inputs of this and earlier sessions: a file in the cache folder, one input a line as a JSON
//! string. Inputs are appended, so that several sessions can run at once; a last line that was cut
//! off is skipped. rustyline's own history file is written whole at the end: a crash would lose it,
//! and of two sessions the one that ends last would win.

use crate::{files, stderr};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Older inputs are forgotten once there are twice as many.
const MOST: usize = 5000;

#[derive(Debug, Default)]
pub struct History {
    entries: Vec<String>,
    file: Option<PathBuf>,
}

impl History {
    /// Reads the user's file. Without a cache folder the history ends with the program.
    pub fn open() -> History {
        match files::cache_folder() {
            Some(folder) => History::at(&folder.join("repl_history.jsonl")),
            None => History::default(),
        }
    }

    fn at(path: &Path) -> History {
        let bytes = fs::read(path).unwrap_or_default();
        let lines = bytes.split(|byte| *byte == b'\n');
        let mut entries: Vec<String> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        if entries.len() > 2 * MOST {
            entries.drain(..entries.len() - MOST);
            let text: String = entries.iter().map(|entry| line(entry)).collect();
            // Where this fails, the long file serves as well.
            let _ = files::write_atomic(path, text.as_bytes());
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
        }
        History { entries, file: Some(path.to_path_buf()) }
    }

    /// The oldest first.
    pub fn entries(&self) -> &[String] {
        &self.entries
    }

    /// Adds an input unless it repeats the last one; returns whether it did.
    pub fn add(&mut self, input: &str) -> bool {
        let input = input.trim_end();
        if input.trim().is_empty() || self.entries.last().is_some_and(|last| last == input) {
            return false;
        }
        self.entries.push(input.to_string());
        if let Some(path) = &self.file {
            if let Err(error) = append(path, &line(input)) {
                stderr::line(&format!("warning: cannot write the history to `{}`: {error}", path.display()));
                self.file = None;
            }
        }
        true
    }
}

fn line(entry: &str) -> String {
    format!("{}\n", serde_json::Value::from(entry))
}

/// A line is one write, so that lines of several programs do not mix. Only the owner can read the file.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let mut file = File::options().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_of_several_lines_are_kept_for_the_next_session() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/history.jsonl");
        let mut history = History::at(&path);
        assert!(history.add("let a = 1;") && history.add("fn f() {\n  \"x\"\n}\n"));
        assert!(!history.add("fn f() {\n  \"x\"\n}") && !history.add(" "));
        let mut other = History::at(&path);
        assert_eq!(other.entries(), ["let a = 1;", "fn f() {\n  \"x\"\n}"]);
        assert!(other.add("2") && history.add("3"));
        assert_eq!(History::at(&path).entries()[2..], ["2", "3"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_the_damaged_lines_of_a_file_are_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        fs::write(&path, b"\"one\"\n\xff\xfe\nnot json\n\"two\"\n\"cut o").unwrap();
        assert_eq!(History::at(&path).entries(), ["one", "two"]);
    }

    #[test]
    fn a_long_file_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        fs::write(&path, (0..=2 * MOST).map(|at| line(&at.to_string())).collect::<String>()).unwrap();
        assert_eq!(History::at(&path).entries().len(), MOST);
        assert_eq!(History::at(&path).entries().last().unwrap(), &(2 * MOST).to_string());
    }
}
