//! What one trial of a LoRA sweep does: fresh adapter, training, evaluation, its folder.

use super::record::Outcome;
use super::trial::Trial;
use crate::data::tokenized::TokenizedDataset;
use crate::error::Result;
use crate::eval::loss::mean_loss;
use crate::lora::{peft, Adapter, LoraSpec, Trainable};
use crate::model::Decoder;
use crate::train::observer::{Observer, Several};
use crate::train::recorder::Recorder;
use crate::train::trainer::Evaluate;
use crate::train::{train, TrainConfig};
use std::collections::BTreeMap;
use std::path::Path;

/// What all trials of a sweep share.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    pub decoder: &'a Decoder,
    /// Name or path of the base model, written into each adapter's configuration.
    pub base: &'a str,
    /// Writes the tokenizer's files beside an adapter.
    pub save_tokenizer: &'a dyn Fn(&Path) -> Result<()>,
    pub train: &'a TokenizedDataset,
    pub test: Option<&'a TokenizedDataset>,
}

/// Trains one trial and fills its folder: `metrics.jsonl`, events, `adapter/`.
pub fn run_trial(
    shared: Shared,
    trial: &Trial,
    spec: LoraSpec,
    config: &TrainConfig,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let Shared { decoder, base, save_tokenizer, train: rows, test } = shared;
    let mut adapter = Adapter::new(spec, &decoder.config, config.seed, decoder.device)?;
    let mut recorder = Recorder::create(&trial.dir, config.log_every, &trial.settings)?;
    let mut measure = |decoder: &Decoder, trainable: &dyn Trainable| -> Result<f64> {
        let Some(test) = test else { return Ok(f64::NAN) };
        Ok(mean_loss(decoder, trainable.adapters(None).as_ref(), test, config.eval_batch)?.loss)
    };
    let evaluate: Option<&mut Evaluate> = if test.is_some() { Some(&mut measure) } else { None };
    let mut observers = Several(vec![&mut recorder, observer]);
    let outcome = train(decoder, &mut adapter, rows, config, evaluate, &mut observers)?;
    recorder.finish()?;
    peft::save(&adapter, base, &trial.adapter_dir())?;
    save_tokenizer(&trial.adapter_dir())?;
    let mut metrics = BTreeMap::new();
    if let Some(best_step) = outcome.best_step {
        metrics.insert("best_step".to_owned(), best_step as f64);
    }
    Ok(Outcome {
        trainable_params: adapter.parameters.count(),
        train_loss: outcome.train_loss,
        eval_loss: outcome.eval_loss,
        tokens: outcome.tokens,
        seconds: outcome.seconds,
        metrics,
    })
}
