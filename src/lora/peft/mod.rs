//! Adapters on disk in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Saving, finding and loading an adapter's folder. `config_from_spec` and `spec_from_config` turn a
//! [`LoraSpec`] into the configuration and back, `weights` checks and names the tensors, `notes` says
//! which programs cannot use the adapter.

mod config_from_spec;
mod notes;
mod spec_from_config;
mod weights;

pub use config_from_spec::config_json;
pub use notes::deployment_notes;
pub use spec_from_config::spec_from_json;

use super::adapter::Adapter;
use super::adapter_file::{AdapterFile, PREFIX};
use super::nested_options::NestedOptions;
use super::spec::{LoraSpec, Targets};
use super::targets::{match_targets, short_names, ties_targets};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::files::{self, manifest, FolderKind};
use crate::hub::tokenizer::{is_tokenizer_file, Tokenizer};
use crate::hub::weights as safetensors;
use crate::model::shapes::{linear_shapes, EMBEDDING, HEAD};
use crate::model::{Config, Decoder};
use crate::options::OptionSet;
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use tch::Kind as Dtype;
use weights::{ensure_names, ensure_ranks_fit, ensure_repeats_agree, ensure_vocabulary, replaced, replaced_weights};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// The nested ranks that an adapter was trained with: in the header of its weights, for unknown keys of
/// `adapter_config.json` are errors in older PEFT releases.
const NESTED: &str = "lorhai_nested";
/// What an adapter's folder holds.
pub const FILES: [&str; 2] = [CONFIG, WEIGHTS];
/// The file that older PEFT releases wrote.
const PICKLED: &str = "adapter_model.bin";

/// The folder of an adapter. Versions of lorhai without manifests wrote the same files.
pub const FOLDER: FolderKind = FolderKind {
    name: "adapter",
    mark: Some(CONFIG),
    has_file: |name| FILES.contains(&name) || is_tokenizer_file(name),
};

/// Saves the adapter as the folder `folder`, with the tokenizer's files. `base` is the name or path of the base model.
/// An adapter that lorhai saved there is replaced as a whole; anything else only with `overwrite`.
pub fn save(
    adapter: &Adapter,
    base: &str,
    tokenizer: Option<&Tokenizer>,
    folder: &Path,
    overwrite: bool,
) -> Result<()> {
    files::publish_folder(&FOLDER, folder, overwrite, |folder| {
        write(adapter, base, folder)?;
        tokenizer.map_or(Ok(()), |tokenizer| tokenizer.copy_to(folder))
    })
}

/// Writes PEFT's two files into `folder`.
fn write(adapter: &Adapter, base: &str, folder: &Path) -> Result<()> {
    let parameters = &adapter.parameters;
    let named = parameters.names().iter().cloned().zip(parameters.leaves());
    let copy = adapter.trained_head().filter(|_| adapter.layout.is_tied);
    let copy = copy.map(|weight| (format!("{HEAD}.weight"), weight));
    let tensors = named.chain(copy).chain(replaced_weights(adapter));
    let outer = |name: String| adapter.layout.wrapper.map_or(name.clone(), |wrapper| wrapper.outer_name(&name));
    let tensors = tensors.map(|(name, tensor)| Ok((format!("{PREFIX}{}", outer(name)), tensor.f_detach()?)));
    let nested = adapter.nested.as_ref().map(|nested| json!(nested.options).to_string());
    let metadata: Vec<(&str, &str)> = nested.as_deref().map(|nested| (NESTED, nested)).into_iter().collect();
    safetensors::save(&folder.join(WEIGHTS), &tensors.collect::<Result<Vec<_>>>()?, &metadata)?;
    files::write_json(&folder.join(CONFIG), &config_json(adapter, base))
}

/// The adapter's folder: `folder` itself, or `adapter/` in it, where a run saves its adapter.
///
/// # Errors
/// There is no adapter; the message says what is there instead.
pub fn find(folder: &Path) -> Result<PathBuf> {
    let holds = |folder: &Path| folder.join(CONFIG).is_file() && folder.join(WEIGHTS).is_file();
    let inner = folder.join("adapter");
    if holds(folder) || !holds(&inner) {
        ensure_files(folder)?;
        return Ok(folder.to_owned());
    }
    Ok(inner)
}

fn ensure_files(folder: &Path) -> Result<()> {
    let (config, weights) = (folder.join(CONFIG), folder.join(WEIGHTS));
    if config.is_file() && !weights.is_file() && folder.join(PICKLED).is_file() {
        bail!(Kind::File, "`{}` holds its weights as a pickle, `{PICKLED}`: expected {WEIGHTS}", folder.display(); hint: "a pickle can run any code, so it is not read: turn it into safetensors once, in Python: from safetensors.torch import save_file; import torch; save_file(torch.load(\"{PICKLED}\", weights_only=True), \"{WEIGHTS}\")");
    }
    let Some(path) = [&config, &weights].into_iter().find(|path| !path.exists()) else { return Ok(()) };
    let error = Error::new(Kind::File, format!("there is no `{}`", path.display()));
    let inside = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut inside: Vec<PathBuf> = inside.filter(|path| path.join(CONFIG).is_file()).collect();
    inside.sort();
    Err(match inside.first() {
        Some(inner) if inner.ends_with("adapter.previous") => error.with_hint(format!(
            "the run has not saved its adapter; that of the run before is in `{}`: name that folder to load it",
            inner.display()
        )),
        Some(inner) => {
            error.with_hint(format!("the folders below it hold adapters: name one, such as `{}`", inner.display()))
        }
        None => error.with_hint("give the folder of an adapter, as save_adapter or peft's save_pretrained writes it"),
    })
}

