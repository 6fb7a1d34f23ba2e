//! Reading a GGUF file, every length checked before it is used.

use super::{BlockType, Settings, Value, ALIGNMENT, MAGIC, VERSION};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::hub::mapped::MappedFile;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use tch::Tensor;

/// An opened file: its settings, and its tensors, decoded on request.
#[derive(Debug)]
pub struct Gguf {
    pub settings: Settings,
    tensors: BTreeMap<String, Entry>,
    file: MappedFile,
}

#[derive(Debug)]
struct Entry {
    /// In the order of libtorch.
    shape: Vec<i64>,
    block: BlockType,
    bytes: Range<usize>,
}

/// Whether a file begins as a GGUF file does.
///
/// # Errors
/// A file that cannot be read.
pub fn is_gguf(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let read = crate::files::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut start);
    read.map_err(|error| Error::file("read", path, &error))?;
    Ok(start == MAGIC)
}

impl Gguf {
    /// # Errors
    /// `Kind::File` says what is wrong with the file.
    pub fn open(path: &Path) -> Result<Gguf> {
        let file = MappedFile::open(path)?;
        let (settings, tensors) =
            parse(file.pages()).map_err(|error| error.context(format!("`{}`", path.display())))?;
        Ok(Gguf { settings, tensors, file })
    }

    pub fn setting(&self, key: &str) -> Option<&Value> {
        self.settings.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The type that the tensor is stored in.
    pub fn block(&self, name: &str) -> Option<BlockType> {
        self.tensors.get(name).map(|entry| entry.block)
    }

    /// The tensor as f32, in its shape, on the CPU.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let entry =
            self.tensors.get(name).ok_or_else(|| Error::model(format!("the GGUF file lacks the tensor `{name}`")))?;
        let bytes =
            self.file.pages().get(entry.bytes.clone()).ok_or_else(|| Error::bug("tensor lies outside its file"))?;
        Ok(Tensor::f_from_slice(&entry.block.decode(bytes))?.f_reshape(&entry.shape)?)
    }
}

fn parse(bytes: &[u8]) -> Result<(Settings, BTreeMap<String, Entry>)> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(MAGIC.len())? != MAGIC {
        bail!(Kind::File, "expected a GGUF file, found another format");
    }
    match reader.u32()? {
        VERSION => {}
        other => bail!(Kind::File, "expected GGUF version {VERSION}, found {other}"),
    }
    let (tensors, settings) = (reader.count()?, reader.count()?);
    let settings: Settings =
        (0..settings).map(|_| Ok((reader.text()?, reader.tagged_value()?))).collect::<Result<_>>()?;
    let described = (0..tensors).map(|_| reader.description()).collect::<Result<Vec<_>>>()?;
    let start = reader.at.next_multiple_of(ALIGNMENT);
    let mut entries = BTreeMap::new();
    for (name, shape, block, offset) in described {
        let size = block.bytes(shape.iter().product::<i64>() as usize);
        let begin = offset.checked_add(start).filter(|begin| begin % ALIGNMENT == 0);
        let range = begin.and_then(|begin| Some(begin..begin.checked_add(size)?));
        let Some(range) = range.filter(|range| range.end <= bytes.len()) else {
            bail!(Kind::File, "tensor `{name}` lies outside the file: it is truncated or damaged");
        };
        if entries.insert(name.clone(), Entry { shape, block, bytes: range }).is_some() {
            bail!(Kind::File, "tensor `{name}` appears twice");
        }
    }
    Ok((settings, entries))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let bytes = self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or_else(|| Error::new(Kind::File, "the file is truncated"))?;
        self.at += length;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Error::bug("a slice of another length"))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A count of items, each of which takes at least one of the remaining bytes.
    fn count(&mut self) -> Result<usize> {
        let count = u64::from_le_bytes(self.array()?);
        match usize::try_from(count).ok().filter(|&count| count <= self.bytes.len() - self.at) {
            Some(count) => Ok(count),
            None => bail!(Kind::File, "damaged: a count of {count} in {} bytes", self.bytes.len()),
        }
    }

    fn text(&mut self) -> Result<String> {
        let length = self.count()?;
        let bytes = self.take(length)?.to_vec();
        String::from_utf8(bytes).map_err(|_| Error::new(Kind::File, "damaged: a text is not UTF-8"))
    }

    fn tagged_value(&mut self) -> Result<Value> {
        let code = self.u32()?;
        if code != 9 {
            return self.value(code);
        }
        let (code, count) = (self.u32()?, self.count()?);
        Ok(Value::List((0..count).map(|_| self.value(code)).collect::<Result<_>>()?))
    }

    fn value(&mut self, code: u32) -> Result<Value> {
        Ok(match code {
            0 => Value::U32(u8::from_le_bytes(self.array()?).into()),
            1 => Value::I32(i8::from_le_bytes(self.array()?).into()),
            2 => Value::U32(u16::from_le_bytes(self.array()?).into()),
            3 => Value::I32(i16::from_le_bytes(self.array()?).into()),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.array()?)),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => Value::Bool(self.array::<1>()? != [0]),
            8 => Value::Text(self.text()?),
            10 => Value::U64(u64::from_le_bytes(self.array()?)),
            11 => Value::I64(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            other => bail!(Kind::File, "damaged: a value of unknown kind {other}"),
        })
    }

    /// Name, shape, type and offset of a tensor.
    fn description(&mut self) -> Result<(String, Vec<i64>, BlockType, usize)> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if dimensions > 4 {
            bail!(Kind::File, "tensor `{name}`: expected at most 4 dimensions, found {dimensions}");
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = u64::from_le_bytes(self.array()?);
            shape.insert(0, i64::try_from(size).unwrap_or(i64::MAX));
        }
        // In any type an element takes at least half a byte.
        let numbers = shape.iter().try_fold(1_i64, |product, size| product.checked_mul(*size));
        if numbers.is_none_or(|numbers| numbers as u64 / 2 > self.bytes.len() as u64) {
            bail!(Kind::File, "tensor `{name}`: shape {shape:?} does not fit the file");
        }
        let code = self.u32()?;
        let Some(block) = BlockType::from_code(code) else {
            bail!(Kind::File, "tensor `{name}`: expected f32, f16, bf16 or q8_0, found type {code}");
        };
        let offset = u64::from_le_bytes(self.array()?);
        Ok((name, shape, block, usize::try_from(offset).unwrap_or(usize::MAX)))
    }
}
