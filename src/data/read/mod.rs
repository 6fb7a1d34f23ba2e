//! Data files to rows: which format, and what goes wrong where.
//!
//! One file here per format. Leaves to others: which files of a folder belong to which split
//! (`folder.rs`, and `hub/` for names of the hub), and the meaning of the columns (`row_format.rs`).

mod arrow;
mod arrow_value;
mod csv;
mod folder;
mod json;
mod json_text;
mod quotes;
mod slices;
mod source;
mod text;

pub use csv::{Header, TableOptions};
pub use folder::{locate, Splits};
pub use quotes::Quoting;
pub use slices::Slice;

use super::dataset::{Dataset, Row};
use crate::error::{Error, Kind, Result};
use crate::{suggest, tell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A format of data files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    JsonLines,
    Json,
    Csv,
    Tsv,
    Text,
    Parquet,
    Arrow,
}

const FORMATS: [(&str, Format); 8] = [
    ("jsonl", Format::JsonLines),
    ("ndjson", Format::JsonLines),
    ("json", Format::Json),
    ("csv", Format::Csv),
    ("tsv", Format::Tsv),
    ("txt", Format::Text),
    ("parquet", Format::Parquet),
    ("arrow", Format::Arrow),
];

/// What to read of a path.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// By file name (`data.jsonl`) where this is `None`.
    pub format: Option<Format>,
    /// `train`, `validation` or `test`, by the names of files and folders, or rows of them: see
    /// [`Slice::parse`]. Where this is `None` a folder that has a train split gives that, and one
    /// of a single split gives that one.
    pub split: Option<String>,
    /// Which files of a folder: see [`Pattern`](crate::hub::dataset::Pattern).
    pub files: Option<String>,
    /// The columns to read; all that hold text, numbers, lists and maps where this is `None`.
    pub columns: Option<Vec<String>>,
    /// The key of a JSON document under which its rows stand.
    pub field: Option<String>,
    /// How tables of fields are written.
    pub table: TableOptions,
}

impl LoadOptions {
    fn wants(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.iter().any(|wanted| wanted == column))
    }
}

/// Rows, and what was decided in reading them that the user should know.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    pub data: Dataset,
    pub notes: Vec<String>,
}

impl Format {
    /// The format by its usual file name ending.
    pub fn named(name: &str) -> Result<Self> {
        let found = FORMATS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, format)| *format).ok_or_else(|| {
            Error::input(format!("unknown data format `{name}`"))
                .with_hint(suggest::hint(name, FORMATS.map(|(known, _)| known)))
        })
    }

    /// How the names of its files end.
    pub fn ending(self) -> &'static str {
        FORMATS.iter().find(|(_, format)| *format == self).map_or("", |(ending, _)| ending)
    }

    /// The format of a file by its name; compression adds an ending that says nothing.
    fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let ending = source::uncompressed(name).rsplit_once('.').map_or("", |(_, ending)| ending);
        Format::named(ending).map_err(|error| {
            let wrong = Error::new(Kind::File, format!("cannot tell the format of `{}` by its name", path.display()));
            match ending {
                "xlsx" | "xls" | "ods" => wrong.with_hint("save the spreadsheet as .csv"),
                "zip" | "tar" | "7z" => wrong.with_hint("unpack it, and load the file in it"),
                "pkl" | "pickle" | "npy" | "pt" => wrong.with_hint("write it as .jsonl or .parquet in Python"),
                _ => {
                    wrong.with_hint(format!("{}; or say it: #{{ format: \"jsonl\" }}", error.hint.unwrap_or_default()))
                }
            }
        })
    }

    fn read(self, path: &Path, reading: &mut Reading) -> Result<()> {
        match self {
            Format::JsonLines => json::read(path, true, reading),
            Format::Json => json::read(path, false, reading),
            Format::Csv => csv::read(path, b',', reading),
            Format::Tsv => csv::read(path, b'\t', reading),
            Format::Text => text::read(path, reading),
            Format::Parquet => arrow::read(path, arrow::Container::Parquet, reading),
            Format::Arrow => arrow::read(path, arrow::Container::Arrow, reading),
        }
    }
}

/// Rows read so far, with what is kept of the columns.
struct Reading<'a> {
    options: &'a LoadOptions,
    rows: Vec<Row>,
    notes: Vec<String>,
    /// Columns of bytes that are not text, and the first place of such bytes.
    left_out: BTreeMap<String, String>,
    /// The columns of the files, where only some are wanted.
    seen: BTreeSet<String>,
}

impl<'a> Reading<'a> {
    fn new(options: &'a LoadOptions) -> Self {
        let (rows, notes) = (Vec::new(), Vec::new());
        Reading { options, rows, notes, left_out: BTreeMap::new(), seen: BTreeSet::new() }
    }

    /// Says it once, however many files it is true of.
    fn note(&mut self, path: &Path, text: &str) {
        if !self.notes.iter().any(|note| note.ends_with(text)) {
            self.notes.push(format!("`{}`: {text}", path.display()));
        }
    }

