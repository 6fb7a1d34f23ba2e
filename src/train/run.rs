//! A training run of a model's active adapter, or of all its weights, with its data and its folder. A rehearsal takes
//! two tiny steps and plans the real run.

use super::callbacks::Callbacks;
use super::checkpoint::folder::SavedRun;
use super::checkpoint::resume::{self, Resumable, START};
use super::checkpoint::state::checksum;
use super::checkpoint::writer::RunLabel;
use super::checkpoint::{self, CheckpointOptions, CheckpointWriter, Resume};
use super::config::TrainConfig;
use super::folder::{RunKind, RunRecord};
use super::objective::preference::PreferenceInputs;
use super::observer::TrainObserver;
use super::origin::Origin;
use super::outcome::TrainOutcome;
use super::previous;
use super::processes::{self, HeldOutPart, Processes};
use super::progress::Progress;
use super::recorded::{save_adapter, train_recorded, RecordedJob};
use super::rehearsal::{self, tiny_config, Measure, Planned, RehearsedRun};
use super::reserve::Reserve;
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
/// The name of a run in its checkpoints.
const NAME: &str = "run";

type Found = resume::Found<SavedRun>;

/// A run to be trained.
#[derive(Clone, Copy)]
pub struct TrainRun<'a> {
    pub train: &'a TokenizedDataset,
    /// Held-out rows; without them, nothing is evaluated.
    pub test: Option<&'a TokenizedDataset>,
    pub config: &'a TrainConfig,
    /// The folder for log, events, record and weights; without it, nothing is written.
    pub folder: Option<&'a Path>,
    /// When the run is saved on its way, and whether it goes on from there; `None` neither saves nor goes on.
    pub checkpoints: Option<&'a CheckpointOptions>,
    /// Written to the folder as `origin.json`.
    pub origin: Option<&'a Origin>,
    pub callbacks: Callbacks<'a>,
    /// Those that train the run together: each calls this with the same model, rows and settings, the first of them with
    /// the folder. `None` where this process trains it alone.
    pub processes: Option<&'a Processes>,
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
        let report = self.run_here(model, measure, pace, progress);
        self.processes.map_or(Ok(()), |processes| {
            processes.conclude("the end of train", report.as_ref().map(drop).map_err(Error::clone))
        })?;
        report
    }

    fn run_here(&self, model: &mut Model, measure: &mut Measure, pace: Pace, progress: Progress) -> Result<RunReport> {
        self.config.objective.ensure_fits(self.train)?;
        let _lock = self.folder.map(lock).transpose()?;
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
        let tiny = TrainRun { train: &train, test: test.as_ref(), config: &config, checkpoints: None, ..*self };
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
        let mut conditions = self.conditions(model)?;
        if !conditions.is_null() {
            conditions[START] = checksum(model.adapted.trainable()?.flat())?.into();
        }
        self.processes.map_or(Ok(()), |processes| self.agree(processes, model, &mut progress))?;
        let from = self.checkpoint_to_go_on_from(&conditions, &mut progress)?;
        // Before anything else: from here on the folder holds no finished run.
        let begin = |folder| Ok::<_, Error>((folder, self.begin(folder, model, from.as_ref(), &mut progress)?));
        let record = self.folder.map(begin).transpose()?;
        let outcome = self.reserve(model, saves).and_then(|reserve| {
            let outcome = self.train_logged(model, measure, &mut progress, conditions, from);
            // What is saved next takes its place.
            drop(reserve);
            outcome
        });
        drop(progress);
        let outcome = outcome.and_then(|outcome| {
            self.processes.map_or(Ok(()), |processes| ensure_trained_alike(processes, model))?;
            self.folder.filter(|_| saves).map_or(Ok(()), |folder| save(model, folder))?;
            Ok(outcome)
        });
        if let Some((folder, record)) = record {
            // An error of the run is reported rather than one of its record.
            record.conclude(folder, &outcome).or_else(|error| if outcome.is_ok() { Err(error) } else { Ok(()) })?;
            if let (Some(options), Ok(_)) = (self.checkpoints, &outcome) {
                checkpoint::folder::prune(folder, options.keep_last.unwrap_or(0))?;
            }
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

    fn checkpoint_to_go_on_from(&self, conditions: &Value, progress: &mut Progress) -> Result<Option<Found>> {
        let (Some(folder), Some(options)) = (self.folder, self.checkpoints) else { return Ok(None) };
        resume::find(folder, conditions, options.resume.as_ref(), &mut |line| progress.on_note(line))
    }

    /// Readies the folder, and marks it as that of a run under way.
    fn begin(&self, folder: &Path, model: &Model, from: Option<&Found>, progress: &mut Progress) -> Result<RunRecord> {
        match from {
            Some(found) => {
                let step = found.run.step();
                let total = self.config.total_steps(self.train.len());
                progress.on_note(&format!("going on from step {step} of {total}, saved in `{}`", found.path.display()));
                resume::drop_newer(folder, step)?;
                // An unfinished run has none of its own, unless it was cut off just after it saved it.
                if !resume::is_unfinished(folder) {
                    previous::set_aside(folder)?;
                }
            }
            None => {
                let keeps_old = self.checkpoints.is_some_and(|options| options.resume == Some(Resume::No));
                if let Some(old) = resume::clear(folder, keeps_old)? {
                    progress.on_note(&format!("the unfinished run is kept in `{}`", old.display()));
                }
                previous::set_aside(folder)?;
            }
        }
        self.origin.map_or(Ok(()), |origin| origin.write(folder))?;
        RunRecord::begin(folder, RunKind::Train, self.settings(model))
    }

    fn train_logged(
        &self,
        model: &mut Model,
        measure: &mut Measure,
        progress: &mut Progress,
        conditions: Value,
        from: Option<Found>,
    ) -> Result<TrainOutcome> {
        let (decoder, trainable) = model.adapted.split_for_training()?;
        let settings = json!({ "train": self.config });
        let state = from.map(|found| found.run.state);
        let state = match self.processes {
            Some(processes) => processes.share_state(state, trainable.parameters())?,
            None => state,
        };
        let job = RecordedJob {
            trainable,
            config: self.config,
            folder: self.folder,
            settings: &settings,
            label: RunLabel { name: NAME.to_owned(), conditions },
            state,
            observer: progress,
            callbacks: self.callbacks,
            until: None,
            processes: self.processes,
        };
        let part = self.processes.zip(self.test);
        let part = part.map(|(processes, rows)| HeldOutPart::new(processes, rows, decoder)).transpose()?;
        let mut evaluate = self.test.map(|rows| {
            let part = part.as_ref();
            move |decoder: &Decoder, trainables: &[&dyn Trainable]| match part {
                Some(part) => part.mean_losses(trainables.len(), |rows| measure(decoder, trainables, rows)),
                None => measure(decoder, trainables, rows),
            }
        });
        let evaluate = evaluate.as_mut().map(|evaluate| evaluate as &mut super::trainer::Evaluate);
        let writer = self.folder.zip(self.checkpoints);
        let mut writer = writer.map(|(folder, options)| CheckpointWriter::new(folder, options));
        let preferences = PreferenceInputs { held_out: self.test, references: None };
        let mut outcomes = train_recorded(decoder, vec![job], self.train, evaluate, writer.as_mut(), preferences)?;
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
        // What the function computes is in the script.
        if self.callbacks.loss.is_some() && self.callbacks.rollout.is_none() {
            settings["train"]["loss"] = "function".into();
        }
        settings["data"] = json!({ "train": self.train.fingerprint() });
        settings
    }

    /// In a rehearsal, the step that the real run would go on from in `folder`; `None` if it would begin anew. Changes
    /// nothing. Does not look at what a rehearsal does not have: the trained values before the first step, and rows that
    /// were not tokenized.
    ///
    /// # Errors
    /// A run that cannot go on.
    pub fn would_go_on_from(
        &self,
        pace: Pace,
        model: &Model,
        folder: &Path,
        note: &mut dyn FnMut(&str),
    ) -> Result<Option<u64>> {
        let (Some(options), Pace::Rehearsal) = (self.checkpoints, pace) else { return Ok(None) };
        let mut conditions = self.conditions(model)?;
        let is_sample = self.train.is_sample() || self.test.is_some_and(TokenizedDataset::is_sample);
        if let Some(conditions) = conditions.as_object_mut().filter(|_| is_sample) {
            conditions.remove("data");
        }
        let checkpoint: Option<Found> = resume::find(folder, &conditions, options.resume.as_ref(), note)?;
        Ok(checkpoint.map(|checkpoint| checkpoint.run.step()))
    }

    /// Fails unless all processes are about to train the same run, and one that several can train.
    fn agree(&self, processes: &Processes, model: &mut Model, progress: &mut Progress) -> Result<()> {
        let mut conditions = self.all_conditions(model)?;
        conditions[START] = checksum(model.adapted.trainable()?.flat())?.into();
        let (decoder, trainable) = model.adapted.split_for_training()?;
        processes::ensure_supported(self.config, &self.callbacks, decoder, trainable)?;
        let (rows, size) = (self.config.batch * self.config.accumulation, processes.size());
        if rows < size && processes.is_first() {
            progress.on_note(&format!(
                "warning: a step has {rows} rows, so {} of {size} processes compute nothing: raise `batch` or `accumulation`",
                size - rows
            ));
        }
        processes.begin_run();
        processes.ensure_same("train", &conditions)
    }

    /// All that the numbers of the run depend on beside the trained values, for its checkpoints.
    fn conditions(&self, model: &Model) -> Result<Value> {
        if self.folder.is_none() || self.checkpoints.is_none() {
            return Ok(Value::Null);
        }
        self.all_conditions(model)
    }

    fn all_conditions(&self, model: &Model) -> Result<Value> {
        let mut conditions = self.settings(model);
        let mut identity = model.identity()?;
        identity["chat_template"] = conditions["model"]["chat_template"].take();
        conditions["model"] = identity;
        conditions["data"]["test"] = self.test.map(TokenizedDataset::fingerprint).into();
        conditions["lorhai"] = env!("CARGO_PKG_VERSION").into();
        conditions["libtorch"] = env!("LORHAI_LIBTORCH_VERSION").into();
        Ok(conditions)
    }
}

/// Fails if processes that took the same steps have other values all the same.
fn ensure_trained_alike(processes: &Processes, model: &mut Model) -> Result<()> {
    processes.ensure_same("the trained values", &json!({ "checksum": checksum(model.adapted.trainable()?.flat())? }))
}

/// Takes the folder for this run.
fn lock(folder: &Path) -> Result<FolderLock> {
    files::create_folder(folder)?;
    FolderLock::take(folder, "a run")
}

/// Saves the adapter to `adapter/`, or a fully trained model to `model/`.
fn save(model: &mut Model, folder: &Path) -> Result<()> {
    if model.adapted.active_name().is_none() {
        return model.save(&folder.join(MODEL), false);
    }
    save_adapter(model.adapted.adapter(None)?, &model.name, model.tokenizer().ok(), folder)
}
