//! A data set by name: which files of a folder or hub repository hold its rows, by split.

use super::local;
use super::observe::FetchObserver;
use super::settings::Hub;
use super::snapshot::{snapshot, Wanted};
use crate::error::{Error, Kind, Result};
use hf_hub::RepoType;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The endings that `data/` reads, the first preferred where a data set comes in several.
pub const FORMATS: [&str; 8] = ["parquet", "arrow", "jsonl", "ndjson", "json", "csv", "tsv", "txt"];
/// Endings that compression adds to them.
const COMPRESSED: [&str; 5] = ["gz", "bz2", "xz", "zst", "zstd"];
/// Files that describe data, models or code, and hold no rows.
const DESCRIPTIONS: [&str; 16] = [
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "adapter_config.json",
    "package.json",
    "requirements.txt",
    "LICENSE.txt",
    "license.txt",
    "vocab.json",
    "merges.txt",
];
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
    observer: &mut dyn FetchObserver,
) -> Result<DatasetFiles> {
    let wanted = DataFiles { pattern: pattern.map(Pattern::new).transpose()? };
    let path = Path::new(name);
    let (folder, commit) = if path.is_dir() {
        (path.to_path_buf(), None)
    } else {
        let repo = local::repo_name(name, local::What::Dataset)?;
        let found = snapshot(hub, &repo, RepoType::Dataset, &wanted, observer)
            .map_err(|error| local::with_nearest(error, name))?;
        (found.folder, Some(found.commit))
    };
    let names = wanted.choose(&below(&folder)).map_err(|error| error.context(format!("the data set `{name}`")))?;
    let splits = splits_of(&names)
        .into_iter()
        .map(|(split, names)| (split, names.into_iter().map(|name| folder.join(name)).collect()))
        .collect();
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
        let shards = saved_shards(files);
        chosen.retain(|name| !is_cached_copy(name, &shards));
        chosen.sort();
        if chosen.is_empty() {
            return Err(match &self.pattern {
                Some(pattern) if !data.is_empty() => pattern.fits_none(&data),
                _ => nothing(),
            });
        }
        let unsaved = in_splits(&chosen).into_iter().filter(|name| !shards.contains(folder_of(name)));
        ensure_one_configuration(&unsaved.collect::<Vec<_>>())?;
        // They say which shards are the data set's.
        chosen.extend(files.iter().filter(|name| is_state_of(name, &chosen)).cloned().collect::<Vec<_>>());
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

/// A pattern of names as a regular expression.
fn expression(text: &str) -> String {
    let mut regex = String::from("^");
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let class =
            rest.strip_prefix('[').and_then(|inner| inner.split_once(']')).filter(|(class, _)| !class.is_empty());
        if let Some((class, after)) = class {
            let (negated, class) = class.strip_prefix('!').map_or(("", class), |class| ("^", class));
            regex.push_str(&format!("[{negated}{}]", class.replace('\\', "\\\\").replace('[', "\\[")));
            rest = after;
            continue;
        }
        let choice = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        if let Some((choice, after)) = choice {
            let parts: Vec<String> = choice.split(',').map(regex::escape).collect();
            regex.push_str(&format!("({})", parts.join("|")));
            rest = after;
            continue;
        }
        let (written, length) = match next {
            '*' if rest.starts_with("**/") => ("(.*/)?".to_owned(), 3),
            '*' if rest.starts_with("**") => (".*".to_owned(), 2),
            '*' => ("[^/]*".to_owned(), 1),
            '?' => ("[^/]".to_owned(), 1),
            other => (regex::escape(other.encode_utf8(&mut [0; 4])), other.len_utf8()),
        };
        regex.push_str(&written);
        rest = &rest[length..];
    }
    regex + "$"
}

