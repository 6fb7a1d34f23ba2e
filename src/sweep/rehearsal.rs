//! Rehearses a sweep in another folder: one trial of each kind trains two tiny steps, and the real trials are planned.
//! Trials that differ in the seed alone are of one kind; all of them get the files of the one that was trained.

use super::event::{Event, SweepObserver};
use super::folder::{self, SweepFolder, TrialState};
use super::grid::{LOSS, SEED};
use super::lora::{measured, TrialFunctions};
use super::memory::that_fit;
use super::progress::SweepProgress;
use super::pruning::forecast::PruningForecast;
use super::pruning::Pruner;
use super::record::{Measurements, Trained, CONFIG, RESULT};
use super::results::SweepResult;
use super::run;
use super::task::{Cohort, Cohorts, SharedInputs, Task};
use super::throughput::Throughput;
use super::trial::{Plan, Trial};
use super::workers::Workers;
use crate::data::tokenized::TokenizedDataset;
use crate::data::Pace;
use crate::error::{Error, Result};
use crate::eval::loss::mean_losses;
use crate::lora::{self, Adapter, LoraSpec, Trainable};
use crate::model::Decoder;
use crate::threads;
use crate::train::memory::process::free;
use crate::train::origin::ORIGIN;
use crate::train::rehearsal::{self, planned_memory, planned_tokens, tiny_config, Planned};
use crate::train::TrainConfig;
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The plan of a sweep.
pub struct SweepForecast {
    /// In grid order.
    pub kinds: Vec<TrialKind>,
    /// The number of trials that are finished already.
    pub skipped: usize,
    /// The workers of the real sweep; of several bases or data sets those that train most trials at once.
    pub workers: Workers,
    /// Bytes of the bases and the largest trials side by side.
    pub memory: u64,
    /// Bytes of the bases alone.
    pub base: u64,
    /// The time for all trials that are to run, with these workers.
    pub seconds: f64,
    /// What is expected of the tokens where trials are stopped early; the other numbers are of all trials to their ends.
    pub pruning: Option<PruningForecast>,
}

/// Trials that differ in the seed alone.
pub struct TrialKind {
    /// The point without its seed, such as "rank=4"; empty if only the seed varies.
    pub name: String,
    /// The number of trials that are to run.
    pub trials: usize,
    /// The tokens of all of them.
    pub tokens: u64,
    /// The plan of one trial, or the error with which all of them would fail.
    pub planned: Result<Planned>,
    spec: LoraSpec,
    config: TrainConfig,
    /// A trial of this kind.
    index: usize,
    /// The workers that share its trials.
    workers: usize,
    tiny: Option<Measurements>,
    /// The folder of the trial that was trained.
    dir: PathBuf,
}

/// Rehearses `plan` in `folder`. `tasks` holds every trial of the plan, in its order. The result has the losses of the
/// tiny runs, and the planned tokens and times of the real ones. A trial that was stopped early stays so where `is_stopped`
/// says that the real sweep would leave it.
///
/// # Errors
/// If the plan's folder cannot be claimed, or the user stops it.
pub fn rehearse(
    plan: &Plan,
    out: &Path,
    cohorts: &Cohorts,
    tasks: &[Task],
    functions: TrialFunctions,
    is_stopped: &dyn Fn(&Trial) -> bool,
    observer: &mut dyn SweepObserver,
) -> Result<(SweepResult, SweepForecast)> {
    folder::ensure_claimable(plan)?;
    let moved = moved(plan, out);
    folder::copy_records(plan, &moved, &|trial| {
        matches!(SweepFolder::state(trial), Ok(TrialState::Pruned(_))) && !is_stopped(trial)
    })?;
    let stopped = RefCell::new(Pruner::idle(&moved)?);
    let rehearsal = Rehearsal::new(cohorts, tasks, functions);
    let mut on_event = |event: &Event| match event {
        Event::Started { .. } | Event::Finished { .. } => {}
        // The checkpoints stay where they are, which is not where the rehearsal looks.
        Event::Restarting { trial } => observer.event(&run::begun(plan, trial)),
        event => observer.event(event),
    };
    let decoder_of = |trial: &Trial| Ok(rehearsal.cohort(&rehearsal.task(trial)?)?.decoder());
    let mut run_group = |group: &[&Trial]| {
        let results = rehearsal.run_group(group).into_iter().map(|result| result.map(Trained::from)).collect();
        measured(results, group, &decoder_of, functions.metrics)
    };
    let mut group_size = |pending: &[&Trial]| Ok(rehearsal.plan_workers(pending)?.max(1));
    let mut result = run_rehearsed(&moved, &stopped, &mut on_event, &mut group_size, &mut run_group)?;
    let Rehearsal { kinds, plans, .. } = rehearsal;
    let (kinds, plans) = (kinds.into_inner(), plans.into_inner());
    let seconds: f64 = kinds.iter().map(|kind| kind.seconds() / kind.workers.max(1) as f64).sum();
    // The speed that is planned, because the script may print it.
    let tokens = kinds.iter().map(|kind| kind.tokens).sum();
    if tokens > 0 && seconds.is_finite() && seconds > 0.0 {
        Throughput::add(out, tokens, Duration::from_secs_f64(seconds))?;
        result.throughput = Throughput::read(out);
    }
    let workers = plans.iter().map(|plan| plan.workers).max_by_key(|workers| workers.at_once).unwrap_or(ALONE);
    let of_base = |base: &&lora::Model| {
        let mut of_cohorts = cohorts.iter().zip(&plans).filter(|(cohort, _)| std::ptr::eq(cohort.base, *base));
        of_cohorts.next().map_or(0, |(_, plan)| plan.weights)
    };
    let base = cohorts.bases().iter().map(of_base).sum();
    let memory = base + plans.iter().map(|plan| plan.memory).max().unwrap_or(0);
    let skipped = result.skipped;
    Ok((result, SweepForecast { kinds, skipped, workers, memory, base, seconds, pruning: None }))
}

