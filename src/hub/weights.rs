//! The tensors of a model or adapter folder, mapped into memory from safetensors files.
//!
//! [`header`] reads the file format, [`index`] the shard index; [`mod@save`] and [`shards`] write. Leaves to
//! others: which tensors a model needs (`model/`).

mod header;
mod index;
mod mapping;
mod save;
mod shards;

pub use index::shard_names;
pub use safetensors::Dtype;
pub use save::save;
pub use shards::{parse_size, save_sharded};

use crate::error::{Error, Kind, Result};
use crate::hub::mapped::MappedFiles;
use crate::suggest;
use mapping::Mapping;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The file of an unsharded model.
pub const SINGLE_FILE: &str = "model.safetensors";
/// The file that names the shard of each tensor of a larger model.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// The dtype and shape of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    pub dtype: Dtype,
    pub shape: Vec<i64>,
}

impl Info {
    /// The libtorch dtype. Fails for dtypes that libtorch or this program lacks (8-bit floats, unsigned words).
    pub fn kind(&self) -> Result<tch::Kind> {
        Ok(match self.dtype {
            Dtype::F32 => tch::Kind::Float,
            Dtype::BF16 => tch::Kind::BFloat16,
            Dtype::F16 => tch::Kind::Half,
            Dtype::F64 => tch::Kind::Double,
            Dtype::I64 => tch::Kind::Int64,
            Dtype::I32 => tch::Kind::Int,
            Dtype::I16 => tch::Kind::Int16,
            Dtype::I8 => tch::Kind::Int8,
            Dtype::U8 => tch::Kind::Uint8,
            Dtype::BOOL => tch::Kind::Bool,
            other => {
                return Err(Error::model(format!(
                    "expected F32, BF16, F16, F64, I64, I32, I16, I8, U8 or BOOL, found dtype {other}"
                ))
                .with_hint("use the unquantised weights of this model"))
            }
        })
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().product::<i64>() as usize
    }
}

struct Entry {
    info: Info,
    /// The number of its file in the mapping.
    file: usize,
    /// The range of its bytes in that file.
    bytes: Range<usize>,
}

/// The named tensors of one or more safetensors files, none of them copied.
pub struct Weights {
    tensors: BTreeMap<String, Entry>,
    /// Of all files.
    metadata: BTreeMap<String, String>,
    mapping: Mapping,
}

impl Weights {
    /// The files that tensors of these weights may lie in.
    pub fn files(&self) -> MappedFiles {
        self.mapping.files()
    }

