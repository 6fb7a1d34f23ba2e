//! Files written whole or not at all: temporary name beside the target, sync, rename.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path`, so that a reader sees the old file or the new one, never a part.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole_with(path, |file| file.write_all(bytes))
}

/// As [`write_whole`], for content produced piece by piece.
pub fn write_whole_with(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let folder = parent(path);
    create_folder(folder)?;
    refuse_target(path)?;
    let failed = |error: std::io::Error| Error::file("write", path, &error);
    let mut temporary = tempfile::Builder::new().prefix(".part-").tempfile_in(folder).map_err(failed)?;
    fill(temporary.as_file_mut()).map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    open_to_all(temporary.as_file()).map_err(failed)?;
    temporary.persist(path).map_err(|error| failed(error.error))?;
    sync_folder(folder)
}

/// A folder beside `path`, on the same file system, that goes with all it holds unless it is
/// moved to a name: for what is written and checked before it is there.
pub fn temporary_beside(path: &Path) -> Result<tempfile::TempDir> {
    let folder = parent(path);
    create_folder(folder)?;
    tempfile::Builder::new()
        .prefix(".part-")
        .tempdir_in(folder)
        .map_err(|error| Error::file("make a folder in", folder, &error))
}

/// Gives a finished file the name `path`, in the place of what was there.
pub fn move_file(from: &Path, path: &Path) -> Result<()> {
    refuse_target(path)?;
    fs::rename(from, path).map_err(|error| Error::file("write", path, &error))?;
    sync_folder(parent(path))
}

/// Gives a finished folder the name `path`, in the place of a folder that was there.
pub fn replace_folder(finished: tempfile::TempDir, path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |error: std::io::Error| Error::file("write the folder", path, &error);
    fs::set_permissions(finished.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let is_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    if is_folder && exchange(finished.path(), path).is_ok() {
        // `finished` names the old folder now, which goes with it.
        return sync_folder(parent(path));
    }
    let old = if path.exists() { Some(temporary_beside(path)?) } else { None };
    let aside = old.as_ref().map(|old| old.path().join("old"));
    aside.as_ref().map_or(Ok(()), |aside| fs::rename(path, aside)).map_err(failed)?;
    if let Err(error) = fs::rename(finished.path(), path) {
        // What was there is put back.
        let _ = aside.map(|aside| fs::rename(aside, path));
        return Err(failed(error));
    }
    // What it named is elsewhere now.
    let _ = finished.keep();
    sync_folder(parent(path))
}

/// Gives each of two folders the other's name, so that at no time one of the names is missing.
/// Not every file system can.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> std::io::Result<()> {
    let name = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes());
    let (one, other) = (name(one)?, name(other)?);
    let here = libc::AT_FDCWD;
    // SAFETY: both names end in a zero byte and outlive the call.
    let status = unsafe { libc::renameat2(here, one.as_ptr(), here, other.as_ptr(), libc::RENAME_EXCHANGE) };
    match status {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Serialises `value` as indented JSON with a final newline, and writes it whole.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    write_whole(path, json_text(value)?.as_bytes())
}

/// `value` as [`write_json`] writes it.
pub fn json_text(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    Ok(text.map_err(|error| Error::bug(format!("cannot write JSON: {error}")))? + "\n")
}

pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| cannot_create(path, &error))
}

fn cannot_create(path: &Path, error: &std::io::Error) -> Error {
    let in_the_way = path.ancestors().find(|part| fs::metadata(part).is_ok_and(|found| !found.is_dir()));
    match in_the_way {
        Some(file) => failed(format!("cannot make the folder `{}`: `{}` is a file", path.display(), file.display()))
            .with_hint("choose another folder, or move that file away"),
        None => Error::file("make the folder", path, error),
    }
}

/// Fails where [`write_whole`] could not write `path`, and changes nothing.
pub fn could_write(path: &Path) -> Result<()> {
    let folder = parent(path);
    could_fill(folder)?;
    refuse_target(path)
}

/// Fails where the folder `path` could not be made, or no file written into it; changes nothing.
pub fn could_fill(path: &Path) -> Result<()> {
    let there = path.ancestors().find(|part| fs::metadata(part).is_ok()).filter(|part| !part.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new("."));
    if !there.is_dir() {
        return Err(cannot_create(path, &std::io::ErrorKind::NotADirectory.into()));
    }
    match may_write(there) {
        Ok(()) => Ok(()),
        Err(error) if there == path => Err(Error::file("write in", path, &error)),
        Err(error) => Err(Error::file("make the folder", path, &error)),
    }
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    pub id: u64,
    /// Bytes that may still be written.
    pub free: u64,
}

