//! What the path of a file says of it: whether it holds rows, and of which split, as `datasets` infers it.

use crate::bail;
use crate::error::{Kind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// The extensions that `data/` reads. If a data set comes in several, the first is preferred.
pub const FORMATS: [&str; 8] = ["parquet", "arrow", "jsonl", "ndjson", "json", "csv", "tsv", "txt"];
/// Extensions that compression appends.
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
/// Words in a path that name a split, as in `datasets`.
const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "val", "dev"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// Fails if the files `names`, relative to the folder, belong to several configurations: their rows are
/// not one data set.
pub fn ensure_one_configuration(names: &[impl AsRef<str>]) -> Result<()> {
    let configurations: Vec<&str> = configurations(names).into_iter().collect();
    if let [first, _, ..] = configurations.as_slice() {
        bail!(Kind::Data, "its files belong to several configurations: {}", configurations.join(", "); hint: "choose one by a pattern of its files: #{{ files: \"{first}/*\" }}");
    }
    Ok(())
}

/// The extension of a data file, without that of its compression.
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

pub(super) fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The folders that `save_to_disk` of `datasets` wrote: each has a `state.json`.
pub fn saved_shards(names: &[String]) -> BTreeSet<&str> {
    names.iter().filter(|name| name.rsplit('/').next() == Some("state.json")).map(|name| folder_of(name)).collect()
}

/// Whether a file in a folder of `saved` shards is not a shard, but a result that `datasets` cached there.
pub fn is_cached_copy(name: &str, saved: &BTreeSet<&str>) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    saved.contains(folder_of(name)) && (!file.ends_with(".arrow") || file.starts_with("cache-"))
}

pub(super) fn is_state_of(name: &str, chosen: &[String]) -> bool {
    name.rsplit('/').next() == Some("state.json") && chosen.iter().any(|file| folder_of(file) == folder_of(name))
}

/// The files that belong to a split, or all of them if no path names a split.
pub(super) fn in_splits(names: &[String]) -> Vec<String> {
    splits_of(names).into_values().flatten().collect()
}

/// Data files by split, as `datasets` finds them: folders that `save_to_disk` wrote, then shards under
/// `data/` by their exact name, then names of folders, then names of files. If no path names a split, all
/// files are `train`; if some do, the others are left out.
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

/// `train_sft` for `data/train_sft-00000-of-00003.parquet`. A synonym becomes the split that it means.
fn shard_split(name: &str) -> Option<String> {
    let (start, count) = name.strip_prefix("data/")?.split_once("-of-")?;
    let (split, number) = start.rsplit_once('-')?;
    let digits = |text: &str| text.len() >= 5 && text.bytes().take(5).all(|byte| byte.is_ascii_digit());
    (number.len() == 5 && digits(number) && digits(count)).then(|| split_named(split).unwrap_or(split).to_owned())
}

/// The top folders that are configurations rather than splits.
fn configurations(files: &[impl AsRef<str>]) -> BTreeSet<&str> {
    let tops = files.iter().filter_map(|name| name.as_ref().split_once('/').map(|(top, _)| top));
    tops.filter(|top| *top != "data" && split_of(top).is_none()).collect()
}

/// The split that `name` means: "validation" for "dev".
pub fn split_named(name: &str) -> Option<&'static str> {
    SPLITS.iter().find(|(split, words)| *split == name || words.contains(&name)).map(|(split, _)| *split)
}

/// The split that a path names: in the file name, else in a folder.
fn split_of(name: &str) -> Option<&'static str> {
    name.rsplit('/').find_map(|part| {
        let words: Vec<String> = part.split(|c: char| !c.is_ascii_alphabetic()).map(str::to_ascii_lowercase).collect();
        let names = |known: &[&str]| words.iter().any(|word| known.contains(&word.as_str()));
        SPLITS.iter().find(|(_, known)| names(known)).map(|(split, _)| *split)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_read_from_file_names() {
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
    fn splits_are_found_as_datasets_finds_them() {
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
}