/// Runs the trials of `plan` in groups of `group_size`.
fn run_rehearsed<'a>(
    plan: &'a Plan,
    stopped: &RefCell<Pruner>,
    observer: &mut dyn SweepObserver,
    group_size: &mut run::GroupSize,
    run_group: &mut run::TrainGroup,
) -> Result<SweepResult> {
    let mut next_group = |pending: &[&'a Trial]| -> Result<Vec<&'a Trial>> {
        Ok(pending.iter().take(group_size(pending)?).copied().collect())
    };
    run::run_in_groups(plan, Some(stopped), observer, &mut next_group, run_group)
}

/// The same plan with another `out`.
pub(super) fn moved(plan: &Plan, out: &Path) -> Plan {
    let trials = plan.trials.iter().map(|trial| Trial { dir: out.join(&trial.name), ..trial.clone() });
    Plan { out: out.to_path_buf(), trials: trials.collect(), checkpoints: None, ..plan.clone() }
}

impl TrialKind {
    /// The time for all its trials, one after the other in one worker.
    pub fn seconds(&self) -> f64 {
        match &self.planned {
            Ok(planned) => planned.seconds / planned.tokens.max(1) as f64 * self.tokens as f64,
            Err(_) => 0.0,
        }
    }
}

/// Do these settings differ from those of `task` in the seed alone?
fn alike((spec, config): (&LoraSpec, &TrainConfig), task: &Task) -> bool {
    *spec == *task.spec && TrainConfig { seed: task.config.seed, ..config.clone() } == *task.config
}

/// Do they differ in settings and seed alone? A trial of each function is rehearsed.
fn are_of_one_sort(one: &Task, other: &Task) -> bool {
    one.cohort == other.cohort && one.trial.point.get(LOSS) == other.trial.point.get(LOSS)
}

/// Plans the memory that the real sweep measures, because a step with the longest rows may take long.
fn plan_cohort(cohort: &Cohort, tasks: &[&Task]) -> Result<CohortPlan> {
    let decoder = cohort.decoder();
    let (mut sizes, mut alone, mut weights) = (Vec::new(), 0, decoder.weight_bytes());
    for task in tasks {
        let parts = planned_memory(decoder, &task.run(cohort.shared))?;
        weights = parts.weights;
        // Trials with a loss of the caller's train one at a time.
        if task.has_loss {
            alone = alone.max(parts.total() - parts.weights);
        } else {
            sizes.push(parts.total() - parts.weights);
        }
    }
    // As in the real sweep, they are no longer free.
    decoder.make_packed_copies()?;
    sizes.sort_unstable_by_key(|&bytes| std::cmp::Reverse(bytes));
    let fit = match free(decoder.device) {
        Some(free) if sizes.len() > 1 => that_fit(free, sizes.first().copied().unwrap_or(0)),
        Some(_) => 1,
        None => usize::MAX,
    };
    let workers = Workers::for_trials_that_fit(fit, decoder.device, sizes.len());
    let memory = sizes.iter().take(workers.at_once).sum::<u64>().max(alone);
    Ok(CohortPlan { workers, weights, memory })
}

/// The workers of a trial that trains by itself.
const ALONE: Workers = Workers { workers: 1, at_once: 1 };

/// The plan of a cohort.
#[derive(Clone, Copy)]
struct CohortPlan {
    workers: Workers,
    /// Bytes of the base.
    weights: u64,
    /// Bytes of the largest trials side by side.
    memory: u64,
}

/// The state of a rehearsal.
struct Rehearsal<'a, 'f> {
    cohorts: &'a Cohorts<'a>,
    tasks: &'a [Task<'a>],
    functions: TrialFunctions<'f>,
    kinds: RefCell<Vec<TrialKind>>,
    /// By cohort.
    plans: RefCell<Vec<CohortPlan>>,
}

