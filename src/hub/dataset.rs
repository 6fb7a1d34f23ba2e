//! A data set by name: which files of a folder or hub repository hold its rows, by split.

use super::local;
use super::observe::Observer;
use super::settings::Hub;
use super::snapshot::{snapshot, Wanted};
use crate::error::{Error, Kind, Result};
use hf_hub::RepoType;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The endings that `data/` reads, the first preferred where a data set comes in several.
pub const FORMATS: [&str; 6] = ["parquet", "jsonl", "json", "csv", "tsv", "txt"];
/// Words in a path that name a split, as the Python library knows them.
const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "val", "dev"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];
/// How deep a folder is searched.
const DEEPEST: usize = 6;

/// The files of a data set.
#[derive(Debug, Clone)]
pub struct DatasetFiles {
    pub folder: PathBuf,
    /// The commit, if it came from the hub.
    pub commit: Option<String>,
    /// Files by split, sorted; `train` alone where the names tell no split.
    pub splits: BTreeMap<String, Vec<PathBuf>>,
}

/// Finds the files of a data set: of an existing folder, or of `owner/name[@revision]` on the
/// hub, fetched into the hub cache. `pattern` narrows them down: `*` stands for any characters
/// but `/`, `**` for any, `?` for one.
///
/// The hub is asked for the list of files unless an earlier call fetched the same files or the
/// hub is switched off.
///
/// # Errors
/// `Kind::Input` for a name that is neither or a pattern without files, `Kind::Data` if the
/// files belong to several configurations, `Kind::Hub` and `Kind::File` as for a model.
pub fn resolve_dataset(
    name: &str,
    pattern: Option<&str>,
    hub: &Hub,
    observer: &mut dyn Observer,
) -> Result<DatasetFiles> {
    let wanted = DataFiles { pattern: pattern.map(Pattern::new).transpose()? };
    let path = Path::new(name);
    let (folder, commit) = match path.is_dir() {
        true => (path.to_path_buf(), None),
        false => {
            let repo = local::repo_name(name, local::What::Dataset)?;
            let found = snapshot(hub, &repo, RepoType::Dataset, &wanted, observer)
                .map_err(|error| local::with_nearest(error, name))?;
            (found.folder, Some(found.commit))
        }
    };
    let names = wanted.choose(&below(&folder)).map_err(|error| error.context(format!("the data set `{name}`")))?;
    let mut splits: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let known = names.iter().any(|name| split_of(name).is_some());
    for name in names {
        let split = if known { split_of(&name) } else { Some("train") };
        // Beside files that name their split, one that names none is not guessed at.
        if let Some(split) = split {
            splits.entry(split.into()).or_default().push(folder.join(name));
        }
    }
    Ok(DatasetFiles { folder, commit, splits })
}

struct DataFiles {
    pattern: Option<Pattern>,
}

impl Wanted for DataFiles {
    fn choose(&self, files: &[String]) -> Result<Vec<String>> {
        let data: Vec<&String> = files.iter().filter(|name| is_data(name)).collect();
        let mut chosen: Vec<String> = match &self.pattern {
            Some(pattern) => data.iter().filter(|name| pattern.fits(name)).map(|name| name.to_string()).collect(),
            None => one_format(&data),
        };
        chosen.sort();
        if chosen.is_empty() {
            return Err(match &self.pattern {
                Some(pattern) if !data.is_empty() => pattern.fits_none(&data),
                _ => nothing(),
            });
        }
        refuse_several_configurations(&chosen)?;
        Ok(chosen)
    }

    fn further(&self, _snapshot: &Path) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Without the list of files nobody knows whether all are there: good enough offline only.
    fn suffices(&self, snapshot: &Path, offline: bool) -> bool {
        offline && self.choose(&below(snapshot)).is_ok()
    }
}

fn nothing() -> Error {
    Error::new(Kind::Data, format!("expected files ending in {}, found none", FORMATS.join(", ")))
        .with_hint("data sets made by a script or of images and sound are not read")
}

/// Which files of a folder: `*` stands for any characters but `/`, `**` for any, `?` for one.
#[derive(Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self> {
        let escaped = regex::escape(text).replace(r"\*\*", ".*").replace(r"\*", "[^/]*").replace(r"\?", "[^/]");
        let regex =
            Regex::new(&format!("^{escaped}$")).map_err(|error| Error::input(format!("pattern `{text}`: {error}")))?;
        Ok(Pattern { text: text.to_owned(), regex })
    }

    /// Of a path relative to the folder.
    pub fn fits(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }

    /// What is wrong where it fits none of `names`.
    pub fn fits_none(&self, names: &[impl AsRef<str>]) -> Error {
        let some: Vec<&str> = names.iter().take(5).map(AsRef::as_ref).collect();
        Error::input(format!("expected files that match `{}`, found none", self.text))
            .with_hint(format!("it has {}", some.join(", ")))
    }
}

/// Rows of several configurations are not one data set: `names` are relative to its folder.
pub fn refuse_several_configurations(names: &[impl AsRef<str>]) -> Result<()> {
    match configurations(names) {
        several if several.len() > 1 => Err(Error::data(format!(
            "its files belong to several configurations: {}",
            several.iter().copied().collect::<Vec<_>>().join(", ")
        ))
        .with_hint(format!(
            "choose one by a pattern of its files: #{{ files: \"{}/*\" }}",
            several.first().copied().unwrap_or("name")
        ))),
        _ => Ok(()),
    }
}

