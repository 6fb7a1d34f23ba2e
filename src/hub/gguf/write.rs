//! Writes a GGUF file with one tensor in memory at a time.

use super::{BlockType, Value, ALIGNMENT, MAGIC, VERSION};
use crate::error::{Error, Result};
use crate::hub::mapped;
use crate::{files, interrupt};
use std::io::Write;
use std::path::Path;
use tch::{Device, Kind as Dtype, Tensor};

/// A tensor that is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub name: String,
    /// In the order of libtorch; the file lists the sizes from the last to the first.
    pub shape: Vec<i64>,
    pub block: BlockType,
}

impl Planned {
    fn numbers(&self) -> usize {
        self.shape.iter().product::<i64>() as usize
    }

    fn bytes(&self) -> usize {
        self.block.bytes(self.numbers())
    }
}

/// Writes `path` atomically; `tensor` makes each planned tensor when it is written.
pub fn write(
    path: &Path,
    settings: &[(String, Value)],
    planned: &[Planned],
    tensor: &mut dyn FnMut(&str) -> Result<Tensor>,
) -> Result<()> {
    let header = header(settings, planned)?;
    let mut failure = None;
    let written = files::write_atomic_with(path, |file| {
        let mut out = std::io::BufWriter::new(file);
        out.write_all(&header)?;
        for one in planned {
            match encoded(one, tensor) {
                Ok(bytes) => out.write_all(&bytes)?,
                Err(error) => {
                    failure = Some(error.context(format!("tensor `{}`", one.name)));
                    return Err(std::io::ErrorKind::Other.into());
                }
            }
        }
        out.flush()?;
        mapped::ensure_unchanged().map_err(|error| {
            failure = Some(error);
            std::io::ErrorKind::Other.into()
        })
    });
    failure.map_or(written, Err)
}

/// The bytes of a tensor, padded.
fn encoded(planned: &Planned, tensor: &mut dyn FnMut(&str) -> Result<Tensor>) -> Result<Vec<u8>> {
    interrupt::check()?;
    let tensor = tensor(&planned.name)?;
    if tensor.size() != planned.shape {
        return Err(Error::bug(format!("expected shape {:?}, found {:?}", planned.shape, tensor.size())));
    }
    let host = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Dtype::Float)?.f_contiguous()?;
    let numbers = Vec::<f32>::try_from(host.f_flatten(0, -1)?)?;
    let mut bytes = planned.block.encode(&numbers);
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    Ok(bytes)
}

fn header(settings: &[(String, Value)], planned: &[Planned]) -> Result<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((planned.len() as u64).to_le_bytes());
    out.extend((settings.len() as u64).to_le_bytes());
    for (key, value) in settings {
        put_text(&mut out, key);
        out.extend(value.code().to_le_bytes());
        put_value(&mut out, value)?;
    }
    let mut begin = 0;
    for tensor in planned {
        put_text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|size| out.extend(size.to_le_bytes()));
        out.extend(tensor.block.code().to_le_bytes());
        out.extend((begin as u64).to_le_bytes());
        begin += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    Ok(out)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) -> Result<()> {
    match value {
        Value::U32(number) => out.extend(number.to_le_bytes()),
        Value::I32(number) => out.extend(number.to_le_bytes()),
        Value::F32(number) => out.extend(number.to_le_bytes()),
        Value::U64(number) => out.extend(number.to_le_bytes()),
        Value::I64(number) => out.extend(number.to_le_bytes()),
        Value::F64(number) => out.extend(number.to_le_bytes()),
        Value::Bool(flag) => out.push(u8::from(*flag)),
        Value::Text(text) => put_text(out, text),
        Value::List(items) => {
            let code = items.first().map_or(Value::U32(0).code(), Value::code);
            if items.iter().any(|item| item.code() != code) {
                return Err(Error::bug("a list in a GGUF file holds values of several kinds"));
            }
            out.extend(code.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            for item in items {
                put_value(out, item)?;
            }
        }
    }
    Ok(())
}