/// Which files of a folder: `*` stands for any characters but `/`, `**` for any, `?` for one,
/// `[0-9]` for one of these, `{a,b}` for one of these texts.
#[derive(Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self> {
        let regex =
            Regex::new(&expression(text)).map_err(|error| Error::input(format!("pattern `{text}`: {error}")))?;
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
pub fn ensure_one_configuration(names: &[impl AsRef<str>]) -> Result<()> {
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

/// The ending of a data file's name, without that of its compression.
pub fn ending(name: &str) -> Option<&str> {
    let stem = match name.rsplit_once('.') {
        Some((stem, ending)) if COMPRESSED.contains(&ending.to_ascii_lowercase().as_str()) => stem,
        _ => name,
    };
    stem.rsplit_once('.').map(|(_, ending)| ending).filter(|ending| FORMATS.contains(ending))
}

/// Whether a file holds rows, as opposed to describing the repository.
pub fn is_data(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    ending(name).is_some() && !DESCRIPTIONS.contains(&file) && !name.split('/').any(|part| part.starts_with('.'))
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The folders that `save_to_disk` of the Python library wrote: each has a `state.json`.
pub fn saved_shards(names: &[String]) -> BTreeSet<&str> {
    names.iter().filter(|name| name.rsplit('/').next() == Some("state.json")).map(|name| folder_of(name)).collect()
}

/// Beside the shards lie results that the Python library keeps for itself.
pub fn is_cached_copy(name: &str, saved: &BTreeSet<&str>) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    saved.contains(folder_of(name)) && (!file.ends_with(".arrow") || file.starts_with("cache-"))
}

fn is_state_of(name: &str, chosen: &[String]) -> bool {
    name.rsplit('/').next() == Some("state.json") && chosen.iter().any(|file| folder_of(file) == folder_of(name))
}

/// The files that belong to a split, or all where no name tells one.
fn in_splits(names: &[String]) -> Vec<String> {
    splits_of(names).into_values().flatten().collect()
}

/// Data files by split, as the Python library finds them: shards under `data/` by their exact name,
/// folders that `save_to_disk` wrote, then names of folders, then names of files; `train` alone where
/// no name tells a split. Beside files that name their split, one that names none is not guessed at.
pub fn splits_of(names: &[String]) -> BTreeMap<String, Vec<String>> {
    let saved = saved_shards(names);
    let data = || names.iter().filter(|name| is_data(name));
    let by_folder = data().any(|name| split_of(folder_of(name)).is_some());
    let split = |name: &str| -> Option<String> {
        let folder = folder_of(name);
        let last = folder.rsplit('/').next().unwrap_or_default();
        match () {
            _ if saved.contains(folder) && !last.is_empty() => Some(last.to_owned()),
            _ if shard_split(name).is_some() => shard_split(name),
            _ if by_folder => split_of(folder).map(str::to_owned),
            _ => split_of(name).map(str::to_owned),
        }
    };
    let mut splits: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in data() {
        if let Some(split) = split(name) {
            splits.entry(split).or_default().push(name.clone());
        }
    }
    if splits.is_empty() && data().next().is_some() {
        splits.insert("train".to_owned(), data().cloned().collect());
    }
    splits
}

/// `train_sft` of `data/train_sft-00000-of-00003.parquet`; another word for a split is that split.
fn shard_split(name: &str) -> Option<String> {
    let (start, count) = name.strip_prefix("data/")?.split_once("-of-")?;
    let (split, number) = start.rsplit_once('-')?;
    let digits = |text: &str| text.len() >= 5 && text.bytes().take(5).all(|byte| byte.is_ascii_digit());
    (number.len() == 5 && digits(number) && digits(count)).then(|| split_named(split).unwrap_or(split).to_owned())
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
pub fn below(folder: &Path) -> Vec<String> {
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
    fn splits_are_found_as_the_python_library_finds_them() {
        let splits = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            splits_of(&names)
                .into_iter()
                .map(|(split, names)| format!("{split}: {}", names.join(" ")))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            splits(&["train.jsonl", "test.jsonl.gz", "meta.json"]),
            ["test: test.jsonl.gz", "train: train.jsonl"]
        );
        assert_eq!(
            splits(&["data/train_sft-00000-of-00001.parquet", "data/test_sft-00000-of-00001-1a2b.parquet"]),
            ["test_sft: data/test_sft-00000-of-00001-1a2b.parquet", "train_sft: data/train_sft-00000-of-00001.parquet"]
        );
        assert_eq!(
            splits(&["train/test-1.csv", "dev/a.csv", "test.csv"]),
            ["train: train/test-1.csv", "validation: dev/a.csv"]
        );
        assert_eq!(
            splits(&[
                "dataset_dict.json",
                "a/state.json",
                "a/data-00000-of-00001.arrow",
                "b/state.json",
                "b/data-0.arrow"
            ]),
            ["a: a/data-00000-of-00001.arrow", "b: b/data-0.arrow"]
        );
        assert_eq!(splits(&["rows.csv", "config.json"]), ["train: rows.csv"]);
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
        assert!(matches("d-[0-9].csv", "d-1.csv") && !matches("d-[!0-9].csv", "d-1.csv") && matches("**/a", "a"));
        assert!(matches("**.json{,.gz}", "b/a.json.gz") && !matches("**.json{,.gz}", "a.jsonl"));
        assert!(matches("tra?n/*", "train/x.csv") && !matches("train/*", "train/y/x.csv"));
    }
}
