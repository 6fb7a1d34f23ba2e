//! The events of a sweep, as values and as lines for people.

use super::number::significant;
use super::pruning::pruner::RungReport;
use super::record::{Failure, Measurements, PrunedTrial, TrialResult};
use super::settings_diff::Change;
use super::trial::Trial;
use crate::error::Error;
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
    /// This process is a worker of a shared sweep from here on.
    Joined {
        worker: &'a str,
        out: &'a std::path::Path,
    },
    /// Another worker concluded a trial.
    Elsewhere {
        trial: &'a Trial,
        worker: &'a str,
        result: &'a TrialResult,
    },
    /// A trial goes on that another worker left unfinished: from a checkpoint, or from its start.
    TakenOver {
        trial: &'a Trial,
        worker: &'a str,
        step: Option<u64>,
    },
    /// Another worker took a trial over, for this one did not show that it lives.
    LeaseLost {
        trial: &'a Trial,
    },
    /// Other workers train all trials that are left.
    Waiting {
        trials: usize,
    },
    /// A trial came to a rung, where it waits for the others.
    Paused {
        trial: &'a Trial,
        outcome: &'a Measurements,
    },
    /// It is decided which settings go on after a rung.
    Decided {
        report: &'a RungReport,
    },
    /// A trial is stopped early.
    Pruned {
        trial: &'a Trial,
        pruned: &'a PrunedTrial,
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
            Event::Finished { trial, outcome } => match numbers(outcome) {
                numbers if numbers.is_empty() => write!(out, "{}: finished", trial.point),
                numbers => write!(out, "{}: {numbers}", trial.point),
            },
            Event::Joined { worker, out: folder } => write!(out, "worker {worker} in {}", folder.display()),
            Event::Elsewhere { trial, worker, result } => {
                write!(out, "{}: {} by {worker}", trial.point, ending(result))?;
                match result {
                    TrialResult::Finished(outcome) => write!(out, ", {}", numbers(outcome)),
                    TrialResult::Failed(failure) => write!(out, ": {}", failure.message),
                    TrialResult::Pruned(_) => Ok(()),
                }
            }
            Event::TakenOver { trial, worker, step } => {
                let from = step.map_or("its start".to_owned(), |step| format!("step {step}"));
                write!(out, "{}: left by {worker}, going on from {from}", trial.point)
            }
            Event::LeaseLost { trial } => write!(
                out,
                "{}: another worker took it over while this one stood still; what this one trained of it is dropped",
                trial.point
            ),
            Event::Waiting { trials: 1 } => write!(out, "waiting for a trial that another worker trains"),
            Event::Waiting { trials } => write!(out, "waiting for {trials} trials that other workers train"),
            Event::Paused { trial, outcome } => write!(out, "{}: waits at a rung, {}", trial.point, numbers(outcome)),
            Event::Decided { report: RungReport { step, go_on, stopped, .. } } => {
                let settings = if *go_on == 1 { "setting goes" } else { "settings go" };
                write!(out, "step {step}: {go_on} {settings} on, {stopped} stopped")
            }
            Event::Pruned { trial, pruned } => {
                write!(out, "{}: stopped at step {}, {}", trial.point, pruned.step, numbers(&pruned.measurements))
            }
            Event::Failed { trial, failure } => write!(out, "{}: failed: {}", trial.point, failure.message),
        }
    }
}

fn ending(result: &TrialResult) -> &'static str {
    match result {
        TrialResult::Finished(_) => "finished",
        TrialResult::Failed(_) => "failed",
        TrialResult::Pruned(_) => "stopped early",
    }
}

/// "train_loss 1.2345, eval_loss 1.3456"
fn numbers(outcome: &Measurements) -> String {
    let losses = [("train_loss", outcome.train_loss), ("eval_loss", outcome.eval_loss)];
    let losses = losses.into_iter().filter_map(|(name, loss)| Some(format!("{name} {:.4}", loss?)));
    let measured = outcome.measured.iter().filter_map(|name| Some((name, outcome.metrics.get(name)?)));
    let measured = measured.map(|(name, value)| format!("{name} {}", significant(*value, 4)));
    losses.chain(measured).collect::<Vec<_>>().join(", ")
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
