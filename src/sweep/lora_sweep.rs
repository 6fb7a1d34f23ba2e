//! A LoRA sweep from its options to its results: the plan with the settings of every trial, the run or its
//! rehearsal, and the check of the results.
//!
//! Leaves to others: charts and report (`plot/`), and where the options come from.

use super::checkpoints::{Begun, TrialCheckpoints};
use super::folder::{SweepFolder, TrialState};
use super::grid::{Grid, DATA};
use super::lora::TrialMetrics;
use super::options::{SweepOptions, TrialSettings};
use super::progress::SweepProgress;
use super::rehearsal::{rehearse, SweepForecast};
use super::results::SweepResult;
use super::run::Event;
use super::task::{SharedInputs, Task, TrialData};
use super::trial::{Plan, Trial};
use super::verify::{verify, Deviation};
use super::workers::run_sweep;
use crate::bail;
use crate::data::tokenized::TokenizedDataset;
use crate::data::Pace;
use crate::error::{Error, Kind, Result};
use crate::eval::loss::ensure_labelled;
use crate::format::thousands;
use crate::lora::adapter::trainable_count;
use crate::lora::{self, LoraSpec};
use crate::model::device;
use crate::options::OptionSet;
use crate::train::objective::References;
use crate::train::origin::Origin;
use crate::train::TrainConfig;
use serde_json::{json, Value};
use std::path::Path;

/// A sweep over adapters of one base.
pub struct LoraSweep<'a> {
    pub base: &'a lora::Model,
    pub train: &'a TokenizedDataset,
    /// The held-out rows.
    pub test: &'a TokenizedDataset,
    pub options: &'a SweepOptions,
    pub grid: Grid,
    /// The settings of every point, in grid order.
    pub settings: Vec<TrialSettings>,
    /// Written to each trial's folder as `origin.json`.
    pub origin: Option<Origin>,
    /// The rows of every point where the data is an axis, in grid order; else empty.
    pub data: Vec<TrialData<'a>>,
    /// Measures each trained adapter further.
    pub metrics: Option<&'a TrialMetrics<'a>>,
}

/// The results of a sweep, and its checks.
pub struct SweepReport {
    pub result: SweepResult,
    /// The deviations of the trials that were trained again, alone.
    pub deviations: Vec<Deviation>,
    /// In a rehearsal, the plan of the real sweep.
    pub forecast: Option<SweepForecast>,
}

impl<'a> LoraSweep<'a> {
    /// A sweep over the grid of `options`. Trials train by `spec` and `config`, with the values of their points in them.
    ///
    /// # Errors
    /// An axis that is no option, or a value outside of its range.
    pub fn new(
        base: &'a lora::Model,
        (train, test): (&'a TokenizedDataset, &'a TokenizedDataset),
        options: &'a SweepOptions,
        spec: &LoraSpec,
        config: &TrainConfig,
    ) -> Result<Self> {
        let grid = options.grid()?;
        let points = grid.points().into_iter();
        let settings = points.map(|point| TrialSettings::at(point, spec, config)).collect::<Result<_>>()?;
        Ok(LoraSweep { base, train, test, options, grid, settings, origin: None, data: Vec::new(), metrics: None })
    }
}

