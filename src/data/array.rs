//! Long arrays of numbers: in memory while they are short, otherwise in a mapped file.
//!
//! Pages of a mapped file that were read stay in the process until memory is short. So that a process does not seem to hold
//! all that it ever read, they are given back after every [`RESIDENT`] bytes; the system still has them in its cache.

use super::rows::memory_limit;
use crate::error::{Error, Result};
use crate::files::ScratchFile;
use crate::hub::mapped::MappedFile;
use memmap2::{Mmap, MmapMut, UncheckedAdvice};
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What errors call the content of a file.
const WHAT: &str = "tokens of a large data set";
/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;
/// About the bytes of mapped pages that stay in the process.
const RESIDENT: u64 = 256 << 20;
/// With each page that is read, the system maps its neighbours.
const AROUND: u64 = 64 << 10;

/// A number in an array.
pub trait Number: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + Sync + 'static {}
impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + Sync + 'static> Number for T {}

/// A mapped file.
#[derive(Debug)]
pub struct Pages {
    mapping: Mapping,
    /// Bytes that were read since pages were last given back.
    read: AtomicU64,
}

#[derive(Debug)]
enum Mapping {
    /// Of a file without a name, which nobody else can change.
    Scratch(Mmap),
    File(MappedFile),
}

impl From<MappedFile> for Pages {
    fn from(file: MappedFile) -> Self {
        Pages { mapping: Mapping::File(file), read: AtomicU64::new(0) }
    }
}

impl Pages {
    /// Bytes of the file. Gives pages back from time to time, which are read again where they are still needed.
    pub fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        let size = range.len() as u64 + AROUND;
        if self.read.fetch_add(size, Ordering::Relaxed) + size > RESIDENT {
            self.read.store(0, Ordering::Relaxed);
            self.give_back();
        }
        let bytes: &[u8] = match &self.mapping {
            Mapping::Scratch(pages) => pages,
            Mapping::File(file) => file.pages(),
        };
        bytes.get(range)
    }

    pub fn len(&self) -> usize {
        match &self.mapping {
            Mapping::Scratch(pages) => pages.len(),
            Mapping::File(file) => file.pages().len(),
        }
    }

    fn give_back(&self) {
        // A refusal costs nothing but memory.
        // SAFETY: nothing was written to the pages, so the next read finds in the file what they held.
        let _ = unsafe {
            match &self.mapping {
                Mapping::Scratch(pages) => pages.unchecked_advise(UncheckedAdvice::DontNeed),
                Mapping::File(file) => MmapMut::unchecked_advise(file.pages(), UncheckedAdvice::DontNeed),
            }
        };
    }
}

/// Numbers, one after the other.
#[derive(Debug)]
pub enum Array<T> {
    Memory(Vec<T>),
    Mapped {
        pages: Arc<Pages>,
        /// In bytes.
        range: Range<usize>,
    },
}

impl<T> Default for Array<T> {
    fn default() -> Self {
        Array::Memory(Vec::new())
    }
}

impl<T: Number> Array<T> {
    /// Numbers that begin at byte `start` of a mapped file, in the byte order of this machine; `None` where there are not so
    /// many, and where they are not aligned.
    pub fn mapped(pages: &Arc<Pages>, start: usize, len: usize) -> Option<Self> {
        let range = start..start.checked_add(len.checked_mul(size_of::<T>())?)?;
        <[T]>::ref_from_bytes(pages.bytes(range.clone())?).ok()?;
        Some(Array::Mapped { pages: pages.clone(), range })
    }

