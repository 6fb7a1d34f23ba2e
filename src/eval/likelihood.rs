//! Log-likelihoods of tokens given those before them: many requests, and every candidate,
//! in one pass through the frozen base.
//!
//! Rows have no padding, and only scored tokens go through the output head. A request whose
//! input is the beginning of another's (the choices of one question that are a token long)
//! is read off that row.

use super::candidate::{adapter_set, Candidate};
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use crate::lora::AdapterSet;
use crate::model::loss::{token_losses, Targets};
use crate::model::{Decoder, Grid, Input};
use crate::options;
use std::cmp::Reverse;
use tch::{no_grad, Kind as Dtype};

options! {
    /// How texts are scored.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct ScoringOptions {
        /// The longest input in tokens.
        pub max_length: Option<usize> = None, range at_least(1.0), words "the model's max_position_embeddings";
        /// Rows in a pass.
        pub batch: usize = 8, alias ["batch_size"], range at_least(1.0);
    }
}

/// Tokens of which the last `scored` are scored, each given all that stand before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// At least one more than `scored`.
    pub ids: Vec<u32>,
    /// At least one.
    pub scored: usize,
}

impl Request {
    /// What the model reads: the last token is only predicted.
    fn input(&self) -> &[u32] {
        &self.ids[..self.ids.len().saturating_sub(1)]
    }

    /// Columns of the row, each with the token that it must predict.
    fn targets(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        let first = self.ids.len() - self.scored;
        self.ids[first..].iter().enumerate().map(move |(at, &id)| (first + at - 1, id))
    }
}

/// A row of a pass, and the requests that are read off it.
struct SharedRow<'a> {
    input: &'a [u32],
    requests: Vec<usize>,
}

/// A scored token: where it is predicted, its id, and the request that it belongs to.
struct Scored {
    position: i64,
    token: i64,
    request: usize,
}

/// The log-likelihood of every request in nats, by candidate: `[candidates][requests]`.
///
/// `batch` is the number of rows in a pass, which every candidate gets. Sums are taken in f64.
pub fn log_likelihoods(
    decoder: &Decoder,
    candidates: &[Candidate],
    requests: &[Request],
    batch: usize,
) -> Result<Vec<Vec<f64>>> {
    if batch == 0 {
        return Err(Error::input("option `batch`: expected int of at least 1, found int 0"));
    }
    ensure_known(requests, decoder.config.vocab_size)?;
    let adapters = adapter_set(candidates);
    let mut sums = vec![vec![0.0; requests.len()]; candidates.len()];
    decoder.files.unless_changed(|| {
        shared_rows(requests).chunks(batch).try_for_each(|rows| {
            interrupt::check()?;
            no_grad(|| pass(decoder, &adapters, rows, requests, &mut sums))
        })
    })?;
    if sums.iter().flatten().all(|value| value.is_finite()) {
        return Ok(sums);
    }
    Err(Error::new(Kind::Numeric, "the model gives a log-likelihood that is not a finite number")
        .with_hint("its weights or those of an adapter are damaged, or too large for this dtype"))
}

fn ensure_known(requests: &[Request], vocab_size: i64) -> Result<()> {
    let mut ids = requests.iter().flat_map(|request| &request.ids);
    match ids.find(|&&id| i64::from(id) >= vocab_size) {
        Some(id) => Err(Error::data(format!("token id {id} is outside the model's vocabulary of {vocab_size}"))
            .with_hint("the model's folder holds the tokenizer of another model")),
        None => Ok(()),
    }
}

/// The rows that serve all requests, longest first, so that those of a batch are alike.
fn shared_rows(requests: &[Request]) -> Vec<SharedRow<'_>> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    // In descending order what continues an input stands right before it.
    order.sort_by(|&a, &b| requests[b].input().cmp(requests[a].input()));
    let mut rows: Vec<SharedRow> = Vec::new();
    for at in order {
        let input = requests[at].input();
        match rows.last_mut().filter(|row| row.input.starts_with(input)) {
            Some(row) => row.requests.push(at),
            None => rows.push(SharedRow { input, requests: vec![at] }),
        }
    }
    rows.sort_by_key(|row| Reverse(row.input.len()));
    rows
}

