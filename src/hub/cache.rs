//! The hub cache of one repository, in the layout of `huggingface_hub`, so that both programs share it:
//!
//! ```text
//! models--owner--name/blobs/<etag>             content
//!                     refs/<branch or tag>     its commit when it was fetched
//!                     snapshots/<commit>/…     links to the blobs
//! .locks/models--owner--name/<etag>.lock       one fetch of a blob at a time
//! ```
//!
//! One folder is added: `listings/<commit>.json`, the files of that commit, which says without the
//! network whether every wanted file is there. Nothing is ever deleted except partial downloads that
//! turned out to be broken.

use super::name::{is_commit, RepoName};
use super::observe::FetchObserver;
use crate::error::{Error, Result};
use crate::{files, interrupt};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub struct CachedRepo {
    layout: CacheRepo,
    folder: PathBuf,
    locks: PathBuf,
    revision: String,
}

impl CachedRepo {
    pub fn new(cache: &Path, name: &RepoName, kind: RepoType) -> CachedRepo {
        let repo = Repo::with_revision(name.id.clone(), kind, name.revision.clone());
        let folder_name = repo.folder_name();
        CachedRepo {
            layout: Cache::new(cache.to_path_buf()).repo(repo),
            folder: cache.join(&folder_name),
            locks: cache.join(".locks").join(&folder_name),
            revision: name.revision.clone(),
        }
    }

    /// The commit of the revision, if the cache holds a snapshot of it.
    pub fn commit(&self) -> Option<String> {
        let commit = if is_commit(&self.revision) {
            self.revision.clone()
        } else {
            fs::read_to_string(self.ref_path()).ok()?.trim().to_string()
        };
        (is_commit(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    fn ref_path(&self) -> PathBuf {
        self.folder.join("refs").join(&self.revision)
    }

    /// Records `commit` as that of the revision.
    pub fn set_commit(&self, commit: &str) -> Result<()> {
        if is_commit(&self.revision) {
            Ok(())
        } else {
            files::write_atomic(&self.ref_path(), commit.as_bytes())
        }
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    pub fn blob(&self, name: &str) -> PathBuf {
        self.layout.blob_path(name)
    }

    fn listing_path(&self, commit: &str) -> PathBuf {
        self.folder.join("listings").join(format!("{commit}.json"))
    }

    /// The files of `commit`, if an earlier fetch recorded them.
    pub fn listing(&self, commit: &str) -> Option<Vec<String>> {
        serde_json::from_slice(&fs::read(self.listing_path(commit)).ok()?).ok()
    }

    pub fn set_listing(&self, commit: &str, names: &[String]) -> Result<()> {
        files::write_json(&self.listing_path(commit), &json!(names))
    }

    /// Links `file` in the snapshot of `commit` to the blob.
    pub fn link(&self, commit: &str, file: &str, blob: &str) -> Result<()> {
        let link = self.snapshot(commit).join(file);
        if link.exists() {
            return Ok(());
        }
        let up = "../".repeat(2 + file.matches('/').count());
        let failed = |error: std::io::Error| Error::file("link", &link, &error);
        if let Some(folder) = link.parent() {
            files::create_folder(folder)?;
        }
        if link.is_symlink() {
            fs::remove_file(&link).map_err(failed)?; // its blob is gone
        }
        match std::os::unix::fs::symlink(format!("{up}blobs/{blob}"), &link) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            done => done.map_err(failed),
        }
    }

    /// Waits until no other process fetches this blob. Dropping the lock releases it.
    pub fn lock(&self, blob: &str, observer: &mut dyn FetchObserver) -> Result<Lock> {
        let path = self.locks.join(format!("{blob}.lock"));
        files::create_folder(&self.locks)?;
        let failed = |error: std::io::Error| Error::file("lock", &path, &error);
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        let mut is_noted = false;
        while !try_lock(&file).map_err(failed)? {
            if !std::mem::replace(&mut is_noted, true) {
                observer.note("another process is fetching the same file: waiting for it");
            }
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Lock { _file: file })
    }
}

/// The names of the cached repositories of one kind (`models` or `datasets`), sorted.
pub fn cached_names(cache: &Path, kind: &str) -> Vec<String> {
    let prefix = format!("{kind}--");
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    let named = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_prefix(&prefix)?.replace("--", "/"));
    let mut names: Vec<String> = entries.filter_map(named).collect();
    names.sort();
    names
}

/// A held lock. The system releases it however the program ends.
pub struct Lock {
    _file: File,
}

/// Locks the file with `flock`, as `huggingface_hub` does; false if another process holds the lock.
fn try_lock(file: &File) -> std::io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_repositories_are_listed() {
        let cache = tempfile::tempdir().unwrap();
        for name in ["models--b--two", "models--a--one", "models--gpt2", "datasets--a--rows", ".locks"] {
            fs::create_dir(cache.path().join(name)).unwrap();
        }
        assert_eq!(cached_names(cache.path(), "models"), ["a/one", "b/two", "gpt2"]);
        assert_eq!(cached_names(cache.path(), "datasets"), ["a/rows"]);
        assert!(cached_names(&cache.path().join("nowhere"), "models").is_empty());
    }
}
