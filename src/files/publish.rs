//! [`publish_folder`], by which every function saves a folder: filled beside its target, described by a manifest, synced,
//! and exchanged whole. A reader finds the old folder or the new one, never files of both.
//!
//! A folder that lorhai did not save, or that holds files of others, is replaced only if the caller says so.

use super::manifest::{self, Manifest, MANIFEST};
use super::temporary::{is_temporary, TemporaryFolder};
use super::{could_fill, parent, sync_folder};
use crate::bail;
use crate::error::{Error, Kind, Result};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a saving function puts into a folder.
#[derive(Debug)]
pub struct FolderKind {
    /// In manifests and messages, such as "adapter".
    pub name: &'static str,
    /// The file that says what a folder without a manifest is: versions of lorhai that wrote none saved it. Without a
    /// mark, such a folder is taken for someone else's.
    pub mark: Option<&'static str>,
    /// Whether this kind of folder may hold such a file, by its path in the folder. Asked only without a manifest.
    pub has_file: fn(&str) -> bool,
}

/// Writes the folder `target`: `fill` writes the files into the folder that it is called with, which then replaces
/// `target` as a whole. Where `fill` fails, `target` stays as it was.
///
/// # Errors
/// Those of [`ensure_replaceable`] and of `fill`, and files that cannot be written.
pub fn publish_folder<T>(
    kind: &FolderKind,
    target: &Path,
    overwrite: bool,
    fill: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    ensure_replaceable(kind, target, overwrite)?;
    let path = real_path(target)?;
    let staged = TemporaryFolder::beside(&path)?;
    let result = fill_and_sync(kind, staged.path(), fill).map_err(|error| named(error, staged.path(), target))?;
    if let Ok(metadata) = fs::metadata(&path) {
        // A group that shares the old folder shares the new one.
        let _ = fs::set_permissions(staged.path(), metadata.permissions());
    }
    // Filling may have taken long.
    ensure_replaceable(kind, target, overwrite)?;
    staged.replace(&path).map_err(|error| named(error, &path, target))?;
    Ok(result)
}

fn fill_and_sync<T>(kind: &FolderKind, folder: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let result = fill(folder)?;
    manifest::write(folder, kind.name)?;
    sync_files(folder)?;
    Ok(result)
}

/// The error with the path that the caller knows in place of that of the temporary folder.
fn named(mut error: Error, path: &Path, target: &Path) -> Error {
    let (path, target) = (path.display().to_string(), target.display().to_string());
    error.message = error.message.replace(&path, &target);
    error
}

/// The folder that a link leads to is replaced, not the link.
fn real_path(target: &Path) -> Result<PathBuf> {
    let is_link = fs::symlink_metadata(target).is_ok_and(|metadata| metadata.is_symlink());
    // The name is missing in `a/..`.
    if is_link || target.file_name().is_none() {
        return target.canonicalize().map_err(|error| Error::file("find", target, &error));
    }
    Ok(target.to_owned())
}

fn sync_files(folder: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::file("list the folder", folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            sync_files(&path)?;
        } else {
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|error| Error::file("write", &path, &error))?;
        }
    }
    sync_folder(folder)
}

