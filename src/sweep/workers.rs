//! Distributes the trials of a sweep over threads, the workers.
//!
//! On a CPU there is a worker for each thread of libtorch. It trains its trials from the first step to the last with
//! one thread: splitting small matrix products among threads would cost more time than it saves. On a GPU there is
//! one worker. All workers use the same base weights. The trials of a worker train side by side, in one forward and
//! backward pass per step.

use super::checkpoints::Begun;
use super::event::Event;
use super::groups::{self, Group};
use super::lora::{measured, run_group, TrialFunctions, TrialLosses};
use super::memory;
use super::progress::SweepProgress;
use super::pruning::Pruner;
use super::record::Trained;
use super::results::SweepResult;
use super::run;
use super::shared;
use super::task::{Cohorts, SharedInputs, Task};
use super::throughput::Throughput;
use super::trial::{Plan, Trial};
use crate::error::{Error, Result};
use crate::lora::adapter::trainable_count;
use crate::lora::LoraSpec;
use crate::model::shapes::linear_shapes;
use crate::model::{Config, Decoder};
use crate::threads;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Instant;
use tch::Device;

/// The most trials side by side in a worker: with more, its matrix products do not become faster.
const MOST_PER_WORKER: usize = 16;

/// The number of workers of a sweep, and of trials at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    /// The number of workers.
    pub workers: usize,
    /// The most trials side by side, over all workers.
    pub at_once: usize,
}

/// Groups of trials that wait, each with the number of its workers.
type Queue<'a> = VecDeque<(usize, Vec<&'a Trial>)>;

