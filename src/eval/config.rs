//! The settings of generation: those of transformers, and the number of prompts at a time.
//!
//! Leaves to others: reading a model's `generation_config.json` (`generation_file.rs`) and the options of a call
//! (`generation_call.rs`).

use super::processors::{ensure_choice, Processors, TokensSoFar};
use super::sampling::{ensure_finite, Sampling};
use super::token_ids::TokenIds;
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::hub::tokenizer::Tokenizer;
use crate::options;
use crate::options::{Declared, OneOrMany, OptionSet, Refusal};
use std::path::{Path, PathBuf};
use tch::{Kind as Dtype, Tensor};

options! {
    /// Names and defaults are those of transformers' `generate`.
    #[derive(Debug, Clone)]
    pub struct GenerationConfig {
        /// The most new tokens; takes precedence over `max_length`.
        pub max_new_tokens: Option<usize> = None, range at_least(1.0), words "20";
        /// The most tokens of a text, the prompt's included.
        pub max_length: Option<usize> = None, range at_least(1.0);
        pub sampling: Sampling = Sampling::default(), is set;
        pub processors: Processors = Processors::default(), is set;
        /// Turn the scores into log-probabilities at the end.
        pub renormalize_logits: bool = false;
        /// The tokens that end a text, one id or an array of them.
        pub eos_token_id: TokenIds = TokenIds::default(), words "the model's own";
        /// Strings that end a text and are left out of it, one or an array of them.
        pub stop: OneOrMany<String> = OneOrMany(Vec::new()), alias ["stop_strings"], words "none";
        /// The seed of the random numbers. A prompt's text depends on it and on the prompt's index alone.
        pub seed: u64 = 42;
        /// Prompts that are continued at a time.
        pub batch: usize = 32, alias ["batch_size"], range at_least(1.0);
        /// Turns tokens into text, to find `stop` in it.
        pub tokenizer: Option<Tokenizer> = None, is internal;
        /// The options that are from the model's file.
        pub origin: Option<FileOrigin> = None, is internal;
        /// Whether continuations come with the log-probabilities of their tokens.
        pub logprobs: bool = false, is internal;
    }
    rule GenerationConfig::rule;
}

/// A model's file, and the options whose values are from it.
#[derive(Debug, Clone)]
pub struct FileOrigin {
    pub path: PathBuf,
    pub options: Vec<&'static str>,
}

/// The options of a call that transformers does not have.
const OF_CALLS: [&str; 2] = ["seed", "batch"];

/// The name of an option in transformers and in the file.
pub fn file_name(option: &Declared) -> Option<&'static str> {
    let name = option.aliases.first().copied().unwrap_or(option.name);
    Some(name).filter(|_| !OF_CALLS.contains(&option.name))
}

/// The error for a value in a file, with the option's name in the file.
pub fn file_error(refusal: Refusal, path: &Path) -> Error {
    let option = GenerationConfig::table().find(&refusal.option).and_then(file_name).map(str::to_owned);
    Refusal { option: option.unwrap_or(refusal.option.clone()), ..refusal }.error(&format!("`{}`", path.display()))
}

/// The number of new tokens without `max_new_tokens` and `max_length`.
pub const DEFAULT_NEW_TOKENS: usize = 20;

