//! How to generate: a model's own `generation_config.json` over the defaults of transformers, and options over
//! both. The one place where the names of the settings are known; what the file may hold beside them is in
//! `generation_file.rs`.

use super::generation_file;
use super::processors::{ensure_choice, Processors, TokensSoFar};
use super::sampling::{ensure_finite, Sampling};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::hub::tokenizer::Tokenizer;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::{Kind as Dtype, Tensor};

/// Names and defaults are those of transformers' `generate`.
#[derive(Debug, Clone)]
pub struct GenerationConfig {
    pub sampling: Sampling,
    pub processors: Processors,
    /// How many tokens may follow a prompt; takes precedence over `max_length`.
    pub max_new_tokens: Option<usize>,
    /// How many tokens there may be, the prompt's included.
    pub max_length: Option<usize>,
    /// Makes the scores log-probabilities at last.
    pub renormalize_logits: bool,
    /// Tokens that end a text and are kept in its ids.
    pub eos_token_id: Vec<u32>,
    pub stop: Option<Stop>,
    /// Names the random numbers, with the number of the prompt and of the step.
    pub seed: u64,
    /// Prompts that are continued at a time.
    pub batch: usize,
    /// The model's file and the settings that are as it has them, for messages.
    pub from_file: Option<(PathBuf, Vec<&'static str>)>,
}

/// Strings that end a text, and how tokens become text.
#[derive(Debug, Clone)]
pub struct Stop {
    pub tokenizer: Tokenizer,
    pub strings: Vec<String>,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        GenerationConfig {
            sampling: Sampling::default(),
            processors: Processors::default(),
            max_new_tokens: None,
            max_length: None,
            renormalize_logits: false,
            eos_token_id: Vec::new(),
            stop: None,
            seed: 42,
            batch: 32,
            from_file: None,
        }
    }
}

/// How many tokens follow a prompt where nothing says so.
pub const DEFAULT_NEW_TOKENS: usize = 20;

/// Where settings are read from: a model's file, or the options of a call.
pub trait Source {
    /// The value of a setting, where it is given and not null.
    fn take(&mut self, name: &str) -> Result<Option<Value>>;

    /// What is wrong with a value of another type.
    fn wrong(&self, name: &str, expected: &str, found: &Value) -> Error;
}

impl GenerationConfig {
    /// The settings of the model in `folder`, as transformers finds them: those of its `generation_config.json`,
    /// or without one the end tokens of its `config.json`. With what is to be noted of the file: settings that
    /// have no effect here.
    pub fn of_model(folder: Option<&Path>, tokenizer: &Tokenizer, vocabulary: usize) -> Result<(Self, Vec<String>)> {
        let mut config = GenerationConfig::default();
        let mut notes = Vec::new();
        let Some(folder) = folder else { return Ok((config, notes)) };
        let path = folder.join("generation_config.json");
        if !path.is_file() {
            config.eos_token_id = generation_file::end_tokens_of_config(&folder.join("config.json"))?;
            return Ok((config, notes));
        }
        let json = generation_file::read(&path)?;
        let named = |error: Error| error.context(format!("`{}`", path.display()));
        let given = config.update(&mut json.clone(), Some(tokenizer)).map_err(named)?;
        config.ignore_idle();
        config.from_file = Some((path.clone(), given));
        config.check(vocabulary)?;
        notes.extend(generation_file::note(&json));
        Ok((config, notes))
    }

