//! Runs with folders: writes the log and TensorBoard events while they train, and the adapter at the end.
//!
//! A single run (`run.rs`) and the trials of a sweep (`sweep/lora.rs`) both train here. They write how a run ended
//! themselves, to `run.json` and `result.json`.

use super::active_run::Job;
use super::callbacks::Callbacks;
use super::checkpoint::writer::RunLabel;
use super::checkpoint::{CheckpointWriter, RunState};
use super::config::TrainConfig;
use super::objective::preference::PreferenceInputs;
use super::observer::{Several, TrainObserver};
use super::outcome::TrainOutcome;
use super::processes::Processes;
use super::recorder::Recorder;
use super::tensorboard::remove_events;
use super::trainer::{train_resumable, Checkpoints, Evaluate};
use crate::data::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::hub::tokenizer::Tokenizer;
use crate::lora::{peft, Adapter, Trainable};
use crate::model::Decoder;
use serde_json::Value;
use std::path::Path;

/// The adapter's folder within the run's.
pub const ADAPTER: &str = "adapter";

/// A run to be trained and recorded.
pub struct RecordedJob<'a> {
    pub trainable: &'a mut dyn Trainable,
    pub config: &'a TrainConfig,
    /// The folder of the log; without one, no log is written.
    pub folder: Option<&'a Path>,
    /// The hyperparameters that TensorBoard shows.
    pub settings: &'a Value,
    /// What checkpoints say of the run.
    pub label: RunLabel,
    /// Where the run goes on from; `None` for one that begins.
    pub state: Option<RunState>,
    /// Such as a progress bar.
    pub observer: &'a mut dyn TrainObserver,
    pub callbacks: Callbacks<'a>,
    /// The step at which the run pauses, as in [`Job`].
    pub until: Option<u64>,
    /// Those that train the run together, as in [`Job`].
    pub processes: Option<&'a Processes>,
}

/// Trains several runs side by side, as [`train_resumable`] does, and logs each into its folder. Returns a result for
/// each, in order; a log that cannot be written fails its run alone. `writer` saves their common state.
///
/// # Errors
/// Errors that end all runs: a stop, or memory that ran out.
pub fn train_recorded(
    decoder: &Decoder,
    jobs: Vec<RecordedJob>,
    data: &TokenizedDataset,
    evaluate: Option<&mut Evaluate>,
    writer: Option<&mut CheckpointWriter>,
    preferences: PreferenceInputs,
) -> Result<Vec<Result<TrainOutcome>>> {
    let mut jobs = jobs;
    let mut recorders: Vec<Result<Option<Recorder>>> = jobs.iter_mut().map(RecordedJob::recorder).collect();
    let (mut observers, mut trained) = (Vec::new(), Vec::new());
    let (mut states, mut labels) = (Vec::new(), Vec::new());
    for (job, recorder) in jobs.into_iter().zip(&mut recorders) {
        let RecordedJob { trainable, config, observer, callbacks, label, state, until, processes, .. } = job;
        let Ok(recorder) = recorder else { continue };
        let mut both: Vec<&mut dyn TrainObserver> = Vec::new();
        if let Some(recorder) = recorder {
            both.push(recorder);
        }
        both.push(observer);
        observers.push(Several(both));
        trained.push((trainable, config, callbacks, until, processes));
        states.push(state);
        labels.push(label);
    }
    let jobs = trained.into_iter().zip(&mut observers);
    let jobs = jobs.map(|((trainable, config, callbacks, until, processes), observer)| Job {
        trainable,
        config,
        observer,
        callbacks,
        until,
        processes,
    });
    let jobs = jobs.collect();
    let mut writer = writer;
    if let Some(writer) = writer.as_deref_mut() {
        writer.set_runs(labels);
    }
    let outcomes = train_resumable(decoder, jobs, data, evaluate, Checkpoints { states, writer }, preferences);
    drop(observers);
    // The last steps are logged however a run ends: the steps before a failure are the most interesting.
    let logs = recorders.into_iter().map(|recorder| Ok(recorder?.map_or(Ok(()), Recorder::finish)));
    let logs: Vec<Result<Result<()>>> = logs.collect();
    let mut outcomes = outcomes?.into_iter();
    let results = logs.into_iter().map(|log| {
        let log = log?;
        let outcome = outcomes.next().unwrap_or_else(|| Err(Error::bug("a run without an outcome")))?;
        log.map(|()| outcome)
    });
    Ok(results.collect())
}

impl RecordedJob<'_> {
    fn recorder(&mut self) -> Result<Option<Recorder>> {
        let Some(folder) = self.folder else { return Ok(None) };
        if let Some(log) = self.state.as_mut().and_then(|state| state.numbers.log.take()) {
            match Recorder::resume(folder, self.config.log_every, log) {
                Ok(recorder) => return Ok(Some(recorder)),
                Err(error) => self.observer.on_note(&format!("the log begins anew: {error}")),
            }
        }
        remove_events(folder)?;
        Recorder::create(folder, self.config.log_every, self.settings).map(Some)
    }
}

/// Saves the adapter that a run trained into the run's folder, with the tokenizer's files.
pub fn save_adapter(adapter: &Adapter, base: &str, tokenizer: Option<&Tokenizer>, folder: &Path) -> Result<()> {
    peft::save(adapter, base, tokenizer, &folder.join(ADAPTER), false)
}
