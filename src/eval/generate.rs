//! Continuing prompts token by token, many at a time, each with several adapters at once.
//!
//! Prompts of different lengths are read without padding, and a sequence that has ended leaves the batch. Its text
//! depends on the seed and on the number of its prompt, not on the other prompts.

use super::config::GenerationConfig;
use super::processors::TokensSoFar;
use super::text::StopFinder;
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use crate::model::{Adapters, Decoder, Grid, Input, KeyValueCache};
use crate::random::Key;
use tch::{no_grad, Kind as Dtype, Tensor};

/// The continuation of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuation {
    /// New tokens only, with the one that ended it.
    pub ids: Vec<u32>,
    /// The logarithm of the probability that the model gives each of them, in nats, before any filter or temperature.
    /// Empty unless [`GenerationConfig::logprobs`] asks for them.
    pub logprobs: Vec<f32>,
    pub finish: Finish,
}

/// Why a text ends where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// A token of `eos_token_id`.
    Eos,
    /// A stop string.
    Stop,
    /// `max_new_tokens` or `max_length`.
    Length,
}

/// A new token, reported as soon as it is chosen.
#[derive(Debug, Clone, Copy)]
pub struct NewToken {
    pub part: usize,
    /// The number of the prompt.
    pub prompt: usize,
    pub id: u32,
    /// Whether the text ends with it.
    pub finish: Option<Finish>,
}

impl Finish {
    pub fn name(self) -> &'static str {
        match self {
            Finish::Eos => "eos",
            Finish::Stop => "stop",
            Finish::Length => "length",
        }
    }
}

/// Continues every prompt `parts` times: the tokens of each are part `0..parts` of what `adapters` sees. Calls
/// `on_token` with every new token. Returns the continuations by part and prompt.
///
/// # Errors
/// Prompts that are empty or as long as a text may be, values of `config` without a meaning, an interrupt, and weights
/// that changed in their file.
pub fn generate(
    decoder: &Decoder,
    adapters: &dyn Adapters,
    parts: usize,
    prompts: &[Vec<u32>],
    config: &GenerationConfig,
    on_token: &mut dyn FnMut(NewToken) -> Result<()>,
) -> Result<Vec<Vec<Continuation>>> {
    config.check("generate", decoder.config.vocab_size as usize)?;
    if let Some(empty) = prompts.iter().position(Vec::is_empty) {
        bail!(Kind::Input, "prompt {empty} is empty: expected at least one token");
    }
    let positions = decoder.config.max_position_embeddings.max(0) as usize;
    let length = |(number, prompt): (usize, &Vec<u32>)| {
        config.length_with(prompt.len(), positions).map_err(|error| match prompts.len() {
            1 => error,
            _ => error.context(format!("prompt {number}")),
        })
    };
    let lengths: Vec<usize> = prompts.iter().enumerate().map(length).collect::<Result<_>>()?;
    let mut continuations: Vec<Vec<Continuation>> = vec![Vec::with_capacity(prompts.len()); parts];
    let numbers: Vec<usize> = (0..prompts.len()).collect();
    for numbers in numbers.chunks(config.batch) {
        let pairs = (0..parts).flat_map(|part| numbers.iter().map(move |&prompt| (part, prompt)));
        let sequences =
            pairs.map(|(part, prompt)| Sequence::new(part, prompt, &prompts[prompt], lengths[prompt], config));
        let sequences = sequences.collect::<Result<_>>()?;
        let continue_all = || no_grad(|| continue_all(decoder, adapters, parts, sequences, config, on_token));
        for sequence in decoder.files.unless_changed(continue_all)? {
            let finish = sequence.finish.ok_or_else(|| Error::bug("a sequence has not ended"))?;
            let ids = sequence.ids[sequence.prompt_tokens..].to_vec();
            continuations[sequence.part].push(Continuation { ids, logprobs: sequence.logprobs, finish });
        }
    }
    Ok(continuations)
}

/// A prompt that is being continued.
#[derive(Debug)]
struct Sequence {
    part: usize,
    prompt: usize,
    /// The prompt's, then the new ones.
    ids: Vec<u32>,
    prompt_tokens: usize,
    max_length: usize,
    stops: Option<StopFinder>,
    /// Of the new tokens, where they are asked for.
    logprobs: Vec<f32>,
    finish: Option<Finish>,
}