    /// Takes the settings that `source` gives. Without a tokenizer there are no stop strings. Gives the names of
    /// what was given.
    pub fn update(&mut self, source: &mut dyn Source, tokenizer: Option<&Tokenizer>) -> Result<Vec<&'static str>> {
        let mut reader = Reader { source, given: Vec::new() };
        let sampling = &mut self.sampling;
        reader.read("do_sample", &mut sampling.do_sample)?;
        reader.read("temperature", &mut sampling.temperature)?;
        reader.read("top_h", &mut sampling.top_h)?;
        reader.read("top_k", &mut sampling.top_k)?;
        reader.read("top_p", &mut sampling.top_p)?;
        reader.read("min_p", &mut sampling.min_p)?;
        reader.read("typical_p", &mut sampling.typical_p)?;
        reader.read("epsilon_cutoff", &mut sampling.epsilon_cutoff)?;
        reader.read("eta_cutoff", &mut sampling.eta_cutoff)?;
        let processors = &mut self.processors;
        reader.read("repetition_penalty", &mut processors.repetition_penalty)?;
        reader.read("encoder_repetition_penalty", &mut processors.encoder_repetition_penalty)?;
        reader.read("no_repeat_ngram_size", &mut processors.no_repeat_ngram_size)?;
        reader.read("encoder_no_repeat_ngram_size", &mut processors.encoder_no_repeat_ngram_size)?;
        reader.read("bad_words_ids", &mut processors.bad_words_ids)?;
        reader.read("sequence_bias", &mut processors.sequence_bias)?;
        reader.read("suppress_tokens", &mut processors.suppress_tokens)?;
        reader.read("begin_suppress_tokens", &mut processors.begin_suppress_tokens)?;
        reader.read("forced_bos_token_id", &mut processors.forced_bos_token_id)?;
        reader.read("forced_eos_token_id", &mut processors.forced_eos_token_id)?;
        reader.read("exponential_decay_length_penalty", &mut processors.exponential_decay_length_penalty)?;
        reader.read("remove_invalid_values", &mut processors.remove_invalid_values)?;
        reader.read("guidance_scale", &mut processors.guidance_scale)?;
        reader.read("renormalize_logits", &mut self.renormalize_logits)?;
        reader.read("min_length", &mut processors.min_length)?;
        reader.read("min_new_tokens", &mut processors.min_new_tokens)?;
        reader.read("max_length", &mut self.max_length)?;
        reader.read("max_new_tokens", &mut self.max_new_tokens)?;
        reader.read("eos_token_id", &mut self.eos_token_id)?;
        let mut stop = Strings(Vec::new());
        if let (true, Some(tokenizer)) = (reader.read("stop_strings", &mut stop)?, tokenizer) {
            let stop = Stop { tokenizer: tokenizer.clone(), strings: stop.0 };
            self.stop = Some(stop).filter(|stop| !stop.strings.is_empty());
        }
        let given = reader.given;
        if let Some((_, names)) = &mut self.from_file {
            names.retain(|name| !given.contains(name));
        }
        Ok(given)
    }

    /// Takes values that transformers passes over, because they lie where a filter keeps every token, for none.
    fn ignore_idle(&mut self) {
        let Sampling { top_p, typical_p, epsilon_cutoff, eta_cutoff, .. } = &mut self.sampling;
        for value in [top_p, typical_p] {
            *value = value.min(1.0);
        }
        for value in [epsilon_cutoff, eta_cutoff] {
            *value = if *value > 0.0 && *value < 1.0 { *value } else { 0.0 };
        }
    }

    /// Whether this setting is as the model's file has it.
    pub fn is_from_file(&self, name: &str) -> bool {
        self.from_file.as_ref().is_some_and(|(_, names)| names.contains(&name))
    }

    /// Fails on values without a meaning, where they would have an effect; names the file that they are from.
    /// `vocabulary` is the number of scores of each token.
    pub fn check(&self, vocabulary: usize) -> Result<()> {
        if self.batch == 0 {
            bail!(Kind::Input, "`batch`: expected at least 1, found 0");
        }
        let counts = [("max_new_tokens", self.max_new_tokens), ("max_length", self.max_length)];
        let zero = counts.into_iter().find(|(_, count)| *count == Some(0));
        let zero = zero.map(|(name, _)| (name, Error::input(format!("`{name}`: expected at least 1, found 0"))));
        let empty = self.stop.iter().flat_map(|stop| &stop.strings).any(String::is_empty).then(|| {
            let error = "`stop`: expected strings with at least one character, found an empty one";
            ("stop_strings", Error::input(error))
        });
        let problem = zero.or(empty).or_else(|| self.sampling.problem());
        match (problem.or_else(|| self.processors.problem(vocabulary)), &self.from_file) {
            (None, _) => Ok(()),
            (Some((name, error)), Some((path, names))) if names.contains(&name) => {
                Err(error.context(format!("`{}`", path.display())))
            }
            (Some((_, error)), _) => Err(error),
        }
    }

    /// How many tokens there may be behind and with a prompt of `prompt` tokens, where the model has so many
    /// `positions`. Only the default stays within them.
    ///
    /// Fails where no token could follow the prompt.
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

    /// The scores to choose the next token of each row from, f32 `[rows, vocab_size]`. `unprompted` are those
    /// without the prompt, where [`Processors::needs_unprompted`] asks for them.
    ///
    /// Fails where none can be chosen.
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

    /// The settings that decide the texts, as names and values for people: the usual ones, and those that
    /// differ from their defaults.
    pub fn described(&self) -> Vec<(String, String)> {
        let length = match (self.max_new_tokens, self.max_length) {
            (None, Some(length)) => ("max_length", length.to_string()),
            (count, _) => ("max_new_tokens", count.unwrap_or(DEFAULT_NEW_TOKENS).to_string()),
        };
        let mut pairs = vec![length, ("do_sample", self.sampling.do_sample.to_string())];
        if self.sampling.do_sample {
            let sampling = &self.sampling;
            pairs.extend([("temperature", sampling.temperature.to_string()), ("top_k", sampling.top_k.to_string())]);
            pairs.extend([("top_p", sampling.top_p.to_string()), ("seed", self.seed.to_string())]);
            pairs.extend(
                [("top_h", sampling.top_h), ("min_p", sampling.min_p)]
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, value?.to_string()))),
            );
            let others = [
                ("typical_p", sampling.typical_p, 1.0),
                ("epsilon_cutoff", sampling.epsilon_cutoff, 0.0),
                ("eta_cutoff", sampling.eta_cutoff, 0.0),
            ];
            pairs.extend(
                others
                    .into_iter()
                    .filter(|(_, value, idle)| value != idle)
                    .map(|(name, value, _)| (name, value.to_string())),
            );
        }
        pairs.push(("repetition_penalty", self.processors.repetition_penalty.to_string()));
        pairs.extend(self.processors.changed());
        if let Some(stop) = &self.stop {
            pairs.push(("stop", stop.strings.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ")));
        }
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

struct Reader<'a> {
    source: &'a mut dyn Source,
    given: Vec<&'static str>,
}

impl Reader<'_> {
    /// Puts a setting into its place; says whether it is given.
    fn read<T: Setting>(&mut self, name: &'static str, place: &mut T) -> Result<bool> {
        let Some(value) = self.source.take(name)? else { return Ok(false) };
        *place = T::parse(&value).ok_or_else(|| self.source.wrong(name, T::EXPECTED, &value))?;
        self.given.push(name);
        Ok(true)
    }
}

