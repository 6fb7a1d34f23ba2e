//! A LoRA sweep from its options to its results: the plan with the settings of every trial, the run or its
//! rehearsal, and the check of the results.
//!
//! Leaves to others: charts and report (`plot/`), and where the options come from.

use super::checkpoints::{Begun, TrialCheckpoints};
use super::event::Event;
use super::folder::{SweepFolder, TrialState};
use super::grid::{Grid, BASE};
use super::lora::TrialFunctions;
use super::options::{of_all_points, SweepOptions, TrialSettings};
use super::place::Place;
use super::progress::SweepProgress;
use super::pruning::Pruner;
use super::rehearsal::{rehearse, SweepForecast};
use super::results::SweepResult;
use super::shared::alone::WholeSweep;
use super::shared::WorkerId;
use super::task::{Cohorts, Task, TrialInputs};
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
use crate::train::objective::{Objective, References};
use crate::train::origin::Origin;
use crate::train::TrainConfig;
use serde_json::{json, Map, Value};
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

/// A sweep over adapters of one base, or of several where the base is an axis.
pub struct LoraSweep<'a> {
    pub options: &'a SweepOptions,
    pub grid: Grid,
    /// The settings of every point, in grid order.
    pub settings: Vec<TrialSettings>,
    /// The base and the rows of every point, in grid order.
    pub inputs: Vec<TrialInputs<'a>>,
    /// Written to each trial's folder as `origin.json`: for every point in grid order; empty if not known.
    pub origins: Vec<Arc<Origin>>,
    pub functions: TrialFunctions<'a>,
    /// The number of the round, from 0, in a sweep whose trials depend on results.
    pub round: Option<usize>,
    /// Leave trials that were stopped early as they are, and train the others to their ends: for later rounds of a sweep
    /// that finds its points as it goes on.
    pub keeps_pruned: bool,
    /// Share the sweep with other processes that run it.
    pub is_shared: bool,
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
    /// Where trials depend on results, [`run_in_rounds`](super::rounds::run_in_rounds) says over which grids:
    /// [`LoraSweep::over`].
    ///
    /// # Errors
    /// An axis that is no option, or a value outside of its range; options of sweeps in rounds.
    pub fn new(
        base: &'a lora::Model,
        (train, test): (&'a TokenizedDataset, &'a TokenizedDataset),
        options: &'a SweepOptions,
        spec: &LoraSpec,
        config: &TrainConfig,
    ) -> Result<Self> {
        if options.is_adaptive() {
            return Err(
                Error::input("sweep: `search`, `tune` and `decide` need rounds").with_hint("call run_in_rounds")
            );
        }
        Self::over(options.grid()?, base, (train, test), options, spec, config)
    }

    /// As [`LoraSweep::new`], over these points.
    ///
    /// # Errors
    /// A value outside of its range.
    pub fn over(
        grid: Grid,
        base: &'a lora::Model,
        (train, test): (&'a TokenizedDataset, &'a TokenizedDataset),
        options: &'a SweepOptions,
        spec: &LoraSpec,
        config: &TrainConfig,
    ) -> Result<Self> {
        let points = grid.points();
        let settings = points.iter().map(|point| TrialSettings::at(point.clone(), spec, config)).collect();
        let settings = of_all_points(&points, settings)?;
        let inputs = vec![TrialInputs { base, train, test }; points.len()];
        let (origins, functions) = Default::default();
        Ok(LoraSweep {
            options,
            grid,
            settings,
            inputs,
            origins,
            functions,
            round: None,
            keeps_pruned: false,
            is_shared: false,
        })
    }
}

