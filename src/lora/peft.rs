//! Adapters on disk in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The configuration is written in the classic subset of keys, which every PEFT release
//! since 2023, vLLM and llama.cpp read.

use super::adapter::Adapter;
use super::spec::{Bias, Init, LoraSpec, Targets};
use super::targets::match_targets;
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::hub::weights::{self, Weights};
use crate::model::shapes::linear_shapes;
use crate::model::{Config, Decoder};
use serde_json::{json, Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tch::Kind as Dtype;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What an adapter's folder holds.
pub const FILES: [&str; 2] = [CONFIG, WEIGHTS];
const PREFIX: &str = "base_model.model.";

/// Writes the adapter into `folder`. `base` is the name or path of the base model.
pub fn save(adapter: &Adapter, base: &str, folder: &Path) -> Result<()> {
    files::create_folder(folder)?;
    let parameters = &adapter.parameters;
    let tensors = parameters.names().iter().zip(parameters.leaves());
    let tensors =
        tensors.map(|(name, leaf)| Ok((format!("{PREFIX}{name}"), leaf.f_detach()?))).collect::<Result<Vec<_>>>()?;
    weights::save(&folder.join(WEIGHTS), &tensors, &[])?;
    files::write_json(&folder.join(CONFIG), &config_json(adapter, base))
}

/// Reads an adapter for `decoder`. Of PiSSA and OLoRA the file holds what was trained; what
/// they took out of the base is computed from its weights again, as PEFT does.
pub fn load(folder: &Path, decoder: &Decoder) -> Result<Adapter> {
    let path = folder.join(CONFIG);
    for path in [&path, &folder.join(WEIGHTS)] {
        if !path.exists() {
            bail!(Kind::File, "there is no `{}`", path.display(); hint: "give the folder of an adapter, as save_adapter or peft's save_pretrained writes it");
        }
    }
    let spec =
        spec_from_json(&files::read_json(&path)?).map_err(|error| error.context(format!("`{}`", path.display())))?;
    let weights = Weights::open(&folder.join(WEIGHTS))?;
    refuse_ranks_beyond(&weights, &spec, &decoder.config)?;
    let mut adapter = Adapter::zeros(spec, &decoder.config, Dtype::Float, decoder.device)?;
    adapter.take_from(decoder)?;
    check_names(&adapter, &weights, decoder)?;
    for at in 0..adapter.parameters.names().len() {
        let name = format!("{PREFIX}{}", adapter.parameters.names()[at]);
        weights.require_floats(&name)?;
        let tensor = weights.tensor(&name)?.f_to_kind(Dtype::Float)?;
        adapter.parameters.set(at, &tensor).map_err(|error| {
            error.with_hint("the adapter was made for a model of another size, or its adapter_config.json was changed")
        })?;
    }
    Ok(adapter)
}

/// A rank that the tensors do not have is refused before there is memory for it.
fn refuse_ranks_beyond(weights: &Weights, spec: &LoraSpec, config: &Config) -> Result<()> {
    let rows = |name: &str| weights.info(name).and_then(|info| info.shape.first().copied());
    let most = weights.names().filter(|name| name.ends_with("lora_A.weight")).filter_map(rows).max().unwrap_or(0);
    match match_targets(spec, &linear_shapes(config))?.iter().find(|target| target.r > most) {
        None => Ok(()),
        Some(target) => Err(Error::model(format!(
            "the adapter's configuration gives `{}` the rank {}, and the largest in its weights is {most}",
            target.linear.name, target.r
        ))
        .with_hint(
            "its adapter_config.json and adapter_model.safetensors do not belong together: fetch or save both again",
        )),
    }
}

fn check_names(adapter: &Adapter, weights: &Weights, decoder: &Decoder) -> Result<()> {
    let expected: BTreeSet<String> = adapter.parameters.names().iter().map(|name| format!("{PREFIX}{name}")).collect();
    let found: BTreeSet<String> = weights.names().map(str::to_owned).collect();
    if let Some(missing) = expected.difference(&found).next() {
        bail!(Kind::Model, "the adapter does not fit this model: it lacks the tensor `{missing}`"; hint: "load the base that its adapter_config.json names as `base_model_name_or_path`; if that is this one, that file and the weights do not belong together");
    }
    for extra in found.difference(&expected) {
        if is_base_head(extra, weights, decoder)? {
            continue;
        }
        bail!(Kind::Model, "the adapter does not fit this model: it holds the tensor `{extra}`, which has no place there"; hint: "load the base that its adapter_config.json names as `base_model_name_or_path`; if that is this one, that file was changed or it adapts layers that are not supported");
    }
    Ok(())
}

/// PEFT writes the base's own output head beside an adapter that targets it. Another weight
/// under that name would change what the adapter means.
fn is_base_head(name: &str, weights: &Weights, decoder: &Decoder) -> Result<bool> {
    if name.strip_prefix(PREFIX) != Some("lm_head.base_layer.weight") {
        return Ok(false);
    }
    let (found, own) = (weights.tensor(name)?, decoder.lm_head.weight.dense()?);
    Ok(found.size() == own.size() && found.f_to_kind(decoder.dtype)?.f_to_device(decoder.device)?.f_equal(own)?)
}

/// The keys of `adapter_config.json`, sorted as PEFT sorts them.
pub fn config_json(adapter: &Adapter, base: &str) -> Value {
    let spec = &adapter.spec;
    let fields: BTreeMap<&str, Value> = BTreeMap::from([
        (
            "alpha_pattern",
            json!(spec.alpha_pattern.iter().map(|(key, alpha)| (key.clone(), whole(*alpha))).collect::<Map<_, _>>()),
        ),
        ("base_model_name_or_path", json!(base)),
        ("bias", json!(spec.bias.name())),
        (
            "exclude_modules",
            spec.exclude_modules.as_ref().map_or(Value::Null, |targets| targets_json(targets, adapter)),
        ),
        ("fan_in_fan_out", json!(false)),
        ("inference_mode", json!(true)),
        ("init_lora_weights", init_json(spec.init)),
        ("layers_pattern", Value::Null),
        ("layers_to_transform", json!(spec.layers_to_transform)),
        ("lora_alpha", whole(spec.alpha)),
        ("lora_dropout", json!(spec.dropout)),
        ("modules_to_save", if spec.modules_to_save.is_empty() { Value::Null } else { json!(spec.modules_to_save) }),
        ("peft_type", json!("LORA")),
        ("r", json!(spec.r)),
        ("rank_pattern", json!(spec.rank_pattern)),
        ("revision", Value::Null),
        ("target_modules", targets_json(&spec.target_modules, adapter)),
        ("task_type", json!("CAUSAL_LM")),
        ("use_dora", json!(spec.use_dora)),
        ("use_rslora", json!(spec.use_rslora)),
    ]);
    json!(fields)
}

fn init_json(init: Init) -> Value {
    match init {
        Init::KaimingUniform => json!(true),
        Init::Gaussian => json!("gaussian"),
        Init::Pissa => json!("pissa"),
        Init::Olora => json!("olora"),
    }
}

/// An integer where the number is one: Ollama reads `lora_alpha` as an integer.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}

/// "all-linear" is written as the names it stands for, which readers other than PEFT need.
fn targets_json(targets: &Targets, adapter: &Adapter) -> Value {
    match targets {
        Targets::Names(names) => json!(names.iter().collect::<BTreeSet<_>>()),
        Targets::Pattern(pattern) => json!(pattern),
        Targets::AllLinear => {
            let names = adapter.targets.iter().map(|target| target.linear.name.rsplit('.').next().unwrap_or_default());
            json!(names.collect::<BTreeSet<_>>())
        }
    }
}

/// Reads `adapter_config.json`; refuses what would load but give other numbers.
pub fn spec_from_json(json: &Value) -> Result<LoraSpec> {
    refuse_unsupported(json)?;
    let r = json.get("r").and_then(Value::as_i64).ok_or_else(|| wrong("r", "a whole number", json))?;
    let spec = LoraSpec {
        r,
        alpha: number(json, "lora_alpha")?.unwrap_or(8.0),
        dropout: number(json, "lora_dropout")?.unwrap_or(0.0),
        use_rslora: json.get("use_rslora").and_then(Value::as_bool).unwrap_or(false),
        // PEFT's default for the families that we support.
        target_modules: targets(json, "target_modules")?.unwrap_or(LoraSpec::default().target_modules),
        exclude_modules: targets(json, "exclude_modules")?,
        layers_to_transform: layers(json)?,
        rank_pattern: pattern(json, "rank_pattern", Value::as_i64)?,
        alpha_pattern: pattern(json, "alpha_pattern", Value::as_f64)?,
        init: init(json)?,
        use_dora: json.get("use_dora").and_then(Value::as_bool).unwrap_or(false),
        bias: bias(json)?,
        modules_to_save: match targets(json, "modules_to_save")? {
            Some(Targets::Names(names)) => names,
            None => Vec::new(),
            Some(_) => return Err(wrong("modules_to_save", "a list of names", json)),
        },
    };
    spec.check()?;
    Ok(spec)
}

fn refuse_unsupported(json: &Value) -> Result<()> {
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    if text("peft_type").is_none_or(|kind| kind != "LORA") {
        return Err(wrong("peft_type", "\"LORA\"", json).with_hint("adapters of other kinds cannot be loaded"));
    }
    for name in ["fan_in_fan_out", "lora_bias", "use_qalora", "ensure_weight_tying"] {
        if json.get(name).and_then(Value::as_bool) == Some(true) {
            return Err(wrong(name, "false", json));
        }
    }
    let filled = |value: &&Value| {
        value.as_array().is_some_and(|list| !list.is_empty()) || value.as_object().is_some_and(|map| !map.is_empty())
    };
    for name in ["layer_replication", "trainable_token_indices", "target_parameters"] {
        if json.get(name).filter(filled).is_some() {
            return Err(wrong(name, "nothing", json));
        }
    }
    // Variants with the tensors of an ordinary LoRA, in part, but another use of them.
    for name in ["alora_invocation_tokens", "kasa_config", "monteclora_config", "use_bdlora", "arrow_config"] {
        if json.get(name).is_some_and(|found| !found.is_null() && found != &json!(false)) {
            return Err(wrong(name, "null", json).with_hint("this variant of LoRA is not supported; peft has it"));
        }
    }
    Ok(())
}

/// Only what changes the base matters here: A and B come from the file, and names such as
/// "eva" or "orthogonal" tell how they began.
fn init(json: &Value) -> Result<Init> {
    let name = match json.get("init_lora_weights") {
        Some(Value::String(name)) => name.to_lowercase(),
        _ => return Ok(Init::KaimingUniform),
    };
    if name == "corda" || name == "loftq" || name == "lora_ga" {
        return Err(wrong(
            "init_lora_weights",
            "an initialisation that leaves the base as it is, \"pissa\" or \"olora\"",
            json,
        )
        .with_hint(
            "in peft, save it with path_initial_model_for_weight_conversion, which makes an ordinary LoRA of it",
        ));
    }
    Ok(Init::parse(&name).unwrap_or(Init::KaimingUniform))
}

fn bias(json: &Value) -> Result<Bias> {
    let name = match json.get("bias") {
        None | Some(Value::Null) => return Ok(Bias::None),
        Some(value) => value.as_str(),
    };
    let known = Bias::NAMES.into_iter().find(|(known, _)| Some(*known) == name);
    known.map(|(_, bias)| bias).ok_or_else(|| wrong("bias", "\"none\", \"all\" or \"lora_only\"", json))
}

fn wrong(name: &str, expected: &str, json: &Value) -> Error {
    match json.get(name) {
        Some(found) => Error::model(format!("adapter `{name}`: expected {expected}, found {found}")),
        None => Error::model(format!("adapter `{name}` is missing: expected {expected}"))
            .with_hint("is this an adapter_config.json as peft writes it? save or fetch the adapter again"),
    }
}

fn number(json: &Value, name: &str) -> Result<Option<f64>> {
    match json.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| wrong(name, "a number", json)),
    }
}

