//! Data files to rows: which files, which format, and what goes wrong where.
//!
//! One file here per format. Leaves to others: hub names (`hub/` makes a folder of them)
//! and the meaning of the columns (`shape.rs`).

mod csv;
mod json;
mod parquet;
mod text;

use super::dataset::{Dataset, Row};
use crate::error::{Error, Kind, Result};
use crate::hub::dataset::{refuse_several_configurations, split_named, split_of, Pattern};
use crate::suggest;
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
}

const FORMATS: [(&str, Format); 7] = [
    ("jsonl", Format::JsonLines),
    ("ndjson", Format::JsonLines),
    ("json", Format::Json),
    ("csv", Format::Csv),
    ("tsv", Format::Tsv),
    ("txt", Format::Text),
    ("parquet", Format::Parquet),
];

/// Files in a folder that describe data and are no data.
const DESCRIPTIONS: [&str; 3] = ["dataset_info.json", "dataset_infos.json", "state.json"];

/// What to read of a path.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// By file name (`data.jsonl`) where this is `None`.
    pub format: Option<Format>,
    /// `train`, `validation` or `test`, by the names of files and folders. Where this is
    /// `None` a folder that has a train split gives that, and any other gives all files.
    pub split: Option<String>,
    /// Which files of a folder: see [`Pattern`].
    pub files: Option<String>,
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

    fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        Format::named(ending).map_err(|error| {
            let wrong = Error::new(Kind::File, format!("cannot tell the format of `{}` by its name", path.display()));
            match ending {
                "xlsx" | "xls" | "ods" => wrong.with_hint("save the spreadsheet as .csv"),
                _ => {
                    wrong.with_hint(format!("{}; or say it: #{{ format: \"jsonl\" }}", error.hint.unwrap_or_default()))
                }
            }
        })
    }

    fn read(self, path: &Path, rows: &mut Vec<Row>) -> Result<()> {
        match self {
            Format::JsonLines => json::read_lines(path, rows),
            Format::Json => json::read_document(path, rows),
            Format::Csv => csv::read(path, b',', rows),
            Format::Tsv => csv::read(path, b'\t', rows),
            Format::Text => text::read(path, rows),
            Format::Parquet => parquet::read(path, rows),
        }
    }
}

impl Dataset {
    /// Reads a file, or the data files of a folder.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &LoadOptions::default())
    }

    /// As [`load`](Self::load), with the format or the split given.
    pub fn load_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        Self::load_files(&Self::files(path.as_ref(), options)?, options.format)
    }

    /// The files that [`load_with`](Self::load_with) reads.
    pub fn files(path: &Path, options: &LoadOptions) -> Result<Vec<PathBuf>> {
        match path.is_dir() {
            true => {
                let files = fitting(path, data_files(path, options.format)?, options.files.as_deref())
                    .map_err(|error| error.context(format!("the folder `{}`", path.display())))?;
                choose_split(path, files, options.split.as_deref())
            }
            false => refuse_choice(path, options).map(|()| vec![path.to_path_buf()]),
        }
    }

    /// Reads files of one format, one after the other.
    pub fn load_files(paths: &[PathBuf], format: Option<Format>) -> Result<Self> {
        let mut rows = Vec::new();
        let mut first = None;
        for path in paths {
            let found = format.map_or_else(|| Format::of(path), Ok)?;
            if *first.get_or_insert(found) != found {
                return Err(Error::input(format!(
                    "`{}` is of another format than the files before it",
                    path.display()
                ))
                .with_hint("load each format on its own and concatenate"));
            }
            require_file(path)?;
            found.read(path, &mut rows)?;
        }
        if rows.is_empty() {
            let names: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
            return Err(Error::data(format!("no rows in {}", names.join(", ")))
                .with_hint("it is empty, or holds a header alone: was it written or copied to its end?"));
        }
        Ok(Dataset::from_rows(rows))
    }
}

/// Reading a pipe or a device could wait for ever.
fn require_file(path: &Path) -> Result<()> {
    let found = std::fs::metadata(path).map_err(|error| Error::file("read", path, &error))?;
    match found.is_file() {
        true => Ok(()),
        false => Err(Error::new(Kind::File, format!("`{}` is not a regular file", path.display()))),
    }
}

