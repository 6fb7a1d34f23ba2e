//! The runner: runs the trials that are not finished, records their results, and keeps the results on disk complete at
//! every moment.

use super::event::{Event, SweepObserver};
use super::folder::{step_in_place, SweepFolder, TrialState};
use super::pruning::pruner::Ending;
use super::pruning::Pruner;
use super::record::{Failure, Measurements, PrunedTrial, Trained, TrialResult};
use super::results::{SweepResult, TrialRow};
use super::throughput::Throughput;
use super::trial::{Plan, Trial};
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The arguments `run_group` and `group_size` of [`run`].
pub type RunGroup<'a> = dyn FnMut(&[&Trial]) -> Vec<Result<Measurements>> + 'a;
pub type GroupSize<'a> = dyn FnMut(&[&Trial]) -> Result<usize> + 'a;
/// The arguments `next_group` and `train_group` of [`run_in_groups`].
pub type NextGroup<'f, 'a> = dyn FnMut(&[&'a Trial]) -> Result<Vec<&'a Trial>> + 'f;
pub type TrainGroup<'a> = dyn FnMut(&[&Trial]) -> Vec<Result<Trained>> + 'a;

/// Runs every trial of `plan` that is not finished.
///
/// `group_size` returns the number of trials side by side, before each group, for those that are left. `run_group`
/// gets a group of up to that many trials, each with a new folder, and returns a result for each in the same order. An
/// error fails that trial alone; [`Kind::Stopped`] leaves it unfinished and ends the sweep. An error of this function
/// itself means that the sweep could not go on: `out` cannot be used, or the user stopped it.
pub fn run<'a>(
    plan: &'a Plan,
    observer: &mut dyn SweepObserver,
    group_size: &mut GroupSize,
    run_group: &mut RunGroup,
) -> Result<SweepResult> {
    let mut next_group = |pending: &[&'a Trial]| -> Result<Vec<&'a Trial>> {
        Ok(pending.iter().take(group_size(pending)?.max(1)).copied().collect())
    };
    let mut train_group =
        |group: &[&Trial]| run_group(group).into_iter().map(|result| result.map(Trained::from)).collect();
    run_in_groups(plan, None, observer, &mut next_group, &mut train_group)
}

/// As [`run`], where `next_group` says which of the trials that are left train side by side next: at least one. With a
/// `pruner`, trials come back when they pause at a rung, and those that go on are in later groups again.
pub fn run_in_groups<'a>(
    plan: &'a Plan,
    pruner: Option<&RefCell<Pruner>>,
    observer: &mut dyn SweepObserver,
    next_group: &mut NextGroup<'_, 'a>,
    train_group: &mut TrainGroup,
) -> Result<SweepResult> {
    let folder = SweepFolder::claim(plan)?;
    // All states before any folder changes: a folder that is not a trial's must stop the sweep first.
    let states: Vec<TrialState> = plan.trials.iter().map(SweepFolder::state).collect::<Result<_>>()?;
    let mut result = SweepResult::new(&plan.out, &plan.grid);
    result.decide = plan.decide.clone();
    result.tuned = plan.tuned.clone();
    let mut sweep = Sweep { plan, pruner, folder, observer, result, is_table_behind: false, begun: BTreeSet::new() };
    let mut rest = sweep.pending(states)?;
    while !rest.is_empty() {
        let due = pruner.map_or_else(|| rest.clone(), |pruner| pruner.borrow().due(&rest));
        let ended = match due.is_empty() {
            // All have come to the rung.
            true => sweep.decide()?,
            // Fewer may fit by now than were planned.
            false => sweep.run_group(&next_group(&due)?, train_group)?,
        };
        rest.retain(|trial| !ended.contains(&trial.index));
    }
    // A table that could not be written on the way may be now.
    if sweep.is_table_behind {
        sweep.result.write()?;
    }
    sweep.folder.forget_progress(plan)?;
    sweep.result.throughput = Throughput::read(&plan.out);
    Ok(sweep.result)
}

/// What becomes of a trial that was cut off.
pub fn begun<'a>(plan: &'a Plan, trial: &'a Trial) -> Event<'a> {
    if let Some(step) = step_in_place(trial).filter(|_| plan.goes_on_in_place) {
        return Event::Resuming { trial, step };
    }
    let Some(checkpoints) = &plan.checkpoints else { return Event::Restarting { trial } };
    match (checkpoints.step(&trial.name), checkpoints.changes(&trial.name)) {
        (Some(step), _) => Event::Resuming { trial, step },
        (None, Some(changes)) => Event::Changed { trial, changes },
        (None, None) => Event::Restarting { trial },
    }
}

/// A sweep that is being run.
struct Sweep<'a, 'o> {
    plan: &'a Plan,
    pruner: Option<&'o RefCell<Pruner>>,
    folder: SweepFolder,
    observer: &'o mut dyn SweepObserver,
    result: SweepResult,
    /// Could the results not be written when they last changed?
    is_table_behind: bool,
    /// The trials that were begun in this run.
    begun: BTreeSet<usize>,
}

impl<'a> Sweep<'a, '_> {
    /// Adds the finished trials to the results, reports the others and returns them.
    fn pending(&mut self, states: Vec<TrialState>) -> Result<Vec<&'a Trial>> {
        if !self.folder.is_locked() {
            self.observer.event(&Event::Unlocked { out: &self.plan.out });
        }
        let others = self.folder.others(self.plan);
        if !others.is_empty() && self.plan.round.is_none() {
            self.observer.event(&Event::Kept { names: &others });
        }
        if let Some(checkpoints) = self.plan.checkpoints.as_ref().filter(|checkpoints| checkpoints.are_ignored()) {
            checkpoints.remove_all()?;
        }
        let mut pending = Vec::new();
        for (trial, state) in self.plan.trials.iter().zip(states) {
            match &state {
                TrialState::New => {}
                TrialState::Finished(_) => {}
                TrialState::Pruned(_) if self.is_stopped(trial) => {}
                TrialState::Pruned(_) => self.observer.event(&begun(self.plan, trial)),
                TrialState::Failed(failure) => self.observer.event(&Event::Retrying { trial, failure }),
                TrialState::Unfinished => self.observer.event(&begun(self.plan, trial)),
                TrialState::Changed(changes) => self.observer.event(&Event::Changed { trial, changes }),
            }
            match state {
                TrialState::Finished(outcome) => self.add(trial, TrialResult::Finished(outcome)),
                TrialState::Pruned(pruned) if self.is_stopped(trial) => self.add(trial, TrialResult::Pruned(pruned)),
                _ => pending.push(trial),
            }
        }
        self.result.skipped = self.plan.trials.len() - pending.len();
        // Later rounds say what they add.
        match self.plan.round {
            None | Some(0) => {
                let (finished, to_run) = (self.result.skipped, pending.len());
                self.observer.event(&Event::Planned { finished, to_run });
            }
            Some(_) if pending.is_empty() => {}
            Some(_) => self.observer.event(&Event::Planned { finished: 0, to_run: pending.len() }),
        }
        // Now, so that the results hold no row of a folder that will be replaced.
        self.result.write()?;
        Ok(pending)
    }

    /// Was the trial stopped by a decision that holds?
    fn is_stopped(&self, trial: &Trial) -> bool {
        self.pruner.is_some_and(|pruner| pruner.borrow().is_stopped(trial))
    }

    /// Adds the result of a trial that has ended.
    fn add(&mut self, trial: &Trial, result: TrialResult) {
        let ending = match &result {
            TrialResult::Finished(_) => Ending::Finished,
            TrialResult::Failed(_) => Ending::Failed,
            TrialResult::Pruned(_) => Ending::Pruned,
        };
        if let Some(pruner) = self.pruner {
            pruner.borrow_mut().conclude(trial, ending);
        }
        self.result.insert(TrialRow::new(trial, result).at(self.plan.place.clone()));
    }

    /// Trains a group. Returns the trials that have ended, by their positions in the plan: all but those that pause.
    fn run_group(&mut self, group: &[&'a Trial], train_group: &mut TrainGroup) -> Result<Vec<usize>> {
        interrupt::check()?;
        let (mut ready, mut ended) = (Vec::new(), Vec::new());
        for &trial in group {
            match self.folder.prepare(trial, self.plan) {
                Ok(()) => {
                    if self.begun.insert(trial.index) {
                        self.observer.event(&Event::Started { trial, total: self.plan.trials.len() });
                    }
                    ready.push(trial);
                }
                // A disk that is full now may have room for the next trial. The folder gets no record: without its
                // configuration it would be nobody's.
                Err(error) => {
                    let failure = Failure::from(&error);
                    self.observer.event(&Event::Failed { trial, failure: &failure });
                    self.add(trial, TrialResult::Failed(failure));
                    ended.push(trial.index);
                }
            }
        }
        let results = if ready.is_empty() { Vec::new() } else { train_group(&ready) };
        if results.len() != ready.len() {
            let (expected, found) = (ready.len(), results.len());
            return Err(Error::bug(format!("a group of {expected} trials gave {found} results")));
        }
        let mut stopped = None;
        for (trial, result) in ready.into_iter().zip(results) {
            match result {
                Err(error) if error.kind == Kind::Stopped => stopped = Some(error),
                result => {
                    if self.take(trial, result)? {
                        ended.push(trial.index);
                    }
                }
            }
        }
        self.write_rungs();
        self.write_table();
        match (stopped, &self.plan.checkpoints) {
            (Some(stopped), _) => Err(stopped),
            (None, Some(checkpoints)) => {
                let over = group.iter().filter(|trial| ended.contains(&trial.index));
                let over: Vec<&str> = over.map(|trial| trial.name.as_str()).collect();
                if !over.is_empty() {
                    checkpoints.remove(&over);
                }
                Ok(ended)
            }
            (None, None) => Ok(ended),
        }
    }

    /// Takes what came of a trial: returns whether it has ended.
    fn take(&mut self, trial: &'a Trial, result: Result<Trained>) -> Result<bool> {
        let result = result.and_then(|trained| {
            trained.measurements.check()?;
            Ok(trained)
        });
        if let (Ok(Trained { measurements, is_paused }), Some(pruner)) = (&result, self.pruner) {
            pruner.borrow_mut().measure(trial, measurements, !is_paused)?;
            if *is_paused {
                self.observer.event(&Event::Paused { trial, outcome: measurements });
                return Ok(false);
            }
        }
        self.conclude(trial, result.map(|trained| trained.measurements))?;
        Ok(true)
    }

    /// Decides which trials go on after a rung. Returns those that stop, by their positions in the plan.
    fn decide(&mut self) -> Result<Vec<usize>> {
        let Some(pruner) = self.pruner else { return Err(Error::bug("no trial is left to run")) };
        if pruner.borrow().stage().is_none() {
            return Err(Error::bug("trials wait for a rung, and none is left"));
        }
        let reports = pruner.borrow_mut().decide();
        // First of all: from here on the decision stands, whatever becomes of this process.
        self.write_rungs();
        let open: Vec<&Trial> = pruner.borrow().open().filter_map(|at| self.plan.trials.get(at)).collect();
        if let Some(checkpoints) = &self.plan.checkpoints {
            let begun = open.iter().filter(|trial| self.begun.contains(&trial.index) || !checkpoints.are_ignored());
            checkpoints.refresh(&begun.map(|trial| (trial.name.as_str(), &trial.settings)).collect::<Vec<_>>())?;
        }
        let mut ended = Vec::new();
        for report in &reports {
            self.observer.event(&Event::Decided { report });
            let trials = report.trials.iter().filter_map(|(at, pruned)| Some((self.plan.trials.get(*at)?, pruned)));
            let trials: Vec<(&Trial, &PrunedTrial)> = trials.collect();
            self.keep_states(&trials.iter().map(|(trial, _)| trial.name.as_str()).collect::<Vec<_>>());
            for (trial, pruned) in trials {
                self.record(trial, TrialResult::Pruned(pruned.clone()));
                ended.push(trial.index);
            }
        }
        self.write_table();
        if let Some(checkpoints) = &self.plan.checkpoints {
            let live = open.iter().filter(|trial| !ended.contains(&trial.index));
            checkpoints.remove_unused(&live.map(|trial| trial.name.as_str()).collect::<Vec<_>>());
        }
        Ok(ended)
    }

    /// Keeps the states of trials that stop, so that they can go on later.
    fn keep_states(&mut self, names: &[&str]) {
        let keeps = self.pruner.is_some_and(|pruner| pruner.borrow().keeps_states());
        let Some(checkpoints) = self.plan.checkpoints.as_ref().filter(|_| keeps) else { return };
        if let Err(error) = checkpoints.keep(names) {
            self.observer.event(&Event::Unwritten { error: &error });
        }
    }

    fn write_rungs(&mut self) {
        let Some(pruner) = self.pruner else { return };
        if let Err(error) = pruner.borrow().write() {
            self.observer.event(&Event::Unwritten { error: &error });
        }
    }

    /// Writes the results; noted where that fails for the first time.
    fn write_table(&mut self) {
        match self.result.write() {
            Ok(()) => self.is_table_behind = false,
            Err(error) if self.is_table_behind => drop(error),
            Err(error) => {
                self.is_table_behind = true;
                self.observer.event(&Event::Unwritten { error: &error });
            }
        }
    }

    fn conclude(&mut self, trial: &'a Trial, result: Result<Measurements>) -> Result<()> {
        let result = result.and_then(|outcome| {
            super::columns::ensure_no_metric_is_a_column(&self.plan.grid, outcome.metrics.keys())?;
            Ok(outcome)
        });
        let result = match result {
            Ok(outcome) => TrialResult::Finished(outcome),
            Err(error) => TrialResult::Failed(Failure::from(&error)),
        };
        self.record(trial, result);
        Ok(())
    }

    /// Records how a trial ended.
    fn record(&mut self, trial: &'a Trial, result: TrialResult) {
        let result = match self.folder.conclude(trial, result.clone()) {
            Ok(result) => result,
            // Without its record the trial will run again; its result still counts in this run.
            Err(error) => {
                self.observer.event(&Event::Unwritten { error: &error });
                result
            }
        };
        match &result {
            TrialResult::Finished(outcome) => {
                self.result.trained += 1;
                self.observer.event(&Event::Finished { trial, outcome });
            }
            TrialResult::Failed(failure) => self.observer.event(&Event::Failed { trial, failure }),
            TrialResult::Pruned(pruned) => self.observer.event(&Event::Pruned { trial, pruned }),
        }
        // A trial that was stopped early and went on has no use for its state any more.
        if let (TrialResult::Finished(_), Some(checkpoints)) = (&result, &self.plan.checkpoints) {
            let _ = checkpoints.forget(&trial.name);
        }
        self.add(trial, result);
    }
}