/// Fails if [`publish_folder`] would not replace `target`. Changes nothing.
///
/// It replaces an empty folder and one of the same kind that lorhai saved and nobody added files to; with
/// `overwrite` any other.
///
/// # Errors
/// Another folder; a file; the folder that the program runs in.
pub fn ensure_replaceable(kind: &FolderKind, target: &Path, overwrite: bool) -> Result<()> {
    let (shown, kind_name) = (target.display(), kind.name);
    if !target.is_dir() {
        return could_fill(target);
    }
    let real = target.canonicalize().map_err(|error| Error::file("find", target, &error))?;
    let current = std::env::current_dir().and_then(|current| current.canonicalize());
    let reason = if current.is_ok_and(|current| current.starts_with(&real)) {
        Some("the folder that lorhai was started in, or one above it")
    } else if is_mount_point(&real) {
        Some("a mount point, which cannot be replaced as a whole")
    } else {
        None
    };
    let inner = target.join(kind_name.replace(' ', "_"));
    if let Some(reason) = reason {
        bail!(Kind::Input, "`{shown}` is {reason}"; hint: "name a folder in it, such as `{}`", inner.display());
    }
    could_fill(parent(&real)).map_err(|error| {
        error.with_hint(format!(
            "`{shown}` is replaced as a whole, for which files are written beside it: check the permissions, or name a folder in it, such as `{}`",
            inner.display()
        ))
    })?;
    if overwrite {
        return Ok(());
    }
    let refused = |message: String| {
        let hint = "give a new or empty folder; with overwrite: true the whole folder is deleted and replaced";
        Err(Error::input(message).with_hint(hint))
    };
    let others = match manifest::read(target) {
        Ok(Some(Manifest { kind, .. })) if kind != kind_name => {
            let (kind, expected) = (with_article(&kind.escape_debug().to_string()), with_article(kind_name));
            return refused(format!(
                "`{shown}` holds {kind} that lorhai saved: expected {expected} or an empty folder"
            ));
        }
        Ok(Some(manifest)) => names_of_others(target, &|name| !manifest.files.contains_key(name))?,
        _ => {
            let is_marked = kind.mark.is_some_and(|mark| target.join(mark).is_file());
            names_of_others(target, &|name| !is_marked || !(kind.has_file)(name))?
        }
    };
    if others.is_empty() {
        return Ok(());
    }
    let more = if others.len() > SHOWN { format!(" and {} more", others.len() - SHOWN) } else { String::new() };
    let (list, kind) = (others[..others.len().min(SHOWN)].join(", "), with_article(kind_name));
    refused(format!("`{shown}` holds files that lorhai did not save as {kind}: {list}{more}"))
}

