//! A data set by name: which files of a folder or hub repository hold its rows.
//!
//! [`splits`] says which split a file belongs to, [`pattern`] which names a pattern matches.

mod pattern;
mod splits;

pub use pattern::Pattern;
pub use splits::{
    ending, ensure_one_configuration, is_cached_copy, is_data, saved_shards, split_named, splits_of, FORMATS,
};
use splits::{folder_of, in_splits, is_state_of};

use super::local;
use super::observe::FetchObserver;
use super::settings::Hub;
use super::snapshot::{snapshot, FileSelection};
use crate::error::{Error, Kind, Result};
use hf_hub::RepoType;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How many levels of folders are searched.
const MAX_DEPTH: usize = 6;

/// The files of a data set.
#[derive(Debug, Clone)]
pub struct DatasetFiles {
    pub folder: PathBuf,
    /// The commit, if it came from the hub.
    pub commit: Option<String>,
    /// Files by split, sorted; all in `train` if their names name no split.
    pub splits: BTreeMap<String, Vec<PathBuf>>,
}

/// Finds the files of a data set: of an existing folder, or of `owner/name[@revision]` on the
/// hub, fetched into the hub cache. `pattern` selects some of them: `*` stands for any characters
/// but `/`, `**` for any characters, `?` for one.
///
/// Asks the hub for the list of files unless an earlier call fetched the same files or offline mode is on.
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
    let selection = DataFiles { pattern: pattern.map(Pattern::new).transpose()? };
    local::ensure_may_load(name)?;
    let path = Path::new(name);
    let (folder, commit) = if path.is_dir() {
        (path.to_path_buf(), None)
    } else {
        let repo = local::repo_name(name, local::Resource::Dataset)?;
        let snapshot = snapshot(hub, &repo, RepoType::Dataset, &selection, observer)
            .map_err(|error| local::with_nearest(error, name))?;
        (snapshot.folder, Some(snapshot.commit))
    };
    let names = selection.select(&below(&folder)).map_err(|error| error.context(format!("the data set `{name}`")))?;
    let splits = splits_of(&names)
        .into_iter()
        .map(|(split, names)| (split, names.into_iter().map(|name| folder.join(name)).collect()))
        .collect();
    Ok(DatasetFiles { folder, commit, splits })
}

struct DataFiles {
    pattern: Option<Pattern>,
}

impl FileSelection for DataFiles {
    fn select(&self, files: &[String]) -> Result<Vec<String>> {
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
                _ => no_data_files(),
            });
        }
        let unsaved = in_splits(&chosen).into_iter().filter(|name| !shards.contains(folder_of(name)));
        ensure_one_configuration(&unsaved.collect::<Vec<_>>())?;
        // state.json lists the shards of a saved data set.
        chosen.extend(files.iter().filter(|name| is_state_of(name, &chosen)).cloned().collect::<Vec<_>>());
        Ok(chosen)
    }

    fn select_more(&self, _snapshot: &Path) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Without the list of files, whether any is missing is unknown: acceptable offline only.
    fn is_complete_without_listing(&self, snapshot: &Path, offline: bool) -> bool {
        offline && self.select(&below(snapshot)).is_ok()
    }
}

fn no_data_files() -> Error {
    Error::new(Kind::Data, format!("expected files ending in {}, found none", FORMATS.join(", ")))
        .with_hint("data sets that are built by a script, and those of images or audio, are not supported")
}

/// The files of the most frequent format: a copy in a second format would double the rows.
fn one_format(data: &[&String]) -> Vec<String> {
    let count = |format: &str| data.iter().filter(|name| ending(name) == Some(format)).count();
    // Reversed, because `max_by_key` returns the last of several maxima and the first is wanted.
    let Some(format) = FORMATS.iter().rev().max_by_key(|format| (**format != "txt", count(format))) else {
        return Vec::new();
    };
    let format = if count(format) == 0 { "txt" } else { format };
    data.iter().filter(|name| ending(name) == Some(format)).map(|name| name.to_string()).collect()
}

/// The files below `folder`, relative to it, sorted.
pub fn below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut pending = vec![(folder.to_path_buf(), 0)];
    while let Some((parent, depth)) = pending.pop() {
        for entry in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
            let path = entry.path();
            // Links to folders are not followed: they could form a cycle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth < MAX_DEPTH {
                pending.push((path, depth + 1));
            } else if path.is_file() {
                files.extend(path.strip_prefix(folder).ok().and_then(Path::to_str).map(String::from));
            }
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(files: &[&str], pattern: Option<&str>) -> Result<Vec<String>> {
        let pattern = pattern.map(|text| Pattern::new(text).unwrap());
        DataFiles { pattern }.select(&files.iter().map(|name| name.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn one_format_is_chosen_and_descriptions_are_left_out() {
        let files =
            ["README.md", "dataset_infos.json", "data/train.parquet", "train.jsonl", "LICENSE.txt", "notes.txt"];
        assert_eq!(select(&files, None).unwrap(), ["data/train.parquet"]);
        assert_eq!(select(&files, Some("*.jsonl")).unwrap(), ["train.jsonl"]);
        assert_eq!(select(&["a.txt", "b.txt", "c.csv"], None).unwrap(), ["c.csv"]);
        assert_eq!(select(&["a.txt"], None).unwrap(), ["a.txt"]);
        assert!(select(&["README.md", ".hidden/a.jsonl"], None).is_err());
    }

    #[test]
    fn configurations_are_not_mixed() {
        let files = ["en/train.parquet", "ko/train.parquet"];
        let error = select(&files, None).unwrap_err().to_string();
        assert!(error.contains("en, ko") && error.contains("\"en/*\""), "{error}");
        assert_eq!(select(&files, Some("ko/*")).unwrap(), ["ko/train.parquet"]);
        assert_eq!(select(&["train/a.csv", "test/b.csv"], None).unwrap().len(), 2);
    }
}
