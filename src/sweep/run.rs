//! The runner: runs what is not finished, records what becomes of it, and keeps the
//! results on disk complete at every moment.

use super::folder::{SweepFolder, TrialState};
use super::record::{Failure, Measurements, TrialResult};
use super::results::{Row, SweepResult};
use super::settings_diff::Change;
use super::trial::{Plan, Trial};
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use std::fmt;

/// What the runner tells while it works. `Display` gives a line for a terminal.
#[derive(Debug)]
pub enum Event<'a> {
    /// Before the first trial: how many are finished already, and how many will run.
    Planned {
        finished: usize,
        to_run: usize,
    },
    /// The file system of `out` has no locks.
    Unlocked {
        out: &'a std::path::Path,
    },
    /// Folders of trials that are not in this grid stay as they are.
    Kept {
        names: &'a [String],
    },
    /// A finished trial will run again, for its settings changed.
    Changed {
        trial: &'a Trial,
        changes: &'a [Change],
    },
    /// A trial that was cut off goes on from its checkpoint.
    Resuming {
        trial: &'a Trial,
        step: u64,
    },
    /// A trial that was cut off will run again from its start.
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
            Event::Planned { finished: 0, to_run } => write!(out, "{to_run} trials to run"),
            Event::Planned { finished, to_run: 0 } => write!(out, "all {finished} trials are finished already"),
            Event::Planned { finished, to_run } => {
                write!(out, "{finished} trials are finished already, {to_run} to run")
            }
            Event::Unlocked { out: folder } => {
                let folder = folder.display();
                write!(out, "the file system of `{folder}` has no locks: start no second sweep there")
            }
            Event::Kept { names } => write!(out, "kept, though not in this grid: {}", names.join(", ")),
            Event::Changed { trial, changes } => {
                write!(out, "{}: the settings changed, running it again", trial.point)?;
                changes.iter().try_for_each(|change| write!(out, "\n  {change}"))
            }
            Event::Resuming { trial, step } => write!(out, "{}: going on from step {step}", trial.point),
            Event::Restarting { trial } => write!(out, "{}: was cut off, starting it again", trial.point),
            Event::Retrying { trial, failure } => {
                write!(out, "{}: failed before ({}), trying it again", trial.point, failure.message)
            }
            Event::Started { trial, total } => write!(out, "trial {}/{total}: {}", trial.index + 1, trial.point),
            Event::Finished { trial, outcome } => {
                write!(out, "{}: train_loss {:.4}", trial.point, outcome.train_loss)?;
                match outcome.eval_loss {
                    Some(loss) => write!(out, ", eval_loss {loss:.4}"),
                    None => Ok(()),
                }
            }
            Event::Failed { trial, failure } => write!(out, "{}: failed: {}", trial.point, failure.message),
        }
    }
}

/// Told what happens; any `FnMut(&Event)` will do.
pub trait SweepObserver {
    fn event(&mut self, event: &Event);
}

impl<F: FnMut(&Event)> SweepObserver for F {
    fn event(&mut self, event: &Event) {
        self(event)
    }
}

