//! The header of a safetensors file, checked to the last byte.
//!
//! Format: 8 bytes little-endian header length, the header as JSON, the data. The
//! `safetensors` crate supplies the types and the offset rules. It accepts duplicate names and
//! absurd shapes, and does not say which tensor is wrong, so those checks are here.

use super::{broken, Info};
use crate::error::Result;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

/// The limit of the reference implementation on a header, in bytes.
const MAX_HEADER: u64 = 100_000_000;
const LENGTH_BYTES: usize = 8;
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// One tensor as its file describes it; `bytes` counts from the start of the file.
pub struct Described {
    pub name: String,
    pub info: Info,
    pub bytes: Range<usize>,
}

/// Reads the header of the file whose whole content is `content`.
pub fn parse(path: &Path, content: &[u8]) -> Result<Vec<Described>> {
    ensure_safetensors(path, content)?;
    let text = header_text(path, content)?;
    let start = LENGTH_BYTES + text.len();
    let tensors = entries(text).map_err(|error| {
        broken(path, format!("broken safetensors header: {error}"))
            .with_hint("the file is damaged or was written by a faulty program: fetch it again")
    })?;
    let mut described = Vec::with_capacity(tensors.len());
    for (name, info) in &tensors {
        described.push(check(name, info, start).map_err(|what| broken(path, format!("tensor `{name}`: {what}")))?);
    }
    let end = start + data_length(tensors).map_err(|what| broken(path, what))?;
    if content.len() < end {
        return Err(broken(path, format!("truncated: expected {end} bytes, found {}", content.len()))
            .with_hint("the download or copy did not finish: fetch the file again"));
    }
    if content.len() > end {
        return Err(broken(path, format!("{} bytes follow the last tensor", content.len() - end)));
    }
    Ok(described)
}

/// The further pairs of a header that [`parse`] accepts.
pub fn metadata(path: &Path, content: &[u8]) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Header {
        __metadata__: BTreeMap<String, String>,
    }
    let header: Header = serde_json::from_str(header_text(path, content)?).unwrap_or_default();
    Ok(header.__metadata__)
}

fn ensure_safetensors(path: &Path, content: &[u8]) -> Result<()> {
    if content.starts_with(LFS_POINTER) {
        return Err(broken(path, "expected weights, found a git-lfs pointer")
            .with_hint("run `git lfs pull` in that folder, or fetch the file from the hub"));
    }
    if content.starts_with(b"PK\x03\x04") || content.starts_with(b"\x80\x02") {
        return Err(broken(path, "expected safetensors, found a PyTorch pickle file")
            .with_hint("convert it with transformers: `model.save_pretrained(folder)` writes safetensors"));
    }
    if content.starts_with(b"GGUF") {
        return Err(broken(path, "expected safetensors, found a GGUF file"));
    }
    Ok(())
}

fn header_text<'a>(path: &Path, content: &'a [u8]) -> Result<&'a str> {
    let not_safetensors = |what: String| {
        broken(path, format!("not a safetensors file: {what}"))
            .with_hint("fetch the file again, or check what kind of file it is")
    };
    let Some(length) = content.first_chunk::<LENGTH_BYTES>().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return Err(not_safetensors(format!("expected at least {LENGTH_BYTES} bytes, found {}", content.len())));
    };
    if length > MAX_HEADER {
        return Err(not_safetensors(format!(
            "expected a header of at most {MAX_HEADER} bytes, found a length of {length}"
        )));
    }
    let end = LENGTH_BYTES + length as usize;
    let Some(bytes) = content.get(LENGTH_BYTES..end) else {
        return Err(broken(
            path,
            format!("truncated: expected a header of {length} bytes, found {}", content.len() - LENGTH_BYTES),
        )
        .with_hint("the download or copy did not finish: fetch the file again"));
    };
    std::str::from_utf8(bytes).map_err(|error| {
        not_safetensors(format!("the header is not UTF-8 at byte {}", LENGTH_BYTES + error.valid_up_to()))
    })
}

/// All entries but the metadata, in file order. A duplicate name is an error: readers differ in which of
/// the two they use.
fn entries(text: &str) -> serde_json::Result<Vec<(String, TensorInfo)>> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, TensorInfo)>;
        fn expecting(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
            out.write_str("a map from tensor names to their dtype, shape and data_offsets")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut entries, mut seen) = (Vec::new(), HashSet::new());
            while let Some(name) = map.next_key::<String>()? {
                if !seen.insert(name.clone()) {
                    return Err(A::Error::custom(format!("`{}` appears twice", name.escape_debug())));
                }
                if name.chars().any(char::is_control) {
                    return Err(A::Error::custom(format!("`{}` is not a tensor name", name.escape_debug())));
                }
                if name == "__metadata__" {
                    map.next_value::<HashMap<String, String>>()?;
                    continue;
                }
                let info = map.next_value().map_err(|error| A::Error::custom(format!("tensor `{name}`: {error}")))?;
                entries.push((name, info));
            }
            Ok(entries)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let entries = reader.deserialize_map(Entries)?;
    reader.end()?;
    Ok(entries)
}

/// Checks one tensor: its shape is in range, and its bytes are as many as shape and dtype need.
fn check(name: &str, tensor: &TensorInfo, start: usize) -> Result<Described, String> {
    let (begin, end) = tensor.data_offsets;
    let shape: Option<Vec<i64>> = tensor.shape.iter().map(|size| i64::try_from(*size).ok()).collect();
    // Sizes of zero count as one, so that strides cannot overflow.
    let product = tensor.shape.iter().try_fold(1_usize, |all, size| all.checked_mul((*size).max(1)));
    let bits = product.and_then(|count| count.checked_mul(tensor.dtype.bitsize()));
    let (Some(shape), Some(_)) = (shape, bits.filter(|bits| i64::try_from(*bits).is_ok())) else {
        return Err(format!("shape {:?} is too large", tensor.shape));
    };
    let needed = tensor.shape.iter().product::<usize>() * tensor.dtype.bitsize() / 8;
    if end.checked_sub(begin) != Some(needed) {
        return Err(format!(
            "expected {needed} bytes for shape {shape:?} of {}, found offsets {begin} to {end}",
            tensor.dtype
        ));
    }
    let overflow = || format!("offsets {begin} to {end} are out of range");
    let bytes = start.checked_add(begin).ok_or_else(overflow)?..start.checked_add(end).ok_or_else(overflow)?;
    Ok(Described { name: name.to_string(), info: Info { dtype: tensor.dtype, shape }, bytes })
}

/// The bytes of all tensors together, which must be contiguous.
fn data_length(mut tensors: Vec<(String, TensorInfo)>) -> Result<usize, String> {
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    match Metadata::new(None, tensors) {
        Ok(checked) => Ok(checked.data_len()),
        Err(safetensors::SafeTensorError::InvalidOffset(name)) => {
            Err(format!("tensor `{name}`: its data overlaps another's or leaves a gap"))
        }
        Err(error) => Err(format!("broken safetensors header: {error}")),
    }
}