impl<'a, 'f> Rehearsal<'a, 'f> {
    fn new(cohorts: &'a Cohorts<'a>, tasks: &'a [Task<'a>], functions: TrialFunctions<'f>) -> Self {
        Rehearsal { cohorts, tasks, functions, kinds: RefCell::default(), plans: RefCell::default() }
    }

    fn task(&self, trial: &Trial) -> Result<Task<'a>> {
        self.tasks.get(trial.index).copied().ok_or_else(|| Error::bug("a trial without settings"))
    }

    fn cohort(&self, task: &Task) -> Result<&'a Cohort<'a>> {
        self.cohorts.get(task)
    }

    /// The workers of the real trial.
    fn workers(&self, task: &Task) -> Workers {
        let planned = self.plans.borrow().get(task.cohort).map_or(ALONE, |plan| plan.workers);
        if task.has_loss {
            ALONE
        } else {
            planned
        }
    }

    /// The number of trials that are rehearsed together. At its first call plans the real sweep.
    fn plan_workers(&self, pending: &[&Trial]) -> Result<usize> {
        let mut plans = self.plans.borrow_mut();
        if plans.is_empty() {
            let tasks: Vec<Task> = pending.iter().map(|trial| self.task(trial)).collect::<Result<_>>()?;
            for (number, cohort) in self.cohorts.iter().enumerate() {
                let of_cohort: Vec<&Task> = tasks.iter().filter(|task| task.cohort == number).collect();
                plans.push(plan_cohort(cohort, &of_cohort)?);
            }
        }
        Ok(plans.iter().map(|plan| plan.workers.at_once).max().unwrap_or(1))
    }

    fn run_group(&self, group: &[&Trial]) -> Vec<Result<Measurements>> {
        match self.try_group(group) {
            Ok(outcomes) => outcomes,
            Err(error) => group.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn try_group(&self, group: &[&Trial]) -> Result<Vec<Result<Measurements>>> {
        let tasks: Vec<Task> = group.iter().map(|trial| self.task(trial)).collect::<Result<_>>()?;
        self.train_new_kinds(group, &tasks)?;
        Ok(group.iter().zip(&tasks).map(|(trial, task)| self.outcome(trial, task)).collect())
    }

    /// Trains one trial of each new kind, side by side as in the real sweep.
    fn train_new_kinds(&self, group: &[&Trial], tasks: &[Task]) -> Result<()> {
        let mut fresh: Vec<(&Trial, &Task)> = Vec::new();
        for (trial, task) in group.iter().zip(tasks) {
            let is_known = self.kinds.borrow().iter().any(|kind| self.is_of(kind, task));
            let is_alike = |other: &Task| alike((other.spec, other.config), task) && are_of_one_sort(other, task);
            if !is_known && !fresh.iter().any(|(_, other)| is_alike(other)) {
                fresh.push((trial, task));
            }
        }
        let tiny = |(_, task): &(&Trial, &Task)| tiny_config(task.config, self.cohort(task)?.shared.train.len());
        let configs: Vec<Result<TrainConfig>> = fresh.iter().map(tiny).collect();
        let good = fresh.iter().zip(&configs);
        let tiny =
            good.filter_map(|((trial, task), config)| Some(Task { trial, config: config.as_ref().ok()?, ..**task }));
        let mut outcomes = self.train_tiny(tiny.collect()).into_iter();
        for ((trial, task), config) in fresh.into_iter().zip(&configs) {
            let tiny = match config {
                Ok(_) => outcomes.next().unwrap_or_else(|| Err(Error::bug("a trial without an outcome"))),
                Err(error) => Err(error.clone()),
            };
            let kind = self.kind(trial, task, tiny)?;
            self.kinds.borrow_mut().push(kind);
        }
        Ok(())
    }

    /// Trains tasks side by side, as far as they may. Returns a result for each, in order.
    fn train_tiny(&self, tasks: Vec<Task>) -> Vec<Result<Measurements>> {
        let mut outcomes = Vec::with_capacity(tasks.len());
        // Trials of one cohort may lie apart in the grid.
        let mut rest: Vec<(usize, Task)> = tasks.into_iter().enumerate().collect();
        while !rest.is_empty() {
            let (at, first) = rest.remove(0);
            let (beside, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|(_, task)| task.may_train_beside(&first));
            rest = others;
            let (numbers, group): (Vec<usize>, Vec<Task>) = [(at, first)].into_iter().chain(beside).unzip();
            let results = match self.cohort(&first) {
                Ok(cohort) => self.train_tiny_group(cohort, &group),
                Err(error) => group.iter().map(|_| Err(error.clone())).collect(),
            };
            outcomes.extend(numbers.into_iter().zip(results));
        }
        outcomes.sort_by_key(|(at, _)| *at);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    fn train_tiny_group(&self, cohort: &Cohort, tasks: &[Task]) -> Vec<Result<Measurements>> {
        let Some(workers) = tasks.first().map(|task| self.workers(task)) else { return Vec::new() };
        let (pace, shared) = (Pace::Rehearsal, cohort.shared);
        let (train, test) = (pace.rows(shared.train), shared.test.map(|test| pace.rows(test)));
        let shared = SharedInputs { train: &train, test: test.as_ref(), ..shared };
        let results = workers.run(cohort.decoder(), shared, tasks, &SweepProgress::new(true), self.functions.losses);
        results.into_iter().map(|result| result.map(|trained| trained.measurements)).collect()
    }

    fn is_of(&self, kind: &TrialKind, task: &Task) -> bool {
        let is_of_one_sort = self.tasks.get(kind.index).is_some_and(|known| are_of_one_sort(known, task));
        is_of_one_sort && alike((&kind.spec, &kind.config), task)
    }

    fn kind(&self, trial: &Trial, task: &Task, tiny: Result<Measurements>) -> Result<TrialKind> {
        let (planned, tiny) = match tiny {
            Ok(tiny) => (self.plan(task), Some(tiny)),
            Err(error) => (Err(error), None),
        };
        match planned {
            Err(error) if error.kind == crate::Kind::Stopped => Err(error),
            planned => Ok(TrialKind {
                name: trial.point.without(SEED).to_string(),
                trials: 0,
                tokens: 0,
                planned,
                spec: task.spec.clone(),
                config: task.config.clone(),
                index: trial.index,
                workers: self.workers(task).workers,
                tiny,
                dir: trial.dir.clone(),
            }),
        }
    }

    /// Plans a trial that has a worker to itself: with one thread if there are several workers.
    fn plan(&self, task: &Task) -> Result<Planned> {
        let Cohort { shared, .. } = self.cohort(task)?;
        let decoder = self.cohort(task)?.decoder();
        let mut adapter = Adapter::new(task.spec.clone(), decoder, task.config.seed)?;
        let mut measure = |decoder: &Decoder, trainables: &[&dyn Trainable], rows: &TokenizedDataset| {
            let losses = mean_losses(decoder, trainables, rows, task.config.eval_batch)?;
            Ok(losses.into_iter().map(|mean| mean.loss).collect())
        };
        let count = threads::count();
        if self.workers(task).workers > 1 {
            threads::use_threads(1);
        }
        let planned = rehearsal::plan(decoder, &mut adapter, &task.run(*shared), &mut measure);
        threads::use_threads(count);
        planned
    }

    /// The measurements to report for a trial. Links the files of its kind into its folder.
    fn outcome(&self, trial: &Trial, task: &Task) -> Result<Measurements> {
        let mut kinds = self.kinds.borrow_mut();
        let kind = kinds.iter_mut().find(|kind| self.is_of(kind, task));
        let kind = kind.ok_or_else(|| Error::bug("a trial of no kind"))?;
        kind.trials += 1;
        let planned = kind.planned.clone()?;
        let tiny = kind.tiny.clone().ok_or_else(|| Error::bug("a trial that was not trained"))?;
        if kind.dir != trial.dir {
            link_files(&kind.dir, &trial.dir)?;
        }
        let tokens = planned_tokens(self.cohort(task)?.shared.train, task.config);
        kind.tokens += tokens;
        Ok(Measurements { tokens, seconds: planned.seconds, ..tiny })
    }
}

/// Links the files of one trial into the folder of another, except for those that identify the trial.
fn link_files(from: &Path, to: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::file("write", to, &error);
    for entry in fs::read_dir(from).map_err(failed)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).map_err(failed)?;
        if path.is_dir() {
            crate::files::create_folder(&to.join(&name))?;
            link_files(&path, &to.join(&name))?;
        } else if ![CONFIG, RESULT, ORIGIN].iter().any(|identifying| name == *identifying) {
            fs::hard_link(&path, to.join(&name)).map_err(failed)?;
        }
    }
    Ok(())
}
