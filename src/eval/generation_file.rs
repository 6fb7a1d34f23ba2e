//! A model's `generation_config.json` as a source of options, with a note on settings that transformers applies and
//! this program does not; and the end tokens of a model without such a file.

use super::config::{file_error, file_name, FileOrigin, GenerationConfig};
use super::sampling::Sampling;
use super::token_ids::TokenIds;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::hub::tokenizer::Tokenizer;
use crate::options::{self, Declared, OptionSet, Refusal, Source};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Settings of transformers for the cache of keys and values, which change no text.
pub const CACHE: &[&str] = &["cache_config", "max_cache_len"];
/// Settings of transformers for the values that `generate` returns beside the text.
pub const OUTPUTS: &[&str] =
    &["output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"];
/// Settings of transformers for the tokens around a prompt, which the tokenizer adds here.
pub const PROMPT_TOKENS: &[&str] = &["pad_token_id", "bos_token_id", "decoder_start_token_id"];
/// Settings of transformers for speed and memory. Speculative decoding gives the text of the model alone.
pub const SPEED: &[&str] = &[
    "compile_config",
    "disable_compile",
    "continuous_batching_config",
    "prefill_chunk_size",
    "low_memory",
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
];
/// Other settings that a file holds and that change no text.
const OTHERS: &[&str] = &[
    "use_cache",
    "transformers_version",
    "_from_model_config",
    "_commit_hash",
    // Arguments of `generate`, which transformers ignores in a file.
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
/// All settings of transformers that change no text of the supported models.
const WITHOUT_EFFECT: [&[&str]; 5] = [CACHE, OUTPUTS, PROMPT_TOKENS, SPEED, OTHERS];

/// The settings of a file, as a source of options.
#[derive(Debug)]
pub struct GenerationFile {
    path: PathBuf,
    settings: Map<String, Value>,
}

impl GenerationFile {
    pub fn read(path: &Path) -> Result<Self> {
        match files::read_json(path)? {
            Value::Object(settings) => Ok(Self::new(path, settings)),
            _ => Err(Error::new(Kind::File, format!("`{}`: expected a JSON object", path.display()))),
        }
    }

    /// `path` is named in errors.
    pub fn new(path: &Path, settings: Map<String, Value>) -> Self {
        GenerationFile { path: path.to_owned(), settings }
    }

    /// A note that names the settings that have an effect in transformers and none here.
    pub fn note(&self) -> Option<String> {
        note(&self.settings)
    }
}

impl Source for GenerationFile {
    fn take(&mut self, option: &Declared) -> Result<Option<options::Value>> {
        let value = file_name(option).and_then(|name| self.settings.get(name));
        Ok(value.filter(|value| !value.is_null()).map(options::Value::from))
    }

    fn refuse(&self, refusal: Refusal) -> Error {
        Error { kind: Kind::Model, ..file_error(refusal, &self.path) }
    }
}

impl GenerationConfig {
    /// Reads the settings of the model in `folder` as transformers does: from `generation_config.json`, or without it
    /// the end tokens from `config.json`. Returns them with notes on settings that have no effect here.
    pub fn of_model(folder: Option<&Path>, tokenizer: &Tokenizer, vocabulary: usize) -> Result<(Self, Vec<String>)> {
        let mut config = GenerationConfig { tokenizer: Some(tokenizer.clone()), ..GenerationConfig::default() };
        let Some(folder) = folder else { return Ok((config, Vec::new())) };
        let path = folder.join("generation_config.json");
        if !path.is_file() {
            config.eos_token_id = end_tokens_of_config(&folder.join("config.json"))?;
            return Ok((config, Vec::new()));
        }
        let mut file = GenerationFile::read(&path)?;
        let options = config.update(&mut file)?;
        config.ignore_idle();
        config.origin = Some(FileOrigin { path, options });
        config.check("generate", vocabulary)?;
        Ok((config, file.note().into_iter().collect()))
    }

    /// Replaces values that transformers ignores, because with them a filter keeps every token, by the defaults.
    fn ignore_idle(&mut self) {
        let Sampling { top_p, typical_p, epsilon_cutoff, eta_cutoff, .. } = &mut self.sampling;
        for value in [top_p, typical_p] {
            *value = value.min(1.0);
        }
        for value in [epsilon_cutoff, eta_cutoff] {
            *value = if *value > 0.0 && *value < 1.0 { *value } else { 0.0 };
        }
    }
}

/// The end tokens of a model without `generation_config.json`, read from `config.json` as transformers does.
fn end_tokens_of_config(path: &Path) -> Result<TokenIds> {
    let config = files::read_json(path)?;
    let ids = match (&config["eos_token_id"], config["model_type"].as_str()) {
        (Value::Array(ids), _) => ids.iter().filter_map(Value::as_u64).collect(),
        (Value::Number(id), _) => id.as_u64().into_iter().collect(),
        // The default of these families.
        (_, Some("llama" | "mistral")) if config.get("eos_token_id").is_none() => vec![2],
        _ => Vec::new(),
    };
    Ok(TokenIds(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect()))
}

fn note(settings: &Map<String, Value>) -> Option<String> {
    let names: Vec<&str> = conditional(settings).into_iter().filter(|(_, acts)| *acts).map(|(name, _)| name).collect();
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

/// The settings that are not applied here, each with whether its value changes the text in transformers.
fn conditional(settings: &Map<String, Value>) -> [(&'static str, bool); 15] {
    let number = |name: &str, default: f64| settings.get(name).and_then(Value::as_f64).unwrap_or(default);
    let is_set = |name: &str| settings.get(name).is_some_and(|value| !value.is_null());
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|setting| setting == value);
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

/// Does transformers have a setting of this name?
fn is_known(name: &str) -> bool {
    let is_conditional = || conditional(&Map::new()).iter().any(|(known, _)| *known == name);
    let is_applied = || GenerationConfig::table().options().into_iter().any(|option| file_name(option) == Some(name));
    is_applied() || WITHOUT_EFFECT.iter().any(|names| names.contains(&name)) || is_conditional()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_that_are_not_applied_are_named_in_one_note() {
        let note = |json: Value| note(json.as_object().unwrap());
        let idle = json!({"num_beams": 1, "length_penalty": 2.0, "early_stopping": true, "use_cache": false,
            "penalty_alpha": 0.6, "do_sample": true, "pad_token_id": 0, "transformers_version": "5.24.0"});
        assert_eq!(note(idle), None);
        let text = note(json!({"num_beams": 4, "length_penalty": 2.0, "max_time": 1.5, "chat_format": "chatml"}));
        let expected = "generation_config.json of this model sets num_beams, length_penalty, max_time: not applied \
                        here; it holds chat_format: no settings of generation, in transformers neither";
        assert_eq!(text.as_deref(), Some(expected));
    }

    #[test]
    fn a_file_holds_what_transformers_knows() {
        let known = ["do_sample", "top_p", "bad_words_ids", "renormalize_logits", "eos_token_id", "stop_strings"];
        assert!(known.into_iter().all(is_known));
        let unknown = ["seed", "batch", "batch_size", "stop", "tokenizer", "chat_format"];
        assert!(!unknown.into_iter().any(is_known));
        let path = Path::new("generation_config.json");
        let error = file_error(Refusal::new("stop", "a string", "int 3"), path);
        assert_eq!(error.message, "`generation_config.json`: option `stop_strings`: expected a string, found int 3");
    }

    #[test]
    fn end_tokens_come_from_config_json_where_there_is_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let ends = |json: Value| {
            files::write_json(&path, &json).unwrap();
            end_tokens_of_config(&path).unwrap().0
        };
        assert_eq!(ends(json!({"model_type": "qwen2", "eos_token_id": [3, 1]})), [3, 1]);
        assert_eq!(ends(json!({"model_type": "llama"})), [2]);
        assert!(ends(json!({"model_type": "llama", "eos_token_id": null})).is_empty());
        assert!(ends(json!({"model_type": "qwen2"})).is_empty());
    }
}