fn ending(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, ending)| ending).filter(|ending| FORMATS.contains(ending))
}

/// Whether a file holds rows, as opposed to describing the repository.
fn is_data(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let about =
        ["dataset_info.json", "dataset_infos.json", "state.json", "requirements.txt", "LICENSE.txt", "license.txt"];
    ending(name).is_some() && !about.contains(&file) && !name.split('/').any(|part| part.starts_with('.'))
}

/// The files of the format that most have; a copy in a second format would double the rows.
fn one_format(data: &[&String]) -> Vec<String> {
    let count = |format: &str| data.iter().filter(|name| ending(name) == Some(format)).count();
    // The first of the largest: `max_by_key` takes the last, hence the reversal.
    let Some(format) = FORMATS.iter().rev().max_by_key(|format| (**format != "txt", count(format))) else {
        return Vec::new();
    };
    let format = if count(format) == 0 { "txt" } else { format };
    data.iter().filter(|name| ending(name) == Some(format)).map(|name| name.to_string()).collect()
}

/// The folders at the top that stand for configurations rather than for splits.
fn configurations(files: &[impl AsRef<str>]) -> BTreeSet<&str> {
    let tops = files.iter().filter_map(|name| name.as_ref().split_once('/').map(|(top, _)| top));
    tops.filter(|top| *top != "data" && split_of(top).is_none()).collect()
}

/// The split that is called `name`: "dev" is another word for "validation".
pub fn split_named(name: &str) -> Option<&'static str> {
    SPLITS.iter().find(|(split, words)| *split == name || words.contains(&name)).map(|(split, _)| *split)
}

/// The split that a path names: in the file name, else in a folder.
pub fn split_of(name: &str) -> Option<&'static str> {
    name.rsplit('/').find_map(|part| {
        let words: Vec<String> = part.split(|c: char| !c.is_ascii_alphabetic()).map(str::to_ascii_lowercase).collect();
        let names = |known: &[&str]| words.iter().any(|word| known.contains(&word.as_str()));
        SPLITS.iter().find(|(_, known)| names(known)).map(|(split, _)| *split)
    })
}

/// The files below `folder`, relative to it, sorted.
fn below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![(folder.to_path_buf(), 0)];
    while let Some((place, depth)) = left.pop() {
        for entry in std::fs::read_dir(&place).into_iter().flatten().flatten() {
            let path = entry.path();
            // A link to a folder could lead around in a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth < DEEPEST {
                left.push((path, depth + 1));
            } else if path.is_file() {
                found.extend(path.strip_prefix(folder).ok().and_then(Path::to_str).map(String::from));
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(files: &[&str], pattern: Option<&str>) -> Result<Vec<String>> {
        let pattern = pattern.map(|text| Pattern::new(text).unwrap());
        DataFiles { pattern }.choose(&files.iter().map(|name| name.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn splits_are_read_off_plain_names() {
        for (name, split) in [
            ("train.jsonl", Some("train")),
            ("data/train-00000-of-00002.parquet", Some("train")),
            ("test/0000.parquet", Some("test")),
            ("my_dev.csv", Some("validation")),
            ("Validation-1.json", Some("validation")),
            ("contest.jsonl", None),
            ("latest.jsonl", None),
            ("rows.jsonl", None),
        ] {
            assert_eq!(split_of(name), split, "{name}");
        }
    }

    #[test]
    fn one_format_is_chosen_and_descriptions_are_left_out() {
        let files =
            ["README.md", "dataset_infos.json", "data/train.parquet", "train.jsonl", "LICENSE.txt", "notes.txt"];
        assert_eq!(choose(&files, None).unwrap(), ["data/train.parquet"]);
        assert_eq!(choose(&files, Some("*.jsonl")).unwrap(), ["train.jsonl"]);
        assert_eq!(choose(&["a.txt", "b.txt", "c.csv"], None).unwrap(), ["c.csv"]);
        assert_eq!(choose(&["a.txt"], None).unwrap(), ["a.txt"]);
        assert!(choose(&["README.md", ".hidden/a.jsonl"], None).is_err());
    }

    #[test]
    fn configurations_are_not_mixed() {
        let files = ["en/train.parquet", "ko/train.parquet"];
        let error = choose(&files, None).unwrap_err().to_string();
        assert!(error.contains("en, ko") && error.contains("\"en/*\""), "{error}");
        assert_eq!(choose(&files, Some("ko/*")).unwrap(), ["ko/train.parquet"]);
        assert_eq!(choose(&["train/a.csv", "test/b.csv"], None).unwrap().len(), 2);
    }

    #[test]
    fn patterns_stop_at_folders() {
        let matches = |pattern: &str, name: &str| Pattern::new(pattern).unwrap().fits(name);
        assert!(matches("*.csv", "a.csv") && !matches("*.csv", "b/a.csv") && matches("**.csv", "b/a.csv"));
        assert!(matches("tra?n/*", "train/x.csv") && !matches("train/*", "train/y/x.csv"));
    }
}
