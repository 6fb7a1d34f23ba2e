//! Writes tensors as one safetensors file, atomically.

use crate::error::{Error, Result};
use crate::files;
use crate::hub::mapped;
use safetensors::Dtype;
use serde_json::{json, Map, Value};
use std::io::Write;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Writes `tensors` to `path`, with the metadata `format: pt` that PyTorch readers expect
/// and the further pairs of `metadata`.
///
/// Tensors are in the order of the reference writer: wider elements first, so that each is aligned, then
/// by name. So the same tensors always give the same bytes. Tensors on a GPU are copied to the host one at
/// a time.
///
/// # Errors
/// `Kind::File` if the file cannot be written; an existing file is then unchanged.
pub fn save(path: &Path, tensors: &[(String, Tensor)], metadata: &[(&str, &str)]) -> Result<()> {
    let mut sorted: Vec<(&str, &Tensor, Kind)> = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        sorted.push((name, tensor, tensor.f_kind()?));
    }
    sorted.sort_by_key(|(name, _, kind)| (std::cmp::Reverse(kind.elt_size_in_bytes()), *name));
    let header = header(&sorted, metadata)?;
    let mut failure = None;
    let written = files::write_atomic_with(path, |file| {
        let mut out = std::io::BufWriter::new(file);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for (name, tensor, _) in &sorted {
            match on_host(tensor) {
                Ok(tensor) => write_elements(&mut out, &tensor)?,
                Err(error) => {
                    failure = Some(error.context(format!("tensor `{name}`")));
                    return Err(std::io::ErrorKind::Other.into());
                }
            }
        }
        out.flush()?;
        // Last: what was saved may be computed from a file that is mapped, or may lie in one.
        mapped::ensure_unchanged().map_err(|error| {
            failure = Some(error);
            std::io::ErrorKind::Other.into()
        })
    });
    match failure {
        Some(error) => Err(error),
        None => written,
    }
}

/// The JSON header, padded with spaces so that the data begins at a multiple of eight bytes.
fn header(sorted: &[(&str, &Tensor, Kind)], metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut about = Map::new();
    about.insert("format".into(), Value::from("pt"));
    about.extend(metadata.iter().map(|(key, value)| (key.to_string(), Value::from(*value))));
    let mut entries = Map::new();
    entries.insert("__metadata__".into(), about.into());
    let mut begin = 0;
    for (name, tensor, kind) in sorted {
        let end = begin + tensor.numel() * kind.elt_size_in_bytes();
        let dtype = dtype(*kind).map_err(|error| error.context(format!("tensor `{name}`")))?.to_string();
        let entry = json!({ "dtype": dtype, "shape": tensor.size(), "data_offsets": [begin, end] });
        if entries.insert(name.to_string(), entry).is_some() {
            return Err(Error::bug(format!("tensor `{name}` would be saved twice")));
        }
        begin = end;
    }
    let mut bytes = Value::from(entries).to_string().into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

fn dtype(kind: Kind) -> Result<Dtype> {
    Ok(match kind {
        Kind::Float => Dtype::F32,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Half => Dtype::F16,
        Kind::Double => Dtype::F64,
        Kind::Int64 => Dtype::I64,
        Kind::Int => Dtype::I32,
        Kind::Int16 => Dtype::I16,
        Kind::Int8 => Dtype::I8,
        Kind::Uint8 => Dtype::U8,
        Kind::Bool => Dtype::BOOL,
        other => return Err(Error::model(format!("elements of type {other:?} cannot be saved as safetensors"))),
    })
}

fn on_host(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?)
}

fn write_elements(out: &mut impl Write, tensor: &Tensor) -> std::io::Result<()> {
    let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
    if length == 0 {
        return Ok(());
    }
    // SAFETY: a contiguous host tensor is `length` bytes from its data pointer, and it lives
    // until the end of this call.
    let bytes = unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>().cast_const(), length) };
    out.write_all(bytes)
}
