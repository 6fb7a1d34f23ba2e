//! Options of generation as settings; the names of declared options.

use crate::error::{Error, Result};
use crate::eval::config::{GenerationConfig, Source};
use crate::eval::sampling::Sampling;
use crate::hub::tokenizer::Tokenizer;
use crate::lora::LoraSpec;
use crate::options::OptionSet;
use crate::script::values::from_script::describe;
use crate::script::values::json::{to_dynamic, to_json};
use crate::script::values::options::Options;
use crate::train::TrainConfig;
use serde_json::Value;

/// Options of generation, with transformers' name where that is another.
type Names = &'static [(&'static str, &'static [&'static str])];
const GENERATION: Names = &[("stop", &["stop_strings"]), ("batch", &["batch_size"])];

/// The name of an option of adapters, training or generation that may be given by Python's name.
pub fn short_name(name: &str) -> Option<&'static str> {
    let declared = [LoraSpec::table(), TrainConfig::table()].into_iter().find_map(|table| table.find(name));
    let generation = GENERATION.iter().find(|(short, others)| *short == name || others.contains(&name));
    declared.map(|option| option.name).or(generation.map(|(short, _)| *short))
}

/// Python's names of such an option.
pub fn aliases(name: &str) -> &'static [&'static str] {
    let declared = [LoraSpec::table(), TrainConfig::table()].into_iter().find_map(|table| table.find(name));
    let generation = GENERATION.iter().find(|(short, _)| *short == name);
    declared.map(|option| option.aliases).or(generation.map(|(_, others)| *others)).unwrap_or_default()
}

/// How to generate, where `config` is what the model says of itself.
pub fn generation_config(
    options: &mut Options,
    mut config: GenerationConfig,
    tokenizer: &Tokenizer,
) -> Result<GenerationConfig> {
    let idle = Sampling::FILTERS.into_iter().find(|name| options.has(name));
    let says_how = options.has("do_sample");
    let given = config.update(&mut GenerationOptions(options), Some(tokenizer))?;
    // Temperature 0 is how other programs ask for the most likely token.
    let is_greedy = says_how || (given.contains(&"temperature") && config.sampling.temperature == 0.0);
    if let Some(name) = idle.filter(|_| !config.sampling.do_sample && !is_greedy) {
        let error = options.wrong(name, "`do_sample: true` with it", "greedy decoding");
        return Err(
            error.with_hint("without it the most likely token is taken at each step, and this option changes nothing")
        );
    }
    config.seed = options.take("seed", config.seed)?;
    config.batch = options.take_either("batch", "batch_size", config.batch)?;
    Ok(config)
}

/// The options of a call as settings of generation, by transformers' names.
struct GenerationOptions<'a>(&'a mut Options);

impl GenerationOptions<'_> {
    /// Our name of a setting, with its others.
    fn names(name: &str) -> (&str, &'static [&'static str]) {
        let entry = GENERATION.iter().find(|(_, others)| others.contains(&name));
        entry.map_or((name, &[]), |(short, others)| (short, others))
    }
}

impl Source for GenerationOptions<'_> {
    fn take(&mut self, name: &str) -> Result<Option<Value>> {
        let (name, others) = Self::names(name);
        let Some(value) = self.0.take_any_of(name, others)? else { return Ok(None) };
        match to_json(&value) {
            Ok(json) => Ok(Some(json)),
            Err(_) => Err(self.0.wrong(name, "a plain value", &describe(&value))),
        }
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value) -> Error {
        self.0.mistyped(Self::names(name).0, expected, &to_dynamic(found))
    }
}