/// A value of a setting, as JSON has it.
trait Setting: Sized {
    /// What to write after "expected".
    const EXPECTED: &'static str;

    fn parse(value: &Value) -> Option<Self>;
}

struct Strings(Vec<String>);

macro_rules! setting {
    ($type:ty, $expected:literal, $parse:expr) => {
        impl Setting for $type {
            const EXPECTED: &'static str = $expected;
            fn parse(value: &Value) -> Option<Self> {
                let parse: fn(&Value) -> Option<Self> = $parse;
                parse(value)
            }
        }
    };
}

setting!(bool, "bool", Value::as_bool);
setting!(f64, "float", Value::as_f64);
setting!(i64, "int", Value::as_i64);
setting!(usize, "int of at least 0", |value| usize::try_from(value.as_u64()?).ok());
setting!(u32, "a token id", |value| u32::try_from(value.as_u64()?).ok());
// As transformers takes them: an id below 0 is no token's, and so has no effect.
setting!(Vec<u32>, "a token id or an array of them", |value| {
    let ids: Vec<i64> = one_or_many(value, Value::as_i64)?;
    Some(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
});
setting!(Vec<Vec<u32>>, "an array of arrays of token ids", |value| value.as_array()?.iter().map(sequence).collect());
setting!(Vec<(Vec<u32>, f64)>, "an array of pairs, each an array of token ids and a number", |value| {
    let mut biases: Vec<(Vec<u32>, f64)> = Vec::new();
    for pair in value.as_array()? {
        let [ids, bias] = pair.as_array()?.as_slice() else { return None };
        let (ids, bias) = (sequence(ids)?, bias.as_f64()?);
        // The last one counts, as in the map that transformers makes of them.
        match biases.iter_mut().find(|(known, _)| *known == ids) {
            Some(known) => known.1 = bias,
            None => biases.push((ids, bias)),
        }
    }
    Some(biases)
});
setting!((usize, f64), "an array of a number of tokens and a factor", |value| {
    let [start, factor] = value.as_array()?.as_slice() else { return None };
    Some((usize::parse(start)?, factor.as_f64()?))
});
setting!(Strings, "a string or an array of strings", |value| {
    one_or_many(value, |one| one.as_str().map(str::to_owned)).map(Strings)
});

impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn parse(value: &Value) -> Option<Self> {
        T::parse(value).map(Some)
    }
}