/// Runs the trials of a LoRA sweep that are not finished. `tasks` holds every trial of the plan, in its order. `pruner`
/// stops those that fall behind.
pub fn run_sweep<'a>(
    plan: &'a Plan,
    cohorts: &Cohorts,
    tasks: &[Task],
    pruner: Option<&RefCell<Pruner>>,
    functions: TrialFunctions,
    progress: &SweepProgress,
) -> Result<SweepResult> {
    let tasks_of = |trials: &[&Trial]| -> Vec<Task> {
        trials.iter().filter_map(|trial| tasks.get(trial.index).copied()).collect()
    };
    let cohort_of = |trial: &Trial| match tasks.get(trial.index) {
        Some(task) => cohorts.get(task),
        None => Err(Error::bug("a trial without settings")),
    };
    // All bases of a sweep are on one device.
    let device = cohorts.iter().next().map_or(Device::Cpu, |cohort| cohort.decoder().device);
    // How many trials of a cohort are planned to train at once, and how many memory took since.
    let planned: Cell<Option<(usize, Workers)>> = Cell::new(None);
    let fitting = Cell::new(usize::MAX);
    // The groups of an earlier run that are formed again, and how the present group is spread.
    let again: RefCell<Option<(Option<i64>, Queue<'a>)>> = RefCell::new(None);
    let present: Cell<Workers> = Cell::new(Workers { workers: 1, at_once: 1 });
    let open = || -> Vec<&'a Trial> {
        let of_pruner =
            |pruner: &RefCell<Pruner>| pruner.borrow().open().filter_map(|at| plan.trials.get(at)).collect();
        match &plan.shared {
            // How many fit is planned for the whole sweep: what is left differs from worker to worker.
            Some(_) => plan.trials.iter().collect(),
            None => pruner.map(of_pruner).unwrap_or_default(),
        }
    };
    let beside = match &plan.shared {
        Some(_) if device == Device::Cpu => shared::settings::beside()?,
        _ => 1,
    };
    let steps = |task: &Task| cohorts.get(task).map_or(0, |cohort| task.config.total_steps(cohort.shared.train.len()));
    let at_once = |trials: &[&'a Trial]| -> Result<usize> {
        let Some(task) = trials.first().and_then(|trial| tasks.get(trial.index)) else { return Ok(1) };
        if task.has_loss {
            return Ok(1);
        }
        let workers = match planned.get() {
            Some((cohort, workers)) if cohort == task.cohort => workers,
            _ => {
                let cohort = cohorts.get(task)?;
                // Those that wait at a rung are in later groups: whether a sweep was cut off there, must not show.
                let waiting = open().into_iter().filter(|trial| !trials.iter().any(|other| other.index == trial.index));
                let others =
                    tasks_of(&waiting.collect::<Vec<_>>()).into_iter().filter(|other| task.may_train_beside(other));
                let all: Vec<Task> = tasks_of(trials).into_iter().chain(others).collect();
                Workers::plan(cohort.decoder(), cohort.shared, &all)?
            }
        };
        planned.set(Some((task.cohort, workers)));
        Ok((workers.at_once / beside).min(fitting.get()).max(1))
    };
    let mut next_group = |pending: &[&'a Trial]| -> Result<Vec<&'a Trial>> {
        let mut again = again.borrow_mut();
        if again.is_none() && plan.shared.is_some() {
            fitting.set(memory::remembered(&plan.out, device).unwrap_or(usize::MAX));
        } else if again.is_none() {
            let to_run = if pruner.is_some() { open() } else { pending.to_vec() };
            progress.begin(to_run.len(), tasks_of(&to_run).iter().map(steps).sum());
            fitting.set(memory::remembered(&plan.out, device).unwrap_or(usize::MAX));
            if is_untrained(plan, pending) {
                Throughput::forget(&plan.out);
            }
        }
        let stage = pruner.and_then(|pruner| pruner.borrow().stage());
        if again.as_ref().is_none_or(|(of_stage, _)| *of_stage != stage) {
            let groups = if plan.shared.is_some() { Vec::new() } else { earlier_groups(plan, tasks, pending, stage) };
            *again = Some((stage, groups.into()));
        }
        let Some((_, again)) = again.as_mut() else { return Err(Error::bug("no groups")) };
        let is_in_group =
            |trial: &&Trial| again.iter().any(|(_, group)| group.iter().any(|one| one.index == trial.index));
        let fresh: Vec<&Trial> = pending.iter().filter(|trial| !is_in_group(trial)).copied().collect();
        // Those that may train together; what comes after them is planned when it is its turn.
        let fresh = side_by_side(fresh, tasks).into_iter().next().unwrap_or_default();
        let at_once = at_once(&fresh)?;
        let spread_over = |trials: &[&Trial]| Workers::for_trials_that_fit(at_once, device, trials.len()).workers;
        let mut fresh = fresh.chunks(at_once).map(|trials| (spread_over(trials), trials.to_vec()));
        if plan.checkpoints.is_some() && plan.shared.is_none() {
            let groups = again.iter().cloned().chain(fresh.clone());
            groups::write(&plan.out, groups.map(|(workers, trials)| Group::new(workers, &trials, stage)))?;
        }
        let next = again.pop_front().or_else(|| fresh.next());
        let (workers, group) = next.ok_or_else(|| Error::bug("no trial is left"))?;
        present.set(Workers { workers, at_once: group.len() });
        Ok(group)
    };
    let mut train_group = |group: &[&Trial]| {
        let until = |task: Task| pruner.and_then(|pruner| pruner.borrow().until(task.trial));
        let tasks: Vec<Task> = tasks_of(group).into_iter().map(|task| Task { until: until(task), ..task }).collect();
        progress.side_by_side(&tasks.iter().map(|task| (*task, steps(task))).collect::<Vec<_>>());
        let is_again = Cell::new(false);
        let mut run = |tasks: &[Task]| {
            let cohort = match tasks.first().map(|task| cohorts.get(task)) {
                Some(Ok(cohort)) => cohort,
                Some(Err(error)) => return tasks.iter().map(|_| Err(error.clone())).collect(),
                None => return Vec::new(),
            };
            let decoder = cohort.decoder();
            // Each trial in a thread, however many are left: with more threads, sums round differently.
            let is_spread = planned.get().is_some_and(|(_, workers)| workers.workers > 1);
            if plan.shared.is_some() && is_spread && !is_again.replace(true) {
                return present.get().run_apart(decoder, cohort.shared, tasks, progress, functions.losses);
            }
            if !is_again.replace(true) {
                return present.get().run(decoder, cohort.shared, tasks, progress, functions.losses);
            }
            // What ran out of memory was saved.
            let begun: Vec<Begun> = tasks.iter().map(|task| (task.trial.name.as_str(), &task.trial.settings)).collect();
            if let Some(Err(error)) = plan.checkpoints.as_ref().map(|checkpoints| checkpoints.refresh(&begun)) {
                return tasks.iter().map(|_| Err(error.clone())).collect();
            }
            let workers = Workers::for_trials_that_fit(fitting.get(), device, tasks.len());
            workers.run(decoder, cohort.shared, tasks, progress, functions.losses)
        };
        let mut run_out = |trials: usize, fewer: usize| {
            memory::forget_activations(device);
            fitting.set(fitting.get().min(fewer));
            progress.note(&format!("{trials} trials side by side do not fit into memory: trying {fewer}"));
            if let Err(error) = memory::remember(&plan.out, device, fewer) {
                progress.note(&format!("warning: {error}"));
            }
        };
        if plan.shared.is_some() {
            let results = memory::in_halves(&tasks, &mut run, &mut run_out);
            return measured(results, group, &|trial| Ok(cohort_of(trial)?.decoder()), functions.metrics);
        }
        let (started, tokens_before) = (Instant::now(), progress.tokens());
        let results = memory::in_halves(&tasks, &mut run, &mut run_out);
        if let Err(error) = Throughput::add(&plan.out, progress.tokens() - tokens_before, started.elapsed()) {
            progress.note(&format!("warning: {error}"));
        }
        measured(results, group, &|trial| Ok(cohort_of(trial)?.decoder()), functions.metrics)
    };
    let mut on_event = |event: &Event| progress.event(event);
    if plan.shared.is_some() {
        let to_run = shared::earlier::unfinished(plan);
        progress.begin(to_run.len(), tasks_of(&to_run).iter().map(steps).sum());
        return shared::run::run_shared(plan, &mut on_event, &mut next_group, &mut train_group);
    }
    run::run_in_groups(plan, pruner, &mut on_event, &mut next_group, &mut train_group)
}

/// Has no trial of the plan been trained yet, as its settings are now?
fn is_untrained(plan: &Plan, pending: &[&Trial]) -> bool {
    let is_saved = |trial: &Trial| plan.checkpoints.as_ref().is_some_and(|saved| saved.step(&trial.name).is_some());
    pending.len() == plan.trials.len() && !pending.iter().any(|trial| is_saved(trial))
}

/// Lists of trials that may train side by side, each in order.
fn side_by_side<'a>(trials: Vec<&'a Trial>, tasks: &[Task]) -> Vec<Vec<&'a Trial>> {
    let mut lists: Vec<Vec<&Trial>> = Vec::new();
    let fit = |one: &Trial, other: &Trial| match (tasks.get(one.index), tasks.get(other.index)) {
        (Some(one), Some(other)) => one.may_train_beside(other),
        _ => false,
    };
    for trial in trials {
        match lists.iter_mut().find(|list| list.first().is_some_and(|first| fit(first, trial))) {
            Some(list) => list.push(trial),
            None => lists.push(vec![trial]),
        }
    }
    lists
}