impl LoraSweep<'_> {
    /// The notes for the user on each name of AdamW, with the state size of the largest adapter.
    pub fn optimizer_notes(&self) -> Vec<String> {
        let count = |spec: &LoraSpec| trainable_count(spec, &self.base.decoder().config).unwrap_or(0);
        let largest = self.settings.iter().map(|settings| count(&settings.spec)).max().unwrap_or(0);
        let notes = self.settings.iter().filter_map(|settings| settings.config.optim.note(largest));
        let mut notes: Vec<String> = notes.collect();
        notes.sort();
        notes.dedup();
        notes
    }

    /// Plans the trials of the sweep in the folder `out`.
    ///
    /// # Errors
    /// A base that is merged or trained, held-out rows without a label, settings that would fail in a trial.
    pub fn plan(&self, out: &Path) -> Result<Plan> {
        self.base.adapted.ensure_unmerged()?;
        self.base.adapted.ensure_base_frozen()?;
        if self.grid.axis(DATA).is_some() == self.data.is_empty() {
            bail!(Kind::Input, "grid: `{DATA}`: expected the rows of every point"; hint: "name them, as in data: #{{ small: d1, all: d2 }}");
        }
        let held_out =
            self.data.iter().map(|data| data.test).chain([self.test].into_iter().filter(|_| self.data.is_empty()));
        held_out.into_iter().try_for_each(ensure_labelled)?;
        let shared = self.shared_settings()?;
        let mut data = self.data.iter();
        let mut all = self.settings.iter();
        let mut plan = Plan::new(out, self.grid.clone(), json!({ "model": self.base.name }), |point| {
            let settings = all.next().filter(|settings| settings.point == *point);
            let TrialSettings { spec, config, .. } = settings.ok_or_else(|| Error::bug("a point without settings"))?;
            config.ensure_valid("train")?;
            let rows = data.next().copied().unwrap_or(TrialData { train: self.train, test: self.test });
            config.objective.ensure_fits(rows.train)?;
            config.objective.ensure_fits(rows.test)?;
            // A misspelt target or an impossible rank fails here, before the first trial trains.
            trainable_count(spec, &self.base.decoder().config)?;
            let mut complete = json!({ "lora": spec, "train": config });
            if let (Value::Object(complete), Value::Object(shared)) = (&mut complete, shared.clone()) {
                complete.extend(shared);
            }
            complete["data"] = json!({ "train": rows.train.fingerprint(), "test": rows.test.fingerprint() });
            Ok(complete)
        })?;
        plan.origin = self.origin.clone();
        Ok(plan)
    }

    /// The settings that all trials have in common. A trial that finished with other settings is run again, so a new
    /// key is added only where its feature is used.
    fn shared_settings(&self) -> Result<Value> {
        let (base, decoder) = (self.base, self.base.decoder());
        let mut shared = json!({
            "model": { "name": base.name, "fingerprint": base.fingerprint()? },
            "dtype": device::dtype_name(decoder.dtype),
            "device": device::device_name(decoder.device),
            "lorhai": env!("CARGO_PKG_VERSION"),
        });
        if let Some(seed) = base.random_seed {
            shared["model"]["random_seed"] = seed.into();
        }
        if let Some(count) = base.resized {
            shared["model"]["vocab_size"] = count.into();
        }
        // The template is saved with every trial.
        if let Some(template) = base.assigned_template() {
            shared["model"]["chat_template"] = template.into();
        }
        if let Some(quantization) = decoder.config.quantization {
            shared["quantization"] = quantization.to_json(decoder.dtype);
        }
        Ok(shared)
    }

    /// Runs the trials that are not finished in `folder`, which is the option `out` unless files are redirected. A
    /// rehearsal reads `out` and writes to `folder`. `note` is called with lines for the user.
    pub fn run(
        &self,
        folder: &Path,
        pace: Pace,
        progress: SweepProgress,
        note: &mut dyn FnMut(&str),
    ) -> Result<SweepReport> {
        let mut plan = self.plan(if pace.is_full() { folder } else { &self.options.out })?;
        let checkpoints = TrialCheckpoints::open(&plan.out, &begun(&plan), &self.options.checkpoints)?;
        checkpoints.notes.iter().for_each(|line| note(line));
        plan.checkpoints = Some(checkpoints);
        self.optimizer_notes().iter().for_each(|line| note(line));
        let decoder = self.base.decoder();
        let shared = SharedInputs::new(self.base, self.train, self.test);
        let tasks: Vec<Task> = plan
            .trials
            .iter()
            .zip(&self.settings)
            .map(|(trial, TrialSettings { spec, config, .. })| {
                let data = self.data.get(trial.index).copied();
                Task { trial, spec, config, data }
            })
            .collect();
        if !pace.is_full() {
            let mut on_event = |event: &Event| note(&event.to_string());
            let (result, forecast) = rehearse(&plan, folder, decoder, shared, &tasks, self.metrics, &mut on_event)?;
            return Ok(SweepReport { result, deviations: Vec::new(), forecast: Some(forecast) });
        }
        let references = References::default();
        let shared = SharedInputs { checkpoints: plan.checkpoints.as_ref(), references: Some(&references), ..shared };
        let result = run_sweep(&plan, decoder, shared, &tasks, self.metrics, &progress)?;
        let reference = reference_note(&references, result.trained);
        let shared = SharedInputs { checkpoints: None, ..shared };
        // Removes the bars before the notes below.
        drop(progress);
        reference.iter().for_each(|line| note(line));
        let deviations = if self.options.verify { verify(decoder, shared, &tasks, &result)? } else { Vec::new() };
        deviations.iter().for_each(|deviation| note(&deviation.to_string()));
        Ok(SweepReport { result, deviations, forecast: None })
    }
}

/// How much of the reference of DPO and KTO was computed for all trials.
fn reference_note(references: &References, trials: usize) -> Option<String> {
    let answers = references.answers();
    let text =
        || format!("reference: log-probabilities of {} answers, once for {trials} trials", thousands(answers as u64));
    (answers > 0).then(text)
}

/// The trials that were begun and not ended.
fn begun(plan: &Plan) -> Vec<Begun<'_>> {
    let is_unfinished = |trial: &&Trial| SweepFolder::state(trial).is_ok_and(|state| state == TrialState::Unfinished);
    let begun = plan.trials.iter().filter(is_unfinished);
    begun.map(|trial| (trial.name.as_str(), &trial.settings)).collect()
}
