//! A trial with what it trains on: the settings as the trainer reads them, and the data that all trials share.

use super::checkpoints::TrialCheckpoints;
use super::trial::Trial;
use crate::data::tokenized::TokenizedDataset;
use crate::hub::tokenizer::Tokenizer;
use crate::lora::{self, LoraSpec};
use crate::train::rehearsal::Run;
use crate::train::TrainConfig;

/// What all trials of a sweep share, beside the weights of the base.
#[derive(Clone, Copy)]
pub struct SharedInputs<'a> {
    /// Name or path of the base model, written into each adapter's configuration.
    pub base: &'a str,
    /// Its files are written beside each adapter.
    pub tokenizer: Option<&'a Tokenizer>,
    pub train: &'a TokenizedDataset,
    pub test: Option<&'a TokenizedDataset>,
    /// Where trials are saved on their way; `None` saves none.
    pub checkpoints: Option<&'a TrialCheckpoints>,
}

impl<'a> SharedInputs<'a> {
    pub fn new(base: &'a lora::Model, train: &'a TokenizedDataset, test: &'a TokenizedDataset) -> Self {
        SharedInputs { base: &base.name, tokenizer: base.tokenizer().ok(), train, test: Some(test), checkpoints: None }
    }
}

/// A trial with its settings.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub trial: &'a Trial,
    pub spec: &'a LoraSpec,
    pub config: &'a TrainConfig,
}

impl<'a> Task<'a> {
    /// The run that it is, for plans.
    pub fn run(&self, shared: SharedInputs<'a>) -> Run<'a> {
        Run { train: shared.train, test: shared.test, config: self.config, spec: Some(self.spec) }
    }
}
