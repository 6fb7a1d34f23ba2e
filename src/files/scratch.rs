//! Files for what does not fit into memory. They have no name: the system removes one with its last handle, however the
//! process ends.

use super::{cache_folder, create_folder};
use crate::error::{Error, Kind, Result};
use crate::sandbox;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A file without a name, open to read and to write.
#[derive(Debug)]
pub struct ScratchFile {
    pub file: File,
    /// The folder whose disk it takes.
    folder: PathBuf,
}

impl ScratchFile {
    /// A file on the disk of the cache folder; on that of temporary files where there is no cache or it cannot be written,
    /// because temporary files are in memory on some systems.
    ///
    /// # Errors
    /// Neither folder can be written.
    pub fn new() -> Result<Self> {
        let temporary = std::env::temp_dir();
        let cache = cache_folder().filter(|folder| create_folder(folder).is_ok());
        let mut first = None;
        for folder in cache.into_iter().chain([temporary]) {
            match tempfile::tempfile_in(&folder) {
                Ok(file) => return Ok(ScratchFile { file, folder }),
                Err(error) => {
                    first.get_or_insert((folder, error));
                }
            }
        }
        let (folder, error) = first.unwrap_or_else(|| (PathBuf::from("."), io::ErrorKind::NotFound.into()));
        Err(Error::file("make a file in", &folder, &error))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The error of a write: a full disk, above all.
    pub fn cannot_write(&self, what: &str, error: &io::Error) -> Error {
        let failed = Error::file(&format!("write the {what}, which need a file on the disk of"), &self.folder, error);
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if !sandbox::is_on() => {
                failed.with_hint("free some space on that disk, or set LORHAI_CACHE to a folder on a larger one")
            }
            _ => failed,
        }
    }

    /// The error of a read of what was written before.
    pub fn cannot_read(&self, what: &str, detail: impl std::fmt::Display) -> Error {
        let folder = self.folder.display();
        Error::new(Kind::File, format!("cannot read the {what} back from the disk of `{folder}`: {detail}"))
            .with_hint("the disk may be failing: its log (dmesg) tells")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_scratch_file_has_no_name() {
        let mut scratch = ScratchFile::new().unwrap();
        scratch.file.write_all(b"12345").unwrap();
        let mut back = [0; 2];
        scratch.file.read_exact_at(&mut back, 3).unwrap();
        assert_eq!(&back, b"45");
        use std::os::unix::fs::MetadataExt;
        assert_eq!(scratch.file.metadata().unwrap().nlink(), 0);
    }

    #[test]
    fn a_full_disk_is_named_with_the_way_out() {
        let scratch = ScratchFile::new().unwrap();
        let error = scratch.cannot_write("rows", &io::ErrorKind::StorageFull.into());
        assert!(error.message.starts_with("cannot write the rows, which need a file on the disk of `"), "{error}");
        assert!(error.hint.unwrap().contains("LORHAI_CACHE"));
    }
}