/// The data files under a folder, sorted by path; several formats together are refused.
fn data_files(folder: &Path, format: Option<Format>) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(folder, 0, &mut files)?;
    let known: Vec<PathBuf> = files.into_iter().filter(|path| Format::of(path).is_ok()).collect();
    let mut endings: Vec<&str> = known.iter().filter_map(|path| Some(Format::of(path).ok()?.ending())).collect();
    endings.sort_unstable();
    endings.dedup();
    match (format, endings.len()) {
        (Some(wanted), 1..) if !endings.contains(&wanted.ending()) => Err(Error::input(format!(
            "`{}` holds no {} files, but {}",
            folder.display(),
            wanted.ending(),
            endings.join(", ")
        ))
        .with_hint("name that format, or load the file itself: one file may be of any format that is named")),
        (_, 0) => Err(Error::new(Kind::File, format!("no data files in `{}`", folder.display()))
            .with_hint(format!("known endings: {}", FORMATS.map(|(ending, _)| ending).join(", ")))),
        (None, 2..) => {
            Err(Error::input(format!("`{}` holds several formats: {}", folder.display(), endings.join(", ")))
                .with_hint("name the format, or one file of it"))
        }
        (None, _) => Ok(known),
        (Some(wanted), _) => {
            Ok(known.into_iter().filter(|path| Format::of(path).is_ok_and(|found| found == wanted)).collect())
        }
    }
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |error| Error::file("read the folder", folder, &error);
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if name.starts_with('.') || DESCRIPTIONS.contains(&name) {
            continue;
        }
        // A link that leads back up would never end.
        if path.is_dir() && depth < 4 {
            collect(&path, depth + 1, files)?;
        } else if path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// Those that fit the pattern, where there is one; of one configuration.
fn fitting(folder: &Path, mut files: Vec<PathBuf>, pattern: Option<&str>) -> Result<Vec<PathBuf>> {
    let names = |files: &[PathBuf]| files.iter().map(|path| relative(folder, path)).collect::<Vec<String>>();
    if let Some(pattern) = pattern.map(Pattern::new).transpose()? {
        let all = names(&files);
        files.retain(|path| pattern.fits(&relative(folder, path)));
        if files.is_empty() {
            return Err(pattern.fits_none(&all));
        }
    }
    refuse_several_configurations(&names(&files))?;
    Ok(files)
}

fn choose_split(folder: &Path, files: Vec<PathBuf>, wanted: Option<&str>) -> Result<Vec<PathBuf>> {
    let of = |split: &str| -> Vec<PathBuf> {
        let is_in = |path: &&PathBuf| match split_named(split) {
            Some(split) => split_of(&relative(folder, path)) == Some(split),
            None => relative(folder, path).split(|c: char| !c.is_alphanumeric()).any(|word| word == split),
        };
        files.iter().filter(is_in).cloned().collect()
    };
    let Some(name) = wanted else {
        let train = of("train");
        return Ok(if train.is_empty() { files } else { train });
    };
    let found = of(name);
    if found.is_empty() {
        let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        return Err(Error::input(format!("no split `{name}` in `{}`", folder.display()))
            .with_hint(format!("files: {}", names.join(", "))));
    }
    Ok(found)
}

fn relative(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned()
}

/// Options that choose among files say nothing of a single one.
fn refuse_choice(path: &Path, options: &LoadOptions) -> Result<()> {
    let LoadOptions { split, files, .. } = options;
    let Some(name) = split.as_ref().map(|_| "split").or(files.as_ref().map(|_| "files")) else { return Ok(()) };
    let error = Error::input(format!(
        "option `{name}`: expected a folder or a name of the hub, found the file `{}`",
        path.display()
    ));
    Err(error.with_hint("leave it out, and load the file of each split; rows are held out by .split(#{ test: 0.1 })"))
}

/// Puts the file and the line (from 1) in front of a message.
fn at_line(path: &Path, line: usize, message: impl std::fmt::Display) -> Error {
    Error::new(Kind::File, format!("`{}` line {line}: {message}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_told_by_words_not_by_letters() {
        let folder = Path::new("/d");
        let files: Vec<PathBuf> =
            ["/d/data/train-00000-of-00001.parquet", "/d/data/test-0.parquet", "/d/contest.parquet"]
                .map(PathBuf::from)
                .into();
        let chosen = |split| choose_split(folder, files.clone(), split).unwrap();
        assert_eq!(chosen(None), files[..1]);
        assert_eq!(chosen(Some("test")), files[1..2]);
        assert!(choose_split(folder, files.clone(), Some("validation")).is_err());
        assert_eq!(choose_split(folder, files[2..].to_vec(), None).unwrap(), files[2..]);
    }

    #[test]
    fn an_unknown_ending_is_named() {
        let error = Format::of(Path::new("a.jsnol")).unwrap_err();
        assert!(error.message.contains("a.jsnol") && error.hint.unwrap().contains("did you mean"));
    }
}
