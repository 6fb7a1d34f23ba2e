//! Files written atomically (temporary name beside the target, sync, rename), and read with errors that name the path.
//!
//! `publish.rs` does the same with whole folders, and `manifest.rs` notices if their files were changed since;
//! `temporary.rs` is where both are written first, `scratch.rs` has files for what does not fit into memory, `lock.rs` keeps
//! two runs apart.

mod lock;
pub mod manifest;
mod publish;
mod scratch;
mod temporary;

pub use lock::FolderLock;
pub use publish::{ensure_replaceable, publish_folder, FolderKind};
pub use scratch::ScratchFile;
pub use temporary::{is_temporary, leftovers, remove_leftovers, TemporaryFolder};

use crate::error::{Error, Result};
use crate::sandbox;
use rustix::fs::{Access, AtFlags, CWD};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path` atomically: a reader sees the old file or the new one, never part of it.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// [`write_atomic`] for content that is produced piece by piece.
pub fn write_atomic_with(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let folder = parent(path);
    create_folder(folder)?;
    ensure_file_path(path)?;
    let failed = |error: std::io::Error| Error::file("write", path, &error);
    let mut temporary = temporary::file_in(folder).map_err(failed)?;
    fill(temporary.as_file_mut()).map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    make_readable(temporary.as_file()).map_err(failed)?;
    temporary.persist(path).map_err(|error| failed(error.error))?;
    sync_folder(folder)
}

/// Renames a finished file to `path`, replacing an existing file.
pub fn move_file(from: &Path, path: &Path) -> Result<()> {
    ensure_file_path(path)?;
    fs::rename(from, path).map_err(|error| Error::file("write", path, &error))?;
    sync_folder(parent(path))
}

/// Writes `value` atomically, as indented JSON with a final newline.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    write_atomic(path, json_text(value)?.as_bytes())
}

/// The text that [`write_json`] writes.
pub fn json_text(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    Ok(text.map_err(|error| Error::bug(format!("cannot write JSON: {error}")))? + "\n")
}

pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| cannot_create(path, &error))
}

fn cannot_create(path: &Path, error: &std::io::Error) -> Error {
    let file_in_path = path.ancestors().find(|part| fs::metadata(part).is_ok_and(|metadata| !metadata.is_dir()));
    match file_in_path {
        Some(file) => failed(format!("cannot make the folder `{}`: `{}` is a file", path.display(), file.display()))
            .with_hint("choose another folder, or move that file away"),
        None => Error::file("make the folder", path, error),
    }
}

/// Fails if [`write_atomic`] could not write `path`. Changes nothing.
pub fn could_write(path: &Path) -> Result<()> {
    let folder = parent(path);
    could_fill(folder)?;
    ensure_file_path(path)
}

/// Fails if the folder `path` could not be made, or no file written into it. Changes nothing.
pub fn could_fill(path: &Path) -> Result<()> {
    let nearest = path.ancestors().find(|part| fs::metadata(part).is_ok()).filter(|part| !part.as_os_str().is_empty());
    let nearest = nearest.unwrap_or(Path::new("."));
    if !nearest.is_dir() {
        return Err(cannot_create(path, &std::io::ErrorKind::NotADirectory.into()));
    }
    match may_write(nearest) {
        Ok(()) => Ok(()),
        Err(error) if nearest == path => Err(Error::file("write in", path, &error)),
        Err(error) => Err(Error::file("make the folder", path, &error)),
    }
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    pub id: u64,
    /// Bytes that can still be written.
    pub free: u64,
}

/// The file system that `path` is on or would be on; `None` if unknown.
pub fn disk_of(path: &Path) -> Option<Disk> {
    use std::os::unix::fs::MetadataExt;
    let nearest = path.ancestors().find_map(|part| Some((part, fs::metadata(part).ok()?)));
    let (nearest, metadata) = nearest.or_else(|| Some((Path::new("."), fs::metadata(".").ok()?)))?;
    let system = rustix::fs::statvfs(nearest).ok()?;
    Some(Disk { id: metadata.dev(), free: system.f_bavail.saturating_mul(system.f_frsize) })
}

/// Fails if this process may not create files in `folder`, by the rights of the effective user.
fn may_write(folder: &Path) -> std::io::Result<()> {
    let rights = Access::WRITE_OK | Access::EXEC_OK;
    Ok(rustix::fs::accessat(CWD, folder, rights, AtFlags::EACCESS)?)
}

/// Fails unless `path` can name a file: a rename would replace a device or a pipe, and fails for a folder.
fn ensure_file_path(path: &Path) -> Result<()> {
    let wrong = |reason: &str| Err(failed(format!("cannot write `{}`: {reason}", path.display())));
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(failed(format!("cannot write `{}`: it is a folder", path.display()))
            .with_hint(format!("give the name of a file in it, as in {}", path.join("NAME").display()))),
        Ok(metadata) if !metadata.is_file() => wrong("it is not a regular file"),
        _ if path.file_name().is_none() => wrong("expected the name of a file"),
        _ => Ok(()),
    }
}

fn failed(message: String) -> Error {
    Error::new(crate::Kind::File, message)
}

/// Opens a regular file to be read. A pipe may wait for its writer for ever, and a device may have no end.
pub fn open(path: &Path) -> Result<File> {
    sandbox::ensure_may_read(path)?;
    let failed = |error: std::io::Error| Error::file("read", path, &error);
    // Before it is opened, because that alone may have an effect on a device.
    ensure_regular(path, &fs::metadata(path).map_err(failed)?)?;
    let file = sandbox::open(path).map_err(failed)?;
    ensure_regular(path, &file.metadata().map_err(failed)?)?;
    Ok(file)
}

fn ensure_regular(path: &Path, metadata: &fs::Metadata) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    let found = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_dir() => return Err(Error::file("read", path, &std::io::ErrorKind::IsADirectory.into())),
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    };
    let message = format!("cannot read `{}`: expected a regular file, found {found}", path.display());
    Err(failed(message).with_hint("save the content as a file, and give its path"))
}

/// The bytes of a regular file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    read_up_to(path, u64::MAX)
}

/// As [`read`], but fails for a file of more than `limit` bytes.
fn read_up_to(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::file("read", path, &error);
    let file = open(path)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    // A sparse file may claim any size, and what is not there cannot be reserved.
    bytes.try_reserve(size.min(limit) as usize).map_err(|_| too_large(path, size))?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(path, size.max(bytes.len() as u64)));
    }
    Ok(bytes)
}

fn too_large(path: &Path, size: u64) -> Error {
    failed(format!("`{}` is too large to be read as a whole: {}", path.display(), crate::format::bytes(size)))
        .with_hint("load_dataset reads large files of rows")
}

pub fn read_text(path: &Path) -> Result<String> {
    text(path, read(path)?)
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        Error::new(
            crate::Kind::File,
            format!("`{}` is not UTF-8: byte {} is invalid", path.display(), error.utf8_error().valid_up_to()),
        )
        .with_hint("save the file as UTF-8 without a byte order mark")
    })
}

/// The largest JSON file that is read: values take several times the memory of their text. Tokenizers of large
/// vocabularies have 40 MB.
const LARGEST_JSON: u64 = 512 << 20;

/// Reads and parses a JSON file; a failure names the file, the line and the column.
pub fn read_json(path: &Path) -> Result<serde_json::Value> {
    serde_json::from_str(&text(path, read_up_to(path, LARGEST_JSON)?)?).map_err(|error| {
        let wrong = failed(format!("`{}` is not valid JSON: {}", path.display(), json_fault(&error)));
        if error.is_eof() {
            wrong.with_hint("the file is truncated: write or fetch it again")
        } else {
            wrong
        }
    })
}

/// The fault of a JSON text with its line and column, for users.
pub fn json_fault(error: &serde_json::Error) -> String {
    format!("{} (line {}, column {})", json_problem(error), error.line(), error.column())
}

/// [`json_fault`] without line and column.
pub fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    match what {
        "expected value" => "expected a value".to_string(),
        "key must be a string" => "expected a name in double quotes".to_string(),
        "trailing characters" => "unexpected text after the end".to_string(),
        "trailing comma" => "an extra comma".to_string(),
        "recursion limit exceeded" => "lists or objects are nested too deeply".to_string(),
        _ => what.replace("EOF while parsing a", "the text ends inside a"),
    }
}

/// SHA-256 of a file's content, in hexadecimal. Stops on a requested stop.
pub fn sha256(path: &Path) -> Result<String> {
    sha256_of(path, crate::interrupt::check)
}

/// The SHA-256 of the program that is running. A script cannot name its file, and the sandbox, which the program keeps it
/// in, lets the program read it.
///
/// # Errors
/// A system without `/proc`; a stop.
pub fn sha256_of_program() -> Result<String> {
    let path = Path::new("/proc/self/exe");
    let file = File::open(path).map_err(|error| Error::file("read", path, &error))?;
    sha256_of_file(file, path, crate::interrupt::check)
}

/// As [`sha256`]; `check` is called for each piece, and its error ends the reading.
fn sha256_of(path: &Path, check: impl Fn() -> Result<()>) -> Result<String> {
    sha256_of_file(open(path)?, path, check)
}

fn sha256_of_file(mut file: File, path: &Path, check: impl Fn() -> Result<()>) -> Result<String> {
    let failed = |error: std::io::Error| Error::file("read", path, &error);
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        check()?;
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            read => hash.update(&piece[..read]),
        }
    }
}

/// The cache folder, for files that can be recreated: `$LORHAI_CACHE`, `$XDG_CACHE_HOME/lorhai` or
/// `~/.cache/lorhai`; `None` if none of these variables is set, and in a sandbox, whose script could leave something there
/// for other runs.
pub fn cache_folder() -> Option<PathBuf> {
    if sandbox::is_on() {
        return None;
    }
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("LORHAI_CACHE")
        .or_else(|| Some(named("XDG_CACHE_HOME")?.join("lorhai")))
        .or_else(|| Some(named("HOME")?.join(".cache").join("lorhai")))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a file readable by all: temporary files are private by default, results are not.
fn make_readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

/// Makes a rename durable. Some file systems cannot sync a folder; that is not an error.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let handle = File::open(folder).map_err(|error| Error::file("open the folder", folder, &error))?;
    let _ = handle.sync_all();
    Ok(())
}
