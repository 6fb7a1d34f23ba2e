//! Measures a real forward and backward pass, and compares it with its plan.

use super::{ours, Method, Request, ResolvedRequest, MAX_TOKENS};
use crate::data::batch::Batch;
use crate::data::{Pace, Row};
use crate::error::Result;
use crate::lora::AdaptedModel;
use crate::model::Config;
use crate::options;
use crate::options::OptionSet;
use crate::process_memory::growth;
use crate::random::Key;
use crate::train::nested::{adapters_of, pass_parts, MicroBatch};
use crate::train::step::batch_losses;

options! {
    /// A forward and backward pass to measure.
    #[derive(Debug, Clone)]
    pub struct PassOptions {
        /// Rows of the batch.
        pub batch: usize = 1, name "batch_size", alias ["batch"], range between(1.0, MAX_TOKENS as f64);
        /// Random tokens of each row.
        pub length: usize = 1024, name "max_length", range between(2.0, MAX_TOKENS as f64),
            hint "the first token of a row has nothing to be predicted from";
    }
}

/// The memory of one pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Check {
    /// Activations, logits and working memory at the peak of the pass.
    pub predicted: u64,
    /// The growth of the process, or of its tensors on a GPU; `None` where the system does not report it.
    pub measured: Option<u64>,
}

impl PassOptions {
    /// In a rehearsal, a pass over few tokens.
    #[must_use]
    pub fn at(&self, pace: Pace) -> Self {
        PassOptions { batch: pace.count(self.batch), length: pace.count(self.length) }
    }
}

impl Check {
    /// As an object.
    pub fn fields(&self) -> Row {
        let fields =
            [("predicted", self.predicted.into()), ("measured", self.measured.into()), ("error", self.error().into())];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// (predicted - measured) / measured.
    pub fn error(&self) -> Option<f64> {
        self.measured.filter(|&bytes| bytes > 0).map(|bytes| self.predicted as f64 / bytes as f64 - 1.0)
    }
}

/// Runs the active adapter (or all weights after `train_all`) over random tokens, forward and backward. No weight
/// changes, and gradients are zero afterwards.
///
/// # Errors
/// Nothing to train; a length of 1, which has no label.
pub fn check(model: &mut AdaptedModel, pass: &PassOptions) -> Result<Check> {
    pass.ensure_valid("check_memory")?;
    let predicted = predicted(model, pass)?;
    model.decoder.make_packed_copies()?;
    let rows = random_rows(pass.batch, pass.length, model.decoder.config.vocab_size);
    let device = model.decoder.device;
    let (decoder, trainable) = model.split_for_training()?;
    let grown = growth(device, || {
        let mut parts = pass_parts(trainable, &rows, MicroBatch::first());
        let adapters = adapters_of(&mut parts);
        let batches: Vec<&Batch> = parts.iter().map(|part| part.batch.as_ref()).collect();
        let losses = batch_losses(decoder, &batches, &adapters)?;
        Ok(losses.weighted(&vec![1.0; batches.len()])?.f_backward()?)
    });
    trainable.parameters_mut().zero_gradients()?;
    Ok(Check { predicted, measured: grown? })
}

fn predicted(model: &AdaptedModel, pass: &PassOptions) -> Result<u64> {
    let decoder = &model.decoder;
    let adapter = model.active_name().map(|_| model.adapter(None)).transpose()?;
    let request = Request {
        batch: pass.batch as u64,
        length: pass.length as u64,
        lora: adapter.map(|adapter| adapter.spec.clone()).unwrap_or_default(),
        ..Request::of(decoder)
    };
    request.ensure_valid("check_memory")?;
    let method = Method::of(adapter.is_some(), decoder.config.quantization);
    let parts = ours(&ResolvedRequest::new(&decoder.config, &request, method)?);
    Ok(parts.activations + parts.logits + parts.working)
}

/// A batch of random tokens with a label at every one.
pub fn random_rows(rows: usize, time: usize, vocabulary: i64) -> Batch {
    let key = Key::new(1);
    let ids = (0..(rows * time) as u64).map(|cell| (key.uniform(cell) * vocabulary as f64) as i64);
    Batch::of_rows(rows, time, ids.collect())
}

/// Plans our step for one method.
pub fn planned(config: &Config, request: &Request, method: Method) -> Result<super::Parts> {
    request.ensure_valid("train")?;
    Ok(ours(&ResolvedRequest::new(config, request, method)?))
}
