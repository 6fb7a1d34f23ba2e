//! Files that exactly one process creates, with their content: nobody sees an empty one.
//!
//! `link(2)` is exclusive and atomic on local file systems and on NFS; where there are no links, `O_EXCL` is used.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Creates the file `path` with this content unless there is one. Returns whether it did. `worker` is in the name of the
/// temporary file beside it.
///
/// # Errors
/// A file that cannot be written: there is none then.
pub fn create(path: &Path, content: &[u8], worker: &str) -> Result<bool> {
    let failed = |error: io::Error| Error::file("write", path, &error);
    let temporary = temporary_beside(path, worker);
    let created = write_synced(&temporary, content).and_then(|()| link(&temporary, path, content));
    let _ = fs::remove_file(&temporary);
    created.map_err(failed)
}

/// Writes `path`, in place of one that is there.
///
/// # Errors
/// A file that cannot be written: the old one stays.
pub fn replace(path: &Path, content: &[u8], worker: &str) -> Result<()> {
    let temporary = temporary_beside(path, worker);
    // Not synced: it is written again soon.
    let written = fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Error::file("write", path, &error)
    })
}

/// Is it one of the temporary files here?
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.')
}

/// A name that no other process and no other thread uses.
fn temporary_beside(path: &Path, worker: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    path.with_file_name(format!(".{worker}.{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn link(temporary: &Path, path: &Path, content: &[u8]) -> io::Result<bool> {
    let Err(error) = fs::hard_link(temporary, path) else { return Ok(true) };
    match error.raw_os_error() {
        // A server may have made the link, and its answer got lost: then the file has two names.
        Some(libc::EEXIST) => Ok(fs::metadata(temporary)?.nlink() == 2),
        Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS | libc::EMLINK) => create_unlinked(path, content),
        _ => Err(error),
    }
}

/// As [`create`], where the file system has no links.
fn create_unlinked(path: &Path, content: &[u8]) -> io::Result<bool> {
    let mut file = match File::options().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        opened => opened?,
    };
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written.map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn of_many_threads_one_creates_the_file_and_all_read_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let unlinked = |path: &Path, content: &[u8], _: &str| Ok(create_unlinked(path, content).unwrap());
        for make in [create, unlinked] {
            for round in 0..50 {
                let path = folder.path().join(format!("x.{round}"));
                let _ = fs::remove_file(&path);
                let barrier = Barrier::new(8);
                let winners: Vec<usize> = std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..8)
                        .map(|number: usize| {
                            let (path, barrier) = (&path, &barrier);
                            scope.spawn(move || {
                                barrier.wait();
                                make(path, number.to_string().as_bytes(), "w").unwrap().then_some(number)
                            })
                        })
                        .collect();
                    threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
                });
                assert_eq!(winners.len(), 1);
                assert_eq!(fs::read_to_string(&path).unwrap(), winners[0].to_string());
            }
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 50);
    }

    #[test]
    fn what_cannot_be_written_is_not_created() {
        let folder = tempfile::tempdir().unwrap();
        assert!(create(&folder.path().join("missing/x"), b"y", "w").is_err());
        assert!(replace(&folder.path().join("missing/x"), b"y", "w").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