impl Sequence {
    fn new(part: usize, prompt: usize, ids: &[u32], max_length: usize, config: &GenerationConfig) -> Result<Self> {
        let stops = match (&config.tokenizer, config.stop.as_slice()) {
            (_, []) => None,
            (Some(tokenizer), strings) => Some(StopFinder::new(tokenizer, strings)),
            (None, _) => bail!(Kind::Input, "option `stop`: expected a tokenizer with it, found none"),
        };
        let (ids, prompt_tokens, logprobs) = (ids.to_vec(), ids.len(), Vec::new());
        Ok(Sequence { part, prompt, ids, prompt_tokens, max_length, stops, logprobs, finish: None })
    }

    fn push(&mut self, id: u32, config: &GenerationConfig) -> Result<()> {
        self.ids.push(id);
        let is_stopped = self.stops.as_mut().map(|stops| stops.push(id)).transpose()?.unwrap_or(false);
        self.finish = if config.eos_token_id.contains(&id) {
            Some(Finish::Eos)
        } else if is_stopped {
            Some(Finish::Stop)
        } else if self.ids.len() >= self.max_length {
            Some(Finish::Length)
        } else {
            None
        };
        Ok(())
    }

    fn so_far(&self) -> TokensSoFar<'_> {
        TokensSoFar { ids: &self.ids, prompt: self.prompt_tokens, max_length: self.max_length }
    }

    /// In [0, 1), for the next token. The same for every part: adapters are compared by the same draws.
    fn uniform(&self, seed: u64) -> f64 {
        let new_tokens = self.ids.len() - self.prompt_tokens;
        Key::new(seed).named("sampling").numbered(self.prompt as u64).uniform(new_tokens as u64)
    }
}

/// Continues sequences, which are ordered by part, until all have ended.
fn continue_all(
    decoder: &Decoder,
    adapters: &dyn Adapters,
    parts: usize,
    mut sequences: Vec<Sequence>,
    config: &GenerationConfig,
    on_token: &mut dyn FnMut(NewToken) -> Result<()>,
) -> Result<Vec<Sequence>> {
    let new_cache = || KeyValueCache::new(&decoder.config, sequences.len());
    let mut cache = new_cache();
    // Guidance also needs the scores without the prompt, which is then its last token alone.
    let mut unprompted = config.processors.needs_unprompted().then(new_cache);
    // The sequences that have not ended, in the order of the cache, and the tokens of each that the model has not read.
    let mut open: Vec<usize> = (0..sequences.len()).collect();
    let mut unread: Vec<Vec<u32>> = sequences.iter().map(|sequence| sequence.ids.clone()).collect();
    while !open.is_empty() {
        interrupt::check()?;
        let part_of: Vec<usize> = open.iter().map(|&index| sequences[index].part).collect();
        if let Some(context) = decoder.config.rereads_beyond() {
            for (row, &index) in open.iter().enumerate() {
                let (past, ids) = (cache.lengths()[row], &sequences[index].ids);
                if past > 0 && past <= context && ids.len() as i64 > context {
                    cache.clear(row);
                    unread[row].clone_from(ids);
                }
            }
        }
        let model_scores = next_scores(decoder, adapters, &mut cache, parts, &part_of, &unread)?;
        let without = unprompted.as_mut().map(|cache| {
            let last: Vec<Vec<u32>> = unread.iter().map(|ids| ids[ids.len() - 1..].to_vec()).collect();
            next_scores(decoder, adapters, cache, parts, &part_of, &last)
        });
        let so_far: Vec<TokensSoFar> = open.iter().map(|&index| sequences[index].so_far()).collect();
        let scores = config.scores(&model_scores, without.transpose()?.as_ref(), &so_far)?;
        let uniform: Vec<f64> = open.iter().map(|&index| sequences[index].uniform(config.seed)).collect();
        let ids = config.sampling.choose(&scores, &uniform)?;
        if config.logprobs {
            for (&index, logprob) in open.iter().zip(logprobs(&model_scores, &ids)?) {
                sequences[index].logprobs.push(logprob);
            }
        }
        for (&index, &id) in open.iter().zip(&ids) {
            let sequence = &mut sequences[index];
            sequence.push(id, config)?;
            on_token(NewToken { part: sequence.part, prompt: sequence.prompt, id, finish: sequence.finish })?;
        }
        let kept: Vec<usize> = (0..open.len()).filter(|&row| sequences[open[row]].finish.is_none()).collect();
        if kept.len() < open.len() {
            cache.keep(&kept)?;
            unprompted.as_mut().map(|cache| cache.keep(&kept)).transpose()?;
        }
        unread = kept.iter().map(|&row| vec![ids[row]]).collect();
        open = kept.iter().map(|&row| open[row]).collect();
    }
    Ok(sequences)
}

