//! What an earlier run left in the folder of a new one: its adapter or model gets the name `adapter.previous` or
//! `model.previous` before the new run writes anything, so that neither ever lies beside the record of another run.

use super::recorded::ADAPTER;
use super::run::MODEL;
use crate::error::{Error, Result};
use crate::files::{self, FolderKind, TemporaryFolder};
use crate::lora::{model, peft};
use std::path::{Path, PathBuf};

/// What a run saves in its folder.
const SAVED: [(&str, &FolderKind); 2] = [(ADAPTER, &peft::FOLDER), (MODEL, &model::FOLDER)];

/// The folder that [`set_aside`] moves `name` to, in the folder of a run.
pub fn previous(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.previous"))
}

/// Moves the adapter and the model in `folder` aside. One of each is kept: that of the last run which saved one.
///
/// # Errors
/// Those of [`ensure_movable`], and folders that cannot be moved.
pub fn set_aside(folder: &Path) -> Result<()> {
    ensure_movable(folder)?;
    for (name, _) in SAVED {
        let (path, previous) = (folder.join(name), previous(folder, name));
        if path.symlink_metadata().is_err() {
            continue;
        }
        if previous.symlink_metadata().is_ok() {
            TemporaryFolder::beside(&previous)?.swallow(&previous)?;
        }
        std::fs::rename(&path, &previous).map_err(|error| Error::file("move aside", &path, &error))?;
        files::sync_folder(folder)?;
    }
    Ok(())
}

/// Fails where [`set_aside`] would delete files that lorhai did not save. Changes nothing.
pub fn ensure_movable(folder: &Path) -> Result<()> {
    for (name, kind) in SAVED {
        let previous = previous(folder, name);
        if folder.join(name).symlink_metadata().is_ok() && previous.symlink_metadata().is_ok() {
            files::ensure_replaceable(kind, &previous, false).map_err(|error| {
                error.context("out").with_hint(format!("move `{}` away, or choose another out", previous.display()))
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn save(folder: &Path, text: &str) {
        let fill = |folder: &Path| files::write_atomic(&folder.join("adapter_config.json"), text.as_bytes());
        files::publish_folder(&peft::FOLDER, &folder.join(ADAPTER), false, fill).unwrap();
    }

    fn content(folder: &Path) -> Option<String> {
        fs::read_to_string(folder.join("adapter_config.json")).ok()
    }

    #[test]
    fn the_last_adapter_is_kept_under_another_name() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path();
        set_aside(&folder.join("new")).unwrap();
        for run in ["1", "2", "3"] {
            save(folder, run);
            set_aside(folder).unwrap();
            assert_eq!(content(&folder.join(ADAPTER)), None);
            assert_eq!(content(&previous(folder, ADAPTER)).as_deref(), Some(run));
            // A run that saved nothing leaves it.
            set_aside(folder).unwrap();
            assert_eq!(content(&previous(folder, ADAPTER)).as_deref(), Some(run));
            assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
        }
    }

    #[test]
    fn files_of_others_are_moved_but_never_deleted() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path();
        save(folder, "1");
        fs::write(folder.join("adapter/README.md"), "mine").unwrap();
        set_aside(folder).unwrap();
        assert!(folder.join("adapter.previous/README.md").is_file());
        save(folder, "2");
        let error = set_aside(folder).unwrap_err();
        assert!(
            error.message.contains("README.md") && error.hint.as_ref().unwrap().contains("adapter.previous"),
            "{error}"
        );
        assert_eq!(content(&folder.join(ADAPTER)).as_deref(), Some("2"));
        assert!(folder.join("adapter.previous/README.md").is_file());
    }
}
