//! Files mapped into memory, and what becomes of the program if one of them is changed meanwhile.
//!
//! A mapped file that another program truncates has no bytes any more where it was mapped: the system sends SIGBUS to
//! whoever reads them. [`explain_truncation`] has the program end with an error that names the file then. One that is
//! overwritten in place changes the weights unseen: [`ensure_unchanged`] finds that before anything is saved, and
//! [`MappedFiles::unless_changed`] before a model's result is returned. A file that is replaced by a rename stays as it was
//! for those who mapped it.

use crate::error::{Error, Kind, Result};
use crate::{foreign, stderr};
use memmap2::{MmapMut, MmapOptions};
use serde_json::json;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// A file mapped into memory as a private copy: writes to the pages stay in this process.
#[derive(Debug)]
pub struct MappedFile {
    pages: MmapMut,
    source: Arc<Source>,
    /// Its place in [`SLOTS`].
    slot: Option<usize>,
}

/// A file that is mapped.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    /// Kept open: another file may have taken its name.
    file: File,
    state: State,
}

/// What differs once a file was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl From<Metadata> for State {
    fn from(metadata: Metadata) -> Self {
        State { size: metadata.len(), seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec() }
    }
}

/// All files that are mapped now.
static SOURCES: Mutex<Vec<Weak<Source>>> = Mutex::new(Vec::new());

impl MappedFile {
    /// # Errors
    /// `Kind::File`: what is no regular file, an empty file, one that cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| Error::file("read", path, &error);
        let file = crate::files::open(path)?;
        let state = State::from(file.metadata().map_err(failed)?);
        if state.size == 0 {
            return Err(Error::new(Kind::File, format!("`{}` is empty", path.display()))
                .with_hint("the download or copy did not finish: fetch the file again"));
        }
        // With swap reserved for it, a model larger than the free memory could not be mapped.
        // SAFETY: the mapping is private. Only truncation can do harm, and ends the program.
        let pages = unsafe { MmapOptions::new().no_reserve_swap().map_copy(&file) }.map_err(failed)?;
        let slot = Slot::take(&pages, path);
        let source = Arc::new(Source { path: path.to_path_buf(), file, state });
        let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|source| source.strong_count() > 0);
        sources.push(Arc::downgrade(&source));
        Ok(MappedFile { pages, source, slot })
    }

    pub fn path(&self) -> &Path {
        &self.source.path
    }

    pub(super) fn source(&self) -> Arc<Source> {
        self.source.clone()
    }

    pub fn pages(&self) -> &MmapMut {
        &self.pages
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            SLOTS[slot].give_back();
        }
    }
}

/// Fails if any file was written to since it was mapped: what was computed from it is void.
pub fn ensure_unchanged() -> Result<()> {
    let sources: Vec<Arc<Source>> = {
        let sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().filter_map(Weak::upgrade).collect()
    };
    sources.iter().try_for_each(|source| source.ensure_unchanged())
}

impl Source {
    fn ensure_unchanged(&self) -> Result<()> {
        // One that cannot be asked any more, on a file system that went away, is not what it was either.
        match self.file.metadata().map(State::from) {
            Ok(state) if state == self.state => Ok(()),
            _ => Err(changed(&self.path)),
        }
    }
}

/// The files of one model. Those that are no longer mapped, because their tensors were copied or dropped, do not count.
#[derive(Debug, Clone, Default)]
pub struct MappedFiles(Vec<Weak<Source>>);

impl FromIterator<Arc<Source>> for MappedFiles {
    fn from_iter<I: IntoIterator<Item = Arc<Source>>>(sources: I) -> Self {
        MappedFiles(sources.into_iter().map(|source| Arc::downgrade(&source)).collect())
    }
}

impl MappedFiles {
    /// Fails if one of them was written to since it was mapped.
    pub fn ensure_unchanged(&self) -> Result<()> {
        self.0.iter().filter_map(Weak::upgrade).try_for_each(|source| source.ensure_unchanged())
    }

    /// What `work` returns, unless one of them was written to meanwhile or before: that is the error then, also where
    /// other weights made `work` fail, as by numbers that are not finite.
    pub fn unless_changed<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = work();
        match &result {
            Err(error) if error.kind == Kind::Stopped => result,
            _ => self.ensure_unchanged().and(result),
        }
    }
}

fn changed(path: &Path) -> Error {
    Error::new(Kind::File, format!("`{}` changed while in use: results are void", path.display()))
        .with_hint(format!("load the model again, and replace its files by a rename ({RENAME})"))
}

const RENAME: &str = "`mv`, or a copy under another name first";

/// A mapping as the handler of SIGBUS sees it. It may use nothing but atomics.
struct Slot {
    begin: AtomicUsize,
    end: AtomicUsize,
    message: AtomicPtr<Message>,
}

/// The line to write. In JSON the time comes between the two halves.
struct Message {
    before: Vec<u8>,
    after: Option<Vec<u8>>,
}

