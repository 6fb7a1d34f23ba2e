//! A model's `generation_config.json`: which of transformers' settings have an effect in a run of
//! transformers and none here, and the end tokens where there is no such file.

use super::config::Source;
use crate::error::{Error, Kind, Result};
use crate::files;
use serde_json::{Map, Value};
use std::path::Path;

/// What transformers knows and what changes no text of a model like these: speed, memory, what else is
/// returned, other ways to prepare a prompt, and other kinds of models.
const WITHOUT_EFFECT: [&str; 40] = [
    "use_cache",
    "cache_config",
    "max_cache_len",
    "compile_config",
    "disable_compile",
    "continuous_batching_config",
    "prefill_chunk_size",
    "low_memory",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
    "pad_token_id",
    "bos_token_id",
    "decoder_start_token_id",
    // Tokens that are guessed and then checked: the text is that of the model alone.
    "use_mtp",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "prompt_lookup_num_tokens",
    "max_matching_ngram_size",
    "assistant_early_exit",
    "assistant_lookbehind",
    "target_lookbehind",
    "assistant_ensemble_weight",
    "speculation_type",
    "transformers_version",
    "_from_model_config",
    "_commit_hash",
    // What belongs to calls of `generate` and is passed over in a file.
    "logits_processor",
    "stopping_criteria",
    "prefix_allowed_tokens_fn",
    "synced_gpus",
    "assistant_model",
    "streamer",
    "negative_prompt_ids",
    "negative_prompt_attention_mask",
    "custom_generate",
    "trust_remote_code",
];

/// What is applied: the names that `GenerationConfig::update` reads.
pub(super) const APPLIED: [&str; 29] = [
    "do_sample",
    "temperature",
    "top_h",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "repetition_penalty",
    "encoder_repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "sequence_bias",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "exponential_decay_length_penalty",
    "remove_invalid_values",
    "guidance_scale",
    "renormalize_logits",
    "min_length",
    "min_new_tokens",
    "max_length",
    "max_new_tokens",
    "eos_token_id",
    "stop_strings",
];

impl Source for Map<String, Value> {
    fn take(&mut self, name: &str) -> Result<Option<Value>> {
        Ok(self.get(name).filter(|value| !value.is_null()).cloned())
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value) -> Error {
        Error::model(format!("`{name}`: expected {expected}, found {found}"))
    }
}

pub fn read(path: &Path) -> Result<Map<String, Value>> {
    match files::read_json(path)? {
        Value::Object(settings) => Ok(settings),
        _ => Err(Error::new(Kind::File, format!("`{}`: expected a JSON object", path.display()))),
    }
}

/// The end tokens of a model without a `generation_config.json`, as transformers takes them from its `config.json`.
pub fn end_tokens_of_config(path: &Path) -> Result<Vec<u32>> {
    let config = files::read_json(path)?;
    let ids = match (&config["eos_token_id"], config["model_type"].as_str()) {
        (Value::Array(ids), _) => ids.iter().filter_map(Value::as_u64).collect(),
        (Value::Number(id), _) => id.as_u64().into_iter().collect(),
        // What these families have where the file says nothing.
        (_, Some("llama" | "mistral")) if config.get("eos_token_id").is_none() => vec![2],
        _ => Vec::new(),
    };
    Ok(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
}

/// What is to be said of the settings of a file that have an effect in transformers and none here.
pub fn note(settings: &Map<String, Value>) -> Option<String> {
    let acting = conditional(settings).into_iter().filter(|(_, acts)| *acts);
    let names: Vec<&str> = acting.map(|(name, _)| name).collect();
    let unknown: Vec<&str> = settings.keys().map(String::as_str).filter(|name| !is_known(name)).collect();
    let mut parts = Vec::new();
    if !names.is_empty() {
        parts.push(format!("sets {}: not applied here", names.join(", ")));
    }
    if !unknown.is_empty() {
        parts.push(format!("holds {}: no settings of generation, in transformers neither", unknown.join(", ")));
    }
    (!parts.is_empty()).then(|| format!("generation_config.json of this model {}", parts.join("; it ")))
}

/// The settings that would change the texts and are not applied, each with whether its value does.
fn conditional(settings: &Map<String, Value>) -> [(&'static str, bool); 15] {
    let number = |name: &str, idle: f64| settings.get(name).and_then(Value::as_f64).unwrap_or(idle);
    let is_set = |name: &str| settings.get(name).is_some_and(|value| !value.is_null());
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|found| found == value);
    let is_true = |name: &str| settings.get(name) == Some(&Value::Bool(true));
    let beams = number("num_beams", 1.0) > 1.0;
    let groups = number("num_beam_groups", 1.0) > 1.0;
    let is_greedy = !beams && !is_true("do_sample");
    [
        ("num_beams", beams),
        ("num_beam_groups", groups),
        ("diversity_penalty", groups && number("diversity_penalty", 0.0) != 0.0),
        ("length_penalty", beams && number("length_penalty", 1.0) != 1.0),
        ("early_stopping", beams && (is_true("early_stopping") || is("early_stopping", "never"))),
        ("num_return_sequences", number("num_return_sequences", 1.0) > 1.0),
        ("penalty_alpha", is_greedy && number("top_k", 50.0) > 1.0 && number("penalty_alpha", 0.0) > 0.0),
        ("dola_layers", is_set("dola_layers")),
        ("constraints", is_set("constraints")),
        ("force_words_ids", is_set("force_words_ids")),
        ("watermarking_config", is_set("watermarking_config")),
        ("token_healing", is_true("token_healing")),
        ("is_assistant", is_true("is_assistant")),
        ("max_time", is_set("max_time")),
        ("cache_implementation", is("cache_implementation", "quantized")),
    ]
}

/// Whether transformers knows a setting of this name.
fn is_known(name: &str) -> bool {
    let is_conditional = || conditional(&Map::new()).iter().any(|(known, _)| *known == name);
    APPLIED.contains(&name) || WITHOUT_EFFECT.contains(&name) || is_conditional()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_applied_is_named_in_one_note() {
        let note = |json: Value| note(json.as_object().unwrap());
        let idle = json!({"num_beams": 1, "length_penalty": 2.0, "early_stopping": true, "use_cache": false,
            "penalty_alpha": 0.6, "do_sample": true, "pad_token_id": 0, "transformers_version": "5.24.0"});
        assert_eq!(note(idle), None);
        let found = note(json!({"num_beams": 4, "length_penalty": 2.0, "max_time": 1.5, "chat_format": "chatml"}));
        let expected = "generation_config.json of this model sets num_beams, length_penalty, max_time: not applied \
                        here; it holds chat_format: no settings of generation, in transformers neither";
        assert_eq!(found.as_deref(), Some(expected));
    }

    #[test]
    fn end_tokens_come_from_config_json_where_there_is_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let ends = |json: Value| {
            files::write_json(&path, &json).unwrap();
            end_tokens_of_config(&path).unwrap()
        };
        assert_eq!(ends(json!({"model_type": "qwen2", "eos_token_id": [3, 1]})), [3, 1]);
        assert_eq!(ends(json!({"model_type": "llama"})), [2]);
        assert!(ends(json!({"model_type": "llama", "eos_token_id": null})).is_empty());
        assert!(ends(json!({"model_type": "qwen2"})).is_empty());
    }
}