    pub fn len(&self) -> usize {
        match self {
            Array::Memory(values) => values.len(),
            Array::Mapped { range, .. } => range.len() / size_of::<T>(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_mapped(&self) -> bool {
        matches!(self, Array::Mapped { .. })
    }

    /// The numbers in a range of indices; none where the range leaves the array.
    pub fn slice(&self, indices: Range<usize>) -> &[T] {
        match self {
            Array::Memory(values) => values.get(indices).unwrap_or_default(),
            Array::Mapped { pages, range } => {
                let byte = |index: usize| range.start + index.saturating_mul(size_of::<T>());
                let bytes = byte(indices.start)..byte(indices.end).min(range.end);
                let bytes = pages.bytes(bytes).unwrap_or_default();
                <[T]>::ref_from_bytes(bytes).unwrap_or_default()
            }
        }
    }

    /// The numbers piece by piece, for what reads all of them.
    pub fn pieces(&self) -> impl Iterator<Item = &[T]> {
        const PIECE: usize = 1 << 18;
        (0..self.len()).step_by(PIECE).map(|start| self.slice(start..self.len().min(start + PIECE)))
    }
}

/// Makes an array from its beginning to its end.
#[derive(Debug)]
pub struct ArrayWriter<T> {
    /// What is not in the file.
    values: Vec<T>,
    file: Option<ScratchFile>,
    len: usize,
    /// The bytes that may stay in memory.
    limit: u64,
}

impl<T> Default for ArrayWriter<T> {
    fn default() -> Self {
        ArrayWriter { values: Vec::new(), file: None, len: 0, limit: memory_limit() }
    }
}

impl<T: Number> ArrayWriter<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// # Errors
    /// A disk that is full or fails.
    pub fn extend(&mut self, values: impl IntoIterator<Item = T>) -> Result<()> {
        let before = self.values.len();
        self.values.extend(values);
        self.len += self.values.len() - before;
        let bytes = size_of_val(&self.values[..]);
        if self.file.is_none() && bytes as u64 > self.limit {
            match ScratchFile::new() {
                Ok(file) => self.file = Some(file),
                // Without a folder for it all stays in memory.
                Err(_) => self.limit = u64::MAX,
            }
        }
        if self.file.is_some() && bytes >= BUFFER {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<()> {
        if let Some(scratch) = &mut self.file {
            let written = scratch.file.write_all(self.values.as_bytes());
            written.map_err(|error| scratch.cannot_write(WHAT, &error))?;
            // The first piece is as large as the limit.
            if self.values.capacity() * size_of::<T>() > 2 * BUFFER {
                self.values = Vec::new()
            } else {
                self.values.clear()
            }
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Array<T>> {
        self.flush()?;
        let Some(scratch) = self.file else { return Ok(Array::Memory(self.values)) };
        // SAFETY: the file has no name and no other handle, so nobody truncates it.
        let pages = unsafe { Mmap::map(&scratch.file) }.map_err(|error| scratch.cannot_read(WHAT, error))?;
        let pages = Arc::new(Pages { mapping: Mapping::Scratch(pages), read: AtomicU64::new(0) });
        Array::mapped(&pages, 0, self.len)
            .ok_or_else(|| Error::bug("a file of tokens has another size than was written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limit: u64) -> Array<u32> {
        let mut writer = ArrayWriter { limit, ..ArrayWriter::default() };
        (0..1_000_u32).for_each(|part| writer.extend((0..part).map(|at| part * 1000 + at)).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn arrays_in_files_hold_what_arrays_in_memory_do() {
        let (memory, mapped) = (written(u64::MAX), written(100));
        assert!(!memory.is_mapped() && mapped.is_mapped());
        assert_eq!((memory.len(), mapped.len()), (499_500, 499_500));
        assert_eq!(mapped.pieces().flatten().collect::<Vec<_>>(), memory.pieces().flatten().collect::<Vec<_>>());
        assert_eq!(mapped.slice(0..3), [1000, 2000, 2001]);
        assert_eq!(mapped.slice(499_499..499_500), [999_998]);
        assert_eq!(mapped.slice(499_500..499_500), [0_u32; 0]);
    }

    #[test]
    fn pages_that_are_given_back_are_read_again() {
        let mapped = written(100);
        let Array::Mapped { pages, .. } = &mapped else { panic!("not mapped") };
        let before = mapped.slice(0..100).to_vec();
        pages.give_back();
        assert_eq!(mapped.slice(0..100), before);
        for _ in 0..2 * RESIDENT / AROUND {
            assert_eq!(mapped.slice(7..9).len(), 2);
        }
    }
}
