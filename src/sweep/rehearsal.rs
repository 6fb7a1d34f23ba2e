//! A sweep rehearsed in another folder: every kind of trial trains two tiny steps, and what the true ones would
//! take is planned. Trials that differ in the seed alone are of one kind, and share its files.

use super::folder;
use super::grid::SEED;
use super::memory::that_fit;
use super::progress::SweepProgress;
use super::record::{Measurements, CONFIG, RESULT};
use super::results::SweepResult;
use super::run::{self, Event, SweepObserver};
use super::task::{SharedInputs, Task};
use super::trial::{Plan, Trial};
use super::workers::Workers;
use crate::data::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::eval::loss::mean_losses;
use crate::lora::{Adapter, LoraSpec, Trainable};
use crate::model::Decoder;
use crate::train::memory::process::free;
use crate::train::origin::ORIGIN;
use crate::train::rehearsal::{self, planned_memory, planned_tokens, tiny_config, Planned, ROWS};
use crate::train::TrainConfig;
use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};

/// What a sweep would take.
pub struct SweepForecast {
    /// In the order of the grid.
    pub kinds: Vec<Kind>,
    /// Trials that are finished already.
    pub skipped: usize,
    /// How the real trials are spread.
    pub workers: Workers,
    /// Bytes that the base and the largest trials side by side take.
    pub memory: u64,
    /// Of these, the base.
    pub base: u64,
    /// Of all trials that are to run, spread so.
    pub seconds: f64,
}

/// Trials that differ in the seed alone.
pub struct Kind {
    /// The point without its seed: "rank=4", or nothing where the seed is all there is.
    pub name: String,
    /// Those that are to run.
    pub trials: usize,
    /// Of all of them together.
    pub tokens: u64,
    /// One of them; why they would fail otherwise.
    pub planned: Result<Planned>,
    spec: LoraSpec,
    config: TrainConfig,
    tiny: Option<Measurements>,
    /// The folder of the one that was trained.
    dir: PathBuf,
}

/// Rehearses `plan` in the folder `place`; `tasks` holds every trial of the plan, in its order. The result has the
/// losses of the tiny runs, and tokens and times of the real ones.
///
/// # Errors
/// Where the folder of the plan would be refused, or the user stopped it.
pub fn rehearse(
    plan: &Plan,
    place: &Path,
    decoder: &Decoder,
    shared: SharedInputs,
    tasks: &[Task],
    observer: &mut dyn SweepObserver,
) -> Result<(SweepResult, SweepForecast)> {
    folder::refuse(plan)?;
    let moved = moved(plan, place);
    folder::copy_standing(plan, &moved)?;
    let stage = Stage::new(decoder, shared, tasks);
    let mut told = |event: &Event| {
        if !matches!(event, Event::Started { .. } | Event::Finished { .. }) {
            observer.event(event);
        }
    };
    let mut group_size = |pending: &[&Trial]| stage.spread(pending);
    let mut run_group = |group: &[&Trial]| stage.run_group(group);
    let result = run::run(&moved, &mut told, &mut group_size, &mut run_group)?;
    let Stage { kinds, workers, memory, base, .. } = stage;
    let (kinds, workers) = (kinds.into_inner(), workers.get());
    let seconds = kinds.iter().map(Kind::seconds).sum::<f64>() / workers.workers.max(1) as f64;
    let skipped = result.skipped;
    Ok((result, SweepForecast { kinds, skipped, workers, memory: memory.get(), base: base.get(), seconds }))
}

/// The same trials in another folder.
fn moved(plan: &Plan, place: &Path) -> Plan {
    let trials = plan.trials.iter().map(|trial| Trial { dir: place.join(&trial.name), ..trial.clone() });
    Plan { out: place.to_path_buf(), trials: trials.collect(), checkpoints: None, ..plan.clone() }
}

impl Kind {
    /// Of all its trials, one after the other in one worker.
    pub fn seconds(&self) -> f64 {
        match &self.planned {
            Ok(planned) => planned.seconds / planned.tokens.max(1) as f64 * self.tokens as f64,
            Err(_) => 0.0,
        }
    }
}

/// Is a trial of these settings of the kind of `task`?
fn alike((spec, config): (&LoraSpec, &TrainConfig), task: &Task) -> bool {
    *spec == *task.spec && TrainConfig { seed: task.config.seed, ..config.clone() } == *task.config
}

/// A rehearsal under way.
struct Stage<'a> {
    decoder: &'a Decoder,
    shared: SharedInputs<'a>,
    tasks: &'a [Task<'a>],
    kinds: RefCell<Vec<Kind>>,
    workers: Cell<Workers>,
    memory: Cell<u64>,
    base: Cell<u64>,
}

