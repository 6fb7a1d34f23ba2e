//! Progress output of a run: a bar on a terminal, lines in a log, JSON objects for other programs. `stderr.rs` writes
//! them.

use super::flat_loss::FlatLoss;
use super::memory::process;
use super::metrics::number_to_json;
use super::observer::{EvalReport, StepReport, TrainObserver};
use super::overfitting::{Overfitting, OVERFITS_AFTER};
use crate::error::Result;
use crate::format;
use crate::stderr::{self, Mode};
use indicatif::ProgressBar;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A log gets a line for each tenth of a run, and at least one a minute.
const LINES_PER_RUN: u64 = 10;
const MOST_BETWEEN_LINES: Duration = Duration::from_secs(60);

/// The progress of a single run.
pub enum Progress {
    Bar { bar: ProgressBar, eval_loss: Option<f64>, drawn: Option<Instant> },
    Lines(Lines),
    Objects,
    Quiet,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        match stderr::mode(quiet) {
            Mode::Quiet => Progress::Quiet,
            Mode::Json => Progress::Objects,
            Mode::Bars => Progress::Bar { bar: stderr::bar("", 0, 0), eval_loss: None, drawn: None },
            Mode::Lines => Progress::Lines(Lines::default()),
        }
    }
}

impl Drop for Progress {
    /// Removes the bar from the screen, also if the run failed.
    fn drop(&mut self) {
        if let Progress::Bar { bar, .. } = self {
            stderr::remove(bar);
        }
    }
}

impl TrainObserver for Progress {
    fn on_note(&mut self, text: &str) {
        if !matches!(self, Progress::Quiet) {
            stderr::note(text);
        }
    }

    fn on_step(&mut self, report: &StepReport) -> Result<()> {
        match self {
            Progress::Bar { bar, eval_loss, drawn } => {
                bar.set_length(report.total_steps);
                bar.set_position(report.step);
                if drawn.is_none_or(|drawn| drawn.elapsed() >= stderr::REDRAW) || report.step == report.total_steps {
                    bar.set_message(beside_bar(report, *eval_loss));
                    *drawn = Some(Instant::now());
                }
            }
            Progress::Lines(lines) => {
                if lines.is_due(report.step, report.total_steps) {
                    stderr::note(&line(report));
                }
            }
            Progress::Objects => step_object(None, report),
            Progress::Quiet => {}
        }
        if let Progress::Bar { .. } | Progress::Lines(_) = self {
            warning(report).iter().for_each(|line| stderr::note(line));
        }
        Ok(())
    }

    fn on_eval(&mut self, report: &EvalReport) -> Result<()> {
        match self {
            Progress::Bar { eval_loss, .. } => *eval_loss = Some(report.loss),
            Progress::Lines(_) => stderr::note(&eval_line(report)),
            Progress::Objects => eval_objects(None, report),
            Progress::Quiet => {}
        }
        if let (Progress::Bar { .. } | Progress::Lines(_), Some(overfitting)) = (self, report.overfitting) {
            stderr::note(&overfitting_line(overfitting));
        }
        Ok(())
    }
}

/// Decides which steps a log has a line for.
#[derive(Debug, Default)]
pub struct Lines {
    last: Option<(u64, Instant)>,
}

impl Lines {
    pub fn is_due(&mut self, step: u64, all: u64) -> bool {
        let tenth = |step: u64| step * LINES_PER_RUN / all.max(1);
        let (last, since) = *self.last.get_or_insert_with(|| (0, Instant::now()));
        let is_due = tenth(step) > tenth(last) || since.elapsed() >= MOST_BETWEEN_LINES;
        if is_due {
            self.last = Some((step, Instant::now()));
        }
        is_due
    }
}

/// Writes the JSON objects of a step; `trial` is the folder of a sweep's trial.
pub fn step_object(trial: Option<&str>, report: &StepReport) {
    let numbers = [
        ("step", report.step.into()),
        ("total_steps", report.total_steps.into()),
        ("epoch", number_to_json(report.epoch)),
        ("loss", number_to_json(report.loss)),
        ("learning_rate", number_to_json(report.learning_rate)),
        ("grad_norm", number_to_json(report.grad_norm)),
        ("tokens", report.tokens.into()),
        ("tokens_per_s", number_to_json(report.tokens_per_s)),
        ("seconds", number_to_json(report.seconds)),
    ];
    stderr::object("step", of_trial(trial).chain(numbers));
    if report.stalled_for.is_some() {
        stderr::object("stalled", of_trial(trial).chain([("step", report.step.into())]));
    }
    if let Some(flat) = report.flat_loss {
        let fields = [
            ("step", report.step.into()),
            ("began", number_to_json(flat.began)),
            ("loss", number_to_json(flat.now)),
            ("is_guessing", flat.is_guessing.into()),
        ];
        stderr::object("flat_loss", of_trial(trial).chain(fields));
    }
}

