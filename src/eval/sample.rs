//! Samples: several answers to each prompt, with the tokens and log-probabilities that a loss on them needs.

use super::config::GenerationConfig;
use super::generate::{generate, Continuation, Finish};
use super::prompt::Prompt;
use super::sampling::Sampling;
use super::text::before_stop;
use crate::data::batch::IGNORE;
use crate::data::Row;
use crate::error::Result;
use crate::lora::Model;
use crate::options;
use serde_json::{json, Value};

options! {
    /// How many samples are drawn.
    #[derive(Debug, Clone, Copy)]
    pub struct SampleOptions {
        /// Samples of each prompt.
        pub n: usize = 1, alias ["num_generations", "num_return_sequences"], range at_least(1.0);
    }
}

/// An answer to a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The number of the prompt.
    pub prompt: usize,
    pub prompt_ids: Vec<u32>,
    /// New tokens, with the one that ended the text.
    pub ids: Vec<u32>,
    /// Of each new token, in nats: by the model itself, whatever temperature and filters it was drawn with.
    pub logprobs: Vec<f32>,
    pub text: String,
    pub finish: Finish,
}

impl Sample {
    /// As an object; `input_ids` and `labels` are those of a training row, with labels on the new tokens.
    pub fn fields(&self, prompts: &[Prompt]) -> Row {
        let input_ids: Vec<u32> = self.prompt_ids.iter().chain(&self.ids).copied().collect();
        let unlabelled = self.prompt_ids.iter().map(|_| IGNORE);
        let labels: Vec<i64> = unlabelled.chain(self.ids.iter().map(|&id| i64::from(id))).collect();
        let fields: [(&str, Value); 8] = [
            ("prompt", prompts.get(self.prompt).map(|prompt| prompt.shown.clone()).into()),
            ("group", self.prompt.into()),
            ("text", self.text.clone().into()),
            ("ids", json!(self.ids)),
            ("logprobs", json!(self.logprobs)),
            ("finish", self.finish.name().into()),
            ("input_ids", json!(input_ids)),
            ("labels", json!(labels)),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The settings of sampling without those of the model's file, as trainers that sample have them: temperature 1, no
/// filter.
pub fn untouched(mut config: GenerationConfig) -> GenerationConfig {
    config.sampling = Sampling { do_sample: true, top_k: 0, ..Sampling::default() };
    config.processors = Default::default();
    if let Some(origin) = &mut config.origin {
        origin.options.retain(|name| *name == "eos_token_id" || name.starts_with("max_"));
    }
    config
}

/// Draws `n` samples of each prompt with what is active on the model, prompt after prompt. The seed of `config`, the
/// number of a prompt and that of its sample decide each.
///
/// # Errors
/// As [`generate`].
pub fn sample(model: &Model, prompts: &[Prompt], n: usize, config: &GenerationConfig) -> Result<Vec<Sample>> {
    let config = GenerationConfig { logprobs: true, ..config.clone() };
    let repeated: Vec<Vec<u32>> =
        prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt.ids.clone(), n)).collect();
    let parts = generate(model.decoder(), &model.adapted.adapter_set(None), 1, &repeated, &config, &mut |_| Ok(()))?;
    let drawn = parts.into_iter().flatten().zip(repeated).enumerate();
    let samples = drawn.map(|(number, (continuation, prompt_ids))| {
        let Continuation { ids, logprobs, finish } = continuation;
        let text = before_stop(&model.tokenizer()?.decode(&ids, true)?, &config.stop).to_owned();
        Ok(Sample { prompt: number / n, prompt_ids, ids, logprobs, text, finish })
    });
    samples.collect()
}