/// How trials are run: `run_group` and `group_size` of [`run`].
pub type RunGroup<'a> = dyn FnMut(&[&Trial]) -> Vec<Result<Measurements>> + 'a;
pub type GroupSize<'a> = dyn FnMut(&[&Trial]) -> Result<usize> + 'a;
/// `groups` of [`run_in_groups`].
pub type Groups<'f, 'a> = dyn FnMut(&[&'a Trial]) -> Result<Vec<Vec<&'a Trial>>> + 'f;

/// Runs every trial of `plan` that is not finished.
///
/// `group_size` says how many of the trials that are to run go side by side; it is not asked
/// where nothing is left to do. `run_group` gets up to so many, each with an empty folder but
/// for `config.json`, and gives one result per trial in the same order. An error is recorded
/// in that trial's place and the sweep goes on; [`Kind::Stopped`] ends the sweep with the
/// trial left unfinished. An error of this function itself means that the sweep could not
/// go on: `out` is not usable, or the user stopped it.
pub fn run<'a>(
    plan: &'a Plan,
    observer: &mut dyn SweepObserver,
    group_size: &mut GroupSize,
    run_group: &mut RunGroup,
) -> Result<SweepResult> {
    let mut groups = |pending: &[&'a Trial]| -> Result<Vec<Vec<&'a Trial>>> {
        let size = if pending.is_empty() { 1 } else { group_size(pending)?.max(1) };
        Ok(pending.chunks(size).map(<[_]>::to_vec).collect())
    };
    run_in_groups(plan, observer, &mut groups, run_group)
}

/// As [`run`], where `groups` says which of the trials that are to run go side by side.
pub fn run_in_groups<'a>(
    plan: &'a Plan,
    observer: &mut dyn SweepObserver,
    groups: &mut Groups<'_, 'a>,
    run_group: &mut RunGroup,
) -> Result<SweepResult> {
    let folder = SweepFolder::claim(plan)?;
    // All of them before the first is touched: one folder that is not ours stops everything.
    let states: Vec<TrialState> = plan.trials.iter().map(SweepFolder::state).collect::<Result<_>>()?;
    let mut sweep = Sweep { plan, folder, observer, result: SweepResult::new(&plan.out, &plan.grid) };
    let pending = sweep.sort_out(states)?;
    if !pending.is_empty() {
        for group in groups(&pending)? {
            sweep.run_group(&group, run_group)?;
        }
    }
    sweep.folder.forget_progress(plan)?;
    Ok(sweep.result)
}

/// A sweep under way.
struct Sweep<'a, 'o> {
    plan: &'a Plan,
    folder: SweepFolder,
    observer: &'o mut dyn SweepObserver,
    result: SweepResult,
}

impl<'a> Sweep<'a, '_> {
    /// Takes over the finished trials, tells of the rest and gives it back.
    fn sort_out(&mut self, states: Vec<TrialState>) -> Result<Vec<&'a Trial>> {
        if !self.folder.locked {
            self.observer.event(&Event::Unlocked { out: &self.plan.out });
        }
        let others = self.folder.others(self.plan);
        if !others.is_empty() {
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
                TrialState::Unfinished => self.observer.event(&self.begun(trial)),
                TrialState::Changed(changes) => self.observer.event(&Event::Changed { trial, changes }),
            }
            match state {
                TrialState::Finished(outcome) => self.result.insert(Row::new(trial, TrialResult::Finished(outcome))),
                _ => pending.push(trial),
            }
        }
        self.result.skipped = self.plan.trials.len() - pending.len();
        self.observer.event(&Event::Planned { finished: self.result.skipped, to_run: pending.len() });
        // From here on the results hold no row of a folder that is about to be replaced.
        self.result.write()?;
        Ok(pending)
    }

    /// What becomes of a trial that was cut off.
    fn begun(&self, trial: &'a Trial) -> Event<'a> {
        let plan: &'a Plan = self.plan;
        let Some(checkpoints) = &plan.checkpoints else { return Event::Restarting { trial } };
        match (checkpoints.step(&trial.name), checkpoints.changes(&trial.name)) {
            (Some(step), _) => Event::Resuming { trial, step },
            (None, Some(changes)) => Event::Changed { trial, changes },
            (None, None) => Event::Restarting { trial },
        }
    }

    fn run_group(&mut self, group: &[&'a Trial], run_group: &mut RunGroup) -> Result<()> {
        interrupt::check()?;
        for trial in group {
            self.folder.prepare(trial, self.plan)?;
            self.observer.event(&Event::Started { trial, total: self.plan.trials.len() });
        }
        let results = run_group(group);
        if results.len() != group.len() {
            let (expected, found) = (group.len(), results.len());
            return Err(Error::bug(format!("a group of {expected} trials gave {found} results")));
        }
        let mut stopped = None;
        for (trial, result) in group.iter().zip(results) {
            match result {
                Err(error) if error.kind == Kind::Stopped => stopped = Some(error),
                result => self.conclude(trial, result)?,
            }
        }
        self.result.write()?;
        match (stopped, &self.plan.checkpoints) {
            (Some(stopped), _) => Err(stopped),
            (None, Some(checkpoints)) => {
                checkpoints.remove(&group.iter().map(|trial| trial.name.as_str()).collect::<Vec<_>>());
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    fn conclude(&mut self, trial: &'a Trial, result: Result<Measurements>) -> Result<()> {
        let result = result.and_then(|outcome| {
            outcome.check()?;
            super::columns::ensure_no_metric_is_a_column(&self.plan.grid, outcome.metrics.keys())?;
            Ok(outcome)
        });
        let verdict = match result {
            Ok(outcome) => TrialResult::Finished(outcome),
            Err(error) => TrialResult::Failed(Failure::from(&error)),
        };
        let verdict = self.folder.conclude(trial, verdict)?;
        match &verdict {
            TrialResult::Finished(outcome) => {
                self.result.trained += 1;
                self.observer.event(&Event::Finished { trial, outcome });
            }
            TrialResult::Failed(failure) => self.observer.event(&Event::Failed { trial, failure }),
        }
        self.result.insert(Row::new(trial, verdict));
        Ok(())
    }
}