impl<'a> Stage<'a> {
    fn new(decoder: &'a Decoder, shared: SharedInputs<'a>, tasks: &'a [Task<'a>]) -> Self {
        let workers = Cell::new(Workers { workers: 1, at_once: 1 });
        Stage { decoder, shared, tasks, kinds: RefCell::default(), workers, memory: Cell::new(0), base: Cell::new(0) }
    }

    fn task(&self, trial: &Trial) -> Result<Task<'a>> {
        self.tasks.get(trial.index).copied().ok_or_else(|| Error::bug("a trial without settings"))
    }

    /// How many go side by side: what the true sweep measures is planned here, for a step with the longest rows
    /// may take long.
    fn spread(&self, pending: &[&Trial]) -> Result<usize> {
        let mut own: Vec<u64> = Vec::new();
        let mut base = 0;
        for trial in pending {
            let parts = planned_memory(self.decoder, &self.task(trial)?.run(self.shared))?;
            base = parts.weights;
            own.push(parts.total() - parts.weights);
        }
        own.sort_unstable_by_key(|&bytes| std::cmp::Reverse(bytes));
        let largest = own.first().copied().unwrap_or(0);
        let fit = match free(self.decoder.device) {
            Some(free) if pending.len() > 1 => that_fit(free, largest),
            Some(_) => 1,
            None => usize::MAX,
        };
        let workers = Workers::where_so_many_fit(fit, self.decoder, pending.len());
        self.workers.set(workers);
        self.base.set(base);
        self.memory.set(base + own.iter().take(workers.at_once).sum::<u64>());
        Ok(workers.at_once)
    }

    fn run_group(&self, group: &[&Trial]) -> Vec<Result<Measurements>> {
        match self.try_group(group) {
            Ok(outcomes) => outcomes,
            Err(error) => group.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn try_group(&self, group: &[&Trial]) -> Result<Vec<Result<Measurements>>> {
        let tasks: Vec<Task> = group.iter().map(|trial| self.task(trial)).collect::<Result<_>>()?;
        self.meet(group, &tasks)?;
        Ok(group.iter().zip(&tasks).map(|(trial, task)| self.outcome(trial, task)).collect())
    }

    /// Trains the kinds of which none was trained yet, side by side as the true trials are.
    fn meet(&self, group: &[&Trial], tasks: &[Task]) -> Result<()> {
        let mut fresh: Vec<(&Trial, &Task)> = Vec::new();
        for (trial, task) in group.iter().zip(tasks) {
            let is_known = self.kinds.borrow().iter().any(|kind| alike((&kind.spec, &kind.config), task));
            if !is_known && !fresh.iter().any(|(_, other)| alike((other.spec, other.config), task)) {
                fresh.push((trial, task));
            }
        }
        let configs: Vec<Result<TrainConfig>> =
            fresh.iter().map(|(_, task)| tiny_config(task.config, self.shared.train.len())).collect();
        let good = fresh.iter().zip(&configs);
        let tiny: Vec<Task> = good
            .filter_map(|((trial, task), config)| Some(Task { trial, spec: task.spec, config: config.as_ref().ok()? }))
            .collect();
        let (train, test) = (self.shared.train.shortest(ROWS), self.shared.test.map(|test| test.shortest(ROWS)));
        let shared = SharedInputs { train: &train, test: test.as_ref(), ..self.shared };
        let progress = SweepProgress::new(true);
        let mut outcomes = self.workers.get().run(self.decoder, shared, &tiny, &progress).into_iter();
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

    fn kind(&self, trial: &Trial, task: &Task, tiny: Result<Measurements>) -> Result<Kind> {
        let (planned, tiny) = match tiny {
            Ok(tiny) => (self.plan(task), Some(tiny)),
            Err(error) => (Err(error), None),
        };
        match planned {
            Err(error) if error.kind == crate::Kind::Stopped => Err(error),
            planned => Ok(Kind {
                name: trial.point.without(SEED).to_string(),
                trials: 0,
                tokens: 0,
                planned,
                spec: task.spec.clone(),
                config: task.config.clone(),
                tiny,
                dir: trial.dir.clone(),
            }),
        }
    }

    /// Plans a trial alone in its worker: with one thread where there are several workers.
    fn plan(&self, task: &Task) -> Result<Planned> {
        let mut adapter = Adapter::new(task.spec.clone(), self.decoder, task.config.seed)?;
        let mut measure = |decoder: &Decoder, trainables: &[&dyn Trainable], rows: &TokenizedDataset| {
            let found = mean_losses(decoder, trainables, rows, task.config.eval_batch)?;
            Ok(found.into_iter().map(|found| found.loss).collect())
        };
        let threads = tch::get_num_threads();
        if self.workers.get().workers > 1 {
            tch::set_num_threads(1);
        }
        let planned = rehearsal::plan(self.decoder, &mut adapter, &task.run(self.shared), &mut measure);
        tch::set_num_threads(threads);
        planned
    }

    /// What a trial is told to have come to; its folder gets the files of its kind.
    fn outcome(&self, trial: &Trial, task: &Task) -> Result<Measurements> {
        let mut kinds = self.kinds.borrow_mut();
        let own = kinds.iter_mut().find(|kind| alike((&kind.spec, &kind.config), task));
        let kind = own.ok_or_else(|| Error::bug("a trial of no kind"))?;
        kind.trials += 1;
        let planned = kind.planned.clone()?;
        let tiny = kind.tiny.clone().ok_or_else(|| Error::bug("a trial that was not trained"))?;
        if kind.dir != trial.dir {
            link_files(&kind.dir, &trial.dir)?;
        }
        let tokens = planned_tokens(self.shared.train, task.config);
        kind.tokens += tokens;
        Ok(Measurements { tokens, seconds: planned.seconds, ..tiny })
    }
}

/// Gives the files of one trial to another, but for those that say which trial it is.
fn link_files(from: &Path, to: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::file("write", to, &error);
    for entry in fs::read_dir(from).map_err(failed)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).map_err(failed)?;
        if path.is_dir() {
            crate::files::create_folder(&to.join(&name))?;
            link_files(&path, &to.join(&name))?;
        } else if ![CONFIG, RESULT, ORIGIN].iter().any(|own| name == *own) {
            fs::hard_link(&path, to.join(&name)).map_err(failed)?;
        }
    }
    Ok(())
}
