//! The cache of tokenised data. An entry is named by the hash of everything it depends on.
//!
//! One file per entry: a line of JSON with lengths and checksum, then the arrays in little-endian order. An entry that is
//! truncated, changed or from another release is made again. Nothing here fails a run: without a writable cache, data is
//! tokenised every time.

use super::array::{Array, Pages};
use super::dataset::Dataset;
use super::options::TokenizeOptions;
use super::rows::memory_limit;
use super::store::{RowKind, Store, TokenizedInfo};
use super::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::hub::mapped::MappedFile;
use crate::hub::tokenizer::Tokenizer;
use crate::{files, interrupt, stderr};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Incremented whenever the same input gives other tokens or labels than before.
const VERSION: u32 = 3;

#[derive(Serialize, Deserialize)]
struct Header {
    lorhai: u32,
    key: String,
    ids: usize,
    documents: usize,
    rows: usize,
    #[serde(rename = "origin")]
    info: TokenizedInfo,
    sha256: String,
}

/// The name of an entry. It depends on the day if `is_dated`, because then the template writes the date.
pub fn key(
    data: &Dataset,
    tokenizer: &Tokenizer,
    options: &TokenizeOptions,
    kind: RowKind,
    is_dated: bool,
) -> Result<String> {
    let settings = serde_json::to_string(&TokenizeOptions { audit: true, cache: true, ..options.clone() })
        .map_err(|error| Error::bug(format!("cannot write options: {error}")))?;
    let day = if is_dated { super::python::strftime_now("%Y-%m-%d").unwrap_or_default() } else { String::new() };
    let mut hash = Sha256::new();
    // End tokens come from other files than the rest of the tokenizer.
    let ends = format!("{:?}", tokenizer.end_ids());
    for part in [&VERSION.to_string(), &data.fingerprint()?, tokenizer.fingerprint(), &ends, &settings, &day] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    // Rows of such columns were read as examples before.
    if kind != RowKind::Examples {
        hash.update(format!("{kind:?}"));
    }
    Ok(format!("{:x}", hash.finalize()))
}

/// The entry in the cache folder.
fn path(key: &str) -> Option<PathBuf> {
    Some(files::cache_folder()?.join("tokenized").join(key))
}

/// The entry; `None` if it is missing or damaged. A large one is mapped.
pub fn load(key: &str) -> Option<TokenizedDataset> {
    let path = path(key)?;
    if std::fs::metadata(&path).ok()?.len() > memory_limit() {
        return map(key, &path, Trust::Checksum);
    }
    read(key, &std::fs::read(&path).ok()?)
}

fn read(key: &str, bytes: &[u8]) -> Option<TokenizedDataset> {
    let (header, start) = header(key, bytes)?;
    if header.sha256 != format!("{:x}", Sha256::digest(&bytes[start..])) {
        return None;
    }
    let mut arrays = Arrays { rest: &bytes[start..] };
    let ids = Array::Memory(arrays.take(header.ids, u32::from_le_bytes)?);
    let trained = Array::Memory(arrays.take(header.ids.div_ceil(64) * 8, u8::from_le_bytes)?);
    arrays.store(header, ids, trained)
}

/// Whether a file is known to hold what was written to it.
#[derive(PartialEq)]
enum Trust {
    Checksum,
    /// This process has just written it.
    Written,
}

/// The entry of a mapped file. Its ends of documents and rows are read into memory.
fn map(key: &str, path: &Path, trust: Trust) -> Option<TokenizedDataset> {
    let pages = Arc::new(Pages::from(MappedFile::open(path).ok()?));
    let (header, start) = header(key, pages.bytes(0..pages.len())?)?;
    if trust == Trust::Checksum {
        let body: Array<u8> = Array::mapped(&pages, start, pages.len() - start)?;
        let mut hash = Sha256::new();
        for piece in body.pieces() {
            interrupt::check().ok()?;
            hash.update(piece);
        }
        if header.sha256 != format!("{:x}", hash.finalize()) {
            return None;
        }
    }
    let bits = header.ids.div_ceil(64) * 8;
    let ends = start.checked_add(header.ids.checked_mul(4)?)?.checked_add(bits)?;
    let arrays = Arrays { rest: pages.bytes(ends..pages.len())? };
    let ids = match Array::mapped(&pages, start, header.ids).filter(|_| cfg!(target_endian = "little")) {
        Some(ids) => ids,
        // Entries of earlier releases are not aligned.
        None => {
            let mut arrays = Arrays { rest: pages.bytes(start..pages.len())? };
            Array::Memory(arrays.take(header.ids, u32::from_le_bytes)?)
        }
    };
    let trained = Array::mapped(&pages, ends - bits, bits)?;
    arrays.store(header, ids, trained)
}

/// The header of an entry, and where its body begins.
fn header(key: &str, bytes: &[u8]) -> Option<(Header, usize)> {
    let line = bytes.iter().position(|&byte| byte == b'\n')?;
    let header: Header = serde_json::from_slice(&bytes[..line]).ok()?;
    (header.lorhai == VERSION && header.key == key).then_some((header, line + 1))
}

/// Whether the ends ascend and stay in range. Views index by them without another check.
fn is_sound(store: &Store) -> bool {
    let documents =
        store.document_ends.is_sorted() && store.document_ends.last().copied().unwrap_or(0) == store.ids.len() as u64;
    let rows =
        store.row_ends.is_sorted() && store.row_ends.last().copied().unwrap_or(0) as usize == store.document_ends.len();
    documents && rows
}

/// Reads one array after the other.
struct Arrays<'a> {
    rest: &'a [u8],
}

