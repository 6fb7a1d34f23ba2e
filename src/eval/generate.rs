//! Continuing prompts token by token, many at a time, each with several adapters at once.
//!
//! Prompts of different lengths stand one after another without padding, and a row that has
//! ended leaves. What a row comes to depends on the seed and on its number, not on its company.

use super::config::GenerationConfig;
use super::processors::TokensSoFar;
use super::text::StopFinder;
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use crate::model::{Adapters, Decoder, Grid, Input, KeyValueCache};
use crate::random::Key;
use tch::{no_grad, Kind as Dtype, Tensor};

/// What a prompt was continued with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// New tokens only, with the one that ended it.
    pub ids: Vec<u32>,
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

/// A new token, as it comes.
#[derive(Debug, Clone, Copy)]
pub struct Step {
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

/// Continues every prompt `parts` times: the tokens of each are part `0..parts` of what
/// `adapters` sees. `told` hears of every token. Gives the continuations by part and prompt.
///
/// Fails on prompts that are empty or as long as a text may be, on values of `config` without a meaning, and when it
/// is stopped.
pub fn generate(
    decoder: &Decoder,
    adapters: &dyn Adapters,
    parts: usize,
    prompts: &[Vec<u32>],
    config: &GenerationConfig,
    told: &mut dyn FnMut(Step) -> Result<()>,
) -> Result<Vec<Vec<Continuation>>> {
    config.check(decoder.config.vocab_size as usize)?;
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
    let mut done: Vec<Vec<Continuation>> = vec![Vec::with_capacity(prompts.len()); parts];
    let numbers: Vec<usize> = (0..prompts.len()).collect();
    for numbers in numbers.chunks(config.batch) {
        let rows = (0..parts).flat_map(|part| numbers.iter().map(move |&prompt| (part, prompt)));
        let rows = rows.map(|(part, prompt)| Row::new(part, prompt, &prompts[prompt], lengths[prompt], config));
        let rows = no_grad(|| run(decoder, adapters, parts, rows.collect(), config, told))?;
        for row in rows {
            let finish = row.finish.ok_or_else(|| Error::bug("a row has not ended"))?;
            done[row.part].push(Continuation { ids: row.ids[row.read..].to_vec(), finish });
        }
    }
    Ok(done)
}

/// A prompt that is being continued.
#[derive(Debug)]
struct Row {
    part: usize,
    prompt: usize,
    /// The prompt's, then the new ones.
    ids: Vec<u32>,
    /// How many tokens the prompt has.
    read: usize,
    max_length: usize,
    stops: Option<StopFinder>,
    finish: Option<Finish>,
}

impl Row {
    fn new(part: usize, prompt: usize, ids: &[u32], max_length: usize, config: &GenerationConfig) -> Self {
        let stops = config.stop.as_ref().map(StopFinder::new);
        Row { part, prompt, ids: ids.to_vec(), read: ids.len(), max_length, stops, finish: None }
    }

    fn take(&mut self, id: u32, config: &GenerationConfig) -> Result<()> {
        self.ids.push(id);
        let stopped = self.stops.as_mut().map(|stops| stops.push(id)).transpose()?.unwrap_or(false);
        self.finish = match () {
            () if config.eos_token_id.contains(&id) => Some(Finish::Eos),
            () if stopped => Some(Finish::Stop),
            () if self.ids.len() >= self.max_length => Some(Finish::Length),
            () => None,
        };
        Ok(())
    }

    fn so_far(&self) -> TokensSoFar<'_> {
        TokensSoFar { ids: &self.ids, prompt: self.read, max_length: self.max_length }
    }

    /// In [0, 1), for the next token. The same for every part: adapters are compared by the same draws.
    fn uniform(&self, seed: u64) -> f64 {
        let fresh = self.ids.len() - self.read;
        Key::new(seed).named("sampling").numbered(self.prompt as u64).uniform(fresh as u64)
    }
}

/// Continues rows, which stand part by part, until all have ended.
fn run(
    decoder: &Decoder,
    adapters: &dyn Adapters,
    parts: usize,
    mut rows: Vec<Row>,
    config: &GenerationConfig,
    told: &mut dyn FnMut(Step) -> Result<()>,
) -> Result<Vec<Row>> {
    let mut cache = KeyValueCache::new(&decoder.config, rows.len());
    // Guidance also asks what follows without the prompt, which is then its last token alone.
    let mut unprompted = config.processors.needs_unprompted().then(|| KeyValueCache::new(&decoder.config, rows.len()));
    // The rows that go on, in the order of the cache, and what the model has not read of each.
    let mut going: Vec<usize> = (0..rows.len()).collect();
    let mut unread: Vec<Vec<u32>> = rows.iter().map(|row| row.ids.clone()).collect();
    while !going.is_empty() {
        interrupt::check()?;
        let part_of: Vec<usize> = going.iter().map(|&row| rows[row].part).collect();
        let scores = next_scores(decoder, adapters, &mut cache, parts, &part_of, &unread)?;
        let without = unprompted.as_mut().map(|cache| {
            let last: Vec<Vec<u32>> = unread.iter().map(|ids| ids[ids.len() - 1..].to_vec()).collect();
            next_scores(decoder, adapters, cache, parts, &part_of, &last)
        });
        let so_far: Vec<TokensSoFar> = going.iter().map(|&row| rows[row].so_far()).collect();
        let scores = config.scores(&scores, without.transpose()?.as_ref(), &so_far)?;
        let uniform: Vec<f64> = going.iter().map(|&row| rows[row].uniform(config.seed)).collect();
        let ids = config.sampling.choose(&scores, &uniform)?;
        for (&row, &id) in going.iter().zip(&ids) {
            let row = &mut rows[row];
            row.take(id, config)?;
            told(Step { part: row.part, prompt: row.prompt, id, finish: row.finish })?;
        }
        let stay: Vec<usize> = (0..going.len()).filter(|&at| rows[going[at]].finish.is_none()).collect();
        if stay.len() < going.len() {
            cache.keep(&stay)?;
            unprompted.as_mut().map(|cache| cache.keep(&stay)).transpose()?;
        }
        unread = stay.iter().map(|&at| vec![ids[at]]).collect();
        going = stay.iter().map(|&at| going[at]).collect();
    }
    Ok(rows)
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
            let own = (0..unread.len()).filter(|&row| part_of[row] == part);
            Padded::new(own.map(|row| (unread[row].as_slice(), past[row])))
        })
        .collect();
    let grids: Vec<Grid> = padded.iter().map(Padded::grid).collect();
    let input = Input::new(&grids, decoder.config.vocab_size, decoder.device)?.each_alone();
    let hidden = decoder.hidden_after(cache, &input, adapters)?;
    let ends: Vec<i64> = unread
        .iter()
        .scan(0, |end, row| {
            *end += row.len() as i64;
            Some(*end - 1)
        })
        .collect();
    let last = hidden.f_index_select(0, &Tensor::f_from_slice(&ends)?.f_to_device(decoder.device)?)?;
    Ok(decoder.logits(&last, &input.tokens.select(&ends)?, adapters)?.f_to_kind(Dtype::Float)?)
}

/// The new tokens of a part's rows as a grid.
struct Padded {
    rows: usize,
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
        Padded { rows: rows.len(), time, ids: all, positions }
    }

    fn grid(&self) -> Grid<'_> {
        let Padded { rows, time, ids, positions } = self;
        Grid { rows: *rows, time: *time, input_ids: ids, position_ids: positions, segments: None }
    }
}