    /// Adds a row of JSON, with its wanted columns. `place` says where in the file it stands.
    fn push(&mut self, mut row: Row, place: impl Fn() -> String, path: &Path) -> Result<()> {
        if self.options.columns.is_some() {
            self.seen.extend(row.keys().cloned());
            row.retain(|name, _| self.options.wants(name));
        }
        for (name, value) in &row {
            if let Some(number) = json_text::large(value) {
                let message = format!(
                    "`{}` {}: column `{name}`: the whole number {number} has more than 64 bits",
                    path.display(),
                    place()
                );
                return Err(Error::data(message)
                    .with_hint("write it as text, or load the other columns: #{ columns: [\"…\"] }"));
            }
        }
        self.rows.push(row);
        Ok(())
    }

    fn name_columns(&mut self, names: &[String]) {
        if self.options.columns.is_some() {
            self.seen.extend(names.iter().cloned());
        }
    }

    fn is_left_out(&self, name: &str) -> bool {
        self.left_out.contains_key(name)
    }

    /// A column of bytes is no column to train on, unless it was asked for.
    fn leave_out(&mut self, name: &str, place: String) -> Result<()> {
        if self.options.columns.is_some() {
            return Err(Error::data(format!("{place}: expected text, found bytes that are not UTF-8"))
                .with_hint("columns of images and sound cannot be loaded: leave it out of `columns`"));
        }
        self.left_out.insert(name.to_owned(), place);
        Ok(())
    }

    fn ensure_columns(&self) -> Result<()> {
        let unknown = self.options.columns.iter().flatten().find(|name| !self.seen.contains(*name));
        match unknown.filter(|_| !self.seen.is_empty()) {
            Some(name) => Err(Error::input(format!("option `columns`: no column `{name}`"))
                .with_hint(suggest::hint(name, self.seen.iter().map(String::as_str)))),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Loaded> {
        for (name, place) in &self.left_out {
            self.rows.iter_mut().for_each(|row| {
                row.shift_remove(name);
            });
            self.notes.push(format!("column `{name}` is left out: it holds bytes that are not text ({place})"));
        }
        Ok(Loaded { data: Dataset::from_rows(self.rows), notes: self.notes })
    }
}

/// The rows of files of one format, one after the other.
pub fn read_files(paths: &[PathBuf], options: &LoadOptions) -> Result<Loaded> {
    let mut reading = Reading::new(options);
    let mut first = None;
    for path in paths {
        let format = options.format.map_or_else(|| Format::of(path), Ok)?;
        let family = if format == Format::Json { Format::JsonLines } else { format };
        if *first.get_or_insert(family) != family {
            return Err(Error::input(format!("`{}` is of another format than the files before it", path.display()))
                .with_hint("load each format on its own and concatenate"));
        }
        require_file(path)?;
        format.read(path, &mut reading)?;
    }
    reading.ensure_columns()?;
    if reading.rows.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
        return Err(Error::data(format!("no rows in {}", names.join(", ")))
            .with_hint("it is empty, or holds a header alone: was it written or copied to its end?"));
    }
    reading.finish()
}

impl Dataset {
    /// Reads a file, or the data files of a folder.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &LoadOptions::default())
    }

    /// As [`load`](Self::load), with the format or the split given.
    pub fn load_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        let path = path.as_ref();
        let loaded = locate(&[path.to_path_buf()], options)?.read(options)?;
        Ok(loaded.noted())
    }

    /// The files that [`load_with`](Self::load_with) reads.
    pub fn files(path: &Path, options: &LoadOptions) -> Result<Vec<PathBuf>> {
        Ok(locate(&[path.to_path_buf()], options)?.paths())
    }

    /// Reads files of one format, one after the other.
    pub fn load_files(paths: &[PathBuf], format: Option<Format>) -> Result<Self> {
        Ok(read_files(paths, &LoadOptions { format, ..LoadOptions::default() })?.noted())
    }
}

impl Loaded {
    fn noted(self) -> Dataset {
        self.notes.iter().for_each(|note| tell::note(&format!("note: {note}")));
        self.data
    }
}

/// Reading a pipe or a device could wait for ever.
fn require_file(path: &Path) -> Result<()> {
    let about = std::fs::metadata(path).map_err(|error| Error::file("read", path, &error))?;
    match about.is_file() {
        true => Ok(()),
        false => Err(Error::new(Kind::File, format!("`{}` is not a regular file", path.display()))),
    }
}

/// Puts the file and the line (from 1) in front of a message.
fn at_line(path: &Path, line: usize, message: impl std::fmt::Display) -> Error {
    Error::new(Kind::File, format!("`{}` line {line}: {message}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_ending_is_named() {
        let error = Format::of(Path::new("a.jsnol")).unwrap_err();
        assert!(error.message.contains("a.jsnol") && error.hint.unwrap().contains("did you mean"));
        assert_eq!(Format::of(Path::new("a.tsv.XZ")).unwrap(), Format::Tsv);
    }
}