/// Writes the JSON objects of an evaluation.
pub fn eval_objects(trial: Option<&str>, report: &EvalReport) {
    let fields = [
        ("step", report.step.into()),
        ("epoch", number_to_json(report.epoch)),
        ("eval_loss", number_to_json(report.loss)),
        ("is_best", report.is_best.into()),
    ];
    stderr::object("eval", of_trial(trial).chain(fields));
    if let Some(overfitting) = report.overfitting {
        let fields = [
            ("step", report.step.into()),
            (OVERFITS_AFTER, overfitting.best_step.into()),
            ("best_eval_loss", number_to_json(overfitting.best_loss)),
        ];
        stderr::object("overfitting", of_trial(trial).chain(fields));
    }
}

fn of_trial(trial: Option<&str>) -> impl Iterator<Item = (&'static str, Value)> + use<'_> {
    trial.into_iter().map(|trial| ("trial", trial.into()))
}

pub fn eval_line(report: &EvalReport) -> String {
    let best = if report.is_best { " (best)" } else { "" };
    format!("step {} eval_loss {:.4}{best}", report.step, report.loss)
}

/// The warning of a step, if there is one. A stalled run is not reported as flat as well.
pub fn warning(report: &StepReport) -> Option<String> {
    if let Some(steps) = report.stalled_for {
        return Some(stalled_line(report, steps));
    }
    report.flat_loss.map(|flat| flat_loss_line(report, flat))
}

fn flat_loss_line(report: &StepReport, flat: FlatLoss) -> String {
    let FlatLoss { began, now, is_guessing } = flat;
    let course = if now > 1.01 * began { "lies above where it began" } else { "stays where it began" };
    let course = format!("the loss {course} ({now:.4}, at first {began:.4})");
    let guessing = if is_guessing { ": that of guessing every token alike, ln(vocabulary)" } else { "" };
    let (step, lr) = (report.step, report.learning_rate);
    let advice = if now > 1.01 * began || is_guessing {
        format!("lower the learning rate (now {lr:.2e})")
    } else {
        format!("look at the learning rate (now {lr:.2e}) and at the labels, data.show(0)")
    };
    format!("not learning: after {step} steps {course}{guessing}; {advice}")
}

fn stalled_line(report: &StepReport, steps: u64) -> String {
    let StepReport { step, learning_rate, .. } = report;
    format!(
        "stalled: the gradient is exactly 0 since step {}, and nothing is learned any more; lower the learning \
         rate (now {learning_rate:.2e}) or add warm-up",
        step + 1 - steps
    )
}

pub fn overfitting_line(overfitting: Overfitting) -> String {
    format!(
        "overfitting: held-out loss rises since step {} (best {:.4}) while training loss falls",
        overfitting.best_step, overfitting.best_loss
    )
}

fn line(report: &StepReport) -> String {
    let StepReport { step, total_steps, loss, learning_rate, tokens_per_s, seconds, .. } = report;
    let left = stderr::time_left(*seconds, *step, *total_steps);
    format!("step {step}/{total_steps} loss {loss:.4} lr {learning_rate:.2e} {tokens_per_s:.0} tokens/s {left}")
}

/// The text beside the bar, most important first: a narrow terminal cuts off the end.
fn beside_bar(report: &StepReport, eval_loss: Option<f64>) -> String {
    let StepReport { step, total_steps, loss, learning_rate, tokens_per_s, seconds, .. } = report;
    let (left, losses) = (stderr::time_left(*seconds, *step, *total_steps), losses(*loss, eval_loss));
    format!(
        "{step}/{total_steps} · {losses} · {left} · {tokens_per_s:.0} tok/s · lr {learning_rate:.1e} · {}",
        memory()
    )
}

/// The losses of the last step and, if there was one, of the last evaluation.
pub fn losses(loss: f64, eval_loss: Option<f64>) -> String {
    let eval = eval_loss.map_or(String::new(), |loss| format!(" eval {loss:.4}"));
    format!("loss {loss:.4}{eval}")
}

/// The resident memory of this process.
pub fn memory() -> String {
    format::bytes(process::held().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn a_log_gets_a_line_for_each_tenth_and_the_last_step() {
        let steps = |all: u64| {
            let mut lines = Lines::default();
            (1..=all).filter(|step| lines.is_due(*step, all)).collect::<Vec<_>>()
        };
        assert_eq!(steps(200), [20, 40, 60, 80, 100, 120, 140, 160, 180, 200]);
        assert_eq!(steps(3), [1, 2, 3]);
        assert_eq!(steps(25).last(), Some(&25));
    }
}