impl LoraSweep<'_> {
    /// The notes for the user on each name of AdamW, with the state size of the largest adapter.
    pub fn optimizer_notes(&self) -> Vec<String> {
        let count = |settings: &TrialSettings, inputs: &TrialInputs| {
            trainable_count(&settings.spec, &inputs.base.decoder().config).unwrap_or(0)
        };
        let counts = self.settings.iter().zip(&self.inputs).map(|(settings, inputs)| count(settings, inputs));
        let largest = counts.max().unwrap_or(0);
        let notes = self.settings.iter().filter_map(|settings| settings.config.optim.note(largest));
        let mut notes: Vec<String> = notes.collect();
        notes.sort();
        notes.dedup();
        notes
    }

    /// Plans the trials of the sweep in the folder `out`.
    ///
    /// # Errors
    /// A base that is merged or trained, bases on several devices, held-out rows without a label, settings that would
    /// fail in a trial.
    pub fn plan(&self, out: &Path) -> Result<Plan> {
        let (cohorts, numbers) = Cohorts::of(&self.inputs);
        let [settings, inputs] = [self.settings.len(), self.inputs.len()];
        if settings != inputs || inputs != self.grid.points().len() {
            return Err(Error::bug(format!("settings of {settings} and inputs of {inputs} points")));
        }
        let shared = self.shared_settings(&cohorts)?;
        let mut all = self.settings.iter().zip(&self.inputs).zip(numbers);
        let mut plan = Plan::new(out, self.grid.clone(), self.identity(), |point| {
            let ((settings, inputs), number) = all.next().ok_or_else(|| Error::bug("a point without settings"))?;
            let settings = Some(settings).filter(|settings| settings.point == *point);
            let settings = settings.ok_or_else(|| Error::bug("a point with the settings of another"))?;
            ensure_trainable(settings, inputs)?;
            complete(settings, inputs, shared.get(number))
        })?;
        plan.decide = self.options.decide.clone();
        plan.tuned = self.options.tune.as_ref().map(|tune| tune.option.clone());
        plan.round = self.round;
        plan.place = Some(Place::here(self.inputs.first().map(|inputs| inputs.base.decoder().device)));
        for (trial, origin) in plan.trials.iter_mut().zip(&self.origins) {
            trial.origin = Some(origin.clone());
        }
        Ok(plan)
    }

    /// A model in an axis may be replaced by another one of its name: its trials run again.
    fn identity(&self) -> Value {
        match self.inputs.first().filter(|_| self.grid.axis(BASE).is_none()) {
            Some(inputs) => json!({ "model": inputs.base.name }),
            None => json!({ "model": "an axis of the grid" }),
        }
    }

    /// The settings that all trials of a cohort have in common, by cohort. A trial that finished with other settings is
    /// run again, so a new key is added only where its feature is used.
    fn shared_settings(&self, cohorts: &Cohorts) -> Result<Vec<Value>> {
        let bases = cohorts.bases();
        let mut of_bases = Vec::new();
        for base in &bases {
            base.adapted.ensure_unmerged()?;
            base.adapted.ensure_base_frozen()?;
            of_bases.push(settings_of_base(base)?);
        }
        if let Some(other) = bases.iter().find(|base| base.decoder().device != bases[0].decoder().device) {
            let [one, other] = [bases[0], other].map(|base| device::device_name(base.decoder().device));
            bail!(Kind::Input, "grid: {BASE}: expected models on one device, found {one} and {other}"; hint: "load them with the same option `device`");
        }
        let of_cohort = |base: &lora::Model| {
            let settings = bases.iter().zip(&of_bases).find(|(known, _)| std::ptr::eq(**known, base));
            settings.map_or(Value::Null, |(_, settings)| settings.clone())
        };
        cohorts
            .iter()
            .map(|cohort| {
                cohort.shared.test.map_or(Ok(()), ensure_labelled)?;
                Ok(of_cohort(cohort.base))
            })
            .collect()
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
        let is_shared = self.is_shared && pace.is_full();
        // Held until the end of the sweep.
        let mut _whole = None;
        if is_shared && self.options.prune.0.is_some() {
            _whole = Some(WholeSweep::take(&plan, note)?);
        } else if is_shared {
            plan.share(WorkerId::new());
        }
        let (mut cohorts, numbers) = Cohorts::of(&self.inputs);
        let mut pruner = if plan.shared.is_some() { None } else { self.pruner(&plan, &numbers)? };
        let checkpoints = TrialCheckpoints::open(&plan.out, &begun(&plan, pruner.as_ref()), &self.options.checkpoints)?;
        let checkpoints = checkpoints.of_worker(plan.shared.clone());
        checkpoints.notes.iter().for_each(|line| note(line));
        if let Some(pruner) = &mut pruner {
            pruner.go_on_from(|trial| checkpoints.step(trial));
        }
        plan.checkpoints = Some(checkpoints);
        self.optimizer_notes().iter().for_each(|line| note(line));
        if !self.keeps_pruned && pruner.as_ref().is_some_and(|pruner| pruner.stage().is_none()) {
            note("prune: no trial has a rung before its end: none is stopped early");
        }
        let references: Vec<References> = cohorts.iter().map(|_| References::default()).collect();
        let tasks: Vec<Task> = plan
            .trials
            .iter()
            .zip(&self.settings)
            .zip(numbers)
            .map(|((trial, TrialSettings { spec, config, loss, .. }), cohort)| Task {
                trial,
                spec,
                config,
                cohort,
                has_loss: !loss.is_null(),
                until: None,
            })
            .collect();
        if !pace.is_full() {
            let mut on_event = |event: &Event| note(&event.to_string());
            let is_stopped = |trial: &Trial| pruner.as_ref().is_some_and(|pruner| pruner.is_stopped(trial));
            let (result, mut forecast) =
                rehearse(&plan, folder, &cohorts, &tasks, self.functions, &is_stopped, &mut on_event)?;
            if let Some(pruner) = pruner.as_ref().filter(|_| !self.keeps_pruned) {
                let pruning = self.pruning_forecast(&plan, pruner);
                forecast.seconds *= pruning.fraction();
                forecast.pruning = Some(pruning);
            }
            return Ok(SweepReport { result, deviations: Vec::new(), forecast: Some(forecast) });
        }
        cohorts.record(plan.checkpoints.as_ref(), &references);
        let pruner = pruner.map(RefCell::new);
        let result = run_sweep(&plan, &cohorts, &tasks, pruner.as_ref(), self.functions, &progress)?;
        let reference = reference_note(&references, result.trained);
        cohorts.record(None, &references);
        // Removes the bars before the notes below.
        drop(progress);
        reference.iter().for_each(|line| note(line));
        let losses = self.functions.losses;
        let me = plan.shared.as_ref().map(WorkerId::as_str);
        let deviations = if self.options.verify { verify(&cohorts, &tasks, losses, &result, me)? } else { Vec::new() };
        deviations.iter().for_each(|deviation| note(&deviation.to_string()));
        Ok(SweepReport { result, deviations, forecast: None })
    }
}