    /// Opens the weights in `folder`: `model.safetensors`, else the shards that
    /// `model.safetensors.index.json` names. The path may also be one safetensors file.
    ///
    /// Checks every header, so that a damaged, duplicate or missing tensor is an error before any work is
    /// done.
    ///
    /// # Errors
    /// `Kind::File` names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Weights> {
        let single = path.join(SINGLE_FILE);
        let index = path.join(INDEX_FILE);
        if path.is_file() {
            return Self::open_files(&[path.to_path_buf()]);
        }
        if single.is_file() {
            return Self::open_files(&[single]);
        }
        if index.is_file() {
            return Self::open_sharded(&index);
        }
        Err(no_weights(path))
    }

    /// Opens exactly these files as one set of tensors.
    pub fn open_files(paths: &[PathBuf]) -> Result<Weights> {
        let mut weights = Weights { tensors: BTreeMap::new(), metadata: BTreeMap::new(), mapping: Mapping::default() };
        for path in paths {
            weights.add_file(path)?;
        }
        Ok(weights)
    }

    fn open_sharded(index_path: &Path) -> Result<Weights> {
        let index = index::read(index_path)?;
        let weights = Self::open_files(&index.shards)?;
        for (name, shard) in &index.shard_of {
            let expected = &index.shards[*shard];
            match weights.tensors.get(name) {
                Some(entry) if entry.file == *shard => {}
                Some(entry) => {
                    return Err(broken(
                        index_path,
                        format!(
                            "expected tensor `{name}` in `{}`, found it in `{}`",
                            expected.display(),
                            weights.mapping.path(entry.file).display()
                        ),
                    ))
                }
                None => {
                    return Err(broken(expected, format!("expected tensor `{name}` that the index lists, found none")))
                }
            }
        }
        Ok(weights)
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let file = self.mapping.add(path)?;
        let header = header::parse(path, self.mapping.bytes(file))?;
        self.metadata.extend(header::metadata(path, self.mapping.bytes(file))?);
        for tensor in header {
            let entry = Entry { info: tensor.info, file, bytes: tensor.bytes };
            if let Some(other) = self.tensors.get(&tensor.name) {
                let other = self.mapping.path(other.file).display();
                return Err(broken(path, format!("tensor `{}` is also in `{other}`", tensor.name))
                    .with_hint("remove the files that do not belong to this model, or fetch it again"));
            }
            self.tensors.insert(tensor.name, entry);
        }
        Ok(())
    }

    /// All tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// What the headers of the files say beside the tensors, by its key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    pub fn info(&self, name: &str) -> Option<&Info> {
        self.tensors.get(name).map(|entry| &entry.info)
    }

    /// The tensor `name`, on the CPU, in the dtype of the file. It shares the pages of the mapped file:
    /// nothing is read or copied until its elements are used. Writing to it in place changes this
    /// process's view, never the file. The file stays mapped as long as the tensor, or anything that
    /// shares its storage, lives.
    ///
    /// # Errors
    /// `Kind::Model` for an unknown name or a dtype that libtorch lacks.
    pub fn tensor(&self, name: &str) -> Result<tch::Tensor> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(self.missing(name));
        };
        let kind = entry.info.kind().map_err(|error| error.context(format!("tensor `{name}`")))?;
        self.mapping
            .tensor(entry.file, entry.bytes.clone(), &entry.info.shape, kind)
            .map_err(|error| error.context(format!("tensor `{name}` of `{}`", self.mapping.path(entry.file).display())))
    }

    /// A page from the start and one from the middle of the bytes of a tensor, or all bytes of a small one.
    pub fn samples(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        const PAGE: usize = 4096;
        let bytes = self.tensors.get(name).and_then(|entry| self.mapping.bytes(entry.file).get(entry.bytes.clone()));
        let bytes = bytes.unwrap_or_default();
        let page = |from: usize| &bytes[from.min(bytes.len())..(from + PAGE).min(bytes.len())];
        [page(0), page((bytes.len() / 2).max(PAGE))].into_iter()
    }

    /// Fails for a tensor of integers where weights are expected: the codes of a quantised checkpoint,
    /// read as weights, would be noise.
    pub fn ensure_floats(&self, name: &str) -> Result<()> {
        match self.info(name).map(|info| info.dtype) {
            Some(Dtype::F32 | Dtype::BF16 | Dtype::F16 | Dtype::F64) | None => Ok(()),
            Some(other) => {
                Err(Error::model(format!("tensor `{name}`: expected floating-point numbers, found {other}"))
                    .with_hint("the weights may be quantised: use the unquantised ones"))
            }
        }
    }

    /// Releases the memory of the tensor `name`; if used again, it is read from its file again. For
    /// tensors that were copied, so that converting a checkpoint takes less memory than the checkpoint
    /// itself. In-place changes to the tensor are lost.
    pub fn release(&self, name: &str) {
        if let Some(entry) = self.tensors.get(name) {
            self.mapping.release(entry.file, entry.bytes.clone());
        }
    }

    /// Whether a tensor lies in the mapped files, as [`Self::tensor`] returns it where nothing must be copied.
    pub fn holds(&self, tensor: &tch::Tensor) -> bool {
        self.mapping.holds(tensor)
    }

    fn missing(&self, name: &str) -> Error {
        let error = Error::model(format!("expected tensor `{name}` in {}, found none", self.mapping));
        match suggest::nearest(name, self.names()) {
            Some(near) => error.with_hint(format!("the most similar name is `{near}`")),
            None => error.with_hint("the weights may belong to another architecture"),
        }
    }
}

fn broken(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(Kind::File, format!("`{}`: {what}", path.display()))
}

fn no_weights(folder: &Path) -> Error {
    if !folder.exists() {
        return broken(folder, "expected a folder with safetensors weights, found no such folder");
    }
    let names: Vec<String> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    let has = |end: &str| names.iter().any(|name| name.ends_with(end));
    let error = broken(folder, format!("expected {SINGLE_FILE} or {INDEX_FILE}, found neither"));
    if has(".bin") || has(".pt") || has(".pth") {
        return error.with_hint(
            "this folder has weights in the old pickle format: convert them with transformers, \
             `AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)`",
        );
    }
    if has(".gguf") {
        return error.with_hint("GGUF files are not read: use the safetensors version of this model");
    }
    match names.iter().find(|name| name.ends_with(".safetensors")) {
        Some(name) => error.with_hint(format!("rename `{name}` to {SINGLE_FILE} if it holds the whole model")),
        None => error.with_hint("give the folder that holds config.json and the weights"),
    }
}