/// Adds the log-likelihoods that can be read off `rows`.
fn pass(
    decoder: &Decoder,
    adapters: &AdapterSet,
    rows: &[SharedRow],
    requests: &[Request],
    sums: &mut [Vec<f64>],
) -> Result<()> {
    let input = input_of(rows, sums.len(), decoder)?;
    let scored: Vec<Vec<Scored>> = (0..sums.len()).map(|part| scored_tokens(&input, part, rows, requests)).collect();
    let all = || scored.iter().flatten();
    let tokens: Vec<i64> = all().map(|scored| scored.token).collect();
    let positions = all().map(|scored| scored.position).collect();
    let targets = Targets::at(positions, &tokens, scored.iter().map(Vec::len).collect(), decoder.device)?;
    let hidden = decoder.hidden(&input, adapters)?;
    let losses = token_losses(decoder, &input, &hidden, &targets, adapters)?;
    let losses = Vec::<f64>::try_from(losses.f_to_kind(Dtype::Double)?)?;
    let indices = scored.iter().enumerate().flat_map(|(part, all)| all.iter().map(move |one| (part, one.request)));
    indices.zip(losses).for_each(|((part, request), loss)| sums[part][request] -= loss);
    Ok(())
}

/// The same rows as a grid for every candidate.
fn input_of(rows: &[SharedRow], candidates: usize, decoder: &Decoder) -> Result<Input> {
    let time = rows.iter().map(|row| row.input.len()).max().unwrap_or(0);
    let (mut ids, mut positions) = (vec![0; rows.len() * time], vec![0; rows.len() * time]);
    for (row, start) in rows.iter().zip((0..).step_by(time.max(1))) {
        for (column, &id) in row.input.iter().enumerate() {
            ids[start + column] = i64::from(id);
            positions[start + column] = column as i64;
        }
    }
    let grid = Grid {
        rows: rows.len(),
        time,
        input_ids: &ids,
        position_ids: &positions,
        segments: None,
        shares_prefixes: false,
        part_of: None,
    };
    Ok(Input::new(&vec![grid; candidates], decoder.config.vocab_size, decoder.device)?.each_alone())
}

/// In the order of their positions, as [`Targets`] wants them.
fn scored_tokens(input: &Input, part: usize, rows: &[SharedRow], requests: &[Request]) -> Vec<Scored> {
    let (token_of_cell, time) = (input.tokens_by_cell(part), input.grid_time(part));
    let mut scored = Vec::new();
    for (row, start) in rows.iter().zip((0..).step_by(time.max(1))) {
        for &request in &row.requests {
            let targets = requests[request].targets();
            scored.extend(targets.filter_map(|(column, token)| {
                let position = token_of_cell.get(start + column).copied().flatten()?;
                Some(Scored { position, token: i64::from(token), request })
            }));
        }
    }
    scored.sort_by_key(|scored| scored.position);
    scored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(ids: &[u32], scored: usize) -> Request {
        Request { ids: ids.to_vec(), scored }
    }

    #[test]
    fn an_input_that_begins_another_shares_its_row() {
        let requests =
            [request(&[1, 2, 3], 1), request(&[1, 2, 4], 1), request(&[1, 2, 5, 6, 7], 3), request(&[1, 3, 3], 2)];
        let rows = shared_rows(&requests);
        let inputs: Vec<&[u32]> = rows.iter().map(|row| row.input).collect();
        assert_eq!(inputs, [&[1, 2, 5, 6][..], &[1, 3]]);
        let mut served: Vec<usize> = rows[0].requests.clone();
        served.sort_unstable();
        assert_eq!((served, &rows[1].requests), (vec![0, 1, 2], &vec![3]));
    }

    #[test]
    fn each_scored_token_is_predicted_by_the_one_before_it() {
        assert_eq!(request(&[5, 6, 7], 2).targets().collect::<Vec<_>>(), [(0, 6), (1, 7)]);
    }
}
