//! Continuing prompts token by token, many at a time, each with several adapters at once.
//!
//! Prompts of different lengths stand one after another without padding, and a row that has
//! ended leaves. What a row comes to depends on the seed and on its number, not on its company.

use super::config::GenerationConfig;
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
    /// `max_new_tokens`.
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
/// Fails on empty prompts, on values of `config` without a meaning, and when it is stopped.
pub fn generate(
    decoder: &Decoder,
    adapters: &dyn Adapters,
    parts: usize,
    prompts: &[Vec<u32>],
    config: &GenerationConfig,
    told: &mut dyn FnMut(Step) -> Result<()>,
) -> Result<Vec<Vec<Continuation>>> {
    config.check()?;
    if let Some(empty) = prompts.iter().position(Vec::is_empty) {
        bail!(Kind::Input, "prompt {empty} is empty: expected at least one token");
    }
    let mut done: Vec<Vec<Continuation>> = vec![Vec::with_capacity(prompts.len()); parts];
    let numbers: Vec<usize> = (0..prompts.len()).collect();
    for numbers in numbers.chunks(config.batch) {
        let rows = (0..parts).flat_map(|part| numbers.iter().map(move |&prompt| (part, prompt)));
        let rows = rows.map(|(part, prompt)| Row::new(part, prompt, config));
        let rows = no_grad(|| run(decoder, adapters, parts, rows.collect(), prompts, config, told))?;
        for row in rows {
            let finish = row.finish.ok_or_else(|| Error::bug("a row has not ended"))?;
            done[row.part].push(Continuation { ids: row.fresh, finish });
        }
    }
    Ok(done)
}

/// A prompt that is being continued.
#[derive(Debug)]
struct Row {
    part: usize,
    prompt: usize,
    fresh: Vec<u32>,
    stops: Option<StopFinder>,
    finish: Option<Finish>,
}

impl Row {
    fn new(part: usize, prompt: usize, config: &GenerationConfig) -> Self {
        Row { part, prompt, fresh: Vec::new(), stops: config.stop.as_ref().map(StopFinder::new), finish: None }
    }

    fn take(&mut self, id: u32, config: &GenerationConfig) -> Result<()> {
        self.fresh.push(id);
        let stopped = self.stops.as_mut().map(|stops| stops.push(id)).transpose()?.unwrap_or(false);
        self.finish = match () {
            () if config.eos_token_id.contains(&id) => Some(Finish::Eos),
            () if stopped => Some(Finish::Stop),
            () if self.fresh.len() >= config.max_new_tokens => Some(Finish::Length),
            () => None,
        };
        Ok(())
    }

    /// In [0, 1), for the next token. The same for every part: adapters are compared by the same draws.
    fn uniform(&self, seed: u64) -> f64 {
        Key::new(seed).named("sampling").numbered(self.prompt as u64).uniform(self.fresh.len() as u64)
    }
}

/// Continues rows, which stand part by part, until all have ended.
fn run(
    decoder: &Decoder,
    adapters: &dyn Adapters,
    parts: usize,
    mut rows: Vec<Row>,
    prompts: &[Vec<u32>],
    config: &GenerationConfig,
    told: &mut dyn FnMut(Step) -> Result<()>,
) -> Result<Vec<Row>> {
    let mut cache = KeyValueCache::new(&decoder.config, rows.len());
    let mut seen = Seen::new(decoder, config, rows.len())?;
    // The rows that go on, in the order of the cache, and what the model has not read of each.
    let mut going: Vec<usize> = (0..rows.len()).collect();
    let mut unread: Vec<Vec<u32>> = rows.iter().map(|row| prompts[row.prompt].clone()).collect();
    while !going.is_empty() {
        interrupt::check()?;
        let part_of: Vec<usize> = going.iter().map(|&row| rows[row].part).collect();
        let scores = next_scores(decoder, adapters, &mut cache, parts, &part_of, &unread)?;
        seen.add(&unread)?;
        let scores = config.sampling.processed(&scores, seen.mask.as_ref())?;
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
            seen.keep(&stay)?;
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

/// The tokens that each row holds, where a penalty asks for them.
struct Seen {
    /// bool `[rows, vocab_size]`
    mask: Option<Tensor>,
}

impl Seen {
    fn new(decoder: &Decoder, config: &GenerationConfig, rows: usize) -> Result<Self> {
        let size = [rows as i64, decoder.config.vocab_size];
        let mask = config.sampling.penalises().then(|| Tensor::f_zeros(size, (Dtype::Bool, decoder.device)));
        Ok(Seen { mask: mask.transpose()? })
    }

    fn add(&mut self, rows: &[Vec<u32>]) -> Result<()> {
        let Some(mask) = &self.mask else { return Ok(()) };
        let vocabulary = mask.size()[1];
        let cell =
            |(row, ids): (i64, &Vec<u32>)| ids.iter().map(|&id| row * vocabulary + i64::from(id)).collect::<Vec<_>>();
        let cells: Vec<i64> = (0..).zip(rows).flat_map(cell).collect();
        let cells = Tensor::f_from_slice(&cells)?.f_to_device(mask.device())?;
        let _ = mask.f_view([-1])?.f_index_fill_(0, &cells, 1)?;
        Ok(())
    }

    fn keep(&mut self, rows: &[usize]) -> Result<()> {
        if let Some(mask) = &mut self.mask {
            let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
            *mask = mask.f_index_select(0, &Tensor::f_from_slice(&rows)?.f_to_device(mask.device())?)?;
        }
        Ok(())
    }
}
