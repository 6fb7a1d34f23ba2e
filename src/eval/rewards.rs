//! Samples for training on rewards: draws them, and asks the caller's functions what each is worth.

use super::config::GenerationConfig;
use super::generate::Finish;
use super::prompt::Prompt;
use super::sample::{sample, untouched, Sample};
use crate::data::store::{TokenizedInfo, TokenizedRow};
use crate::data::{RowKind, TokenizedDataset};
use crate::error::{Error, Result};
use crate::lora::Model;
use crate::train::grpo::rollout::RewardedSample;
use crate::train::grpo::GrpoOptions;

/// Returns the rewards of a text by the names of the functions that give them, from the number of its prompt and the text.
pub type Reward<'a> = dyn Fn(usize, &str) -> Result<Vec<(String, f64)>> + 'a;

/// Samples that are drawn at once.
const AT_ONCE: usize = 64;

/// How samples are drawn for training: `config` are the settings of the model's files, of which only the tokens that end a
/// text count.
pub fn sampling(config: GenerationConfig, options: &GrpoOptions) -> GenerationConfig {
    let mut config = untouched(config);
    config.sampling.temperature = options.temperature;
    (config.sampling.top_p, config.sampling.top_k) = (options.top_p, options.top_k);
    (config.max_new_tokens, config.max_length) = (Some(options.max_completion_length), None);
    config.batch = AT_ONCE;
    config
}

/// Draws the samples of some prompts, `num_generations` of each, and rewards them.
///
/// # Errors
/// As [`sample`]; those of `reward`, with the number of the prompt.
pub fn draw(
    model: &Model,
    prompts: &[Prompt],
    rows: &[u32],
    group: usize,
    config: &GenerationConfig,
    reward: &Reward,
) -> Result<Vec<RewardedSample>> {
    let chosen = rows.iter().map(|&row| prompts.get(row as usize).cloned());
    let chosen = chosen.collect::<Option<Vec<Prompt>>>().ok_or_else(|| Error::bug("a row without a prompt"))?;
    let rewarded = |sample: Sample| {
        let row = rows[sample.prompt] as usize;
        let rewards = reward(row, &sample.text).map_err(|error| error.context(format!("row {row}")))?;
        let Sample { prompt_ids, ids, finish, .. } = sample;
        Ok(RewardedSample { prompt_ids, ids, is_complete: finish != Finish::Length, rewards })
    };
    sample(model, &chosen, group, config)?.into_iter().map(rewarded).collect()
}

/// Prompts as the rows that a run goes through: tokens without labels.
///
/// # Errors
/// No prompt.
pub fn rows_of(prompts: &[Prompt]) -> Result<TokenizedDataset> {
    if prompts.is_empty() {
        return Err(Error::data("the data set has no rows: expected at least one prompt"));
    }
    let row = |prompt: &Prompt| TokenizedRow {
        trained: vec![false; prompt.ids.len()],
        ids: prompt.ids.clone(),
        ..TokenizedRow::default()
    };
    TokenizedDataset::from_rows(
        prompts.iter().map(row),
        TokenizedInfo { kind: RowKind::Prompts, ..TokenizedInfo::default() },
    )
}