impl GenerationConfig {
    /// Is the value of this option from the model's file?
    pub fn is_from_file(&self, option: &str) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.options.contains(&option))
    }

    fn rule(&self) -> Option<Refusal> {
        let has_empty = self.stop.iter().any(String::is_empty);
        has_empty.then(|| Refusal::new("stop", "strings with at least one character", "an empty one"))
    }

    /// Fails on invalid values that would have an effect. The error names `call`, or the file that the value is from.
    /// `vocabulary` is the number of scores of each token.
    pub fn check(&self, call: &str, vocabulary: usize) -> Result<()> {
        let Some(refusal) = self.problem().or_else(|| self.processors.unknown_token(vocabulary)) else {
            return Ok(());
        };
        Err(match &self.origin {
            Some(FileOrigin { path, options }) if options.contains(&refusal.option.as_str()) => {
                file_error(refusal, path)
            }
            _ => refusal.error(call),
        })
    }

    /// The most tokens of a text whose prompt has `prompt` tokens. Only the default number of new tokens stays within
    /// the model's `positions`.
    ///
    /// Fails if no token could follow the prompt.
    pub fn length_with(&self, prompt: usize, positions: usize) -> Result<usize> {
        let length = match (self.max_new_tokens, self.max_length) {
            (Some(count), _) => prompt + count,
            (None, Some(length)) => length,
            (None, None) => (prompt + DEFAULT_NEW_TOKENS).min(positions),
        };
        if length > prompt {
            return Ok(length);
        }
        match self.max_length {
            Some(length) => bail!(Kind::Input,
                "`max_length` is {length}, and the prompt has {prompt} tokens: no token can follow it";
                hint: "`max_length` counts the prompt's tokens too: raise it, or give max_new_tokens"),
            None => bail!(Kind::Input,
                "the prompt has {prompt} tokens, and the model {positions} positions: no token can follow it";
                hint: "shorten the prompt, or go beyond the positions with max_new_tokens"),
        }
    }

    /// The scores from which the next token of each row is chosen, f32 `[rows, vocab_size]`. `unprompted` are the scores
    /// without the prompt, if [`Processors::needs_unprompted`].
    ///
    /// Fails if no token can be chosen.
    pub fn scores(&self, scores: &Tensor, unprompted: Option<&Tensor>, rows: &[TokensSoFar]) -> Result<Tensor> {
        let guided = unprompted.map(|unprompted| self.processors.guided(scores, unprompted)).transpose()?;
        let guided = guided.as_ref().unwrap_or(scores);
        let changed = self.processors.processed(guided, rows, &self.eos_token_id)?;
        let changed = self.sampling.filtered(&changed)?;
        let changed = if self.renormalize_logits { changed.f_log_softmax(-1, Dtype::Float)? } else { changed };
        if let Err(error) = ensure_choice(&changed) {
            ensure_finite(scores)?;
            return Err(error);
        }
        Ok(changed)
    }

    /// The options that affect the texts, with their values as text: the usual ones, and those that differ from their
    /// defaults.
    pub fn described(&self) -> Vec<(String, String)> {
        let length = match (self.max_new_tokens, self.max_length) {
            (None, Some(length)) => ("max_length", length.to_string()),
            (count, _) => ("max_new_tokens", count.unwrap_or(DEFAULT_NEW_TOKENS).to_string()),
        };
        let acts = |name: &str| {
            self.sampling.do_sample || (name != "seed" && Sampling::filters().all(|filter| filter != name))
        };
        let options = self.values().into_iter().zip(GenerationConfig::default().values());
        let options = options.filter(|((name, value), (_, default))| {
            let is_shown = USUAL.contains(name) || value.literal() != default.literal();
            is_shown && acts(name) && !NOT_DESCRIBED.contains(name)
        });
        let text = |value: options::Value| match value {
            options::Value::Float(number) => number.to_string(),
            other => other.literal(),
        };
        let options = options.map(|((name, value), _)| (name, text(value)));
        [length].into_iter().chain(options).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The options that [`GenerationConfig::described`] shows even at their defaults.
const USUAL: [&str; 6] = ["do_sample", "temperature", "top_k", "top_p", "repetition_penalty", "seed"];
/// The options that it does not show: the length is shown first, the end tokens are the model's, and the batch affects
/// no text.
const NOT_DESCRIBED: [&str; 4] = ["max_new_tokens", "max_length", "eos_token_id", "batch"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::generation_file::GenerationFile;
    use serde_json::{json, Value};

    fn updated(config: &mut GenerationConfig, json: Value) -> Result<Vec<&'static str>> {
        config.update(&mut GenerationFile::new(Path::new("file.json"), json.as_object().unwrap().clone()))
    }

    #[test]
    fn the_file_of_the_model_comes_before_the_defaults() {
        let mut config = GenerationConfig::default();
        // As Qwen2.5-Instruct has it.
        let json = json!({"do_sample": true, "repetition_penalty": 1.1, "temperature": 0.7, "top_p": 0.8, "top_k": 20});
        updated(&mut config, json).unwrap();
        let expected = Sampling { do_sample: true, temperature: 0.7, top_k: 20, top_p: 0.8, ..Sampling::default() };
        assert_eq!((config.sampling, config.max_new_tokens), (expected, None));
        assert_eq!(config.processors.repetition_penalty, 1.1);
        updated(&mut config, json!({"top_p": null, "max_new_tokens": 7})).unwrap();
        assert_eq!((config.sampling.top_p, config.max_new_tokens), (0.8, Some(7)));
        let error = updated(&mut config, json!({"top_p": "high"})).unwrap_err();
        assert_eq!(error.message, "`file.json`: option `top_p`: expected float in [0, 1], found string \"high\"");
    }

    #[test]
    fn values_without_a_meaning_are_refused() {
        let refused = |change: fn(&mut GenerationConfig)| {
            let mut config = GenerationConfig::default();
            config.sampling.do_sample = true;
            config.check("generate", 100).unwrap();
            change(&mut config);
            config.check("generate", 100).unwrap_err().message
        };
        assert!(refused(|config| config.sampling.temperature = 0.0).contains("`temperature`"));
        assert!(refused(|config| config.sampling.temperature = f64::NAN).contains("`temperature`"));
        assert!(refused(|config| config.processors.repetition_penalty = -1.0).contains("`repetition_penalty`"));
        assert!(refused(|config| config.sampling.top_p = 1.5).contains("`top_p`"));
        assert!(refused(|config| config.sampling.min_p = Some(-0.1)).contains("`min_p`"));
        assert!(refused(|config| config.sampling.typical_p = 0.0).contains("`typical_p`"));
        assert!(refused(|config| config.sampling.top_k = -1).contains("`top_k`"));
        assert_eq!(
            refused(|config| config.max_new_tokens = Some(0)),
            "generate: option `max_new_tokens`: expected int of at least 1, found 0"
        );
    }

    #[test]
    fn values_that_have_no_effect_are_not_refused() {
        let mut config = GenerationConfig::default();
        updated(&mut config, json!({"temperature": 0.0, "top_k": -1, "top_p": 7, "min_p": 3})).unwrap();
        config.check("generate", 100).unwrap();
    }

    #[test]
    fn the_options_that_affect_the_texts_are_described() {
        let mut config = GenerationConfig::default();
        updated(&mut config, json!({"top_p": 0.9, "min_length": 3, "suppress_tokens": [7, 8]})).unwrap();
        let described = |config: &GenerationConfig| {
            let pairs = config.described().into_iter().map(|(name, value)| format!("{name} {value}"));
            pairs.collect::<Vec<_>>().join(", ")
        };
        let greedy = "max_new_tokens 20, do_sample false, repetition_penalty 1, suppress_tokens [7, 8], min_length 3";
        assert_eq!(described(&config), greedy);
        config.sampling.do_sample = true;
        let drawn = "max_new_tokens 20, do_sample true, temperature 1, top_k 50, top_p 0.9, repetition_penalty 1, \
                     suppress_tokens [7, 8], min_length 3, seed 42";
        assert_eq!(described(&config), drawn);
    }

    #[test]
    fn the_length_is_that_of_transformers() {
        let length = |new, total, prompt| {
            GenerationConfig { max_new_tokens: new, max_length: total, ..Default::default() }
                .length_with(prompt, 64)
                .ok()
        };
        assert_eq!(length(Some(5), Some(30), 10), Some(15), "the new tokens count first");
        assert_eq!(length(None, Some(30), 10), Some(30));
        assert_eq!(length(None, Some(30), 30), None);
        assert_eq!(
            (length(None, None, 10), length(None, None, 60), length(None, None, 64)),
            (Some(30), Some(64), None)
        );
        assert_eq!(length(Some(9), None, 64), Some(73), "a count that is set goes beyond the positions");
    }
}
