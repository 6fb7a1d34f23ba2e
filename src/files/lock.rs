//! The lock of a folder that one process at a time works in, such as the `out` of a run. It ends with the process that
//! holds it, however it ends.

use crate::bail;
use crate::error::{Error, Kind, Result};
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

const LOCK: &str = ".lorhai.lock";

/// A folder that this process works in, until this is dropped.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
    /// False where the file system has no locks: two processes would then not notice each other.
    pub is_locked: bool,
}

impl FolderLock {
    /// Locks an existing folder for `holder`, such as "a sweep".
    ///
    /// # Errors
    /// Another process holds the lock: the message names its work and its number.
    pub fn take(folder: &Path, holder: &str) -> Result<Self> {
        Self::with(folder, holder, FlockOperation::NonBlockingLockExclusive)
    }

    /// Locks an existing folder for `holder` beside others that share it.
    ///
    /// # Errors
    /// A process has the lock for itself.
    pub fn share(folder: &Path, holder: &str) -> Result<Self> {
        Self::with(folder, holder, FlockOperation::NonBlockingLockShared)
    }

    fn with(folder: &Path, holder: &str, operation: FlockOperation) -> Result<Self> {
        let path = folder.join(LOCK);
        let failed = |error: std::io::Error| Error::file("make the lock file", &path, &error);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let is_locked = lock(folder, &mut file, operation)?;
        if is_locked {
            // A disk that is full does not keep a run from beginning: only the name of the holder is lost.
            let _ = file.set_len(0).and_then(|()| write!(file, "{holder} {}", std::process::id()));
        }
        Ok(FolderLock { _file: file, is_locked })
    }

    /// Fails where [`take`](Self::take) would, and changes nothing: the lock is free again afterwards.
    pub fn ensure_free(folder: &Path) -> Result<()> {
        match File::open(folder.join(LOCK)) {
            Ok(mut file) => lock(folder, &mut file, FlockOperation::NonBlockingLockExclusive).map(drop),
            Err(_) => Ok(()),
        }
    }
}

/// Locks the lock file of `folder`; false where the file system has no locks.
fn lock(folder: &Path, file: &mut File, operation: FlockOperation) -> Result<bool> {
    match try_lock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            let (holder, process) = text.trim().rsplit_once(' ').unwrap_or(("another process", "unknown"));
            bail!(Kind::Input, "out: {holder} is already running in `{}` (process {process})", folder.display();
                hint: "wait for it to end, or choose another out")
        }
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(Error::file("make the lock file", &folder.join(LOCK), &error.into())),
    }
}

/// Tries for a moment: a process that this one is just starting holds copies of all open
/// files until it has begun, and with them a lock that was released.
fn try_lock(file: &File, operation: FlockOperation) -> rustix::io::Result<()> {
    const TRIES: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(25);
    for _ in 1..TRIES {
        match flock(file, operation) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    flock(file, operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_ends() {
        let folder = tempfile::tempdir().unwrap();
        FolderLock::ensure_free(folder.path()).unwrap();
        let lock = FolderLock::take(folder.path(), "a sweep").unwrap();
        if !lock.is_locked {
            println!("not checked: this file system has no locks");
            return;
        }
        let expected =
            format!("a sweep is already running in `{}` (process {})", folder.path().display(), std::process::id());
        for error in
            [FolderLock::take(folder.path(), "a run").unwrap_err(), FolderLock::ensure_free(folder.path()).unwrap_err()]
        {
            assert!(error.message.contains(&expected), "{error}");
        }
        assert!(FolderLock::share(folder.path(), "a shared sweep").is_err());
        drop(lock);
        let shared = [(); 2].map(|()| FolderLock::share(folder.path(), "a shared sweep").unwrap());
        assert!(FolderLock::take(folder.path(), "a run").unwrap_err().message.contains("a shared sweep"));
        drop(shared);
        FolderLock::ensure_free(folder.path()).unwrap();
        FolderLock::take(folder.path(), "a run").unwrap();
    }
}
