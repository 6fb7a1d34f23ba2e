//! A specification as `adapter_config.json`, in the classic subset of keys, which every PEFT release since
//! 2023, vLLM and llama.cpp read.

use crate::lora::adapter::Adapter;
use crate::lora::spec::{Init, Targets, TrainableTokens};
use serde_json::{json, Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The keys of `adapter_config.json`, sorted as PEFT sorts them.
pub fn config_json(adapter: &Adapter, base: &str) -> Value {
    let spec = &adapter.spec;
    let mut fields: BTreeMap<&str, Value> = BTreeMap::from([
        (
            "alpha_pattern",
            json!(spec
                .alpha_pattern
                .iter()
                .map(|(key, alpha)| (key.to_owned(), json_number(*alpha)))
                .collect::<Map<_, _>>()),
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
        ("lora_alpha", json_number(spec.alpha)),
        ("lora_dropout", json!(spec.dropout)),
        ("modules_to_save", if spec.modules_to_save.is_empty() { Value::Null } else { json!(spec.modules_to_save) }),
        ("peft_type", json!("LORA")),
        ("r", json!(spec.r)),
        (
            "rank_pattern",
            json!(spec.rank_pattern.iter().map(|(key, r)| (key.to_owned(), json!(r))).collect::<Map<_, _>>()),
        ),
        ("revision", Value::Null),
        ("target_modules", targets_json(&spec.target_modules, adapter)),
        ("task_type", json!("CAUSAL_LM")),
        ("use_dora", json!(spec.use_dora)),
        ("use_rslora", json!(spec.use_rslora)),
    ]);
    // Newer keys, only where they differ from their defaults.
    if spec.lora_bias {
        fields.insert("lora_bias", json!(true));
    }
    if spec.ensure_weight_tying {
        fields.insert("ensure_weight_tying", json!(true));
    }
    match &spec.trainable_token_indices {
        TrainableTokens::None => {}
        TrainableTokens::Embeddings(ids) => {
            fields.insert("trainable_token_indices", json!(ids));
        }
        TrainableTokens::ByModule(modules) => {
            let modules = modules.iter().map(|(name, ids)| (name.clone(), json!(ids))).collect::<Map<_, _>>();
            fields.insert("trainable_token_indices", json!(modules));
        }
    }
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

/// An integer if the number is one: Ollama reads `lora_alpha` as an integer.
fn json_number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}

/// Writes "all-linear" as the names of its layers, which other readers than PEFT need.
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