fn sequence(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(u32::parse).collect()
}

fn one_or_many<T>(value: &Value, parse: fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    match value.as_array() {
        Some(values) => values.iter().map(parse).collect(),
        None => Some(vec![parse(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn updated(config: &mut GenerationConfig, json: Value) -> Result<Vec<&'static str>> {
        config.update(&mut json.as_object().unwrap().clone(), None)
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
        assert_eq!(error.message, "`top_p`: expected float, found \"high\"");
    }

    #[test]
    fn values_without_a_meaning_are_refused() {
        let refused = |change: fn(&mut GenerationConfig)| {
            let mut config = GenerationConfig::default();
            config.sampling.do_sample = true;
            config.check(100).unwrap();
            change(&mut config);
            config.check(100).unwrap_err().message
        };
        assert!(refused(|config| config.sampling.temperature = 0.0).contains("`temperature`"));
        assert!(refused(|config| config.sampling.temperature = f64::NAN).contains("`temperature`"));
        assert!(refused(|config| config.processors.repetition_penalty = -1.0).contains("`repetition_penalty`"));
        assert!(refused(|config| config.sampling.top_p = 1.5).contains("`top_p`"));
        assert!(refused(|config| config.sampling.min_p = Some(-0.1)).contains("`min_p`"));
        assert!(refused(|config| config.sampling.typical_p = 0.0).contains("`typical_p`"));
        assert!(refused(|config| config.sampling.top_k = -1).contains("`top_k`"));
        assert!(refused(|config| config.max_new_tokens = Some(0)).contains("`max_new_tokens`"));
    }

    #[test]
    fn every_setting_that_is_read_is_known() {
        struct Names(Vec<String>);
        impl Source for Names {
            fn take(&mut self, name: &str) -> Result<Option<Value>> {
                self.0.push(name.to_owned());
                Ok(None)
            }
            fn wrong(&self, name: &str, _: &str, _: &Value) -> Error {
                Error::bug(name)
            }
        }
        let mut names = Names(Vec::new());
        GenerationConfig::default().update(&mut names, None).unwrap();
        names.0.sort();
        let mut known = generation_file::APPLIED.map(str::to_owned);
        known.sort();
        assert_eq!(names.0, known);
    }

    #[test]
    fn values_that_have_no_effect_are_not_refused() {
        let mut config = GenerationConfig::default();
        updated(&mut config, json!({"temperature": 0.0, "top_k": -1, "top_p": 7, "min_p": 3})).unwrap();
        config.check(100).unwrap();
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
        assert_eq!(length(Some(9), None, 64), Some(73), "what is asked for goes beyond the positions");
    }
}
