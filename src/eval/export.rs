//! GGUF files of a model or of its adapter, read back and compared before they get their name.

use super::divergence::{divergence, sample, Divergence, Side};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::files::{self, TemporaryFolder};
use crate::hub::gguf::{self, vocabulary, BlockType, Gguf, Planned, Settings, Value};
use crate::lora::merge::MergedWeights;
use crate::lora::{self, peft, AdapterSet, Model};
use crate::model::gguf as names;
use crate::model::NoAdapters;
use std::path::Path;
use tch::{Kind as Dtype, Tensor};

crate::choices!(
    BlockType,
    [("f32", BlockType::F32), ("f16", BlockType::F16), ("bf16", BlockType::Bf16), ("q8_0", BlockType::Q8_0)]
);

/// What of a model is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exported {
    Merged,
    Adapter,
}

crate::choices!(Exported, [("merged", Exported::Merged), ("adapter", Exported::Adapter)]);

impl Exported {
    /// Writes it to `path`; see [`export_model`] and [`export_adapter`].
    pub fn write(self, model: &Model, path: &Path, block: Option<BlockType>, overwrite: bool) -> Result<Divergence> {
        match self {
            Exported::Merged => export_model(model, path, block, overwrite),
            Exported::Adapter => export_adapter(model, path, None, block, overwrite),
        }
    }

    /// The bytes of a model that it writes.
    pub fn bytes(self, model: &Model) -> u64 {
        match self {
            Exported::Merged => model.decoder().weight_bytes(),
            Exported::Adapter => 0,
        }
    }

    /// What the user should know of the file.
    pub fn notes(self, model: &Model) -> Result<Vec<String>> {
        let config = &model.decoder().config;
        match self {
            Exported::Merged => Ok(names::notes(config)),
            Exported::Adapter => Ok(peft::deployment_notes(model.adapted.adapter(None)?, config)),
        }
    }
}

/// Instead of a file that a rehearsal leaves out.
///
/// # Errors
/// As [`ensure_exportable`].
pub fn unmeasured(model: &Model) -> Result<Divergence> {
    ensure_exportable(model)?;
    Ok(Divergence::unmeasured(0))
}

/// Refuses a model that cannot be exported, without making its weights.
pub fn ensure_exportable(model: &Model) -> Result<()> {
    let config = &model.decoder().config;
    names::ensure_supported(config)?;
    vocabulary(model.tokenizer()?, config.vocab_size as usize).map(|_| ())
}

/// Writes the base with its active adapter, reads the file back, and returns how far its logits are from the model's.
///
/// # Errors
/// `Kind::Numeric` where they differ by more than the format rounds; no file is then left.
pub fn export_model(model: &Model, path: &Path, block: Option<BlockType>, overwrite: bool) -> Result<Divergence> {
    let decoder = model.decoder();
    names::ensure_supported(&decoder.config)?;
    let block = block.unwrap_or(lossless(decoder.dtype));
    let set = model.adapted.adapter_set(None);
    let adapter = set.active.first().map(|active| active.adapter);
    let weights = MergedWeights::new(decoder, adapter, Dtype::Float)?;
    let config = &weights.config;
    let mut settings = general(model, names::architecture(config.family), "model", block);
    settings.extend(names::settings(config));
    settings.extend(vocabulary(model.tokenizer()?, config.vocab_size as usize)?);
    let plan = names::plan(config, block)?;
    let tensor = |planned: &Planned| -> Result<Tensor> {
        let hf = plan.iter().find(|(_, other)| other.name == planned.name).map(|(hf, _)| hf.as_str());
        let hf = hf.ok_or_else(|| Error::bug("a tensor that was not planned"))?;
        match names::frequency_tensor(config, hf)? {
            Some(numbers) => Ok(numbers),
            None => names::to_gguf(config, hf, &weights.weight(hf)?.0),
        }
    };
    let planned: Vec<Planned> = plan.iter().map(|(_, planned)| planned.clone()).collect();
    checked(path, overwrite, |part| {
        gguf::write(part, &settings, &planned, &mut |name| {
            planned.iter().find(|one| one.name == name).map_or_else(|| Err(Error::bug("not planned")), tensor)
        })?;
        let file = Gguf::open(part)?;
        for one in &planned {
            ensure_survives(&file, one, &tensor(one)?)?;
        }
        let read = names::load(&file, decoder.dtype, decoder.device)?;
        compare(model, &set, Side { decoder: &read, adapters: &NoAdapters }, block)
    })
}

