//! Generation as a call does it: the model's settings and the call's, notes, limits of a rehearsal, and answers as
//! text.

use super::compare::{self, Answer, Comparison};
use super::config::{GenerationConfig, DEFAULT_NEW_TOKENS};
use super::generate::{Finish, NewToken};
use super::generation_call::GenerationCall;
use super::prompt::{Prompt, PromptOptions, PromptReader};
use super::sample::{self, Sample};
use crate::data::Pace;
use crate::error::{Error, Result};
use crate::lora::Model;

/// A call that generates.
pub struct Generator<'a> {
    /// The name of the call, for errors and notes.
    pub call: &'a str,
    pub model: &'a Model,
    pub prompts: PromptReader<'a>,
    note: &'a dyn Fn(&str),
    /// In a rehearsal the answers to a few prompts stand for all others.
    pace: Pace,
}

impl<'a> Generator<'a> {
    pub fn new(call: &'a str, model: &'a Model, note: &'a dyn Fn(&str), pace: Pace) -> Result<Self> {
        Ok(Generator { call, model, prompts: PromptReader::new(model.tokenizer()?), note, pace })
    }

    #[must_use]
    pub fn with_prompts(self, options: PromptOptions) -> Self {
        Generator { prompts: self.prompts.with(options), ..self }
    }

    pub fn context(&self, error: Error) -> Error {
        error.context(self.call)
    }

    /// The settings of the model's files. Notes those that have no effect here.
    pub fn model_settings(&self) -> Result<GenerationConfig> {
        let folder = self.model.folder.as_deref();
        let (config, notes) = GenerationConfig::of_model(folder, self.model.tokenizer()?, self.vocabulary())?;
        notes.iter().for_each(|note| (self.note)(note));
        Ok(config)
    }

    /// The settings of the call, checked, with the tokens that end a turn. Notes what may surprise.
    pub fn config(&self, call: GenerationCall) -> Result<GenerationConfig> {
        call.config.check(self.call, self.vocabulary())?;
        let (has_length, has_ends) = (call.has("max_length"), call.has("eos_token_id"));
        let config = call.config;
        if let Some(count) = config.max_new_tokens.filter(|_| has_length) {
            let whose = if config.is_from_file("max_new_tokens") { "generation_config.json's " } else { "" };
            let note = format!("{whose}max_new_tokens: {count} takes precedence over max_length, as in transformers");
            (self.note)(&note);
        }
        if has_ends {
            return Ok(config);
        }
        if let Some(end) = self.model.tokenizer()?.eos().filter(|_| config.eos_token_id.is_empty()) {
            (self.note)(&format!(
                "no token ends a text: the model's files name no eos_token_id, and transformers takes none from the \
                 tokenizer; for its `{}`: eos_token_id: {}",
                end.text, end.id
            ));
        }
        self.with_turn_end(config)
    }

    /// The settings with the token that ends a turn by a template which was set on the model.
    pub fn with_turn_end(&self, mut config: GenerationConfig) -> Result<GenerationConfig> {
        let end = self.prompts.turn_end()?.filter(|id| !config.eos_token_id.contains(id));
        config.eos_token_id.0.extend(end);
        Ok(config)
    }

    /// The settings for these prompts. Notes texts that would go beyond the model's positions.
    ///
    /// # Errors
    /// A prompt that no token could follow.
    pub fn config_for(&self, mut config: GenerationConfig, prompts: &[Prompt]) -> Result<GenerationConfig> {
        let positions = self.model.decoder().config.max_position_embeddings.max(0) as usize;
        let mut longest = (0, 0);
        for (number, prompt) in prompts.iter().enumerate() {
            let length = config.length_with(prompt.ids.len(), positions).map_err(|error| match prompts.len() {
                1 => self.context(error),
                _ => self.context(error.context(format!("prompt {number}"))),
            })?;
            longest = longest.max((length, prompt.ids.len()));
        }
        let (length, prompt) = longest;
        if length > positions {
            let tokens = format!("{prompt} tokens of a prompt and {} new ones", length - prompt);
            (self.note)(&format!("{tokens} go beyond the {positions} positions of this model"));
        }
        if let Some(cap) = self.pace.cap() {
            config.max_new_tokens = Some(cap.min(length - prompt));
        }
        Ok(config)
    }

    /// The prompts that are continued: in a rehearsal the first ones.
    pub fn capped<'p>(&self, prompts: &'p [Prompt]) -> &'p [Prompt] {
        &prompts[..self.pace.count(prompts.len())]
    }

    /// An answer to each prompt by what is active on the model. Notes texts that were cut at the default length.
    pub fn answers(
        &self,
        prompts: &[Prompt],
        config: &GenerationConfig,
        on_token: &mut dyn FnMut(NewToken) -> Result<()>,
    ) -> Result<Vec<Answer>> {
        let answers = compare::answers(self.model, self.capped(prompts), config, on_token)?;
        let cut = answers.iter().filter(|answer| answer.finish == Finish::Length).count();
        if cut > 0 && config.max_new_tokens.is_none() && config.max_length.is_none() {
            let (call, all) = (self.call, answers.len());
            let note =
                format!("{call}: {cut} of {all} texts were cut at the default, max_new_tokens: {DEFAULT_NEW_TOKENS}");
            (self.note)(&note);
        }
        Ok(answers.iter().cycle().take(prompts.len()).cloned().collect())
    }

    /// Samples of each prompt by what is active on the model: see [`sample`](super::sample::sample).
    pub fn samples(&self, prompts: &[Prompt], n: usize, config: &GenerationConfig) -> Result<Vec<Sample>> {
        let first = sample::sample(self.model, self.capped(prompts), n, config)?;
        let of_prompt = |prompt: usize| (0..n).map(move |number| (prompt, number));
        let samples = (0..prompts.len()).flat_map(of_prompt).zip(first.iter().cycle());
        // In a rehearsal those of the first prompts stand for all others.
        Ok(samples.map(|((prompt, _), sample)| Sample { prompt, ..sample.clone() }).collect())
    }

    /// The answers of several adapters to each prompt, side by side.
    pub fn compare(
        &self,
        names: &[String],
        prompts: &[Prompt],
        references: Option<Vec<String>>,
        config: &GenerationConfig,
    ) -> Result<Comparison> {
        let first = self.capped(prompts);
        if first.len() == prompts.len() {
            return compare::compare(self.model, names, prompts, references, config);
        }
        compare::ensure_comparable(names, prompts, references.as_deref())?;
        let mut comparison = compare::compare(self.model, names, first, None, config)?;
        comparison.repeat(prompts, references.as_deref());
        Ok(comparison)
    }

    fn vocabulary(&self) -> usize {
        self.model.decoder().config.vocab_size as usize
    }
}