/// The groups of a sweep that was cut off which are formed again, with the number of their workers. Trials whose base or
/// rows changed since may no longer fit together.
fn earlier_groups<'a>(
    plan: &Plan,
    tasks: &[Task],
    pending: &[&'a Trial],
    stage: Option<i64>,
) -> Vec<(usize, Vec<&'a Trial>)> {
    let Some(checkpoints) = &plan.checkpoints else { return Vec::new() };
    let is_saved = |trial: &Trial| checkpoints.step(&trial.name).is_some();
    let known: Vec<Group> = groups::read(&plan.out).into_iter().filter(|group| group.stage == stage).collect();
    let groups = groups::formed_again(&known, pending, is_saved).into_iter();
    let split = |(workers, trials)| side_by_side(trials, tasks).into_iter().map(move |trials| (workers, trials));
    groups.flat_map(split).collect()
}

impl Workers {
    /// Plans the workers for `tasks` on this machine. The number of trials at once is what fits into the free memory,
    /// measured with the largest trial.
    pub fn plan(decoder: &Decoder, shared: SharedInputs, tasks: &[Task]) -> Result<Self> {
        let fit = match tasks.len() {
            0 | 1 => 1,
            _ => memory::trials_that_fit(decoder, shared, tasks)?,
        };
        Ok(Self::for_trials_that_fit(fit, decoder.device, tasks.len()))
    }

