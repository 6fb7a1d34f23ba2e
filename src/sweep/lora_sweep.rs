//! A LoRA sweep from its options to its results: the plan with the settings of every trial, the run or its
//! rehearsal, and the check of the results.
//!
//! Leaves to others: charts and report (`plot/`), and where the options come from.

use super::checkpoints::{Begun, TrialCheckpoints};
use super::folder::{SweepFolder, TrialState};
use super::grid::Grid;
use super::options::{SweepOptions, TrialSettings};
use super::progress::SweepProgress;
use super::rehearsal::{rehearse, SweepForecast};
use super::results::SweepResult;
use super::run::Event;
use super::task::{SharedInputs, Task};
use super::trial::{Plan, Trial};
use super::verify::{verify, Deviation};
use super::workers::run_sweep;
use crate::data::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::eval::loss::ensure_labelled;
use crate::lora::adapter::trainable_count;
use crate::lora::{self, LoraSpec};
use crate::model::device;
use crate::options::OptionSet;
use crate::train::origin::Origin;
use crate::train::rehearsal::Pace;
use serde_json::{json, Value};
use std::path::Path;

/// A sweep over adapters of one base.
pub struct LoraSweep<'a> {
    pub base: &'a lora::Model,
    pub train: &'a TokenizedDataset,
    /// The rows that each trial is measured on.
    pub test: &'a TokenizedDataset,
    pub options: &'a SweepOptions,
    pub grid: Grid,
    /// Of every point, in the order of the grid.
    pub settings: Vec<TrialSettings>,
    /// Where the sweep comes from, kept in the folder of each trial that is run.
    pub origin: Option<Origin>,
}

/// What came of a sweep.
pub struct SweepReport {
    pub result: SweepResult,
    /// Of the trials that were trained again, alone.
    pub deviations: Vec<Deviation>,
    /// In a rehearsal, what the real sweep would take.
    pub forecast: Option<SweepForecast>,
}

impl LoraSweep<'_> {
    /// What to tell the user of each name of AdamW, with the states of the largest adapter.
    pub fn optimizer_notes(&self) -> Vec<String> {
        let count = |spec: &LoraSpec| trainable_count(spec, &self.base.decoder().config).unwrap_or(0);
        let largest = self.settings.iter().map(|settings| count(&settings.spec)).max().unwrap_or(0);
        let notes = self.settings.iter().filter_map(|settings| settings.config.optim.note(largest));
        let mut notes: Vec<String> = notes.collect();
        notes.sort();
        notes.dedup();
        notes
    }

    /// The trials of the sweep in the folder `out`.
    ///
    /// # Errors
    /// A base that cannot be swept over, held-out rows without a label, settings that would fail in a trial.
    pub fn plan(&self, out: &Path) -> Result<Plan> {
        self.base.adapted.ensure_unmerged()?;
        self.base.adapted.ensure_base_frozen()?;
        ensure_labelled(self.test)?;
        let shared = self.shared_settings()?;
        let mut all = self.settings.iter();
        let mut plan = Plan::new(out, self.grid.clone(), json!({ "model": self.base.name }), |point| {
            let settings = all.next().filter(|settings| settings.point == *point);
            let TrialSettings { spec, config, .. } = settings.ok_or_else(|| Error::bug("a point without settings"))?;
            config.ensure_valid("train")?;
            // A misspelt target or a rank that cannot be is the same mistake in every trial.
            trainable_count(spec, &self.base.decoder().config)?;
            let mut complete = json!({ "lora": spec, "train": config });
            if let (Value::Object(complete), Value::Object(shared)) = (&mut complete, shared.clone()) {
                complete.extend(shared);
            }
            Ok(complete)
        })?;
        plan.origin = self.origin.clone();
        Ok(plan)
    }

    /// What every trial's result depends on beside its own settings. A trial that is finished under other ones is run
    /// again, so a new key is present only where its feature is used.
    fn shared_settings(&self) -> Result<Value> {
        let (base, decoder) = (self.base, self.base.decoder());
        let mut shared = json!({
            "model": { "name": base.name, "fingerprint": base.fingerprint()? },
            "dtype": device::dtype_name(decoder.dtype),
            "device": device::device_name(decoder.device),
            "data": { "train": self.train.fingerprint(), "test": self.test.fingerprint() },
            "lorhai": env!("CARGO_PKG_VERSION"),
        });
        if let Some(seed) = base.random_seed {
            shared["model"]["random_seed"] = seed.into();
        }
        if let Some(count) = base.resized {
            shared["model"]["vocab_size"] = count.into();
        }
        // The template goes into what every trial saves.
        if let Some(template) = base.assigned_template() {
            shared["model"]["chat_template"] = template.into();
        }
        if let Some(quantization) = decoder.config.quantization {
            shared["quantization"] = quantization.to_json(decoder.dtype);
        }
        Ok(shared)
    }

    /// Runs what is not finished in `folder`, which is the `out` of the options unless files are redirected. A
    /// rehearsal looks at `out`, and writes to `folder`. `note` gets lines for the user.
    pub fn run(
        &self,
        folder: &Path,
        pace: Pace,
        progress: SweepProgress,
        note: &mut dyn FnMut(&str),
    ) -> Result<SweepReport> {
        let mut plan = self.plan(if pace.is_full() { folder } else { &self.options.out })?;
        if pace.is_full() {
            let checkpoints = TrialCheckpoints::open(folder, &begun(&plan), &self.options.checkpoints)?;
            checkpoints.notes.iter().for_each(|line| note(line));
            plan.checkpoints = Some(checkpoints);
        }
        self.optimizer_notes().iter().for_each(|line| note(line));
        let decoder = self.base.decoder();
        let shared = SharedInputs::new(self.base, self.train, self.test);
        let tasks: Vec<Task> = plan
            .trials
            .iter()
            .zip(&self.settings)
            .map(|(trial, TrialSettings { spec, config, .. })| Task { trial, spec, config })
            .collect();
        if !pace.is_full() {
            let mut on_event = |event: &Event| note(&event.to_string());
            let (result, forecast) = rehearse(&plan, folder, decoder, shared, &tasks, &mut on_event)?;
            return Ok(SweepReport { result, deviations: Vec::new(), forecast: Some(forecast) });
        }
        let shared = SharedInputs { checkpoints: plan.checkpoints.as_ref(), ..shared };
        let result = run_sweep(&plan, decoder, shared, &tasks, &progress)?;
        let shared = SharedInputs { checkpoints: None, ..shared };
        // Its bars leave the screen before the notes below.
        drop(progress);
        let deviations = if self.options.verify { verify(decoder, shared, &tasks, &result)? } else { Vec::new() };
        deviations.iter().for_each(|deviation| note(&deviation.to_string()));
        Ok(SweepReport { result, deviations, forecast: None })
    }
}

/// The trials that were begun and not ended.
fn begun(plan: &Plan) -> Vec<Begun<'_>> {
    let is_unfinished = |trial: &&Trial| SweepFolder::state(trial).is_ok_and(|state| state == TrialState::Unfinished);
    let begun = plan.trials.iter().filter(is_unfinished);
    begun.map(|trial| (trial.name.as_str(), &trial.settings)).collect()
}
