//! Settings of a call that generates: the model's own, the options over them, and what is to be noted of both.

use super::prompts::Reader;
use crate::eval::config::GenerationConfig;
use crate::eval::prompt::Prompt;
use crate::script::engine::state::State;
use crate::script::values::options::Options;
use crate::script::values::settings::generation_config;
use crate::{lora, Result};

/// The settings of the model's files. Notes those that have no effect here.
pub fn of_model(model: &lora::Model, state: &State) -> Result<GenerationConfig> {
    let vocabulary = model.decoder().config.vocab_size as usize;
    let (config, notes) = GenerationConfig::of_model(model.folder.as_deref(), model.tokenizer()?, vocabulary)?;
    notes.iter().for_each(|note| state.note(note));
    Ok(config)
}

/// `default` under the settings of the options.
pub fn read(
    options: &mut Options,
    default: GenerationConfig,
    reader: &Reader,
    state: &State,
) -> Result<GenerationConfig> {
    let tokenizer = reader.model.tokenizer()?;
    let (has_length, has_ends) = (options.has("max_length"), options.has("eos_token_id"));
    let mut config = generation_config(options, default, tokenizer)?;
    config.check(reader.model.decoder().config.vocab_size as usize).map_err(|error| reader.within(error))?;
    if let Some(count) = config.max_new_tokens.filter(|_| has_length) {
        let whose = if config.is_from_file("max_new_tokens") { "generation_config.json's " } else { "" };
        state.note(&format!("{whose}max_new_tokens: {count} takes precedence over max_length, as in transformers"));
    }
    if has_ends {
        return Ok(config);
    }
    if config.eos_token_id.is_empty() {
        if let Some(end) = tokenizer.eos() {
            state.note(&format!(
                "no token ends a text: the model's files name no eos_token_id, and transformers takes none from the \
                 tokenizer; for its `{}`: eos_token_id: {}",
                end.text, end.id
            ));
        }
    }
    let end = reader.prompts.turn_end()?.filter(|id| !config.eos_token_id.contains(id));
    config.eos_token_id.extend(end);
    Ok(config)
}

/// The settings for these prompts: fails where no token could follow one, and notes texts that would go beyond what
/// the model was made for. A rehearsal writes little.
pub fn fitting(
    mut config: GenerationConfig,
    reader: &Reader,
    prompts: &[Prompt],
    state: &State,
) -> Result<GenerationConfig> {
    let positions = reader.model.decoder().config.max_position_embeddings.max(0) as usize;
    let mut longest = (0, 0);
    for (number, prompt) in prompts.iter().enumerate() {
        let length = config.length_with(prompt.ids.len(), positions).map_err(|error| match prompts.len() {
            1 => reader.within(error),
            _ => reader.within(error.context(format!("prompt {number}"))),
        })?;
        longest = longest.max((length, prompt.ids.len()));
    }
    let (length, prompt) = longest;
    if length > positions {
        let tokens = format!("{prompt} tokens of a prompt and {} new ones", length - prompt);
        state.note(&format!("{tokens} go beyond the {positions} positions of this model"));
    }
    if state.rehearsing() {
        config.max_new_tokens = Some(state.few(length - prompt));
    }
    Ok(config)
}
