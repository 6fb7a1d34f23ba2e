//! Temporary files and folders beside what they will replace. Each has a lock file while it is in use,
//! `.part-XXXXXX.lorhai`, which is the temporary file itself, or stands for the folder `.part-XXXXXX.lorhai.new`. What a
//! killed process left is not locked; the next writer in that folder removes it.

use super::{create_folder, parent, sync_folder};
use crate::error::{Error, Result};
use rustix::fs::{flock, FlockOperation, OFlags, CWD};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const PREFIX: &str = ".part-";
/// No file of others has such a name.
const SUFFIX: &str = ".lorhai";
/// The number of random characters behind the prefix.
const RANDOM: usize = 6;
/// A folder that is being filled.
const NEW: &str = ".new";
/// A folder that is being replaced, where folders cannot be exchanged. The lock file then holds its name.
const OLD: &str = ".old";

/// A locked temporary file in `folder`. Removes first what killed processes left there.
pub(super) fn file_in(folder: &Path) -> io::Result<NamedTempFile> {
    const TRIES: u32 = 20;
    remove_leftovers(folder);
    for _ in 0..TRIES {
        let file = tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).rand_bytes(RANDOM).tempfile_in(folder)?;
        // Between its creation and its lock it looks like a leftover, and another writer may have removed it.
        match flock(file.as_file(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if file.as_file().metadata()?.nlink() == 0 => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            // Where there are no locks, no leftover is recognised and nothing is removed.
            _ => return Ok(file),
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// A temporary folder. Dropping it deletes it with its content.
#[derive(Debug)]
pub struct TemporaryFolder {
    lock: NamedTempFile,
    path: PathBuf,
}

impl TemporaryFolder {
    /// A folder beside `path`, on the same file system.
    pub fn beside(path: &Path) -> Result<Self> {
        let folder = parent(path);
        create_folder(folder)?;
        let failed = |error: io::Error| Error::file("make a folder in", folder, &error);
        let lock = file_in(folder).map_err(failed)?;
        let path = with_ending(lock.path(), NEW);
        fs::create_dir(&path).map_err(failed)?;
        Ok(TemporaryFolder { lock, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder the name `path`, and deletes the folder that had it. Whoever looks finds one or the other
    /// whole; where the file system cannot exchange folders, for a moment neither.
    pub fn replace(mut self, path: &Path) -> Result<()> {
        let failed = |error: io::Error| Error::file("write the folder", path, &error);
        let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
        if is_folder && exchange(&self.path, path).is_ok() {
            // This is the old folder now; dropping it deletes that.
            return sync_folder(parent(path));
        }
        let old = with_ending(self.lock.path(), OLD);
        if is_folder {
            let name = path.file_name().unwrap_or_default();
            self.lock
                .write_all(name.as_encoded_bytes())
                .and_then(|()| self.lock.as_file().sync_all())
                .map_err(failed)?;
            fs::rename(path, &old).map_err(failed)?;
        }
        if let Err(error) = fs::rename(&self.path, path) {
            let _ = fs::rename(&old, path);
            return Err(failed(error));
        }
        let _ = fs::remove_dir_all(&old);
        sync_folder(parent(path))
    }

    /// Takes the folder `path` in, to delete it.
    pub fn swallow(self, path: &Path) -> Result<()> {
        fs::rename(path, &self.path).map_err(|error| Error::file("remove the folder", path, &error))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Swaps the names of two folders, so that neither name is ever missing. Not every file system supports
/// it.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, one, CWD, other, rustix::fs::RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Removes the temporaries in `folder` that no process uses.
pub fn remove_leftovers(folder: &Path) {
    for name in names_in(folder).into_iter().filter(|name| is_temporary(name)) {
        let path = folder.join(&name);
        if let Some((lock, mut file)) = unused(&path) {
            remove_leftover(&lock, file.as_mut());
        }
    }
}

/// What killed processes left in `folder` itself: temporaries that no process uses, with the bytes in them.
pub fn leftovers(folder: &Path) -> Vec<(PathBuf, u64)> {
    let paths = names_in(folder).into_iter().filter(|name| is_temporary(name)).map(|name| folder.join(name));
    paths.filter(|path| unused(path).is_some()).map(|path| (bytes_in(&path), path)).map(|(n, path)| (path, n)).collect()
}

fn bytes_in(path: &Path) -> u64 {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| bytes_in(&entry.path())).sum(),
        Err(_) => fs::symlink_metadata(path).map_or(0, |metadata| metadata.len()),
    }
}

fn names_in(folder: &Path) -> Vec<OsString> {
    fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.file_name()).collect()).unwrap_or_default()
}

/// Whether a file or folder of this name is a temporary.
pub fn is_temporary(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let lock = [NEW, OLD].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    let Some(rest) = lock.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)) else { return false };
    rest.len() == RANDOM && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// If no process uses the temporary `path`: the path of its lock file, and that file, locked; `None` if it is gone.
fn unused(path: &Path) -> Option<(PathBuf, Option<File>)> {
    let is_folder_of = |ending: &str| path.to_str().and_then(|text| text.strip_suffix(ending)).map(PathBuf::from);
    let lock = is_folder_of(NEW).or_else(|| is_folder_of(OLD)).unwrap_or_else(|| path.to_path_buf());
    let metadata = match fs::symlink_metadata(&lock) {
        Ok(metadata) => metadata,
        // A lock file is made before its folder and removed after it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some((lock, None)),
        Err(_) => return None,
    };
    if !metadata.is_file() {
        return None;
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = File::options().read(true).write(true).custom_flags(flags).open(&lock).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    // Its owner may have finished with it since: the name is then another file's, or nobody's.
    let current = fs::symlink_metadata(&lock).ok()?;
    let held = file.metadata().ok()?;
    ((held.dev(), held.ino()) == (current.dev(), current.ino())).then_some((lock, Some(file)))
}

/// Removes the folders of a lock file and then that file, whose lock is held.
fn remove_leftover(lock: &Path, file: Option<&mut File>) {
    let old = with_ending(lock, OLD);
    if old.is_dir() {
        // Killed while it replaced a folder: that gets its name again, unless the new one has it.
        let mut name = Vec::new();
        let is_read = file.is_some_and(|file| file.read_to_end(&mut name).is_ok());
        let path = parent(lock).join(OsString::from_vec(name));
        if !is_read || path.file_name().is_none() || path.parent() != Some(parent(lock)) {
            return;
        }
        if fs::symlink_metadata(&path).is_err() {
            if fs::rename(&old, &path).is_err() {
                return;
            }
        } else {
            let _ = fs::remove_dir_all(&old);
        }
    }
    let _ = fs::remove_dir_all(with_ending(lock, NEW));
    let _ = fs::remove_file(lock);
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = names_in(folder).into_iter().map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_is_replaced_or_left_as_it_was() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("model");
        let finished = |text: &str| {
            let folder = TemporaryFolder::beside(&path).unwrap();
            fs::write(folder.path().join("x"), text).unwrap();
            folder
        };
        let content = || fs::read_to_string(path.join("x")).unwrap();
        finished("one").replace(&path).unwrap();
        finished("two").replace(&path).unwrap();
        assert_eq!(content(), "two");
        assert_eq!(names(scratch.path()), ["model"]);
        // A folder that cannot be moved, here from another file system, leaves the old one in place.
        if !Path::new("/dev/shm").is_dir() {
            println!("not checked: this system has no /dev/shm");
            return;
        }
        let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
        let broken = TemporaryFolder::beside(&elsewhere.path().join("model")).unwrap();
        assert!(broken.replace(&path).is_err());
        assert_eq!(content(), "two");
    }

    #[test]
    fn only_what_nobody_uses_is_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path();
        let (used, used_folder) = (file_in(folder).unwrap(), TemporaryFolder::beside(&folder.join("x")).unwrap());
        // Killed: while a file was written, and a folder; and while a third one was removed.
        for name in [".part-aaaaaa.lorhai", ".part-bbbbbb.lorhai"] {
            fs::write(folder.join(name), "x").unwrap();
        }
        for name in [".part-bbbbbb.lorhai.new", ".part-cccccc.lorhai.new"] {
            fs::create_dir(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("y"), "yy").unwrap();
        }
        // Files of others, whatever they are called.
        let others = [".part-ab cde.lorhai", ".part-backup", ".part-xxxxxxx.lorhai", "part-aaaaaa.lorhai"];
        others.iter().for_each(|name| fs::write(folder.join(name), "x").unwrap());
        fs::create_dir(folder.join(".part-backup.new")).unwrap();
        assert_eq!(leftovers(folder).len(), 4);
        assert_eq!(leftovers(folder).iter().map(|(_, bytes)| bytes).sum::<u64>(), 1 + 1 + 2 + 2);
        drop(file_in(folder).unwrap());
        assert_eq!(leftovers(folder), []);
        assert!(used.path().exists() && used_folder.path().exists());
        drop((used, used_folder));
        let expected = [others[0], others[1], ".part-backup.new", others[2], others[3]];
        assert_eq!(names(folder), expected);
    }

    #[test]
    fn a_folder_whose_replacement_was_cut_off_gets_its_name_again() {
        for (is_there, expected) in [(false, "old"), (true, "new")] {
            let scratch = tempfile::tempdir().unwrap();
            let folder = scratch.path();
            fs::write(folder.join(".part-aaaaaa.lorhai"), "model").unwrap();
            fs::create_dir(folder.join(".part-aaaaaa.lorhai.old")).unwrap();
            fs::write(folder.join(".part-aaaaaa.lorhai.old/x"), "old").unwrap();
            if is_there {
                fs::create_dir(folder.join("model")).unwrap();
                fs::write(folder.join("model/x"), "new").unwrap();
            }
            remove_leftovers(folder);
            assert_eq!(fs::read_to_string(folder.join("model/x")).unwrap(), expected);
            assert_eq!(names(folder), ["model"]);
        }
    }
}
