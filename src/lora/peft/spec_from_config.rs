//! `adapter_config.json` as a specification. Refuses what would load and give other numbers.

use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::lora::nested_options::NestedOptions;
use crate::lora::pattern::Pattern;
use crate::lora::spec::{Bias, Init, LoraSpec, Targets, TrainableTokens};
use crate::options::{OneOrMany, OptionSet};
use serde_json::{json, Value};

/// Reads `adapter_config.json`; refuses what would load but give other numbers.
pub fn spec_from_json(json: &Value) -> Result<LoraSpec> {
    ensure_supported(json)?;
    let r = match json.get("r") {
        None => LoraSpec::default().r,
        Some(r) => r.as_i64().ok_or_else(|| wrong("r", "a whole number", json))?,
    };
    let flag = |name: &str| json.get(name).and_then(Value::as_bool).unwrap_or(false);
    let spec = LoraSpec {
        r,
        alpha: number(json, "lora_alpha")?.unwrap_or(8.0),
        dropout: number(json, "lora_dropout")?.unwrap_or(0.0),
        use_rslora: flag("use_rslora"),
        // PEFT's default for the families that we support.
        target_modules: targets(json, "target_modules")?.unwrap_or(LoraSpec::default().target_modules),
        exclude_modules: targets(json, "exclude_modules")?,
        layers_to_transform: layers(json)?.map(OneOrMany),
        rank_pattern: pattern(json, "rank_pattern", Value::as_i64)?,
        alpha_pattern: pattern(json, "alpha_pattern", Value::as_f64)?,
        init: init(json)?,
        use_dora: flag("use_dora"),
        bias: bias(json)?,
        modules_to_save: match targets(json, "modules_to_save")? {
            Some(Targets::Names(names)) => names,
            None => Vec::new(),
            Some(_) => return Err(wrong("modules_to_save", "a list of names", json)),
        },
        lora_bias: flag("lora_bias"),
        trainable_token_indices: trainable_tokens(json)?,
        ensure_weight_tying: flag("ensure_weight_tying"),
        nested: NestedOptions::default(),
    };
    spec.ensure_valid("adapter_config.json")?;
    Ok(spec)
}

fn ensure_supported(json: &Value) -> Result<()> {
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    if text("peft_type").is_none_or(|kind| kind != "LORA") {
        return Err(wrong("peft_type", "\"LORA\"", json).with_hint("adapters of other kinds cannot be loaded"));
    }
    let filled = |value: &&Value| {
        value.as_array().is_some_and(|list| !list.is_empty()) || value.as_object().is_some_and(|map| !map.is_empty())
    };
    if let Some(parameters) = json.get("target_parameters").filter(filled) {
        bail!(Kind::Model, "adapter `target_parameters`: {parameters} are adapted as parameters rather than layers, which is not supported: without them the results would differ"; hint: "in peft, merge it into the model (merge_and_unload) and load that; or train it with target_modules");
    }
    if let Some(layers) = json.get("layer_replication").filter(filled) {
        bail!(Kind::Model, "adapter `layer_replication`: {layers} repeats layers of the base, which is not supported: over the base as it is the results would differ"; hint: "in peft, merge it into the model (merge_and_unload) and load that");
    }
    // Variants whose file has the tensors of an ordinary LoRA, but which use them otherwise.
    let variants = [
        (
            "alora_invocation_tokens",
            "an activated LoRA (aLoRA) acts from its invocation tokens on; acting everywhere would give other results",
        ),
        (
            "arrow_config",
            "a router (Arrow) chooses among several adapters for each token; this file alone would give other results",
        ),
        ("kasa_config", "KaSA truncates the base's weights and scales each direction"),
        ("monteclora_config", "MonteCLoRA draws its matrices at random"),
        ("use_bdlora", "BD-LoRA has block-diagonal matrices"),
        ("use_qalora", "QA-LoRA pools the inputs in groups"),
    ];
    for (name, what) in variants {
        if let Some(value) = json.get(name).filter(|value| !value.is_null() && *value != &json!(false)) {
            bail!(Kind::Model, "adapter `{name}`: {value}: {what}, which is not supported"; hint: "use peft for it");
        }
    }
    Ok(())
}

/// Only an initialisation that changes the base matters here: A and B come from the file, so that names such
/// as "eva" or "orthogonal" have no effect.
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

/// A list means the input embeddings; a map names the modules.
fn trainable_tokens(json: &Value) -> Result<TrainableTokens> {
    const NAME: &str = "trainable_token_indices";
    let list = |value: &Value| value.as_array()?.iter().map(Value::as_i64).collect::<Option<Vec<_>>>();
    let tokens = match json.get(NAME) {
        None | Some(Value::Null) => Some(TrainableTokens::None),
        Some(Value::Array(ids)) if ids.is_empty() => Some(TrainableTokens::None),
        Some(Value::Object(map)) => {
            let modules = map.iter().map(|(name, ids)| Some((name.clone(), list(ids)?))).collect::<Option<Vec<_>>>();
            modules.map(
                |modules| if modules.is_empty() { TrainableTokens::None } else { TrainableTokens::ByModule(modules) },
            )
        }
        Some(ids) => list(ids).map(TrainableTokens::Embeddings),
    };
    tokens.ok_or_else(|| wrong(NAME, "a list of token ids, or such a list for each module", json))
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
        Some(value) => Error::model(format!("adapter `{name}`: expected {expected}, found {value}")),
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

fn pattern<T>(json: &Value, name: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Pattern<T>> {
    let Some(Value::Object(map)) = json.get(name) else { return Ok(Pattern::default()) };
    map.iter()
        .map(|(key, value)| Some((key.clone(), read(value)?)))
        .collect::<Option<_>>()
        .ok_or_else(|| wrong(name, "a number for each name", json))
}