fn targets(json: &Value, name: &str) -> Result<Option<Targets>> {
    match json.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text == "all-linear" => Ok(Some(Targets::AllLinear)),
        Some(Value::String(text)) => Ok(Some(Targets::Pattern(text.clone()))),
        Some(Value::Array(names)) if names.is_empty() => Ok(None),
        Some(Value::Array(names)) => {
            let names = names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
            names.map(|names| Some(Targets::Names(names))).ok_or_else(|| wrong(name, "a list of names", json))
        }
        Some(_) => Err(wrong(name, "a list or a string", json)),
    }
}

fn layers(json: &Value) -> Result<Option<Vec<usize>>> {
    let pattern = json.get("layers_pattern");
    let default_pattern = matches!(pattern, None | Some(Value::Null))
        || pattern == Some(&json!("layers"))
        || pattern == Some(&json!(["layers"]))
        || pattern == Some(&json!([]));
    if !default_pattern {
        return Err(wrong("layers_pattern", "\"layers\"", json));
    }
    let index = |value: &Value| value.as_u64().map(|layer| layer as usize);
    match json.get("layers_to_transform") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => list
            .iter()
            .map(index)
            .collect::<Option<Vec<_>>>()
            .map(Some)
            .ok_or_else(|| wrong("layers_to_transform", "layer numbers", json)),
        Some(one) => {
            index(one).map(|layer| Some(vec![layer])).ok_or_else(|| wrong("layers_to_transform", "layer numbers", json))
        }
    }
}

