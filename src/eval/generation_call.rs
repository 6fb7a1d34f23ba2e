//! The settings of one call that generates: the model's own under the options of the call.

use super::config::GenerationConfig;
use super::sampling::Sampling;
use crate::error::Result;
use crate::options::{OptionSet, Refusal, Source, Table, Value};

/// Reads the options of a call over the settings of a model.
#[derive(Debug, Clone, Default)]
pub struct GenerationCall {
    pub config: GenerationConfig,
    /// The names of the options in the call.
    names: Vec<&'static str>,
}

/// The most new tokens of an answer that is scored: expected answers are short.
const SCORED_TOKENS: usize = 64;

impl GenerationCall {
    /// A call without options, over the settings of the model's files in `config`.
    pub fn over(config: GenerationConfig) -> Self {
        GenerationCall { config, names: Vec::new() }
    }

    /// As [`over`](Self::over), for texts that are scored: greedy and short, whatever the model's files say.
    pub fn scored(mut config: GenerationConfig) -> Self {
        if let Some(origin) = &mut config.origin {
            origin.options.retain(|name| !["do_sample", "max_new_tokens", "max_length"].contains(name));
        }
        config.sampling.do_sample = false;
        (config.max_new_tokens, config.max_length) = (Some(SCORED_TOKENS), None);
        Self::over(config)
    }

    /// Does the call set the option?
    pub fn has(&self, option: &str) -> bool {
        self.names.contains(&option)
    }

    /// Refuses a filter of sampling in a call that does not sample.
    fn idle_filter(&self) -> Option<Refusal> {
        let Sampling { do_sample, temperature, .. } = self.config.sampling;
        // Temperature 0 is how other programs ask for the most likely token.
        let is_meant = do_sample || self.has("do_sample") || (self.has("temperature") && temperature == 0.0);
        let name = Sampling::filters().find(|name| self.has(name)).filter(|_| !is_meant)?;
        let hint = "without it the most likely token is taken at each step, and this option changes nothing";
        Some(Refusal::new(name, "`do_sample: true` with it", "greedy decoding").with_hint(hint))
    }
}

impl OptionSet for GenerationCall {
    fn table() -> &'static Table {
        GenerationConfig::table()
    }

    fn update(&mut self, source: &mut dyn Source) -> Result<Vec<&'static str>> {
        self.names = self.config.update(source)?;
        if let Some(origin) = &mut self.config.origin {
            origin.options.retain(|name| !self.names.contains(name));
        }
        Ok(self.names.clone())
    }

    fn values(&self) -> Vec<(&'static str, Value)> {
        self.config.values()
    }

    /// The number of new tokens is not a limit beside a `max_length` in the call.
    fn resolve(&mut self) {
        if self.has("max_length") && !self.has("max_new_tokens") && !self.config.is_from_file("max_new_tokens") {
            self.config.max_new_tokens = None;
        }
    }

    /// Values of the model's file are left to [`GenerationConfig::check`], which names the file.
    fn problem(&self) -> Option<Refusal> {
        let problem = || self.config.problem().filter(|refusal| !self.config.is_from_file(&refusal.option));
        self.idle_filter().or_else(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::options::{Declared, Value};
    use serde_json::json;

    struct Call(serde_json::Value);

    impl Source for Call {
        fn take(&mut self, option: &Declared) -> Result<Option<Value>> {
            Ok(self.0.get(option.name).map(Value::from))
        }
        fn refuse(&self, refusal: Refusal) -> Error {
            refusal.error("generate")
        }
    }

    fn read(call: GenerationCall, options: serde_json::Value) -> Result<GenerationConfig> {
        Ok(call.read_over(&mut Call(options))?.config)
    }

    #[test]
    fn filters_are_refused_where_nothing_is_drawn() {
        let read = |options| read(GenerationCall::default(), options);
        let error = read(json!({"top_p": 0.9})).unwrap_err();
        assert!(error.message.starts_with("generate: option `top_p`: expected `do_sample: true`"), "{error}");
        assert!(read(json!({"top_p": 0.9, "do_sample": true})).is_ok());
        assert!(read(json!({"top_p": 0.9, "do_sample": false})).is_ok());
        assert!(read(json!({"temperature": 0})).is_ok());
        assert!(read(json!({"temperature": 0, "do_sample": true})).is_err());
    }

    #[test]
    fn scored_texts_are_short_unless_the_call_says_how_long() {
        let limits = |options| {
            let config = read(GenerationCall::scored(GenerationConfig::default()), options).unwrap();
            (config.max_new_tokens, config.max_length)
        };
        assert_eq!(limits(json!({})), (Some(SCORED_TOKENS), None));
        assert_eq!(limits(json!({"max_length": 9})), (None, Some(9)));
        assert_eq!(limits(json!({"max_length": 9, "max_new_tokens": 3})), (Some(3), Some(9)));
    }
}