fn is_mount_point(real: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    match (device(real), real.parent().map(device)) {
        (Ok(own), Some(Ok(above))) => own != above,
        _ => false,
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// How many names a message lists.
const SHOWN: usize = 3;

/// The entries of `folder` that are someone else's. `is_other` judges files by their paths in the folder; a subfolder
/// counts as one entry, and is read only if some of its files may belong to the folder.
fn names_of_others(folder: &Path, is_other: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
    let failed = |error: std::io::Error| Error::file("list the folder", folder, &error);
    let mut others = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name == MANIFEST || is_temporary(&name) {
            continue;
        }
        let name = name.to_string_lossy().into_owned();
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let is_others = if is_folder { is_others_folder(&entry.path(), &name, is_other)? } else { is_other(&name) };
        if is_others {
            others.push(name.escape_debug().to_string());
        }
    }
    others.sort();
    Ok(others)
}

/// A subfolder with a file that is another's. Subfolders of ours hold a few files, all at one level.
fn is_others_folder(folder: &Path, name: &str, is_other: &dyn Fn(&str) -> bool) -> Result<bool> {
    let failed = |error: std::io::Error| Error::file("list the folder", folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let file = format!("{name}/{}", entry.map_err(failed)?.file_name().to_string_lossy());
        if is_other(&file) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::manifest::files_in;
    use crate::files::write_atomic;

    const PAIR: FolderKind =
        FolderKind { name: "pair", mark: Some("one"), has_file: |name| ["one", "two"].contains(&name) };
    const OTHER: FolderKind = FolderKind { name: "other pair", mark: None, has_file: |_| false };

    fn save(kind: &FolderKind, target: &Path, text: &str, overwrite: bool) -> Result<()> {
        publish_folder(kind, target, overwrite, |folder| {
            write_atomic(&folder.join("one"), text.as_bytes())?;
            write_atomic(&folder.join("in/two"), text.as_bytes())
        })
    }

    fn content(target: &Path) -> Vec<(String, String)> {
        let names = files_in(target).unwrap().into_iter();
        names.map(|name| (name.clone(), fs::read_to_string(target.join(name)).unwrap())).collect()
    }

    fn pair(text: &str) -> Vec<(String, String)> {
        ["in/two", "one"].map(|name| (name.to_owned(), text.to_owned())).to_vec()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.collect()
    }

    #[test]
    fn a_folder_of_the_same_kind_is_replaced_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("a/b");
        save(&PAIR, &target, "old", false).unwrap();
        assert_eq!(content(&target), pair("old"));
        manifest::verify(&target, u64::MAX).unwrap();
        // A file that only the old folder has does not stay.
        publish_folder(&PAIR, &target, false, |folder| write_atomic(&folder.join("one"), b"new")).unwrap();
        assert_eq!(content(&target), [("one".to_owned(), "new".to_owned())]);
        manifest::verify(&target, u64::MAX).unwrap();
        assert_eq!(names(target.parent().unwrap()), ["b"]);
    }

    #[test]
    fn a_failure_leaves_the_old_folder_and_names_the_target() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("x");
        save(&PAIR, &target, "old", false).unwrap();
        let error = publish_folder(&PAIR, &target, false, |folder| {
            write_atomic(&folder.join("one"), b"new")?;
            write_atomic(&folder.join("one/two"), b"new")
        });
        let error = error.unwrap_err();
        assert!(error.message.contains(&format!("`{}`", target.join("one").display())), "{error}");
        assert_eq!(content(&target), pair("old"));
        assert_eq!(names(scratch.path()), ["x"]);
    }

    #[test]
    fn what_lorhai_did_not_save_stays_unless_the_caller_overwrites_it() {
        type Change = fn(&Path);
        let cases: [(Change, &str); 6] = [
            (|x| fs::write(x.join("README.md"), "mine").unwrap(), "did not save as a pair: README.md"),
            (|x| fs::write(x.join("in/notes"), "mine").unwrap(), "did not save as a pair: in"),
            (|x| fs::create_dir_all(x.join("in/deeper/one")).unwrap(), "did not save as a pair: in"),
            (|x| fs::remove_file(x.join(MANIFEST)).unwrap(), "did not save as a pair: in"),
            (|x| fs::write(x.join(MANIFEST), "{}").unwrap(), "did not save as a pair: in"),
            (
                |x| {
                    fs::remove_dir_all(x).unwrap();
                    save(&OTHER, x, "other", false).unwrap();
                },
                "holds an other pair that lorhai saved: expected a pair or an empty folder",
            ),
        ];
        for (change, expected) in cases {
            let scratch = tempfile::tempdir().unwrap();
            let target = scratch.path().join("x");
            save(&PAIR, &target, "old", false).unwrap();
            change(&target);
            let before = content(&target);
            let error = save(&PAIR, &target, "new", false).unwrap_err();
            assert!(error.message.contains(expected), "{error}");
            assert!(error.hint.unwrap().contains("overwrite: true"));
            assert_eq!(content(&target), before, "{expected}");
            save(&PAIR, &target, "new", true).unwrap();
            assert_eq!(content(&target), pair("new"), "{expected}");
            assert_eq!(names(scratch.path()), ["x"]);
        }
    }

    #[test]
    fn folders_of_versions_without_a_manifest_are_known_by_their_mark() {
        for (files, is_replaced) in
            [(&["one"][..], true), (&["one", "two"], true), (&["two"], false), (&["one", "x"], false)]
        {
            let scratch = tempfile::tempdir().unwrap();
            let target = scratch.path().join("x");
            fs::create_dir(&target).unwrap();
            files.iter().for_each(|name| fs::write(target.join(name), "old").unwrap());
            assert_eq!(save(&PAIR, &target, "new", false).is_ok(), is_replaced, "{files:?}");
            assert!(save(&OTHER, &scratch.path().join("x"), "new", false).is_err());
        }
    }

    #[test]
    fn files_links_and_the_working_folder() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(save(&PAIR, &file, "new", true).unwrap_err().message.contains("is a file"));
        assert!(save(&PAIR, &file.join("x"), "new", true).unwrap_err().message.contains("is a file"));
        assert!(save(&PAIR, Path::new("."), "new", true).unwrap_err().message.contains("was started in"));
        assert!(save(&PAIR, Path::new(".."), "new", true).unwrap_err().message.contains("was started in"));
        if Path::new("/dev/shm").is_dir() {
            let error = save(&PAIR, Path::new("/dev/shm"), "new", true).unwrap_err();
            assert!(error.message.contains("mount point") && error.hint.unwrap().contains("/dev/shm/pair"));
        }
        let (real, link) = (scratch.path().join("real"), scratch.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        save(&PAIR, &link, "new", false).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(content(&real), pair("new"));
    }
}
