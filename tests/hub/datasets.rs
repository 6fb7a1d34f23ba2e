//! Data sets by name.

use crate::fake::{FakeHub, COMMIT};
use lorhai::hub::{resolve_dataset, DatasetFiles, Hub};
use lorhai::Kind;
use std::fs;

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("README.md", b"about".to_vec()),
        ("data/train-00000-of-00002.parquet", vec![1; 5000]),
        ("data/train-00001-of-00002.parquet", vec![2; 5000]),
        ("data/test 1.parquet", vec![3; 50]),
    ]
}

fn shown(dataset: &DatasetFiles) -> Vec<String> {
    let mut lines = Vec::new();
    for (split, paths) in &dataset.splits {
        for path in paths {
            assert!(path.is_file(), "{}", path.display());
            lines.push(format!("{split}: {}", path.strip_prefix(&dataset.folder).unwrap().display()));
        }
    }
    lines
}

#[test]
fn a_data_set_is_fetched_by_split_and_then_used_from_the_cache() {
    let fake = FakeHub::start("datasets/owner/rows", &files());
    let cache = tempfile::tempdir().unwrap();
    let hub = fake.settings(cache.path());
    let dataset = resolve_dataset("owner/rows", None, &hub, &mut ()).unwrap();
    let all = [
        "test: data/test 1.parquet",
        "train: data/train-00000-of-00002.parquet",
        "train: data/train-00001-of-00002.parquet",
    ];
    assert_eq!(shown(&dataset), all);
    assert_eq!(dataset.commit.as_deref(), Some(COMMIT));
    assert!(dataset.folder.starts_with(cache.path().join("datasets--owner--rows")));
    assert!(!dataset.folder.join("README.md").exists());
    fake.requests();
    let offline = Hub { offline: true, ..hub.clone() };
    for hub in [&hub, &offline] {
        assert_eq!(shown(&resolve_dataset("owner/rows", None, hub, &mut ()).unwrap()), all);
    }
    assert_eq!(fake.requests(), 0);
}

#[test]
fn a_pattern_fetches_only_matching_files() {
    let fake = FakeHub::start("datasets/owner/rows", &files());
    let cache = tempfile::tempdir().unwrap();
    let hub = fake.settings(cache.path());
    let dataset = resolve_dataset("owner/rows", Some("data/test*"), &hub, &mut ()).unwrap();
    assert_eq!(shown(&dataset), ["test: data/test 1.parquet"]);
    let dataset = resolve_dataset("owner/rows", Some("**-00001-*"), &hub, &mut ()).unwrap();
    assert_eq!(shown(&dataset), ["train: data/train-00001-of-00002.parquet"]);
    // Only some files are cached: without a pattern, the rest is fetched.
    assert_eq!(shown(&resolve_dataset("owner/rows", None, &hub, &mut ()).unwrap()).len(), 3);
    let error = resolve_dataset("owner/rows", Some("*.csv"), &hub, &mut ()).unwrap_err();
    assert!(error.to_string().contains("it has data/test 1.parquet"), "{error}");
}

#[test]
fn a_local_folder_is_read_by_the_same_rules() {
    let fake = FakeHub::start("datasets/owner/rows", &files());
    let folder = tempfile::tempdir().unwrap();
    let hub = fake.settings(folder.path());
    for name in ["a_train.jsonl", "a_test.jsonl", "notes.txt"] {
        fs::write(folder.path().join(name), "{}").unwrap();
    }
    let name = folder.path().to_str().unwrap();
    let dataset = resolve_dataset(name, None, &hub, &mut ()).unwrap();
    assert_eq!(shown(&dataset), ["test: a_test.jsonl", "train: a_train.jsonl"]);
    fs::remove_file(folder.path().join("a_train.jsonl")).unwrap();
    fs::rename(folder.path().join("a_test.jsonl"), folder.path().join("rows.jsonl")).unwrap();
    assert_eq!(shown(&resolve_dataset(name, None, &hub, &mut ()).unwrap()), ["train: rows.jsonl"]);
    assert_eq!(fake.requests(), 0);
}

#[test]
fn wrong_names_and_unreadable_repositories_are_refused() {
    let cache = tempfile::tempdir().unwrap();
    let fake = FakeHub::start("datasets/owner/rows", &[("script.py", vec![]), ("a.png", vec![])]);
    let hub = fake.settings(cache.path());
    let refused = |name: &str| resolve_dataset(name, None, &hub, &mut ()).unwrap_err();
    assert_eq!(refused("squad").kind, Kind::Input);
    assert!(refused("owner/rows").to_string().contains("built by a script"));
    let error = refused("owner/other");
    assert_eq!(error.kind, Kind::Hub);
    assert!(error.to_string().contains("the data set `owner/other` does not exist"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(refused(empty.path().to_str().unwrap()).kind, Kind::Data);
}