/// More files than this are mapped by hardly anyone; those beyond have no line.
const COUNT: usize = 1024;
static SLOTS: [Slot; COUNT] = [const { Slot::new() }; COUNT];

impl Slot {
    const fn new() -> Self {
        Slot { begin: AtomicUsize::new(0), end: AtomicUsize::new(0), message: AtomicPtr::new(null_mut()) }
    }

    /// Claims a slot for these pages.
    fn take(pages: &[u8], path: &Path) -> Option<usize> {
        // Only a process in which the handler was installed reads the lines.
        BEFORE.get()?;
        let begin = pages.as_ptr() as usize;
        let claim = |slot: &Slot| slot.begin.compare_exchange(0, begin, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        let at = SLOTS.iter().position(claim)?;
        let message = Box::into_raw(Box::new(Message::truncated(path)));
        SLOTS[at].message.store(message, Ordering::SeqCst);
        SLOTS[at].end.store(begin + pages.len(), Ordering::SeqCst);
        Some(at)
    }

    fn give_back(&self) {
        self.end.store(0, Ordering::SeqCst);
        let message = self.message.swap(null_mut(), Ordering::SeqCst);
        // SAFETY: made by `Box::into_raw`. Nobody reads these pages any more, so no handler reads the message.
        drop(unsafe { Box::from_raw(message) });
        self.begin.store(0, Ordering::SeqCst);
    }
}

impl Message {
    fn truncated(path: &Path) -> Self {
        let error =
            Error::new(Kind::File, format!("`{}` was truncated while in use: results are void", path.display()))
                .with_hint(format!("nothing more was saved; replace files of models in use by a rename ({RENAME})"));
        if stderr::is_json() {
            let error =
                json!({ "kind": "file", "message": error.message, "hint": error.hint, "place": null, "calls": [] });
            let after = format!(",\"error\":{}}}\n", foreign::json(&error.to_string()));
            return Message { before: b"{\"kind\":\"failed\",\"time\":".to_vec(), after: Some(after.into_bytes()) };
        }
        let hint = error.hint.unwrap_or_default();
        Message { before: format!("error: {}\n  = hint: {hint}\n", error.message).into_bytes(), after: None }
    }
}

/// What SIGBUS did before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// From here on a mapped file that is truncated ends the program with an error that names it, and exit code 1, in
/// place of SIGBUS. Call it before files are mapped.
pub fn explain_truncation() {
    // SAFETY: an action that is all zeros is one without flags and with an empty mask. The handler uses atomics and
    // what POSIX allows in handlers.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut before) != 0 || BEFORE.set(before).is_err() {
            return;
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction =
            on_bus_error as extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &action, null_mut());
    }
}

extern "C" fn on_bus_error(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system gives a valid pointer, and the field is set for SIGBUS.
    let address = unsafe { (*info).si_addr() } as usize;
    let holds = |slot: &&Slot| (slot.begin.load(Ordering::SeqCst)..slot.end.load(Ordering::SeqCst)).contains(&address);
    let message = SLOTS.iter().find(holds).map(|slot| slot.message.load(Ordering::SeqCst));
    // SAFETY: a message lives as long as the mapping that was just read.
    if let Some(message) = message.and_then(|message| unsafe { message.as_ref() }) {
        write(&message.before);
        if let Some(after) = &message.after {
            write_seconds();
            write(after);
        }
        // SAFETY: ends the process.
        unsafe { libc::_exit(1) };
    }
    if let Some(before) = BEFORE.get() {
        // The instruction runs again, and meets the action that was there before.
        // SAFETY: an action that the system gave.
        unsafe { libc::sigaction(libc::SIGBUS, before, null_mut()) };
    }
}

fn write(bytes: &[u8]) {
    // SAFETY: so many bytes are there to read. What cannot be written is lost.
    unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}

fn write_seconds() {
    // SAFETY: without a place to store it, the time is only returned.
    let mut seconds = unsafe { libc::time(null_mut()) }.unsigned_abs() as u64;
    let mut digits = [0; 20];
    let mut at = digits.len();
    while at > 0 && (seconds > 0 || at == digits.len()) {
        at -= 1;
        digits[at] = b'0' + (seconds % 10) as u8;
        seconds /= 10;
    }
    write(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_that_is_written_to_is_noticed_and_one_that_is_replaced_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, "12345678").unwrap();
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        let mapped = MappedFile::open(&path).unwrap();
        assert_eq!(&mapped.pages()[..], b"12345678");
        let other = folder.path().join("other");
        std::fs::write(&other, "87654321").unwrap();
        std::fs::rename(&path, folder.path().join("kept")).unwrap();
        std::fs::rename(&other, &path).unwrap();
        ensure_unchanged().unwrap();
        // The same number of bytes, in place.
        File::options().write(true).open(folder.path().join("kept")).unwrap().write_all(b"x").unwrap();
        let error = ensure_unchanged().unwrap_err();
        assert!(error.message.ends_with("weights` changed while in use: results are void"), "{error}");
        drop(mapped);
        ensure_unchanged().unwrap();
    }
}
