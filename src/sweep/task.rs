//! The inputs of a trial: its settings as the trainer reads them, and the data that all trials have in common.

use super::checkpoints::TrialCheckpoints;
use super::trial::Trial;
use crate::data::tokenized::TokenizedDataset;
use crate::hub::tokenizer::Tokenizer;
use crate::lora::{self, LoraSpec};
use crate::train::objective::References;
use crate::train::rehearsal::RehearsedRun;
use crate::train::TrainConfig;

/// The inputs that all trials have in common, beside the weights of the base.
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

impl<'a> SharedInputs<'a> {
    pub fn new(base: &'a lora::Model, train: &'a TokenizedDataset, test: &'a TokenizedDataset) -> Self {
        let tokenizer = base.tokenizer().ok();
        SharedInputs { base: &base.name, tokenizer, train, test: Some(test), checkpoints: None, references: None }
    }
}

impl<'a> SharedInputs<'a> {
    /// With the rows of a task.
    #[must_use]
    pub fn of(self, task: &Task<'a>) -> Self {
        match task.data {
            // A reference is one of rows by their numbers.
            Some(TrialData { train, test }) => SharedInputs { train, test: Some(test), references: None, ..self },
            None => self,
        }
    }
}

/// Rows to train on, and held-out rows.
#[derive(Clone, Copy)]
pub struct TrialData<'a> {
    pub train: &'a TokenizedDataset,
    pub test: &'a TokenizedDataset,
}

/// A trial with its settings.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub trial: &'a Trial,
    pub spec: &'a LoraSpec,
    pub config: &'a TrainConfig,
    /// Its own rows, where the data is an axis.
    pub data: Option<TrialData<'a>>,
}

impl<'a> Task<'a> {
    /// Do both train on the same rows? Those that do not cannot share a pass.
    pub fn shares_data(&self, other: &Task) -> bool {
        match (self.data, other.data) {
            (Some(one), Some(other)) => std::ptr::eq(one.train, other.train) && std::ptr::eq(one.test, other.test),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// The trial as a run to rehearse.
    pub fn run(&self, shared: SharedInputs<'a>) -> RehearsedRun<'a> {
        let shared = shared.of(self);
        RehearsedRun { train: shared.train, test: shared.test, config: self.config, spec: Some(self.spec) }
    }
}
