//! The reference of DPO and KTO: the log-probabilities of answers under the model as a run begins, computed once before
//! its first step, without gradients and without dropout.
//!
//! As in TRL this is the base alone for a fresh adapter, and a frozen copy for one that was loaded or trained before.
//! Runs that begin at the base share one pass: also those of other groups of a sweep, through [`References`].

use super::answers::{values, AnswerLabels};
use crate::data::preference::mismatched;
use crate::data::{RowKind, TokenizedDataset};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::lora::{AdapterSet, Trainable};
use crate::model::{Adapters, Decoder, NoAdapters};
use crate::train::step::batch_losses;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tch::no_grad;

/// The rows that an answer is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    Train,
    HeldOut,
}

/// An answer: of pairs a row and 0 (chosen) or 1 (rejected); of labelled completions the row of the prompt, and the row
/// of the completion.
pub type Answer = (Split, u32, u32);

/// Log-probabilities by answer.
pub type LogpTable = HashMap<Answer, f64>;

/// The reference of all runs over one base that begin at it, with the same rows.
#[derive(Debug, Default)]
pub struct References {
    base: Mutex<LogpTable>,
    answers: AtomicUsize,
}

impl References {
    /// How many answers the reference was computed for.
    pub fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }
}

/// The rows of both splits, and how many of them go through the model at once.
#[derive(Clone, Copy)]
pub struct ReferenceRows<'a> {
    pub train: &'a TokenizedDataset,
    pub held_out: Option<&'a TokenizedDataset>,
    pub batch: usize,
}

/// Computes the reference of runs that begin now: for each its parameters and the answers that it will visit. Answers
/// that `references` has are not computed again.
pub fn compute(
    decoder: &Decoder,
    runs: &[(&dyn Trainable, BTreeSet<Answer>)],
    rows: ReferenceRows,
    references: &References,
) -> Result<Vec<Rc<LogpTable>>> {
    let mut at_base = BTreeSet::new();
    for (trainable, answers) in runs {
        if trainable.starts_at_base()? {
            at_base.extend(answers.iter().copied());
        }
    }
    let of_base = {
        // Held while computing: runs in other threads wait for the same pass.
        let mut known = references.base.lock().unwrap_or_else(PoisonError::into_inner);
        at_base.retain(|answer| !known.contains_key(answer));
        let computed = logps(decoder, &NoAdapters, rows, &at_base)?;
        references.answers.fetch_add(computed.len(), Ordering::Relaxed);
        known.extend(computed);
        Rc::new(known.clone())
    };
    let table = |(trainable, answers): &(&dyn Trainable, BTreeSet<Answer>)| {
        if trainable.starts_at_base()? {
            return Ok(of_base.clone());
        }
        let adapters = AdapterSet::new(trainable.active(Some(0), None).into_iter().collect());
        let computed = logps(decoder, &adapters, rows, answers)?;
        references.answers.fetch_add(computed.len(), Ordering::Relaxed);
        Ok(Rc::new(computed))
    };
    runs.iter().map(table).collect()
}

fn logps(
    decoder: &Decoder,
    adapters: &dyn Adapters,
    rows: ReferenceRows,
    answers: &BTreeSet<Answer>,
) -> Result<LogpTable> {
    let mut table = LogpTable::new();
    for (split, data) in [(Split::Train, Some(rows.train)), (Split::HeldOut, rows.held_out)] {
        let of_split = answers.iter().filter(|(of, ..)| *of == split).map(|&(_, row, answer)| (row, answer));
        let (Some(data), of_split) = (data, of_split.collect::<Vec<_>>()) else { continue };
        let work = || no_grad(|| add_logps(decoder, adapters, (split, data), &of_split, rows.batch, &mut table));
        decoder.files.unless_changed(work)?;
    }
    Ok(table)
}

fn add_logps(
    decoder: &Decoder,
    adapters: &dyn Adapters,
    (split, data): (Split, &TokenizedDataset),
    answers: &[(u32, u32)],
    batch: usize,
    table: &mut LogpTable,
) -> Result<()> {
    let is_pairs = data.kind() == RowKind::Pairs;
    let mut wanted: Vec<(u32, u32)> = answers.to_vec();
    if is_pairs {
        // A row has both answers.
        wanted.iter_mut().for_each(|(_, answer)| *answer = 0);
        wanted.dedup();
    }
    let length = |row: u32| data.row(row as usize).map_or(0, |row| row.len());
    wanted.sort_by_key(|&(row, answer)| std::cmp::Reverse((length(row), row, answer)));
    for chunk in wanted.chunks(batch.max(1)) {
        interrupt::check()?;
        let rows = if is_pairs {
            data.select(&chunk.iter().map(|&(row, _)| row as usize).collect::<Vec<_>>())?
        } else {
            mismatched(data, chunk)?
        };
        let mut batch = rows.batch(&(0..chunk.len() as u32).collect::<Vec<_>>())?;
        batch.shares_prefixes = true;
        let labels = AnswerLabels::of(&batch, if is_pairs { 2 } else { 1 });
        let losses = batch_losses(decoder, &[&batch], adapters)?.losses;
        let logps = values(&labels.logps(&losses)?)?;
        for (at, logp) in logps.into_iter().enumerate() {
            let answer = if is_pairs { (chunk[at / 2].0, (at % 2) as u32) } else { chunk[at] };
            table.insert((split, answer.0, answer.1), logp);
        }
    }
    Ok(())
}

/// The reference of answers that were computed before.
pub fn look_up(table: &LogpTable, answers: impl Iterator<Item = Answer>) -> Result<Vec<f64>> {
    let find = |answer| table.get(&answer).copied().ok_or_else(|| Error::bug("an answer without a reference"));
    answers.map(find).collect()
}
