//! Downloads one file from the hub into the cache, checks it, and resumes an interrupted download.
//!
//! The bytes go to `blobs/<etag>.incomplete`. The name says which content they belong to, so that a part
//! left by a killed process can be resumed. The `hf-hub` crate appends to such a part without checking
//! status, size or hash; hence the code here.

use super::http::{Answer, Client, Unreachable};
use super::observe::FetchObserver;
use super::stoppable::Chunks;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file of a repository, as the hub describes it.
pub struct Remote<'a> {
    pub address: &'a str,
    /// Its name, for messages.
    pub file: &'a str,
    /// `owner/name`, for messages.
    pub repo: &'a str,
    /// The validated ETag: the SHA-256 of large files.
    pub blob: &'a str,
    pub size: Option<u64>,
}

/// The outcome of one attempt.
enum Attempt {
    Whole,
    /// It was interrupted, for a reason that may be temporary.
    Broken(String),
}

/// Downloads `remote` to `blob`. An interrupted download keeps its part for the next one.
///
/// # Errors
/// `Kind::Hub` if the hub refuses or the connection keeps breaking, `Kind::File` if the disk fails.
pub fn download(
    client: &Client,
    remote: &Remote,
    blob: &Path,
    retries: u32,
    pause: Duration,
    observer: &mut dyn FetchObserver,
) -> Result<()> {
    let part = part_path(blob);
    let (mut failures, mut reached) = (0, 0);
    loop {
        let broken = match attempt(client, remote, &part, observer)? {
            Attempt::Whole => break,
            Attempt::Broken(why) => why,
        };
        let length = std::fs::metadata(&part).map(|about| about.len()).unwrap_or(0);
        // Only attempts without progress count: a slow connection may need many.
        failures = if length > reached { 1 } else { failures + 1 };
        reached = reached.max(length);
        if failures > retries {
            return Err(Error::new(
                Kind::Hub,
                format!("`{}` of `{}` was interrupted after {length} bytes: {broken}", remote.file, remote.repo),
            )
            .with_hint("run again: the bytes that have arrived are kept and the rest is fetched"));
        }
        observer.note(&format!("`{}` was interrupted after {length} bytes ({broken}): trying again", remote.file));
        interrupt::sleep(pause * (1 << (failures - 1).min(5)))?;
    }
    std::fs::rename(&part, blob).map_err(|error| Error::file("rename", &part, &error))?;
    observer.end();
    Ok(())
}

fn part_path(blob: &Path) -> PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(".incomplete");
    name.into()
}

/// Fetches the missing bytes of the part, and checks the complete file.
fn attempt(client: &Client, remote: &Remote, part: &Path, observer: &mut dyn FetchObserver) -> Result<Attempt> {
    let failed = |error: std::io::Error| Error::file("write", part, &error);
    let mut file = File::options().create(true).append(true).read(true).open(part).map_err(failed)?;
    let mut have = file.metadata().map_err(failed)?.len();
    if remote.size.is_some_and(|size| have > size) {
        have = empty(&file, part)?;
    }
    if have == 0 || remote.size != Some(have) {
        let answer = match client.get(remote.address, have) {
            Ok(answer) => answer,
            Err(Unreachable(why)) => return Ok(Attempt::Broken(why)),
        };
        have = match start_of(client, remote, &answer, have)? {
            Start::Broken(why) => return Ok(Attempt::Broken(why)),
            Start::Continue => have,
            Start::Over if have > 0 => empty(&file, part)?,
            Start::Over => 0,
        };
        observer.begin(remote.file, have, remote.size);
        if let Some(why) = copy(answer, &mut file, remote, have, part, observer)? {
            return Ok(Attempt::Broken(why));
        }
    }
    match check(&mut file, remote).map_err(failed)? {
        None => Ok(Attempt::Whole),
        Some(why) => {
            empty(&file, part)?;
            Ok(Attempt::Broken(why))
        }
    }
}

fn empty(file: &File, part: &Path) -> Result<u64> {
    file.set_len(0).map_err(|error| Error::file("write", part, &error))?;
    Ok(0)
}

enum Start {
    /// The response continues where the part ends.
    Continue,
    /// The response is the complete file.
    Over,
    Broken(String),
}

fn start_of(client: &Client, remote: &Remote, answer: &Answer, have: u64) -> Result<Start> {
    Ok(match answer.status.as_u16() {
        206 if answer.range_start() == Some(have) => Start::Continue,
        206 => Start::Broken("the server sent a range that was not requested".into()),
        200 => Start::Over,
        // The part is at least as long as the file: the check or the next attempt decides.
        416 => Start::Broken("the server does not have that range".into()),
        status @ (408 | 429 | 500..) => Start::Broken(format!("the server responds with status {status}")),
        _ => return Err(client.refusal(answer, &format!("`{}` of `{}`", remote.file, remote.repo), remote.repo)),
    })
}

/// Appends the body to the part. `Some` says why it ended early.
fn copy(
    answer: Answer,
    file: &mut File,
    remote: &Remote,
    mut have: u64,
    part: &Path,
    observer: &mut dyn FetchObserver,
) -> Result<Option<String>> {
    let body = Chunks::of(answer.body.into_reader());
    loop {
        let chunk = match body.next()? {
            Ok(chunk) if chunk.is_empty() => break,
            Ok(chunk) => chunk,
            Err(error) => return Ok(Some(error.to_string())),
        };
        have += chunk.len() as u64;
        if remote.size.is_some_and(|size| have > size) {
            empty(file, part)?;
            return Err(oversized(remote));
        }
        file.write_all(&chunk).map_err(|error| Error::file("write", part, &error))?;
        observer.advance(chunk.len() as u64);
    }
    Ok(match remote.size {
        Some(size) if have < size => Some(format!("expected {size} bytes, the connection closed after {have}")),
        _ => None,
    })
}

/// More bytes than the hub declared are never the file, and asking again would fetch them again.
fn oversized(remote: &Remote) -> Error {
    let size = remote.size.unwrap_or_default();
    let message =
        format!("`{}` of `{}`: the server sends more than the {size} bytes it declared", remote.file, remote.repo);
    Error::new(Kind::Hub, message).with_hint("the download was stopped; check HF_ENDPOINT, or a proxy in between")
}

/// Compares the size and, if the ETag is one, the SHA-256. `Some` says what differs.
fn check(file: &mut File, remote: &Remote) -> std::io::Result<Option<String>> {
    let length = file.metadata()?.len();
    if let Some(size) = remote.size.filter(|size| *size != length) {
        return Ok(Some(format!("expected {size} bytes, found {length}")));
    }
    if remote.blob.len() == 64 && remote.blob.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        file.seek(SeekFrom::Start(0))?;
        let mut hash = Sha256::new();
        std::io::copy(file, &mut hash)?;
        let sha256 = format!("{:x}", hash.finalize());
        if !sha256.eq_ignore_ascii_case(remote.blob) {
            return Ok(Some(format!("its SHA-256 is {sha256}, not {}", remote.blob)));
        }
    }
    file.sync_all()?;
    Ok(None)
}
