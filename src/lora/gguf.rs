//! An adapter as a GGUF file, for llama.cpp's `--lora` and Ollama's `ADAPTER`.
//!
//! Follows llama.cpp's `convert_lora_to_gguf.py`: `blk.0.attn_q.weight.lora_a` and `.lora_b`,
//! and one `adapter.lora.alpha`. llama.cpp scales each layer by that alpha over the layer's
//! rank; where a layer has another scale, the difference is multiplied into B.

use super::adapter::Adapter;
use super::spec::LoraSpec;
use super::targets::Target;
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::hub::gguf::{self, BlockType, Gguf, Planned, Settings, Value};
use crate::model::gguf::{architecture, ensure_supported, from_gguf, name, to_gguf};
use crate::model::Config;
use std::collections::HashMap;
use std::path::Path;
use tch::{Device, Kind as Dtype};

const ALPHA: &str = "adapter.lora.alpha";

/// Writes `adapter` for a model of `config` to `path`, with `title` as its name.
pub fn write(path: &Path, adapter: &Adapter, config: &Config, title: &str, block: BlockType) -> Result<()> {
    ensure_supported(config)?;
    adapter.ensure_lora_only("GGUF").map_err(|error| error.with_hint("export the merged model instead"))?;
    if config.tie_word_embeddings && adapter.targets.iter().any(|target| target.linear.layer.is_none()) {
        bail!(Kind::Model, "GGUF: the adapter changes the output head, which this model shares with its embedding"; hint: "export the merged model instead: its head is untied");
    }
    let alpha = alpha(&adapter.targets);
    let settings: Settings = vec![
        ("general.architecture".into(), architecture(config.family).into()),
        ("general.type".into(), "adapter".into()),
        ("general.name".into(), title.into()),
        ("general.file_type".into(), Value::U32(block.file_type())),
        ("general.quantization_version".into(), Value::U32(2)),
        ("adapter.type".into(), "lora".into()),
        (ALPHA.into(), Value::F32(alpha as f32)),
    ];
    let (mut planned, mut tensors) = (Vec::new(), HashMap::new());
    for target in &adapter.targets {
        let low_rank = adapter.low_rank(&target.linear).ok_or_else(|| Error::bug("a target without matrices"))?;
        let b = low_rank.b.f_detach()?.f_mul_scalar(target.scale * target.r as f64 / alpha)?;
        let matrices = [low_rank.a.f_detach()?, to_gguf(config, &target.linear.name, &b)?];
        for (name, matrix) in names(config, target)?.into_iter().zip(matrices) {
            let block = if block.fits(matrix.size()[1]) { block } else { BlockType::F16 };
            planned.push(Planned { name: name.clone(), shape: matrix.size(), block });
            tensors.insert(name, matrix);
        }
    }
    gguf::write(path, &settings, &planned, &mut |name| match tensors.get(name) {
        Some(tensor) => Ok(tensor.shallow_clone()),
        None => Err(Error::bug("a tensor that was not planned")),
    })
}

/// The one alpha of the file: the most common scale · rank of the layers, without 0, which
/// means "no scale" to llama.cpp.
fn alpha(targets: &[Target]) -> f64 {
    let products: Vec<f64> =
        targets.iter().map(|target| target.scale * target.r as f64).filter(|x| *x != 0.0).collect();
    let count = |alpha: f64| products.iter().filter(|x| **x == alpha).count();
    products.iter().copied().max_by_key(|&product| count(product)).unwrap_or(1.0)
}

/// The names of A and B.
fn names(config: &Config, target: &Target) -> Result<[String; 2]> {
    let layer = name(config, &format!("{}.weight", target.linear.name))?;
    Ok([format!("{layer}.lora_a"), format!("{layer}.lora_b")])
}

/// Reads an adapter for a model of `config`: layers and ranks from `spec`, scales from the file.
///
/// # Errors
/// `Kind::Model` if the file lacks one of the tensors or holds others: otherwise an adapter of another
/// model would load and change nothing.
pub fn read(file: &Gguf, spec: LoraSpec, config: &Config, device: Device) -> Result<Adapter> {
    let arch = file.setting("general.architecture").and_then(Value::as_text);
    if arch != Some(architecture(config.family)) {
        bail!(
            Kind::Model,
            "the GGUF adapter is for {}, this model is {}",
            arch.unwrap_or("?"),
            architecture(config.family)
        );
    }
    let mut adapter = Adapter::zeros(spec, config, Dtype::Float, device)?;
    let expected = adapter.targets.iter().map(|target| names(config, target)).collect::<Result<Vec<_>>>()?.concat();
    let count = file.names().count();
    let matched = expected.iter().filter(|name| file.has(name)).count();
    if matched == 0 || matched != expected.len() || matched != count {
        bail!(Kind::Model, "the GGUF adapter matches {matched} of the {} tensors that this model needs, and holds {count}", expected.len(); hint: "it was made for another model or another choice of layers");
    }
    let Some(alpha) = file.setting(ALPHA).and_then(Value::as_number) else {
        bail!(Kind::Model, "the GGUF adapter lacks `{ALPHA}`");
    };
    for at in 0..adapter.targets.len() {
        let [a, b] = names(config, &adapter.targets[at])?;
        let b = from_gguf(config, &adapter.targets[at].linear.name, &file.tensor(&b)?)?;
        adapter.parameters.set(2 * at, &file.tensor(&a)?)?;
        adapter.parameters.set(2 * at + 1, &b)?;
        adapter.targets[at].scale = alpha / adapter.targets[at].r as f64;
    }
    Ok(adapter)
}