/// Writes an adapter, the active one if `name` is `None`; as [`export_model`].
pub fn export_adapter(
    model: &Model,
    path: &Path,
    name: Option<&str>,
    block: Option<BlockType>,
    overwrite: bool,
) -> Result<Divergence> {
    model.adapted.ensure_unmerged()?;
    let (decoder, adapter) = (model.decoder(), model.adapted.adapter(name)?);
    let block = block.unwrap_or(BlockType::F32);
    checked(path, overwrite, |part| {
        lora::gguf::write(part, adapter, &decoder.config, &title(model), block)?;
        let read = lora::gguf::read(&Gguf::open(part)?, adapter.spec.clone(), &decoder.config, decoder.device)?;
        let read = AdapterSet::one(&read, None);
        compare(model, &AdapterSet::one(adapter, None), Side { decoder, adapters: &read }, block)
    })
}

/// Refuses to replace a file that is no GGUF, unless the caller says so.
///
/// # Errors
/// Such a file, and one that cannot be read.
pub fn ensure_replaceable(path: &Path, overwrite: bool) -> Result<()> {
    if overwrite || !path.is_file() || gguf::is_gguf(path)? {
        return Ok(());
    }
    bail!(Kind::Input, "export_gguf: `{}` is another file, not GGUF", path.display(); hint: "give another name, such as `{}`; overwrite: true replaces that file", path.with_extension("gguf").display())
}

/// The type that holds such weights without loss.
fn lossless(dtype: Dtype) -> BlockType {
    match dtype {
        Dtype::BFloat16 => BlockType::Bf16,
        Dtype::Half => BlockType::F16,
        _ => BlockType::F32,
    }
}

fn title(model: &Model) -> String {
    Path::new(&model.name).file_name().map_or_else(|| model.name.clone(), |name| name.to_string_lossy().into_owned())
}

fn general(model: &Model, architecture: &str, kind: &str, block: BlockType) -> Settings {
    vec![
        ("general.architecture".into(), architecture.into()),
        ("general.type".into(), kind.into()),
        ("general.name".into(), Value::Text(title(model))),
        ("general.file_type".into(), Value::U32(block.file_type())),
        ("general.quantization_version".into(), Value::U32(2)),
    ]
}

/// Writes and checks a file beside `path`; only one that passes gets the name.
fn checked(path: &Path, overwrite: bool, write: impl FnOnce(&Path) -> Result<Divergence>) -> Result<Divergence> {
    ensure_replaceable(path, overwrite)?;
    let part = TemporaryFolder::beside(path)?;
    let file = part.path().join("export.gguf");
    let divergence = write(&file)?;
    files::move_file(&file, path)?;
    Ok(divergence)
}

fn ensure_survives(file: &Gguf, planned: &Planned, expected: &Tensor) -> Result<()> {
    let numbers = |x: &Tensor| -> Result<Vec<f32>> {
        let flat = x.f_to_device(tch::Device::Cpu)?.f_to_kind(Dtype::Float)?.f_contiguous()?.f_flatten(0, -1)?;
        Ok(Vec::try_from(flat)?)
    };
    if !planned.block.holds(&numbers(expected)?, &numbers(&file.tensor(&planned.name)?)?) {
        let (name, block) = (&planned.name, planned.block.name());
        bail!(Kind::Numeric, "GGUF: tensor `{name}` does not survive {block}: expected every number within its rounding"; hint: "its values are too large or too small for {block}: export with type \"f32\" or \"bf16\"");
    }
    Ok(())
}

/// The fewest tokens that can be compared.
const SHORTEST: i64 = 2;

/// Compares on the default text, and refuses what the rounding of `block` cannot explain.
fn compare(model: &Model, adapters: &AdapterSet, read: Side, block: BlockType) -> Result<Divergence> {
    let decoder = model.decoder();
    let mut ids = sample(None, model.tokenizer().ok(), decoder.config.vocab_size)?;
    if let (Some(window), None) = (&decoder.config.sliding_window, &read.decoder.config.sliding_window) {
        // llama.cpp has no window in this architecture, of which the user is warned: longer texts differ.
        ids.truncate(window.width.max(SHORTEST) as usize);
    }
    let divergence = divergence(&ids, Side { decoder, adapters }, read)?;
    let bound = largest_error(block).max(largest_error(lossless(decoder.dtype)));
    if divergence.logit_error > bound {
        bail!(Kind::Numeric, "GGUF: the file read back gives other logits: error {:.2e}, expected at most {bound:.0e} in {}", divergence.logit_error, block.name(); hint: "try type \"f32\"; if that fails too, please report it");
    }
    Ok(divergence)
}

/// The largest relative squared error of logits that rounding all weights to such blocks causes.
fn largest_error(block: BlockType) -> f64 {
    match block {
        BlockType::F32 => 1e-7,
        BlockType::F16 => 1e-4,
        BlockType::Bf16 | BlockType::Q8_0 => 1e-2,
    }
}
