//! A training run of a model's active adapter, or of all its weights, with its data and its folder. A rehearsal takes
//! two tiny steps and plans the real run.

use super::config::TrainConfig;
use super::folder::RunRecord;
use super::origin::Origin;
use super::previous;
use super::progress::Progress;
use super::recorded::{save_adapter, train_recorded, RecordedJob};
use super::rehearsal::{self, tiny_config, Measure, Planned, RehearsedRun};
use super::reserve::Reserve;
use super::trainer::TrainOutcome;
use crate::data::tokenized::TokenizedDataset;
use crate::data::Pace;
use crate::error::{Error, Result};
use crate::files::{self, FolderLock};
use crate::hub::tokenizer::Tokenizer;
use crate::lora::Model;
use crate::lora::Trainable;
use crate::model::Decoder;
use serde_json::{json, Value};
use std::path::Path;

/// The folder of a fully trained model within the run's.
pub const MODEL: &str = "model";

/// A run to be trained.
#[derive(Clone, Copy)]
pub struct TrainRun<'a> {
    pub train: &'a TokenizedDataset,
    /// Held-out rows; without them, nothing is evaluated.
    pub test: Option<&'a TokenizedDataset>,
    pub config: &'a TrainConfig,
    /// The folder for log, events, record and weights; without it, nothing is written.
    pub folder: Option<&'a Path>,
    /// Written to the folder as `origin.json`.
    pub origin: Option<&'a Origin>,
}

/// The result of a run.
#[derive(Debug)]
pub struct RunReport {
    pub outcome: TrainOutcome,
    /// In a rehearsal, what the real run would take.
    pub planned: Option<Planned>,
    /// The size of the model in bytes, if a rehearsal did not save it because it is too large.
    pub unsaved: Option<u64>,
}

