//! Objects of scripts that hold several values of the library.

use crate::data::{Dataset, TokenizedDataset};
use crate::error::Result;
use crate::hub::tokenizer::Tokenizer;
use crate::lora;
use crate::model::Decoder;
use crate::script::values::handles::Handle;
use crate::train::by_hand::Optimizer;
use crate::train::forward::ForwardPass;
use crate::train::loop_run::LoopRun;
use std::path::PathBuf;
use std::rc::Rc;
use tch::Tensor;

/// Rows held out for testing, beside those to train on.
#[derive(Clone)]
pub struct DatasetSplit {
    pub train: Dataset,
    pub test: Dataset,
}

/// Token ids and labels, with the tokenizer that can show them.
#[derive(Clone)]
pub struct Tokenized {
    pub rows: TokenizedDataset,
    pub tokenizer: Tokenizer,
}

impl Tokenized {
    /// Other rows by the same tokenizer.
    #[must_use]
    pub fn with(&self, rows: TokenizedDataset) -> Self {
        Tokenized { rows, tokenizer: self.tokenizer.clone() }
    }
}

/// Tokenized rows held out for testing, beside those to train on.
#[derive(Clone)]
pub struct TokenizedSplit {
    pub train: Tokenized,
    pub test: Tokenized,
}

/// The result of a forward pass, and the model that computes what is asked of it.
#[derive(Clone)]
pub struct Output {
    pub model: Handle<lora::Model>,
    pub pass: Rc<ForwardPass>,
}

impl Output {
    /// What `compute` makes of the pass and its model.
    pub fn tensor(&self, compute: impl FnOnce(&ForwardPass, &Decoder) -> Result<Tensor>) -> Result<Handle<Tensor>> {
        Ok(Handle::new(compute(&self.pass, self.model.read()?.decoder())?))
    }
}

/// A training loop of the script's own that has begun in a folder.
pub struct ScriptRun {
    /// As the script named it.
    pub out: PathBuf,
    pub run: LoopRun,
    /// Does `origin.json` name the model?
    pub has_model: bool,
}

/// AdamW over the trainable parameters of one model.
pub struct ModelOptimizer {
    pub model: Handle<lora::Model>,
    pub optimizer: Optimizer,
}
