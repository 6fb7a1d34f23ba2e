//! Reads data files as rows: each format has a file here, and errors name file and line.
//!
//! Leaves to others: which files of a folder belong to which split (`folder.rs`, and `hub/` for names of the hub), what
//! the columns mean (`row_format.rs`).

mod arrow;
mod arrow_value;
mod collector;
mod csv;
mod folder;
mod format;
mod json;
mod json_array;
mod json_text;
mod options;
mod quotes;
mod slices;
mod source;
mod text;

pub use collector::Loaded;
pub use folder::{locate, locate_or_fetch, Splits};
pub use format::Format;
pub use options::{Delimiter, Header, LoadOptions, TableOptions};
pub use quotes::Quoting;
pub use slices::Slice;

use super::dataset::Dataset;
use crate::error::{Error, Kind, Result};
use crate::{sandbox, stderr};
use collector::RowCollector;
use options::CALL;
use std::path::{Path, PathBuf};

fn read_file(format: Format, path: &Path, collector: &mut RowCollector) -> Result<()> {
    match format {
        Format::JsonLines => json::read(path, true, collector),
        Format::Json => json::read(path, false, collector),
        Format::Csv => csv::read(path, b',', collector),
        Format::Tsv => csv::read(path, b'\t', collector),
        Format::Text => text::read(path, collector),
        Format::Parquet => arrow::read(path, arrow::Container::Parquet, collector),
        Format::Arrow => arrow::read(path, arrow::Container::Arrow, collector),
    }
}

/// Reads files of one format, one after the other.
pub fn read_files(paths: &[PathBuf], options: &LoadOptions) -> Result<Loaded> {
    let mut collector = RowCollector::new(options);
    let mut first = None;
    for path in paths {
        let format = options.format.map_or_else(|| Format::of(path), Ok)?;
        let family = if format == Format::Json { Format::JsonLines } else { format };
        if *first.get_or_insert(family) != family {
            return Err(Error::input(format!("`{}` has another format than the files before it", path.display()))
                .with_hint("load the files of each format separately, and concatenate"));
        }
        ensure_is_file(path)?;
        read_file(format, path, &mut collector)?;
    }
    collector.ensure_columns()?;
    if collector.len() == 0 {
        let names: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
        return Err(Error::data(format!("no rows in {}", names.join(", ")))
            .with_hint("the file is empty or has only a header: was it written or copied completely?"));
    }
    collector.finish()
}

impl Splits {
    /// Reads the files, and keeps the rows that the slices name.
    pub fn read(&self, options: &LoadOptions) -> Result<Loaded> {
        let mut all: Option<Loaded> = None;
        for (paths, slice) in self.parts() {
            let mut loaded = read_files(paths, options)?;
            let rows: Vec<usize> = slice.range(loaded.data.len())?.collect();
            if rows.len() < loaded.data.len() {
                loaded.data = loaded.data.select(&rows)?;
            }
            all = Some(match all {
                None => loaded,
                Some(before) => before.append(loaded)?,
            });
        }
        let loaded = all.unwrap_or_default();
        if loaded.data.is_empty() {
            return Err(
                Error::input(format!("{CALL}: option `split`: no rows are left")).with_hint("give wider bounds")
            );
        }
        Ok(loaded)
    }
}

impl Dataset {
    /// Reads a file, or the data files of a folder.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &LoadOptions::default())
    }

    /// As [`load`](Self::load), with options such as the format or the split.
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
    /// The rows of both; columns that one side lacks are null there.
    fn append(mut self, next: Loaded) -> Result<Self> {
        for note in next.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        Ok(Loaded { data: self.data.concatenate_filled(&next.data)?, notes: self.notes })
    }

    /// The rows; prints the notes.
    fn noted(self) -> Dataset {
        self.notes.iter().for_each(|note| stderr::note(&format!("note: {note}")));
        self.data
    }
}

/// Fails on pipes and devices, whose reading might never end.
fn ensure_is_file(path: &Path) -> Result<()> {
    sandbox::ensure_may_read(path)?;
    let metadata = std::fs::metadata(path).map_err(|error| Error::file("read", path, &error))?;
    if !metadata.is_file() {
        return Err(Error::new(Kind::File, format!("`{}` is not a regular file", path.display())));
    }
    Ok(())
}
