//! The files of a model mapped into memory, and tensors that share their pages.

use crate::error::{Error, Result};
use crate::hub::mapped::{MappedFile, MappedFiles};
use crate::native;
use memmap2::UncheckedAdvice;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Files mapped into memory. Each stays mapped as long as this value, a clone of it, or a tensor over its
/// pages lives.
#[derive(Clone, Default)]
pub struct Mapping {
    files: Arc<Vec<Arc<MappedFile>>>,
}

impl fmt::Debug for Mapping {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.files.iter().map(|file| file.path())).finish()
    }
}

impl Mapping {
    /// Maps one more file and returns its number.
    pub(super) fn add(&mut self, path: &Path) -> Result<usize> {
        let file = Arc::new(MappedFile::open(path)?);
        let files = Arc::make_mut(&mut self.files);
        files.push(file);
        Ok(files.len() - 1)
    }

    pub(super) fn files(&self) -> MappedFiles {
        self.files.iter().map(|file| file.source()).collect()
    }

    pub(super) fn bytes(&self, file: usize) -> &[u8] {
        self.files[file].pages()
    }

    pub(super) fn path(&self, file: usize) -> &Path {
        self.files[file].path()
    }

    /// Drops the pages that lie entirely within `bytes`. Pages that the system does not drop stay.
    pub(super) fn release(&self, file: usize, bytes: Range<usize>) {
        const PAGE: usize = 1 << 16; // a multiple of every page size
        let (begin, end) = (bytes.start.next_multiple_of(PAGE), bytes.end / PAGE * PAGE);
        if begin >= end {
            return;
        }
        // SAFETY: the mapping is private and backed by a file, so a dropped page is read from it again.
        // Only changes made in this process are lost, and tensors still in use lie on other pages.
        let pages = self.files[file].pages();
        let _ = unsafe { pages.unchecked_advise_range(UncheckedAdvice::DontNeed, begin, end - begin) };
    }

    /// Whether all bytes of a tensor lie in one of the files.
    pub(super) fn holds(&self, tensor: &tch::Tensor) -> bool {
        if tensor.device() != tch::Device::Cpu || !tensor.is_contiguous() {
            return false;
        }
        let begin = tensor.data_ptr() as usize;
        let end = begin + tensor.numel() * tensor.kind().elt_size_in_bytes();
        self.files.iter().any(|file| {
            let pages = file.pages().as_ptr_range();
            pages.start as usize <= begin && end <= pages.end as usize
        })
    }

    /// A tensor over `bytes` of `file`; the header check has shown that they fit `shape`.
    pub(super) fn tensor(
        &self,
        file: usize,
        bytes: Range<usize>,
        shape: &[i64],
        kind: tch::Kind,
    ) -> Result<tch::Tensor> {
        let bytes = self.bytes(file).get(bytes).ok_or_else(|| Error::bug("tensor lies outside its file"))?;
        if bytes.is_empty() {
            return Ok(tch::Tensor::f_empty(shape, (kind, tch::Device::Cpu))?);
        }
        // A C++ bool of any other byte is undefined behaviour.
        if kind == tch::Kind::Bool && bytes.iter().any(|byte| *byte > 1) {
            return Err(Error::model("expected booleans stored as 0 or 1, found another byte"));
        }
        // Other writers may start a tensor at any byte, but libtorch reads aligned words: then it is copied.
        if bytes.as_ptr().align_offset(kind.elt_size_in_bytes()) != 0 {
            return Ok(tch::Tensor::f_from_data_size(bytes, shape, kind)?);
        }
        // SAFETY: the pages are readable and writable (a private copy-on-write mapping), hold the elements
        // of `shape`, and do not move as long as their owner lives.
        unsafe { native::tensor_over(bytes, Arc::clone(&self.files[file]), shape, kind) }
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.files.as_slice() {
            [] => out.write_str("no file"),
            [one] => write!(out, "`{}`", one.path().display()),
            [first, rest @ ..] => write!(out, "`{}` and {} more files", first.path().display(), rest.len()),
        }
    }
}
