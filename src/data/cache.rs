//! Tokenised data on disk, named by the hash of everything that it depends on.
//!
//! One file per entry: a line of JSON with the lengths and a checksum, then the arrays in
//! little-endian order. An entry that is cut, changed or of another release is made anew.
//! Nothing here fails a run: without a writable cache the work is just done again.

use super::dataset::Dataset;
use super::options::TokenizeOptions;
use super::store::{Origin, Store};
use super::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::hub::tokenizer::Tokenizer;
use crate::{files, stderr};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::PathBuf;

/// Raised whenever the same input gives other tokens or labels than before.
const VERSION: u32 = 3;

#[derive(Serialize, Deserialize)]
struct Header {
    lorhai: u32,
    key: String,
    ids: usize,
    documents: usize,
    rows: usize,
    origin: Origin,
    sha256: String,
}

/// The name of an entry. `dated` puts the day in: the template writes it.
pub fn key(data: &Dataset, tokenizer: &Tokenizer, options: &TokenizeOptions, dated: bool) -> Result<String> {
    let settings = serde_json::to_string(&TokenizeOptions { audit: true, cache: true, ..options.clone() })
        .map_err(|error| Error::bug(format!("cannot write options: {error}")))?;
    let day = if dated { super::python::strftime_now("%Y-%m-%d").unwrap_or_default() } else { String::new() };
    let mut hash = Sha256::new();
    // They come from other files than the rest of a tokenizer.
    let ends = format!("{:?}", tokenizer.end_ids());
    for part in [&VERSION.to_string(), &data.fingerprint()?, tokenizer.fingerprint(), &ends, &settings, &day] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Ok(format!("{:x}", hash.finalize()))
}

/// The entry in the cache folder.
fn path(key: &str) -> Option<PathBuf> {
    Some(files::cache_folder()?.join("tokenized").join(key))
}

/// The entry, or `None` where it is missing or not whole.
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
    let mut parts = Parts { rest: body };
    let store = Store {
        ids: parts.take(header.ids, u32::from_le_bytes)?,
        trained: parts.take(header.ids.div_ceil(64), u64::from_le_bytes)?,
        document_ends: parts.take(header.documents, u64::from_le_bytes)?,
        flags: parts.take(header.documents, u16::from_le_bytes)?,
        row_ends: parts.take(header.rows, u32::from_le_bytes)?,
        origin: header.origin,
    };
    (parts.rest.is_empty() && is_sound(&store)).then(|| TokenizedDataset::whole(store))
}

/// Ends must rise and stay inside: views index by them without asking again.
fn is_sound(store: &Store) -> bool {
    let documents =
        store.document_ends.is_sorted() && store.document_ends.last().copied().unwrap_or(0) == store.ids.len() as u64;
    let rows =
        store.row_ends.is_sorted() && store.row_ends.last().copied().unwrap_or(0) as usize == store.document_ends.len();
    documents && rows
}

struct Parts<'a> {
    rest: &'a [u8],
}

impl Parts<'_> {
    fn take<T, const N: usize>(&mut self, count: usize, read: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let (head, rest) = self.rest.split_at_checked(count.checked_mul(N)?)?;
        self.rest = rest;
        head.chunks_exact(N).map(|chunk| Some(read(chunk.try_into().ok()?))).collect()
    }
}

/// Keeps an entry. A failure is told once on the error stream and is otherwise ignored.
pub fn store(key: &str, data: &TokenizedDataset) {
    let Some(path) = path(key) else { return };
    let written = encode(key, data.store()).and_then(|(header, body)| {
        files::write_whole_with(&path, |file| {
            file.write_all(&header)?;
            file.write_all(&body)
        })
    });
    if let Err(error) = written {
        static TOLD: std::sync::Once = std::sync::Once::new();
        TOLD.call_once(|| stderr::note(&format!("note: the tokenised data is not cached: {}", error.message)));
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
        origin: store.origin.clone(),
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
        });
        TokenizedDataset::from_rows(rows, Origin { pad_id: 3, added_system: Some("한".into()), ..Origin::default() })
            .unwrap()
    }

    #[test]
    fn an_entry_comes_back_as_it_was() {
        let (mut bytes, body) = encode("k", sample().store()).unwrap();
        bytes.extend(body);
        let back = read("k", &bytes).unwrap();
        assert_eq!(back.fingerprint(), sample().fingerprint());
        assert_eq!(back.origin(), sample().origin());
        assert!(read("other", &bytes).is_none());
    }

    #[test]
    fn no_damaged_entry_is_read() {
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
