//! The runner: runs the trials that are not finished, records their results, and keeps the results on disk complete at
//! every moment.

use super::folder::{step_in_place, SweepFolder, TrialState};
use super::number::significant;
use super::record::{Failure, Measurements, TrialResult};
use super::results::{SweepResult, TrialRow};
use super::settings_diff::Change;
use super::trial::{Plan, Trial};
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use std::fmt;

/// An event of a sweep. `Display` writes it as a line for people.
#[derive(Debug)]
pub enum Event<'a> {
    /// Before the first trial: the numbers of finished trials and of trials to run.
    Planned {
        finished: usize,
        to_run: usize,
    },
    /// The file system of `out` has no locks.
    Unlocked {
        out: &'a std::path::Path,
    },
    /// Folders of trials that are not in this grid, which stay unchanged.
    Kept {
        names: &'a [String],
    },
    /// A file of the sweep could not be written; the sweep goes on.
    Unwritten {
        error: &'a Error,
    },
    /// A finished trial will run again, because its settings changed.
    Changed {
        trial: &'a Trial,
        changes: &'a [Change],
    },
    /// A trial that was interrupted goes on from its checkpoint.
    Resuming {
        trial: &'a Trial,
        step: u64,
    },
    /// A trial that was interrupted will run again from its start.
    Restarting {
        trial: &'a Trial,
    },
    /// A trial that failed before will be tried again.
    Retrying {
        trial: &'a Trial,
        failure: &'a Failure,
    },
    Started {
        trial: &'a Trial,
        total: usize,
    },
    Finished {
        trial: &'a Trial,
        outcome: &'a Measurements,
    },
    Failed {
        trial: &'a Trial,
        failure: &'a Failure,
    },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Planned { finished: 0, to_run: 1 } => write!(out, "1 trial to run"),
            Event::Planned { finished: 0, to_run } => write!(out, "{to_run} trials to run"),
            Event::Planned { finished, to_run: 0 } => write!(out, "all {finished} trials are finished already"),
            Event::Planned { finished, to_run } => {
                write!(out, "{finished} trials are finished already, {to_run} to run")
            }
            Event::Unlocked { out: folder } => {
                let folder = folder.display();
                write!(out, "the file system of `{folder}` has no locks: do not start a second sweep there")
            }
            Event::Kept { names } => write!(out, "kept trials that are not in this grid: {}", names.join(", ")),
            Event::Unwritten { error } => write!(out, "warning: {}; the sweep goes on", error.message),
            Event::Changed { trial, changes } => {
                write!(out, "{}: the settings changed, running it again", trial.point)?;
                changes.iter().try_for_each(|change| write!(out, "\n  {change}"))
            }
            Event::Resuming { trial, step } => write!(out, "{}: going on from step {step}", trial.point),
            Event::Restarting { trial } => write!(out, "{}: was interrupted, starting it again", trial.point),
            Event::Retrying { trial, failure } => {
                write!(out, "{}: failed before ({}), trying it again", trial.point, failure.message)
            }
            Event::Started { trial, total } => write!(out, "trial {}/{total}: {}", trial.index + 1, trial.point),
            Event::Finished { trial, outcome } => {
                let losses = [("train_loss", outcome.train_loss), ("eval_loss", outcome.eval_loss)];
                let losses = losses.into_iter().filter_map(|(name, loss)| Some(format!("{name} {:.4}", loss?)));
                let measured = outcome.measured.iter().filter_map(|name| Some((name, outcome.metrics.get(name)?)));
                let measured = measured.map(|(name, value)| format!("{name} {}", significant(*value, 4)));
                let shown: Vec<String> = losses.chain(measured).collect();
                write!(out, "{}: {}", trial.point, if shown.is_empty() { "finished".into() } else { shown.join(", ") })
            }
            Event::Failed { trial, failure } => write!(out, "{}: failed: {}", trial.point, failure.message),
        }
    }
}

/// Follows a sweep. Any `FnMut(&Event)` is an observer.
pub trait SweepObserver {
    fn event(&mut self, event: &Event);
}

impl<F: FnMut(&Event)> SweepObserver for F {
    fn event(&mut self, event: &Event) {
        self(event)
    }
}