/// Reads an adapter for `decoder`. With PiSSA and OLoRA the file holds the trained A and B; the initial
/// ones are computed from the base's weights again, as PEFT does.
pub fn load(folder: &Path, decoder: &Decoder) -> Result<Adapter> {
    ensure_files(folder)?;
    manifest::verify(folder, u64::MAX)?;
    let path = folder.join(CONFIG);
    let config = &decoder.config;
    let json = files::read_json(&path)?;
    let mut spec = spec_from_json(&json).map_err(|error| error.context(format!("`{}`", path.display())))?;
    ensure_same_kind(&json, &spec, config)?;
    let linears = linear_shapes(config);
    let ties_targets = ties_targets(&spec, &linears, config)?;
    if ties_targets {
        target_head_and_embeddings(&mut spec);
    }
    let file = AdapterFile::open(&folder.join(WEIGHTS))?;
    ensure_vocabulary(&file, config)?;
    ensure_ranks_fit(&file, &spec, config).map_err(|error| match json.get("r") {
        Some(_) => error,
        None => {
            error.with_hint("its adapter_config.json has no `r`, which peft takes for 8: write the true rank there")
        }
    })?;
    let unread = file.metadata(NESTED).and_then(|nested| read_nested(nested, &mut spec));
    let mut adapter = Adapter::zeros(spec, config, Dtype::Float, decoder.device)?;
    adapter.notes.extend(unread);
    adapter.split_base(decoder)?;
    ensure_names(&adapter, &file).map_err(|error| match task(&json) {
        "CAUSAL_LM" => error,
        task => error.with_hint(format!("it was made for the task {task}, whose model has other layers at its end")),
    })?;
    adapter.replaced = replaced(&adapter, &file, decoder)?;
    for at in 0..adapter.parameters.names().len() {
        let name = adapter.parameters.names()[at].clone();
        let tensor = file.tensor(&name)?.f_to_kind(Dtype::Float)?;
        adapter.parameters.set(at, &tensor).map_err(|error| {
            error.with_hint("the adapter was made for a model of another size, or its adapter_config.json was changed; where keys of rank_pattern overlap, peft sorts them when it saves: put them in the order that the adapter was trained with")
        })?;
    }
    ensure_repeats_agree(&adapter, &file)?;
    if ties_targets {
        adapter.fixed = Some("its `ensure_weight_tying` has head and embeddings share LoRA matrices");
    }
    if json.get("fan_in_fan_out") == Some(&json!(true)) {
        adapter.notes.push("adapter: `fan_in_fan_out` is true, which does not apply to the linear layers of this model: read as false, as peft does".to_owned());
    }
    if adapter.replaced.embedding.is_some() || adapter.replaced.head.is_some() {
        adapter.notes.push("adapter: its file holds embeddings or a head (peft's save_embedding_layers): they replace the base's while the adapter is active, and are not trained".to_owned());
    }
    Ok(adapter)
}

/// Sets the nested ranks in `spec`. Returns a note where they do not fit the rest of it: the adapter as a whole does not
/// depend on them.
fn read_nested(text: &str, spec: &mut LoraSpec) -> Option<String> {
    let nested: Option<NestedOptions> = serde_json::from_str(text).ok();
    let with_nested = nested.map(|nested| LoraSpec { nested, ..spec.clone() });
    match with_nested.filter(|spec| spec.problem().is_none()) {
        Some(with_nested) => {
            *spec = with_nested;
            None
        }
        None => Some(
            "adapter: its nested ranks do not fit its adapter_config.json: only the whole rank can be used".to_owned(),
        ),
    }
}

/// Adds head and embeddings to the targets by name, as `ensure_weight_tying` does.
fn target_head_and_embeddings(spec: &mut LoraSpec) {
    spec.ensure_weight_tying = false;
    match &mut spec.target_modules {
        Targets::AllLinear => {}
        Targets::Pattern(pattern) => *pattern = format!("(?:{pattern})|{HEAD}|{}", EMBEDDING.replace('.', r"\.")),
        Targets::Names(names) => {
            for module in [HEAD, EMBEDDING] {
                if !names.iter().any(|name| name == module) {
                    names.push(module.to_owned());
                }
            }
        }
    }
}

fn task(json: &Value) -> &str {
    json.get("task_type").and_then(Value::as_str).unwrap_or("CAUSAL_LM")
}

/// Refuses an adapter of another architecture, which its task and targets reveal.
fn ensure_same_kind(json: &Value, spec: &LoraSpec, config: &Config) -> Result<()> {
    let task = task(json);
    let linears = linear_shapes(config);
    if task == "CAUSAL_LM" || match_targets(spec, &linears).is_ok() {
        return Ok(());
    }
    let targets = match &spec.target_modules {
        Targets::Names(names) => format!("[{}]", names.join(", ")),
        Targets::Pattern(pattern) => format!("`{pattern}`"),
        Targets::AllLinear => "all linear layers".to_owned(),
    };
    let base = json.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or("nothing");
    let family = format!("{:?}", config.family).to_lowercase();
    bail!(Kind::Model, "the adapter does not fit this model: it was made for the task {task} and adapts {targets}, and this {family} has the layers {}", short_names(&linears).join(", "); hint: "its base is `{base}`: an adapter works over the model that it was trained on")
}