impl TrainRun<'_> {
    /// Trains `model`. `measure` returns the loss on the held-out rows, such as
    /// [`held_out_loss`](crate::eval::loss::held_out_loss).
    ///
    /// # Errors
    /// Invalid settings, nothing to train, a loss that is not finite, files that cannot be written.
    pub fn run(&self, model: &mut Model, measure: &mut Measure, pace: Pace, progress: Progress) -> Result<RunReport> {
        let _lock = self.folder.map(begin_in).transpose()?;
        if let (Some(folder), Some(origin)) = (self.folder, self.origin) {
            origin.write(folder)?;
        }
        match pace {
            Pace::Full => {
                Ok(RunReport { outcome: self.train(model, measure, progress)?, planned: None, unsaved: None })
            }
            Pace::Rehearsal => self.rehearse(model, measure),
        }
    }

    /// The weights in memory keep the tiny steps: with an untrained adapter, which changes nothing, the rest of the
    /// script would not be rehearsed.
    fn rehearse(&self, model: &mut Model, measure: &mut Measure) -> Result<RunReport> {
        let config = tiny_config(self.config, self.train.len())?;
        let (train, test) = (Pace::Rehearsal.rows(self.train), self.test.map(|rows| Pace::Rehearsal.rows(rows)));
        let size = model.decoder().weight_bytes();
        let is_too_large = model.adapted.active_name().is_none() && !Pace::Rehearsal.saves_model(size);
        let tiny = TrainRun { train: &train, test: test.as_ref(), config: &config, ..*self };
        let outcome = tiny.train_and_save(model, measure, Progress::Quiet, !is_too_large)?;
        let spec = model.adapted.adapter(None).ok().map(|adapter| adapter.spec.clone());
        let inputs = RehearsedRun { train: self.train, test: self.test, config: self.config, spec: spec.as_ref() };
        let (decoder, trainable) = model.adapted.split_for_training()?;
        let planned = rehearsal::plan(decoder, trainable, &inputs, measure)?;
        let unsaved = (is_too_large && self.folder.is_some()).then_some(size);
        Ok(RunReport { outcome: planned.outcome(&outcome), planned: Some(planned), unsaved })
    }

    fn train(&self, model: &mut Model, measure: &mut Measure, progress: Progress) -> Result<TrainOutcome> {
        self.train_and_save(model, measure, progress, true)
    }

    fn train_and_save(
        &self,
        model: &mut Model,
        measure: &mut Measure,
        mut progress: Progress,
        saves: bool,
    ) -> Result<TrainOutcome> {
        // Before anything else: from here on the folder holds no finished run.
        let begin = |folder| Ok::<_, Error>((folder, RunRecord::begin(folder, self.settings(model))?));
        let record = self.folder.map(begin).transpose()?;
        let outcome = self.reserve(model, saves).and_then(|reserve| {
            let outcome = self.train_logged(model, measure, &mut progress);
            // What is saved next takes its place.
            drop(reserve);
            outcome
        });
        drop(progress);
        let outcome = outcome.and_then(|outcome| {
            self.folder.filter(|_| saves).map_or(Ok(()), |folder| save(model, folder))?;
            Ok(outcome)
        });
        if let Some((folder, record)) = record {
            // An error of the run is reported rather than one of its record.
            record.conclude(folder, &outcome).or_else(|error| if outcome.is_ok() { Err(error) } else { Ok(()) })?;
        }
        outcome
    }

    /// Room for what is saved at the end.
    fn reserve(&self, model: &mut Model, saves: bool) -> Result<Option<Reserve>> {
        let Some(folder) = self.folder.filter(|_| saves) else { return Ok(None) };
        let weights = match model.adapted.adapter(None) {
            Ok(adapter) => adapter.parameters.bytes(),
            Err(_) => model.decoder().weight_bytes(),
        };
        Reserve::new(folder, weights + model.tokenizer().map_or(0, Tokenizer::bytes)).map(Some)
    }

    fn train_logged(&self, model: &mut Model, measure: &mut Measure, progress: &mut Progress) -> Result<TrainOutcome> {
        let (decoder, trainable) = model.adapted.split_for_training()?;
        let settings = json!({ "train": self.config });
        let job = RecordedJob {
            trainable,
            config: self.config,
            folder: self.folder,
            settings: &settings,
            observer: progress,
        };
        let mut evaluate = self
            .test
            .map(|rows| move |decoder: &Decoder, trainables: &[&dyn Trainable]| measure(decoder, trainables, rows));
        let evaluate = evaluate.as_mut().map(|evaluate| evaluate as &mut super::trainer::Evaluate);
        let mut outcomes = train_recorded(decoder, vec![job], self.train, evaluate)?;
        outcomes.pop().unwrap_or_else(|| Err(Error::bug("a run without an outcome")))
    }

    /// The settings, the model and the data, for the record of the run.
    fn settings(&self, model: &Model) -> Value {
        let lora = model.adapted.adapter(None).ok().map(|adapter| &adapter.spec);
        let mut settings = json!({
            "train": self.config,
            "lora": lora,
            "model": { "name": model.name },
        });
        if let Some(template) = model.assigned_template() {
            settings["model"]["chat_template"] = template.into();
        }
        settings["data"] = json!({ "train": self.train.fingerprint() });
        settings
    }
}

/// Takes the folder for this run, and moves aside what an earlier one saved in it.
fn begin_in(folder: &Path) -> Result<FolderLock> {
    files::create_folder(folder)?;
    let lock = FolderLock::take(folder, "a run")?;
    previous::set_aside(folder)?;
    Ok(lock)
}

/// Saves the adapter to `adapter/`, or a fully trained model to `model/`.
fn save(model: &mut Model, folder: &Path) -> Result<()> {
    if model.adapted.active_name().is_none() {
        return model.save(&folder.join(MODEL), false);
    }
    save_adapter(model.adapted.adapter(None)?, &model.name, model.tokenizer().ok(), folder)
}
