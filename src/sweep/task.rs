//! The inputs of a trial: its base, its rows, and its settings as the trainer reads them.
//!
//! Trials that have base and rows in common form a [`Cohort`]: only they can train side by side.

use super::checkpoints::TrialCheckpoints;
use super::trial::Trial;
use crate::data::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::hub::tokenizer::Tokenizer;
use crate::lora::{self, LoraSpec};
use crate::model::Decoder;
use crate::train::objective::References;
use crate::train::rehearsal::RehearsedRun;
use crate::train::TrainConfig;

/// The base and the rows of a trial.
#[derive(Clone, Copy)]
pub struct TrialInputs<'a> {
    pub base: &'a lora::Model,
    pub train: &'a TokenizedDataset,
    /// The held-out rows.
    pub test: &'a TokenizedDataset,
}

impl TrialInputs<'_> {
    /// Is it the same base, and are the rows equal?
    fn are_same(&self, other: &TrialInputs) -> bool {
        let are_equal = |one: &TokenizedDataset, other: &TokenizedDataset| {
            std::ptr::eq(one, other) || one.fingerprint() == other.fingerprint()
        };
        std::ptr::eq(self.base, other.base) && are_equal(self.train, other.train) && are_equal(self.test, other.test)
    }
}

/// The inputs that the trials of a cohort have in common, beside the weights of the base.
#[derive(Clone, Copy)]
pub struct SharedInputs<'a> {
    /// The name or path of the base model, written into each adapter's configuration.
    pub base: &'a str,
    /// The tokenizer whose files are saved with each adapter.
    pub tokenizer: Option<&'a Tokenizer>,
    pub train: &'a TokenizedDataset,
    pub test: Option<&'a TokenizedDataset>,
    /// Where trials are saved on their way; `None` saves none.
    pub checkpoints: Option<&'a TrialCheckpoints>,
    /// The reference of all trials on preferences; `None` computes it for each group.
    pub references: Option<&'a References>,
}

/// Trials with the same base and the same rows.
pub struct Cohort<'a> {
    pub base: &'a lora::Model,
    pub shared: SharedInputs<'a>,
}

impl<'a> Cohort<'a> {
    fn new(TrialInputs { base, train, test }: TrialInputs<'a>) -> Self {
        let tokenizer = base.tokenizer().ok();
        let shared =
            SharedInputs { base: &base.name, tokenizer, train, test: Some(test), checkpoints: None, references: None };
        Cohort { base, shared }
    }

    pub fn decoder(&self) -> &'a Decoder {
        self.base.decoder()
    }
}

/// The cohorts of a sweep. They stay on its thread; other threads get shallow clones of the decoders.
pub struct Cohorts<'a>(Vec<Cohort<'a>>);

impl<'a> Cohorts<'a> {
    /// The cohorts of trials with these inputs, and for each trial the number of its cohort.
    pub fn of(trials: &[TrialInputs<'a>]) -> (Self, Vec<usize>) {
        let mut distinct: Vec<TrialInputs> = Vec::new();
        let number = |trial: &TrialInputs<'a>| {
            distinct.iter().position(|known| known.are_same(trial)).unwrap_or_else(|| {
                distinct.push(*trial);
                distinct.len() - 1
            })
        };
        let numbers = trials.iter().map(number).collect();
        (Cohorts(distinct.into_iter().map(Cohort::new).collect()), numbers)
    }

    /// Sets where trials are saved, and for each cohort the references of its trials.
    pub fn record(&mut self, checkpoints: Option<&'a TrialCheckpoints>, references: &'a [References]) {
        for (at, cohort) in self.0.iter_mut().enumerate() {
            cohort.shared.checkpoints = checkpoints;
            cohort.shared.references = references.get(at);
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Cohort<'a>> {
        self.0.iter()
    }

    pub fn get(&self, task: &Task) -> Result<&Cohort<'a>> {
        self.0.get(task.cohort).ok_or_else(|| Error::bug("a trial without a base"))
    }

    /// The bases, each once.
    pub fn bases(&self) -> Vec<&'a lora::Model> {
        let mut bases: Vec<&lora::Model> = Vec::new();
        for cohort in &self.0 {
            if !bases.iter().any(|base| std::ptr::eq(*base, cohort.base)) {
                bases.push(cohort.base);
            }
        }
        bases
    }
}

/// A trial with its settings.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub trial: &'a Trial,
    pub spec: &'a LoraSpec,
    pub config: &'a TrainConfig,
    /// The number of its cohort.
    pub cohort: usize,
    /// Does a function of the caller compute its loss? Such a trial trains alone, on the caller's thread.
    pub has_loss: bool,
    /// The step at which it pauses; `None` trains to its end.
    pub until: Option<u64>,
}

impl<'a> Task<'a> {
    /// Can both train in one pass?
    pub fn may_train_beside(&self, other: &Task) -> bool {
        self.cohort == other.cohort && !self.has_loss && !other.has_loss
    }

    /// The trial as a run to rehearse.
    pub fn run(&self, shared: SharedInputs<'a>) -> RehearsedRun<'a> {
        RehearsedRun { train: shared.train, test: shared.test, config: self.config, spec: Some(self.spec) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{TokenizedInfo, TokenizedRow};
    use crate::lora::{LoadOptions, Model};
    use std::path::Path;

    #[test]
    fn equal_rows_and_one_base_make_a_cohort() {
        let bases = [0, 1].map(|seed| Model::random(Path::new("scripts/tiny"), seed, &LoadOptions::default()).unwrap());
        let rows = |id: u32| {
            let row = TokenizedRow { ids: vec![id; 4], trained: vec![true; 4], ..TokenizedRow::default() };
            TokenizedDataset::from_rows([row], TokenizedInfo::default()).unwrap()
        };
        let (one, again, other) = (rows(1), rows(1), rows(2));
        let of = |base: usize, train| TrialInputs { base: &bases[base], train, test: &other };
        let (cohorts, numbers) =
            Cohorts::of(&[of(0, &one), of(1, &one), of(0, &again), of(0, &other), of(1, &again), of(0, &one)]);
        assert_eq!(numbers, [0, 1, 0, 2, 1, 0]);
        assert_eq!((cohorts.len(), cohorts.bases().len()), (3, 2));
    }
}