    /// Plans the workers for `trials` trials, of which `fit` fit into memory at once.
    pub fn for_trials_that_fit(fit: usize, device: Device, trials: usize) -> Self {
        let workers = match device {
            Device::Cpu => threads::count().min(trials.max(1)),
            _ => 1,
        };
        let workers = workers.min(fit);
        Workers { workers, at_once: fit.min(workers * MOST_PER_WORKER).min(trials.max(1)) }
    }

    /// Trains `tasks` of one cohort, all at once. Returns a result for each, in order. Functions of the caller cannot
    /// leave this thread.
    pub fn run(
        self,
        decoder: &Decoder,
        shared: SharedInputs,
        tasks: &[Task],
        progress: &SweepProgress,
        losses: Option<&TrialLosses>,
    ) -> Vec<Result<Trained>> {
        if self.workers.min(tasks.len()) < 2 {
            return run_group(decoder, shared, tasks, progress, losses);
        }
        self.run_apart(decoder, shared, tasks, progress, losses)
    }

    /// As [`Self::run`], with each trial in one thread even if it is alone.
    fn run_apart(
        self,
        decoder: &Decoder,
        shared: SharedInputs,
        tasks: &[Task],
        progress: &SweepProgress,
        losses: Option<&TrialLosses>,
    ) -> Vec<Result<Trained>> {
        if tasks.iter().any(|task| task.has_loss) {
            return run_group(decoder, shared, tasks, progress, losses);
        }
        let workers = self.workers.clamp(1, tasks.len().max(1));
        let count = threads::count();
        let costs: Vec<u64> = tasks.iter().map(|task| cost(task, decoder, shared.train.len())).collect();
        let assignments = spread(&costs, workers);
        let mut outcomes: Vec<Option<Result<Trained>>> = tasks.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            let workers: Vec<_> = assignments
                .iter()
                .map(|assigned| {
                    let tasks: Vec<Task> = assigned.iter().filter_map(|&at| tasks.get(at).copied()).collect();
                    let decoder = decoder.shallow_clone();
                    scope.spawn(move || {
                        threads::use_threads(1);
                        run_group(&decoder, shared, &tasks, progress, None)
                    })
                })
                .collect();
            for (worker, assigned) in workers.into_iter().zip(&assignments) {
                let mut results = worker.join().unwrap_or_default().into_iter();
                for &at in assigned {
                    outcomes[at] = results.next();
                }
            }
        });
        threads::use_threads(count);
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| Err(Error::bug("the thread of this trial ended early"))))
            .collect()
    }
}

/// The cost of a trial in the unit of [`cost_per_token`].
fn cost(task: &Task, decoder: &Decoder, rows: usize) -> u64 {
    let rows_per_step = (task.config.batch * task.config.accumulation) as u64;
    cost_per_token(task.spec, &decoder.config) * rows_per_step * task.config.total_steps(rows).max(1)
}

/// Multiplications per token of a training step: two for every weight of the frozen base, in forward and in backward,
/// and three for every weight of the adapter, which has a gradient as well.
pub fn cost_per_token(spec: &LoraSpec, config: &Config) -> u64 {
    let base: i64 = linear_shapes(config).iter().map(|shape| shape.in_features * shape.out_features).sum();
    2 * base as u64 + 3 * trainable_count(spec, config).unwrap_or(0)
}

/// Assigns tasks of these costs to workers, the most expensive first, each to the worker with the least load. Returns
/// the numbers of the tasks of each worker.
pub fn spread(costs: &[u64], workers: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(costs[at]));
    let mut loads = vec![(0_u64, Vec::new()); workers];
    for at in order {
        if let Some((load, tasks)) = loads.iter_mut().min_by_key(|(load, _)| *load) {
            *load += costs[at];
            tasks.push(at);
        }
    }
    loads.into_iter().map(|(_, tasks)| tasks).collect()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn workers_get_equal_loads() {
        assert_eq!(spread(&[5, 9, 4, 6], 2), [vec![1, 2], vec![3, 0]]);
        assert_eq!(spread(&[1, 1, 1], 2), [vec![0, 2], vec![1]]);
        assert_eq!(spread(&[], 2), [vec![], Vec::<usize>::new()]);
    }
}