/// The logarithm of the probability of the token chosen in each row.
fn logprobs(scores: &Tensor, ids: &[u32]) -> Result<Vec<f32>> {
    let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let ids = Tensor::f_from_slice(&ids)?.f_to_device(scores.device())?.f_unsqueeze(-1)?;
    let chosen = scores.f_log_softmax(-1, Dtype::Float)?.f_gather(-1, &ids, false)?;
    Ok(Vec::try_from(chosen.f_squeeze_dim(-1)?.f_to_device(tch::Device::Cpu)?)?)
}

/// Scores of the token that follows each row, f32 `[rows, vocab_size]`, once the model has read
/// its `unread` tokens.
fn next_scores(
    decoder: &Decoder,
    adapters: &dyn Adapters,
    cache: &mut KeyValueCache,
    parts: usize,
    part_of: &[usize],
    unread: &[Vec<u32>],
) -> Result<Tensor> {
    let past = cache.lengths().to_vec();
    let padded: Vec<Padded> = (0..parts)
        .map(|part| {
            let rows = (0..unread.len()).filter(|&row| part_of[row] == part);
            Padded::new(rows.map(|row| (unread[row].as_slice(), past[row])))
        })
        .collect();
    // Before the first token, samples of one prompt and prompts with one beginning have the same states.
    let lengths: Vec<i64> = unread.iter().map(|ids| ids.len() as i64).collect();
    let shares_prefixes = past.iter().all(|&tokens| tokens == 0) && decoder.computes_prefixes_alike(&lengths);
    let grids: Vec<Grid> = padded.iter().map(|rows| Grid { shares_prefixes, ..rows.grid() }).collect();
    let input = Input::new(&grids, decoder.config.vocab_size, decoder.device)?.each_alone();
    let hidden = decoder.hidden_after(cache, &input, adapters)?;
    let ends = padded.iter().enumerate().flat_map(|(part, rows)| {
        let token_of_cell = input.tokens_by_cell(part);
        rows.lengths.iter().enumerate().map(move |(row, length)| token_of_cell[row * rows.time + length - 1])
    });
    let ends: Vec<i64> = ends.collect::<Option<_>>().ok_or_else(|| Error::bug("a row without its last token"))?;
    let last = hidden.f_index_select(0, &Tensor::f_from_slice(&ends)?.f_to_device(decoder.device)?)?;
    Ok(decoder.logits(&last, &input.tokens.select(&ends)?, adapters)?.f_to_kind(Dtype::Float)?)
}

/// The new tokens of a part's rows as a grid.
struct Padded {
    /// Of each row, without padding.
    lengths: Vec<usize>,
    time: usize,
    ids: Vec<i64>,
    positions: Vec<i64>,
}

impl Padded {
    /// From the new tokens of each row and the number of those before.
    fn new<'a>(rows: impl Iterator<Item = (&'a [u32], i64)>) -> Self {
        let rows: Vec<(&[u32], i64)> = rows.collect();
        let time = rows.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
        let (mut all, mut positions) = (vec![0; rows.len() * time], vec![0; rows.len() * time]);
        for (row, (ids, past)) in rows.iter().enumerate() {
            for (column, &id) in ids.iter().enumerate() {
                all[row * time + column] = i64::from(id);
                positions[row * time + column] = past + column as i64;
            }
        }
        Padded { lengths: rows.iter().map(|(ids, _)| ids.len()).collect(), time, ids: all, positions }
    }

    fn grid(&self) -> Grid<'_> {
        let Padded { lengths, time, ids, positions } = self;
        Grid {
            rows: lengths.len(),
            time: *time,
            input_ids: ids,
            position_ids: positions,
            segments: None,
            shares_prefixes: false,
            part_of: None,
        }
    }
}