/// Fails for settings that would fail in the trial, or that have no effect in it.
fn ensure_trainable(settings: &TrialSettings, inputs: &TrialInputs) -> Result<()> {
    let TrialSettings { point, spec, config, loss } = settings;
    config.ensure_valid("train")?;
    config.objective.ensure_fits(inputs.train)?;
    config.objective.ensure_fits(inputs.test)?;
    point.values.keys().try_for_each(|axis| config.objective.ensure_has_effect(axis))?;
    if !loss.is_null() && config.objective.kind != Objective::Sft {
        bail!(Kind::Input, "train: option `loss`: expected none beside an `objective`, found a function"; hint: "leave one of them out: `objective` names a loss");
    }
    if !loss.is_null() && config.gradient_checkpointing {
        bail!(Kind::Input, "train: option `gradient_checkpointing`: expected the built-in loss with it, found a function"; hint: "leave it out, or make `batch` smaller and `accumulation` larger");
    }
    // A misspelt target or an impossible rank fails here, before the first trial trains.
    trainable_count(spec, &inputs.base.decoder().config).map(drop)
}

/// All that the result of a trial depends on.
fn complete(settings: &TrialSettings, inputs: &TrialInputs, shared: Option<&Value>) -> Result<Value> {
    let mut complete = Map::new();
    complete.insert("lora".to_owned(), json!(settings.spec));
    complete.insert("train".to_owned(), json!(settings.config));
    if let (Some(Value::Object(train)), false) = (complete.get_mut("train"), settings.loss.is_null()) {
        train.insert("loss".to_owned(), settings.loss.clone());
    }
    let shared = shared.and_then(Value::as_object).ok_or_else(|| Error::bug("a base without settings"))?;
    complete.extend(shared.clone());
    let data = json!({ "train": inputs.train.fingerprint(), "test": inputs.test.fingerprint() });
    complete.insert("data".to_owned(), data);
    Ok(Value::Object(complete))
}

fn settings_of_base(base: &lora::Model) -> Result<Value> {
    let decoder = base.decoder();
    let mut settings = json!({
        "model": { "name": base.name, "fingerprint": base.fingerprint()? },
        "dtype": device::dtype_name(decoder.dtype),
        "device": device::device_kind(decoder.device),
        "lorhai": env!("CARGO_PKG_VERSION"),
    });
    if let Some(seed) = base.random_seed {
        settings["model"]["random_seed"] = seed.into();
    }
    if let Some(count) = base.resized {
        settings["model"]["vocab_size"] = count.into();
    }
    // The template is saved with every trial.
    if let Some(template) = base.assigned_template() {
        settings["model"]["chat_template"] = template.into();
    }
    if let Some(quantization) = decoder.config.quantization {
        settings["quantization"] = quantization.to_json(decoder.dtype);
    }
    Ok(settings)
}

/// How much of the reference of DPO and KTO was computed for all trials.
fn reference_note(references: &[References], trials: usize) -> Option<String> {
    let answers: usize = references.iter().map(References::answers).sum();
    let text =
        || format!("reference: log-probabilities of {} answers, once for {trials} trials", thousands(answers as u64));
    (answers > 0).then(text)
}

/// The trials that were begun and not ended, those that were stopped early and go on included.
fn begun<'a>(plan: &'a Plan, pruner: Option<&Pruner>) -> Vec<Begun<'a>> {
    let goes_on = |trial: &&Trial| match SweepFolder::state(trial) {
        Ok(TrialState::Unfinished) => true,
        Ok(TrialState::Pruned(_)) => !pruner.is_some_and(|pruner| pruner.is_stopped(trial)),
        _ => false,
    };
    let begun = plan.trials.iter().filter(goes_on);
    begun.map(|trial| (trial.name.as_str(), &trial.settings)).collect()
}