impl Arrays<'_> {
    fn take<T, const N: usize>(&mut self, count: usize, read: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let (head, rest) = self.rest.split_at_checked(count.checked_mul(N)?)?;
        self.rest = rest;
        head.chunks_exact(N).map(|chunk| Some(read(chunk.try_into().ok()?))).collect()
    }

    /// The store of these ids and labels, with the arrays that come after them.
    fn store(mut self, header: Header, ids: Array<u32>, trained: Array<u8>) -> Option<TokenizedDataset> {
        let store = Store {
            ids,
            trained,
            document_ends: self.take(header.documents, u64::from_le_bytes)?,
            flags: self.take(header.documents, u16::from_le_bytes)?,
            row_ends: self.take(header.rows, u32::from_le_bytes)?,
            info: header.info,
            // Rows with weights are not cached.
            weights: Array::default(),
        };
        (self.rest.is_empty() && is_sound(&store)).then(|| TokenizedDataset::of_store(store))
    }
}

/// Writes an entry, and returns the data: those of the entry where they are mapped, so that no other file holds them too. The
/// first failure is noted on stderr; failures are otherwise ignored.
pub fn store(key: &str, data: TokenizedDataset) -> TokenizedDataset {
    let Some(path) = path(key) else { return data };
    let written = header_line(key, data.store()).and_then(|header| {
        files::write_atomic_with(&path, |file| {
            let mut file = BufWriter::with_capacity(1 << 20, file);
            file.write_all(&header)?;
            each_piece(data.store(), |bytes| file.write_all(bytes))?;
            file.flush()
        })
    });
    match written {
        Ok(()) if data.store().ids.is_mapped() => map(key, &path, Trust::Written).unwrap_or(data),
        Ok(()) => data,
        Err(error) => {
            static NOTED: std::sync::Once = std::sync::Once::new();
            NOTED.call_once(|| stderr::note(&format!("note: the tokenised data is not cached: {}", error.message)));
            data
        }
    }
}

/// The body of an entry, piece by piece.
fn each_piece<E>(store: &Store, mut on_piece: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut bytes = Vec::new();
    for ids in store.ids.pieces() {
        bytes.clear();
        ids.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
        on_piece(&bytes)?;
    }
    store.trained.pieces().try_for_each(&mut on_piece)?;
    on_piece(&[0; 8][..(store.ids.len().div_ceil(64) * 8).saturating_sub(store.trained.len())])?;
    let ends: [Vec<u8>; 3] = [
        store.document_ends.iter().flat_map(|end| end.to_le_bytes()).collect(),
        store.flags.iter().flat_map(|flags| flags.to_le_bytes()).collect(),
        store.row_ends.iter().flat_map(|end| end.to_le_bytes()).collect(),
    ];
    ends.iter().try_for_each(|bytes| on_piece(bytes))
}

/// The header, with spaces that align the body.
fn header_line(key: &str, store: &Store) -> Result<Vec<u8>> {
    let mut hash = Sha256::new();
    each_piece(store, |bytes| {
        hash.update(bytes);
        interrupt::check()
    })?;
    let header = Header {
        lorhai: VERSION,
        key: key.to_owned(),
        ids: store.ids.len(),
        documents: store.document_ends.len(),
        rows: store.row_ends.len(),
        info: store.info.clone(),
        sha256: format!("{:x}", hash.finalize()),
    };
    let mut line =
        serde_json::to_vec(&header).map_err(|error| Error::bug(format!("cannot write a header: {error}")))?;
    line.resize((line.len() + 1).next_multiple_of(8) - 1, b' ');
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::store::TokenizedRow;

    fn sample() -> TokenizedDataset {
        let rows = (0..50u32).map(|row| TokenizedRow {
            ids: (0..row % 7 + 1).collect(),
            trained: (0..row % 7 + 1).map(|token| token % 2 == 1).collect(),
            flags: (row % 3) as u16,
            weights: None,
        });
        TokenizedDataset::from_rows(
            rows,
            TokenizedInfo { pad_id: 3, added_system: Some("한".into()), ..TokenizedInfo::default() },
        )
        .unwrap()
    }

    fn encoded(data: &TokenizedDataset) -> (usize, Vec<u8>) {
        let mut bytes = header_line("k", data.store()).unwrap();
        let start = bytes.len();
        each_piece(data.store(), |piece| {
            bytes.extend(piece);
            Ok::<(), Error>(())
        })
        .unwrap();
        (start, bytes)
    }

    /// The entry that a file of these bytes is mapped as.
    fn mapped(bytes: &[u8]) -> Option<TokenizedDataset> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("k"), bytes).unwrap();
        map("k", &folder.path().join("k"), Trust::Checksum)
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let (start, bytes) = encoded(&sample());
        assert_eq!(start % 8, 0);
        let maps = mapped(&bytes).unwrap();
        assert!(maps.store().ids.is_mapped());
        for back in [read("k", &bytes).unwrap(), maps] {
            assert_eq!(back.fingerprint(), sample().fingerprint());
            assert_eq!(back.info(), sample().info());
        }
        assert!(read("other", &bytes).is_none());
        // As earlier releases wrote it, without spaces.
        let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
        let header = bytes[..end].trim_ascii_end();
        for spaces in 0..8 {
            let old = [header, &b"        "[..spaces], &bytes[end..]].concat();
            assert_eq!(mapped(&old).unwrap().fingerprint(), sample().fingerprint());
        }
    }

    #[test]
    fn damaged_entries_are_not_read() {
        let (header, bytes) = encoded(&sample());
        for cut in (0..bytes.len()).step_by(7) {
            assert!(read("k", &bytes[..cut]).is_none() && mapped(&bytes[..cut]).is_none(), "cut at {cut}");
        }
        for at in (header..bytes.len()).step_by(5) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(read("k", &changed).is_none() && mapped(&changed).is_none(), "changed at {at}");
        }
    }
}
