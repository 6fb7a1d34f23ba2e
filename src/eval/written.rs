//! What candidates write after prompts, for metrics over text.

use super::candidate::{adapter_set, Candidate};
use super::config::{GenerationConfig, Stop};
use super::generate::{generate, Continuation};
use super::text::before_stop;
use crate::error::{Error, Result};
use crate::lora::Model;

/// How long and up to where to write.
#[derive(Debug, Clone)]
pub struct Settings {
    pub max_new_tokens: usize,
    /// The text ends before the first of these.
    pub until: Vec<String>,
}

/// The greedy continuation of every prompt by every candidate: `[candidates][prompts]`.
pub fn texts(
    model: &Model,
    candidates: &[Candidate],
    prompts: &[String],
    settings: &Settings,
) -> Result<Vec<Vec<String>>> {
    if settings.until.iter().any(String::is_empty) {
        return Err(Error::input("`until`: expected texts of at least one character, found an empty one"));
    }
    let tokenizer = model.tokenizer()?;
    let encoded = |(at, prompt): (usize, &String)| match tokenizer.encode(prompt, true)? {
        ids if ids.is_empty() => {
            Err(Error::input(format!("row {at}: the prompt is empty: expected at least one token")))
        }
        ids => Ok(ids),
    };
    let ids: Vec<Vec<u32>> = prompts.iter().enumerate().map(encoded).collect::<Result<_>>()?;
    let stop = Stop { tokenizer: tokenizer.clone(), strings: settings.until.clone() };
    let config = GenerationConfig {
        max_new_tokens: settings.max_new_tokens,
        eos_token_id: tokenizer.end_ids().to_vec(),
        stop: Some(stop).filter(|stop| !stop.strings.is_empty()),
        ..GenerationConfig::default()
    };
    let set = adapter_set(candidates);
    let found = generate(model.decoder(), &set, candidates.len(), &ids, &config, &mut |_| Ok(()))?;
    let text = |own: Continuation| Ok(before_stop(&tokenizer.decode(&own.ids, true)?, &settings.until).to_owned());
    found.into_iter().map(|part| part.into_iter().map(text).collect()).collect()
}
