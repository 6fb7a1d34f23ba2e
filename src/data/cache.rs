//! The cache of tokenised data. An entry is named by the hash of everything it depends on.
//!
//! One file per entry: a line of JSON with lengths and checksum, then the arrays in little-endian order. An entry that is
//! truncated, changed or from another release is made again. Nothing here fails a run: without a writable cache, data is
//! tokenised every time.

use super::dataset::Dataset;
use super::options::TokenizeOptions;
use super::store::{RowKind, Store, TokenizedInfo};
use super::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::hub::tokenizer::Tokenizer;
use crate::{files, stderr};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::PathBuf;

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

/// The entry; `None` if it is missing or damaged.
pub fn load(key: &str) -> Option<TokenizedDataset> {
    read(key, &std::fs::read(path(key)?).ok()?)
}

fn read(key: &str, bytes: &[u8]) -> Option<TokenizedDataset> {
    let line = bytes.iter().position(|&byte| byte == b'\n')?;
    let header: Header = serde_json::from_slice(&bytes[..line]).ok()?;
    let body = &bytes[line + 1..];
    if header.lorhai != VERSION || header.key != key || header.sha256 != format!("{:x}", Sha256::digest(body)) {
        return None;
    }
    let mut arrays = Arrays { rest: body };
    let store = Store {
        ids: arrays.take(header.ids, u32::from_le_bytes)?,
        trained: arrays.take(header.ids.div_ceil(64), u64::from_le_bytes)?,
        document_ends: arrays.take(header.documents, u64::from_le_bytes)?,
        flags: arrays.take(header.documents, u16::from_le_bytes)?,
        row_ends: arrays.take(header.rows, u32::from_le_bytes)?,
        info: header.info,
        // Rows with weights are not cached.
        weights: Vec::new(),
    };
    (arrays.rest.is_empty() && is_sound(&store)).then(|| TokenizedDataset::of_store(store))
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
}

/// Writes an entry. The first failure is noted on stderr; failures are otherwise ignored.
pub fn store(key: &str, data: &TokenizedDataset) {
    let Some(path) = path(key) else { return };
    let written = encode(key, data.store()).and_then(|(header, body)| {
        files::write_atomic_with(&path, |file| {
            file.write_all(&header)?;
            file.write_all(&body)
        })
    });
    if let Err(error) = written {
        static NOTED: std::sync::Once = std::sync::Once::new();
        NOTED.call_once(|| stderr::note(&format!("note: the tokenised data is not cached: {}", error.message)));
    }
}

fn encode(key: &str, store: &Store) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut body = Vec::with_capacity(store.ids.len() * 4 + store.trained.len() * 8 + store.document_ends.len() * 14);
    store.ids.iter().for_each(|id| body.extend(id.to_le_bytes()));
    store.trained.iter().for_each(|bits| body.extend(bits.to_le_bytes()));
    store.document_ends.iter().for_each(|end| body.extend(end.to_le_bytes()));
    store.flags.iter().for_each(|flags| body.extend(flags.to_le_bytes()));
    store.row_ends.iter().for_each(|end| body.extend(end.to_le_bytes()));
    let header = Header {
        lorhai: VERSION,
        key: key.to_owned(),
        ids: store.ids.len(),
        documents: store.document_ends.len(),
        rows: store.row_ends.len(),
        info: store.info.clone(),
        sha256: format!("{:x}", Sha256::digest(&body)),
    };
    let mut line =
        serde_json::to_vec(&header).map_err(|error| Error::bug(format!("cannot write a header: {error}")))?;
    line.push(b'\n');
    Ok((line, body))
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

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let (mut bytes, body) = encode("k", sample().store()).unwrap();
        bytes.extend(body);
        let back = read("k", &bytes).unwrap();
        assert_eq!(back.fingerprint(), sample().fingerprint());
        assert_eq!(back.info(), sample().info());
        assert!(read("other", &bytes).is_none());
    }

    #[test]
    fn damaged_entries_are_not_read() {
        let (mut bytes, body) = encode("k", sample().store()).unwrap();
        let header = bytes.len();
        bytes.extend(body);
        for cut in (0..bytes.len()).step_by(7) {
            assert!(read("k", &bytes[..cut]).is_none(), "cut at {cut}");
        }
        for at in (header..bytes.len()).step_by(5) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(read("k", &changed).is_none(), "changed at {at}");
        }
    }
}