/// The file system that `path` is on or would be on; `None` where the system does not tell.
pub fn disk_of(path: &Path) -> Option<Disk> {
    use std::os::unix::fs::MetadataExt;
    let there = path.ancestors().find_map(|part| Some((part, fs::metadata(part).ok()?)));
    let (there, found) = there.or_else(|| Some((Path::new("."), fs::metadata(".").ok()?)))?;
    let name = std::ffi::CString::new(there.as_os_str().as_bytes()).ok()?;
    let mut told = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `name` ends in a zero byte and `told` has the room that the call fills; zeros are a value of it.
    let told = unsafe {
        let failed = libc::statvfs(name.as_ptr(), told.as_mut_ptr()) != 0;
        (!failed).then(|| told.assume_init())
    }?;
    Some(Disk { id: found.dev(), free: told.f_bavail as u64 * told.f_frsize as u64 })
}

/// Whether this process may make entries in `folder`: asked of the system, by the rights it runs with.
fn may_write(folder: &Path) -> std::io::Result<()> {
    let name = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: `name` ends in a zero byte and outlives the call.
    let found = unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) };
    match found {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A rename would put a file in the place of a device or a pipe, and cannot in that of a folder.
fn refuse_target(path: &Path) -> Result<()> {
    let wrong = |what: &str| Err(failed(format!("cannot write `{}`: {what}", path.display())));
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(failed(format!("cannot write `{}`: it is a folder", path.display()))
            .with_hint(format!("give the name of a file in it, as in {}", path.join("NAME").display()))),
        Ok(found) if !found.is_file() => wrong("it is not a regular file"),
        _ if path.file_name().is_none() => wrong("expected the name of a file"),
        _ => Ok(()),
    }
}

fn failed(message: String) -> Error {
    Error::new(crate::Kind::File, message)
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::file("read", path, &error))
}

pub fn read_text(path: &Path) -> Result<String> {
    let bytes = read(path)?;
    String::from_utf8(bytes).map_err(|error| {
        Error::new(
            crate::Kind::File,
            format!("`{}` is not UTF-8: byte {} is invalid", path.display(), error.utf8_error().valid_up_to()),
        )
        .with_hint("save the file as UTF-8 without a byte order mark")
    })
}

/// Reads and parses a JSON file; a failure names the file, the line and the column.
pub fn read_json(path: &Path) -> Result<serde_json::Value> {
    serde_json::from_str(&read_text(path)?).map_err(|error| {
        let wrong = failed(format!("`{}` is not valid JSON: {}", path.display(), json_fault(&error)));
        match error.is_eof() {
            true => wrong.with_hint("the file ends too early: write or fetch it again"),
            false => wrong,
        }
    })
}

/// What is wrong with a JSON text, and where, in plain words.
pub fn json_fault(error: &serde_json::Error) -> String {
    format!("{} (line {}, column {})", json_problem(error), error.line(), error.column())
}

/// As [`json_fault`], without the place.
pub fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    match what {
        "expected value" => "expected a value".to_string(),
        "key must be a string" => "expected a name in double quotes".to_string(),
        "trailing characters" => "more follows behind the end".to_string(),
        "trailing comma" => "a comma too much".to_string(),
        "recursion limit exceeded" => "too many lists or objects inside one another".to_string(),
        _ => what.replace("EOF while parsing a", "the text ends inside a"),
    }
}

/// SHA-256 of a file's content, in hexadecimal.
pub fn sha256(path: &Path) -> Result<String> {
    let failed = |error: std::io::Error| Error::file("read", path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        crate::interrupt::check()?;
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            read => hash.update(&piece[..read]),
        }
    }
}

/// Where things are kept that can be made again: `$LORHAI_CACHE`, `$XDG_CACHE_HOME/lorhai`
/// or `~/.cache/lorhai`; `None` where none of these variables is set.
pub fn cache_folder() -> Option<PathBuf> {
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

/// Temporary files are private by default; results are for everyone the umask allows.
fn open_to_all(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

/// Makes a rename durable. Some file systems refuse to sync a folder: that is no failure.
fn sync_folder(folder: &Path) -> Result<()> {
    let handle = File::open(folder).map_err(|error| Error::file("open the folder", folder, &error))?;
    let _ = handle.sync_all();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_replaced_or_left_as_it_was() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("model");
        let finished = |text: &str| {
            let folder = temporary_beside(&path).unwrap();
            fs::write(folder.path().join("x"), text).unwrap();
            folder
        };
        let held = || fs::read_to_string(path.join("x")).unwrap();
        replace_folder(finished("one"), &path).unwrap();
        replace_folder(finished("two"), &path).unwrap();
        assert_eq!(held(), "two");
        // One that cannot be moved, here from another file system, takes nothing away.
        let Ok(broken) = tempfile::tempdir_in("/dev/shm") else {
            println!("not checked: this system has no /dev/shm");
            return;
        };
        assert!(replace_folder(broken, &path).is_err());
        assert_eq!(held(), "two");
    }
}
