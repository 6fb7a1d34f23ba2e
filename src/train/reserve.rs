//! Room on the disk for what a run saves at its end, reserved at its start.
//!
//! A disk that is full after nine hours would lose the weights; one that is too full at the start is better known then.

use crate::error::{reason, Error, Kind, Result};
use crate::{files, format};
use rustix::fs::{fallocate, FallocateFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The name does not begin as that of a temporary file: those without a writer are removed.
const NAME: &str = ".reserved";
/// For configuration and record beside the weights.
const BESIDE: u64 = 32 << 10;

/// Room in the folder of a run, until it is dropped: right before the save.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Reserves room for weights and tokenizer of `bytes`. File systems that cannot do so reserve none.
    ///
    /// # Errors
    /// The disk has not so much room.
    pub fn new(folder: &Path, bytes: u64) -> Result<Self> {
        files::create_folder(folder)?;
        let path = folder.join(NAME);
        let bytes = bytes.saturating_add(BESIDE);
        let no_room = |reason: &str| {
            let (folder, needed) = (folder.display(), format::bytes(bytes));
            Error::new(Kind::File, format!("no room in `{folder}` for what the run will save, {needed}: {reason}"))
                .with_hint("free some space on that disk, or choose another out")
        };
        // Asked first, because some file systems fill the disk before they refuse.
        if let Some(disk) = files::disk_of(folder).filter(|disk| disk.free < bytes) {
            return Err(no_room(&format!("{} are free", format::bytes(disk.free))));
        }
        let file = File::create(&path).map_err(|error| Error::file("write", &path, &error))?;
        let reserve = Reserve { path };
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(reserve),
            // A limit of the process, not of the disk: what is saved is in several files.
            Err(Errno::FBIG) => Ok(reserve),
            Err(error) => Err(no_room(&reason(&error.into()))),
        }
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_until_it_is_given_back() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(folder.path(), 1 << 20).unwrap();
        let blocks = fs::metadata(folder.path().join(NAME)).unwrap().blocks();
        // Nothing where the file system cannot reserve.
        assert!(blocks == 0 || blocks * 512 >= BESIDE + (1 << 20), "{blocks}");
        drop(reserve);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn too_little_room_is_known_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let error = Reserve::new(folder.path(), 1 << 60).unwrap_err();
        assert!(error.message.starts_with("no room in `"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