fn pattern<T>(json: &Value, name: &str, read: impl Fn(&Value) -> Option<T>) -> Result<BTreeMap<String, T>> {
    let Some(Value::Object(map)) = json.get(name) else { return Ok(BTreeMap::new()) };
    map.iter()
        .map(|(key, value)| Some((key.clone(), read(value)?)))
        .collect::<Option<_>>()
        .ok_or_else(|| wrong(name, "a number for each name", json))
}

/// The limits of other programs that this adapter meets, for the user to read when saving.
pub fn deployment_notes(adapter: &Adapter, config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    let largest = adapter.targets.iter().map(|target| target.r).max().unwrap_or(0);
    if largest > 16 {
        notes.push(format!("vLLM: start it with --max-lora-rank {} (its default is 16)", vllm_rank(largest)));
    }
    if !adapter.spec.rank_pattern.is_empty() || !adapter.spec.alpha_pattern.is_empty() {
        notes.push("vLLM ignores rank_pattern and alpha_pattern: merge the adapter instead".to_owned());
    }
    if adapter.low_rank(&linear_shapes(config)[linear_shapes(config).len() - 1]).is_some() {
        notes.push("the output head is adapted: some servers do not support that".to_owned());
    }
    let refused = [
        ("DoRA", adapter.spec.use_dora),
        ("modules_to_save", !adapter.spec.modules_to_save.is_empty()),
        ("bias", adapter.spec.bias != Bias::None),
    ];
    let refused: Vec<&str> = refused.into_iter().filter(|(_, used)| *used).map(|(name, _)| name).collect();
    if !refused.is_empty() {
        notes.push(format!("vLLM refuses adapters with {}: merge the adapter instead", refused.join(", ")));
    }
    if !adapter.taken.is_empty() {
        notes.push("this adapter stands over a residual of the base: peft and lorhai compute it from the original base when they load the adapter, other programs do not; save it with `as_lora: true` for them".to_owned());
    }
    notes
}

/// The least of vLLM's rank limits that holds `r`.
fn vllm_rank(r: i64) -> i64 {
    [8, 16, 32, 64, 128, 256, 320, 512].into_iter().find(|&limit| limit >= r).unwrap_or(r)
}
