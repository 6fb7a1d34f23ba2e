//! A log that is appended to while a run trains, as well as the disk allows.
//!
//! A record that cannot be written is no reason to lose a run: it is kept in memory, and written when that is possible
//! again. The file always ends with a whole record.

use crate::error::{reason, Error, Kind, Result};
use crate::format;
use crate::{files, stderr};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The most bytes of records that wait in memory; beyond them the oldest are dropped.
const MOST_WAITING: usize = 16 << 20;

/// How far a log has come: the length of its whole records in bytes, and their CRC-32C.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    log_bytes: u64,
    log_crc: u32,
}

pub struct LogFile {
    path: PathBuf,
    file: File,
    /// Where the last whole record ends.
    end: u64,
    /// CRC-32C of the bytes up to there.
    crc: u32,
    /// Is there a piece of a record behind that, which could not be removed?
    is_torn: bool,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// Records that were dropped.
    lost: u64,
    /// Why the file cannot be written, and how many records have waited since that was noted.
    outage: Option<(String, u64)>,
}

impl LogFile {
    /// Begins an empty file at `path`.
    ///
    /// # Errors
    /// A path that cannot be written to.
    pub fn create(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            files::create_folder(folder)?;
        }
        let file = File::create(path).map_err(|error| Error::file("write", path, &error))?;
        Ok(Self::behind(path, file, LogPosition { log_bytes: 0, log_crc: 0 }))
    }

    /// Goes on with the file at `path` behind the bytes that `position` describes; what lies beyond them is dropped.
    ///
    /// # Errors
    /// A file that does not begin with these bytes, or cannot be written to.
    pub fn resume(path: &Path, position: LogPosition) -> Result<Self> {
        let failed = |error: io::Error| Error::file("write", path, &error);
        let content = files::read(path)?;
        let begin = content.get(..position.log_bytes as usize);
        if begin.is_none_or(|begin| crc32c::crc32c(begin) != position.log_crc) {
            return Err(Error::new(Kind::File, format!("`{}` is not the log that was saved", path.display())));
        }
        let mut file = File::options().write(true).open(path).map_err(failed)?;
        cut(&mut file, position.log_bytes).map_err(failed)?;
        Ok(Self::behind(path, file, position))
    }

    fn behind(path: &Path, file: File, position: LogPosition) -> Self {
        LogFile {
            path: path.to_path_buf(),
            file,
            end: position.log_bytes,
            crc: position.log_crc,
            is_torn: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            lost: 0,
            outage: None,
        }
    }

    /// The name of the file.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Waits until every record is on the disk.
    ///
    /// # Errors
    /// Records that wait in memory, for they cannot be written.
    pub fn sync(&mut self) -> Result<LogPosition> {
        let synced = self.write_waiting().and_then(|()| self.file.sync_all());
        synced.map_err(|error| Error::file("write", &self.path, &error))?;
        Ok(LogPosition { log_bytes: self.end, log_crc: self.crc })
    }

    /// Hands a whole record to the system, behind those that wait: killed here, a process loses no record but those.
    pub fn append(&mut self, record: Vec<u8>) {
        self.waiting_bytes += record.len();
        self.waiting.push_back(record);
        if let Err(error) = self.write_waiting() {
            self.note(&error);
        }
        while self.waiting_bytes > MOST_WAITING {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= oldest.len();
            self.lost += 1;
        }
    }

    /// Waits until every record is on the disk. Those that cannot be written are counted in a note.
    pub fn finish(mut self) {
        let written = self.write_waiting().and_then(|()| self.file.sync_all());
        let lacking = self.lost + self.waiting.len() as u64;
        match written {
            Ok(()) if lacking == 0 => {}
            Ok(()) => self.say(&format!("{} were dropped while it could not be written", records(lacking))),
            Err(error) => self.say(&format!("{} could not be written: {}", records(lacking), reason(&error))),
        }
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        while let Some(record) = self.waiting.front() {
            if self.is_torn {
                cut(&mut self.file, self.end)?;
                self.is_torn = false;
            }
            if let Err(error) = write(&mut self.file, record) {
                self.is_torn = cut(&mut self.file, self.end).is_err();
                return Err(error);
            }
            self.end += record.len() as u64;
            self.crc = crc32c::crc32c_append(self.crc, record);
            self.waiting_bytes -= record.len();
            self.waiting.pop_front();
        }
        if let Some((_, waited)) = self.outage.take() {
            self.say(&format!("it is written again, with {} that waited in memory", records(waited)));
        }
        Ok(())
    }

    /// Each outage is noted once.
    fn note(&mut self, error: &io::Error) {
        if let Some((_, waited)) = &mut self.outage {
            *waited += 1;
            return;
        }
        let why = reason(error);
        self.say(&format!(
            "cannot be written ({why}); the run goes on, and up to {} of records wait in memory until it can",
            format::bytes(MOST_WAITING as u64)
        ));
        self.outage = Some((why, 1));
    }

    fn say(&self, what: &str) {
        stderr::note(&format!("warning: `{}`: {what}", self.path.display()));
    }
}

fn records(count: u64) -> String {
    if count == 1 {
        "1 record".to_owned()
    } else {
        format!("{} records", format::thousands(count))
    }
}

/// Removes the piece of a record behind the last whole one.
fn cut(file: &mut File, end: u64) -> io::Result<()> {
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end)).map(drop)
}

#[cfg(not(test))]
fn write(file: &mut File, record: &[u8]) -> io::Result<()> {
    file.write_all(record)
}

#[cfg(test)]
thread_local! {
    /// How many bytes the disk still takes.
    static ROOM: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
}

#[cfg(test)]
fn write(file: &mut File, record: &[u8]) -> io::Result<()> {
    let fitting = record.len().min(ROOM.get());
    file.write_all(&record[..fitting])?;
    ROOM.set(ROOM.get() - fitting);
    if fitting < record.len() {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_full_disk_refuses_is_written_once_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogFile::create(&path).unwrap();
        let content = || std::fs::read_to_string(&path).unwrap();
        ROOM.set(10);
        ["one\n", "two\n", "three\n", "four\n"].iter().for_each(|text| log.append(text.as_bytes().to_vec()));
        // Two whole records; the piece of the third is gone.
        assert_eq!(content(), "one\ntwo\n");
        ROOM.set(usize::MAX);
        log.append(b"five\n".to_vec());
        assert_eq!(content(), "one\ntwo\nthree\nfour\nfive\n");
        ROOM.set(3);
        log.append(b"six\n".to_vec());
        log.append(b"seven\n".to_vec());
        ROOM.set(usize::MAX);
        log.finish();
        assert_eq!(content(), "one\ntwo\nthree\nfour\nfive\nsix\nseven\n");
    }

    #[test]
    fn memory_for_records_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogFile::create(&path).unwrap();
        ROOM.set(0);
        for index in 0..20_u8 {
            log.append(vec![index; 1 << 20]);
        }
        assert_eq!((log.lost, log.waiting.len(), log.waiting_bytes), (4, 16, 16 << 20));
        ROOM.set(usize::MAX);
        log.finish();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes.len(), bytes[0]), (16 << 20, 4));
    }
}
