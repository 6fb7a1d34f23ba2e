//! How to generate: a model's own `generation_config.json` over the defaults of transformers.

use super::sampling::Sampling;
use crate::error::{Error, Result};
use crate::files;
use crate::hub::tokenizer::Tokenizer;
use serde_json::Value;
use std::path::Path;

/// Names and defaults are those of transformers' `generate`.
#[derive(Debug, Clone)]
pub struct GenerationConfig {
    pub sampling: Sampling,
    pub max_new_tokens: usize,
    /// Tokens that end a text and are kept in its ids.
    pub eos_token_id: Vec<u32>,
    pub stop: Option<Stop>,
    /// Names the random numbers, with the number of the prompt and of the step.
    pub seed: u64,
    /// Prompts that are continued at a time.
    pub batch: usize,
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
            max_new_tokens: 20,
            eos_token_id: Vec::new(),
            stop: None,
            seed: 42,
            batch: 32,
        }
    }
}

/// What transformers would apply and this program does not, with the values that mean nothing.
const IGNORED: [(&str, &[f64]); 8] = [
    ("num_beams", &[1.0]),
    ("min_p", &[0.0]),
    ("typical_p", &[1.0]),
    ("epsilon_cutoff", &[0.0]),
    ("eta_cutoff", &[0.0]),
    ("no_repeat_ngram_size", &[0.0]),
    ("min_new_tokens", &[0.0]),
    ("min_length", &[0.0]),
];

impl GenerationConfig {
    /// The settings of the model in `folder`: what its `generation_config.json` says, if it has
    /// one. Ids that end a text are `tokenizer`'s. With the names of the settings in that file
    /// that have no effect here.
    pub fn of_model(folder: Option<&Path>, tokenizer: &Tokenizer) -> Result<(Self, Vec<&'static str>)> {
        let path = folder.map(|folder| folder.join("generation_config.json")).filter(|path| path.is_file());
        let json = match &path {
            Some(path) => files::read_json(path)?,
            None => Value::Null,
        };
        let mut config = GenerationConfig { eos_token_id: tokenizer.end_ids().to_vec(), ..Self::default() };
        config.read(&json).map_err(|error| match &path {
            Some(path) => error.context(format!("`{}`", path.display())),
            None => error,
        })?;
        let matters = |(name, idle): &&(&str, &[f64])| {
            json.get(*name).and_then(Value::as_f64).is_some_and(|value| !idle.contains(&value))
        };
        let ignored = IGNORED.iter().filter(matters).map(|(name, _)| *name).collect();
        Ok((config, ignored))
    }

    fn read(&mut self, json: &Value) -> Result<()> {
        let sampling = &mut self.sampling;
        if let Some(value) = json.get("do_sample").filter(|value| !value.is_null()) {
            sampling.do_sample = value.as_bool().ok_or_else(|| wrong("do_sample", "true or false", value))?;
        }
        let numbers = [
            ("temperature", &mut sampling.temperature),
            ("top_p", &mut sampling.top_p),
            ("repetition_penalty", &mut sampling.repetition_penalty),
        ];
        for (name, number) in numbers {
            if let Some(value) = json.get(name).filter(|value| !value.is_null()) {
                *number = value.as_f64().ok_or_else(|| wrong(name, "a number", value))?;
            }
        }
        if let Some(value) = json.get("top_k").filter(|value| !value.is_null()) {
            sampling.top_k = value.as_i64().ok_or_else(|| wrong("top_k", "a whole number", value))?;
        }
        if let Some(value) = json.get("max_new_tokens").filter(|value| !value.is_null()) {
            let count = value.as_u64().ok_or_else(|| wrong("max_new_tokens", "a whole number", value))?;
            self.max_new_tokens = count as usize;
        }
        Ok(())
    }

    /// Fails on values without a meaning.
    pub fn check(&self) -> Result<()> {
        self.sampling.check()?;
        for (name, value) in [("max_new_tokens", self.max_new_tokens), ("batch", self.batch)] {
            if value == 0 {
                return Err(Error::input(format!("`{name}`: expected at least 1, found 0")));
            }
        }
        if self.stop.iter().flat_map(|stop| &stop.strings).any(String::is_empty) {
            return Err(Error::input("`stop`: expected strings with at least one character, found an empty one"));
        }
        Ok(())
    }

    /// The settings that decide the texts, as names and values for people.
    pub fn described(&self) -> Vec<(String, String)> {
        let Sampling { do_sample, temperature, top_k, top_p, repetition_penalty } = self.sampling;
        let mut pairs = vec![("max_new_tokens", self.max_new_tokens.to_string()), ("do_sample", do_sample.to_string())];
        if do_sample {
            pairs.extend([("temperature", temperature.to_string()), ("top_k", top_k.to_string())]);
            pairs.extend([("top_p", top_p.to_string()), ("seed", self.seed.to_string())]);
        }
        pairs.push(("repetition_penalty", repetition_penalty.to_string()));
        if let Some(stop) = &self.stop {
            pairs.push(("stop", stop.strings.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ")));
        }
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn wrong(name: &str, expected: &str, found: &Value) -> Error {
    Error::model(format!("`{name}`: expected {expected}, found {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_file_of_the_model_comes_before_the_defaults() {
        let mut config = GenerationConfig::default();
        // As Qwen2.5-Instruct has it.
        config
            .read(&json!({"do_sample": true, "repetition_penalty": 1.1, "temperature": 0.7, "top_p": 0.8, "top_k": 20}))
            .unwrap();
        let expected = Sampling { do_sample: true, temperature: 0.7, top_k: 20, top_p: 0.8, repetition_penalty: 1.1 };
        assert_eq!((config.sampling, config.max_new_tokens), (expected, 20));
        config.read(&json!({"top_p": null, "max_new_tokens": 7})).unwrap();
        assert_eq!((config.sampling.top_p, config.max_new_tokens), (0.8, 7));
        let error = config.read(&json!({"top_p": "high"})).unwrap_err();
        assert_eq!(error.message, "`top_p`: expected a number, found \"high\"");
    }

    #[test]
    fn values_without_a_meaning_are_refused() {
        let refused = |change: fn(&mut GenerationConfig)| {
            let mut config = GenerationConfig::default();
            config.check().unwrap();
            change(&mut config);
            config.check().unwrap_err().message
        };
        assert!(refused(|config| config.sampling.temperature = 0.0).contains("`temperature`"));
        assert!(refused(|config| config.sampling.temperature = f64::NAN).contains("`temperature`"));
        assert!(refused(|config| config.sampling.repetition_penalty = -1.0).contains("`repetition_penalty`"));
        assert!(refused(|config| config.sampling.top_p = 1.5).contains("`top_p`"));
        assert!(refused(|config| config.sampling.top_k = -1).contains("`top_k`"));
        assert!(refused(|config| config.max_new_tokens = 0).contains("`max_new_tokens`"));
    }
}
