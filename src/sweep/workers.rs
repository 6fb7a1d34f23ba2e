//! Distributes the trials of a sweep over threads, the workers.
//!
//! On a CPU there is a worker for each thread of libtorch. It trains its trials from the first step to the last with
//! one thread: splitting small matrix products among threads would cost more time than it saves. On a GPU there is
//! one worker. All workers use the same base weights. The trials of a worker train side by side, in one forward and
//! backward pass per step.

use super::groups::{self, Group};
use super::lora::run_group;
use super::memory;
use super::progress::SweepProgress;
use super::record::Measurements;
use super::results::SweepResult;
use super::run::{self, Event};
use super::task::{SharedInputs, Task};
use super::trial::{Plan, Trial};
use crate::error::{Error, Result};
use crate::lora::adapter::trainable_count;
use crate::lora::LoraSpec;
use crate::model::shapes::linear_shapes;
use crate::model::{Config, Decoder};
use std::cell::RefCell;
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

/// Runs the trials of a LoRA sweep that are not finished. `tasks` holds every trial of the plan, in its order.
pub fn run_sweep<'a>(
    plan: &'a Plan,
    decoder: &Decoder,
    shared: SharedInputs,
    tasks: &[Task],
    progress: &SweepProgress,
) -> Result<SweepResult> {
    let tasks_of = |trials: &[&Trial]| -> Vec<Task> {
        trials.iter().filter_map(|trial| tasks.get(trial.index).copied()).collect()
    };
    // Of each group that was formed, by its first trial.
    let formed: RefCell<Vec<(usize, Workers)>> = RefCell::default();
    let steps = |task: &Task| task.config.total_steps(shared.train.len());
    let mut form_groups = |pending: &[&'a Trial]| -> Result<Vec<Vec<&'a Trial>>> {
        progress.begin(pending.len(), tasks_of(pending).iter().map(steps).sum());
        let known = if shared.checkpoints.is_some() { groups::read(&plan.out) } else { Vec::new() };
        let is_saved = |trial: &Trial| shared.checkpoints.is_some_and(|saved| saved.step(&trial.name).is_some());
        let (again, rest) = groups::formed_again(&known, pending, is_saved);
        let again = again.into_iter().map(|(workers, trials)| (Workers { workers, at_once: trials.len() }, trials));
        let mut all: Vec<(Workers, Vec<&Trial>)> = again.collect();
        if !rest.is_empty() {
            let workers = Workers::plan(decoder, shared, &tasks_of(&rest))?;
            all.extend(rest.chunks(workers.at_once.max(1)).map(|trials| (workers, trials.to_vec())));
        }
        if shared.checkpoints.is_some() {
            let names = |trials: &[&Trial]| trials.iter().map(|trial| trial.name.clone()).collect();
            let record =
                |(workers, trials): &(Workers, Vec<&Trial>)| Group { workers: workers.workers, trials: names(trials) };
            groups::write(&plan.out, &all.iter().map(record).collect::<Vec<_>>())?;
        }
        let first = |(workers, trials): &(Workers, Vec<&Trial>)| Some((trials.first()?.index, *workers));
        formed.replace(all.iter().filter_map(first).collect());
        Ok(all.into_iter().map(|(_, trials)| trials).collect())
    };
    let mut run_group = |group: &[&Trial]| {
        let tasks = tasks_of(group);
        progress.side_by_side(&tasks.iter().map(|task| (*task, steps(task))).collect::<Vec<_>>());
        let first = group.first().map(|trial| trial.index);
        let workers = formed.borrow().iter().find(|(index, _)| Some(*index) == first).map(|(_, workers)| *workers);
        workers.unwrap_or(Workers { workers: 1, at_once: 1 }).run(decoder, shared, &tasks, progress)
    };
    run::run_in_groups(plan, &mut |event: &Event| progress.event(event), &mut form_groups, &mut run_group)
}

impl Workers {
    /// Plans the workers for `tasks` on this machine. The number of trials at once is what fits into the free memory,
    /// measured with the largest trial.
    pub fn plan(decoder: &Decoder, shared: SharedInputs, tasks: &[Task]) -> Result<Self> {
        let fit = match tasks.len() {
            0 | 1 => 1,
            _ => memory::trials_that_fit(decoder, shared, tasks)?,
        };
        Ok(Self::for_trials_that_fit(fit, decoder, tasks.len()))
    }

    /// Plans the workers for `trials` trials, of which `fit` fit into memory at once.
    pub fn for_trials_that_fit(fit: usize, decoder: &Decoder, trials: usize) -> Self {
        let workers = match decoder.device {
            Device::Cpu => (tch::get_num_threads().max(1) as usize).min(trials.max(1)),
            _ => 1,
        };
        let workers = workers.min(fit);
        Workers { workers, at_once: fit.min(workers * MOST_PER_WORKER).min(trials.max(1)) }
    }

    /// Trains `tasks`, all at once. Returns a result for each, in order.
    pub fn run(
        self,
        decoder: &Decoder,
        shared: SharedInputs,
        tasks: &[Task],
        progress: &SweepProgress,
    ) -> Vec<Result<Measurements>> {
        let workers = self.workers.min(tasks.len());
        if workers < 2 {
            return run_group(decoder, shared, tasks, progress);
        }
        let threads = tch::get_num_threads();
        let costs: Vec<u64> = tasks.iter().map(|task| cost(task, decoder, shared.train.len())).collect();
        let assignments = spread(&costs, workers);
        let mut outcomes: Vec<Option<Result<Measurements>>> = tasks.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            let threads: Vec<_> = assignments
                .iter()
                .map(|assigned| {
                    let tasks: Vec<Task> = assigned.iter().filter_map(|&at| tasks.get(at).copied()).collect();
                    let decoder = decoder.shallow_clone();
                    scope.spawn(move || {
                        tch::set_num_threads(1);
                        run_group(&decoder, shared, &tasks, progress)
                    })
                })
                .collect();
            for (thread, assigned) in threads.into_iter().zip(&assignments) {
                let mut results = thread.join().unwrap_or_default().into_iter();
                for &at in assigned {
                    outcomes[at] = results.next();
                }
            }
        });
        tch::set_num_threads(threads);
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