/// The arguments `run_group` and `group_size` of [`run`].
pub type RunGroup<'a> = dyn FnMut(&[&Trial]) -> Vec<Result<Measurements>> + 'a;
pub type GroupSize<'a> = dyn FnMut(&[&Trial]) -> Result<usize> + 'a;
/// The argument `next_group` of [`run_in_groups`].
pub type NextGroup<'f, 'a> = dyn FnMut(&[&'a Trial]) -> Result<Vec<&'a Trial>> + 'f;

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
    run_in_groups(plan, observer, &mut next_group, run_group)
}

/// As [`run`], where `next_group` says which of the trials that are left train side by side next: at least one.
pub fn run_in_groups<'a>(
    plan: &'a Plan,
    observer: &mut dyn SweepObserver,
    next_group: &mut NextGroup<'_, 'a>,
    run_group: &mut RunGroup,
) -> Result<SweepResult> {
    let folder = SweepFolder::claim(plan)?;
    // All states before any folder changes: a folder that is not a trial's must stop the sweep first.
    let states: Vec<TrialState> = plan.trials.iter().map(SweepFolder::state).collect::<Result<_>>()?;
    let mut result = SweepResult::new(&plan.out, &plan.grid);
    result.decide = plan.decide.clone();
    let mut sweep = Sweep { plan, folder, observer, result, is_table_behind: false };
    let pending = sweep.pending(states)?;
    let mut rest = pending;
    while !rest.is_empty() {
        // Fewer may fit by now than were planned.
        let group = next_group(&rest)?;
        rest.retain(|trial| !group.iter().any(|member| member.index == trial.index));
        sweep.run_group(&group, run_group)?;
    }
    // A table that could not be written on the way may be now.
    if sweep.is_table_behind {
        sweep.result.write()?;
    }
    sweep.folder.forget_progress(plan)?;
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
    folder: SweepFolder,
    observer: &'o mut dyn SweepObserver,
    result: SweepResult,
    /// Could the results not be written when they last changed?
    is_table_behind: bool,
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
                TrialState::Failed(failure) => self.observer.event(&Event::Retrying { trial, failure }),
                TrialState::Unfinished => self.observer.event(&begun(self.plan, trial)),
                TrialState::Changed(changes) => self.observer.event(&Event::Changed { trial, changes }),
            }
            match state {
                TrialState::Finished(outcome) => {
                    self.result.insert(TrialRow::new(trial, TrialResult::Finished(outcome)))
                }
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

    fn run_group(&mut self, group: &[&'a Trial], run_group: &mut RunGroup) -> Result<()> {
        interrupt::check()?;
        let mut ready = Vec::new();
        for &trial in group {
            match self.folder.prepare(trial, self.plan) {
                Ok(()) => {
                    self.observer.event(&Event::Started { trial, total: self.plan.trials.len() });
                    ready.push(trial);
                }
                // A disk that is full now may have room for the next trial. The folder gets no record: without its
                // configuration it would be nobody's.
                Err(error) => {
                    let failure = Failure::from(&error);
                    self.observer.event(&Event::Failed { trial, failure: &failure });
                    self.result.insert(TrialRow::new(trial, TrialResult::Failed(failure)));
                }
            }
        }
        let results = if ready.is_empty() { Vec::new() } else { run_group(&ready) };
        if results.len() != ready.len() {
            let (expected, found) = (ready.len(), results.len());
            return Err(Error::bug(format!("a group of {expected} trials gave {found} results")));
        }
        let mut stopped = None;
        for (trial, result) in ready.into_iter().zip(results) {
            match result {
                Err(error) if error.kind == Kind::Stopped => stopped = Some(error),
                result => self.conclude(trial, result)?,
            }
        }
        self.write_table();
        match (stopped, &self.plan.checkpoints) {
            (Some(stopped), _) => Err(stopped),
            (None, Some(checkpoints)) => {
                checkpoints.remove(&group.iter().map(|trial| trial.name.as_str()).collect::<Vec<_>>());
                Ok(())
            }
            (None, None) => Ok(()),
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
            outcome.check()?;
            super::columns::ensure_no_metric_is_a_column(&self.plan.grid, outcome.metrics.keys())?;
            Ok(outcome)
        });
        let result = match result {
            Ok(outcome) => TrialResult::Finished(outcome),
            Err(error) => TrialResult::Failed(Failure::from(&error)),
        };
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
        }
        self.result.insert(TrialRow::new(trial, result));
        Ok(())
    }
}
