//! Progress output of a sweep: a bar for the sweep and one for each running trial, or lines in a log, or JSON objects
//! for other programs.
//!
//! Leaves to others: the output of a single step (`train/progress.rs`), and writing to stderr (`stderr.rs`).

use super::columns::NUMBERS;
use super::event::Event;
use super::record::{Measurements, PrunedTrial, TrialResult};
use super::results::TrialRow;
use super::task::Task;
use super::trial::Trial;
use crate::error::Result;
use crate::stderr::{self, Mode};
use crate::table;
use crate::train::observer::{EvalReport, StepReport, TrainObserver};
use crate::train::progress::{eval_line, eval_objects, losses, memory, overfitting_line, step_object, warning, Lines};
use indicatif::ProgressBar;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// With more trials side by side than this, there is only the bar of the sweep.
const MOST_BARS: usize = 8;
/// The least width of the names of bars, for the count in the sweep's bar.
const SHORTEST_NAME: usize = 12;

/// The progress of a sweep, updated by the runner and by trials in several threads.
pub struct SweepProgress(Mutex<Sweep>);

struct Sweep {
    show: Show,
    trials: BTreeMap<usize, Running>,
    to_run: usize,
    /// The number of trials that have ended.
    ended: usize,
    /// The steps of all trials, and of the ended ones.
    steps: u64,
    steps_of_ended: u64,
    /// The steps of trials that wait at a rung.
    waiting: BTreeMap<usize, u64>,
    tokens: u64,
    started: Instant,
}

enum Show {
    Bars { all: Option<ProgressBar>, drawn: Option<Instant> },
    Lines(Lines),
    Objects,
    Quiet,
}

/// A trial that is being trained.
#[derive(Default)]
struct Running {
    step: u64,
    total_steps: u64,
    loss: f64,
    eval_loss: Option<f64>,
    bar: Option<ProgressBar>,
}

/// Follows one trial.
pub struct TrialObserver<'a> {
    all: &'a SweepProgress,
    trial: &'a Trial,
}

impl SweepProgress {
    pub fn new(quiet: bool) -> Self {
        Self::showing(match stderr::mode(quiet) {
            Mode::Quiet => Show::Quiet,
            Mode::Json => Show::Objects,
            Mode::Bars => Show::Bars { all: None, drawn: None },
            Mode::Lines => Show::Lines(Lines::default()),
        })
    }

    /// A line for each trial, for experiments whose steps are not known.
    pub fn lines(quiet: bool) -> Self {
        Self::showing(match stderr::mode(quiet) {
            Mode::Quiet => Show::Quiet,
            Mode::Json => Show::Objects,
            Mode::Bars | Mode::Lines => Show::Lines(Lines::default()),
        })
    }

    fn showing(show: Show) -> Self {
        SweepProgress(Mutex::new(Sweep {
            show,
            trials: BTreeMap::new(),
            to_run: 0,
            ended: 0,
            steps: 0,
            steps_of_ended: 0,
            waiting: BTreeMap::new(),
            tokens: 0,
            started: Instant::now(),
        }))
    }

    /// Begins with the number of trials to run and of their steps together.
    pub fn begin(&self, to_run: usize, steps: u64) {
        let mut sweep = self.lock();
        (sweep.to_run, sweep.steps, sweep.started) = (to_run, steps, Instant::now());
    }

    /// Shows that these trials start, each with its number of steps.
    pub fn side_by_side(&self, tasks: &[(Task, u64)]) {
        let sweep = &mut *self.lock();
        let name = |task: &Task| task.trial.point.to_string();
        let longest = tasks.iter().map(|(task, _)| table::width(&name(task))).max().unwrap_or(0).max(SHORTEST_NAME);
        if let Show::Bars { all, .. } = &mut sweep.show {
            // Made anew, because its name must be as wide as those of the trials.
            all.take().iter().for_each(stderr::remove);
            *all = Some(stderr::bar("", longest, sweep.steps));
        }
        let has_bars = matches!(sweep.show, Show::Bars { .. }) && tasks.len() <= MOST_BARS;
        for (task, total_steps) in tasks {
            let bar = has_bars.then(|| stderr::bar(&name(task), longest, *total_steps));
            let step = sweep.waiting.remove(&task.trial.index).unwrap_or(0);
            let running = Running { step, total_steps: *total_steps, bar, ..Running::default() };
            sweep.trials.insert(task.trial.index, running);
        }
        sweep.draw(true);
    }

    /// The tokens of all steps so far.
    pub fn tokens(&self) -> u64 {
        self.lock().tokens
    }

    pub fn observer<'a>(&'a self, trial: &'a Trial) -> TrialObserver<'a> {
        TrialObserver { all: self, trial }
    }

    /// Shows a line that is no event of the runner.
    pub fn note(&self, text: &str) {
        if !matches!(self.lock().show, Show::Quiet) {
            stderr::note(text);
        }
    }

    /// Shows an event of the runner.
    pub fn event(&self, event: &Event) {
        let sweep = &mut *self.lock();
        match event {
            Event::Finished { trial, .. } | Event::Failed { trial, .. } => sweep.conclude(trial),
            Event::Paused { trial, .. } => sweep.pause(trial),
            Event::Pruned { trial, pruned } => sweep.stop(trial, pruned),
            Event::Elsewhere { trial, .. } => sweep.conclude_elsewhere(trial),
            Event::LeaseLost { trial } => sweep.drop_trial(trial),
            _ => {}
        }
        match (&sweep.show, event) {
            (Show::Quiet, _) => {}
            (Show::Objects, event) => event_object(event),
            // For programs that start workers.
            (_, Event::Joined { .. }) => {}
            // Shown by the trial's bar, and by its evaluation.
            (Show::Bars { .. }, Event::Started { .. }) | (Show::Bars { .. } | Show::Lines(_), Event::Paused { .. }) => {
            }
            _ => stderr::note(&event.to_string()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sweep> {
        // A thread that panicked here can only have left wrong numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sweep {
    /// Removes the bars from the screen, also if the sweep failed.
    fn drop(&mut self) {
        if let Show::Bars { all, .. } = &self.show {
            self.trials.values().filter_map(|trial| trial.bar.as_ref()).chain(all).for_each(stderr::remove);
        }
    }
}

impl Sweep {
    /// Removes a trial. All of its steps count as done, also if it ended early.
    fn conclude(&mut self, trial: &Trial) {
        let Some(running) = self.trials.remove(&trial.index) else { return };
        running.bar.iter().for_each(stderr::remove);
        self.ended += 1;
        self.steps_of_ended += running.total_steps;
        self.draw(true);
    }

    /// Takes a trial that another worker trained out of what is to do, and what this one trained of it.
    fn conclude_elsewhere(&mut self, trial: &Trial) {
        self.drop_trial(trial);
        self.steps -=
            self.steps.saturating_sub(self.steps_of_ended) / self.to_run.saturating_sub(self.ended).max(1) as u64;
        self.to_run = self.to_run.saturating_sub(1);
        self.draw(true);
    }

    /// Removes a trial that this process trains no more.
    fn drop_trial(&mut self, trial: &Trial) {
        if let Some(running) = self.trials.remove(&trial.index) {
            running.bar.iter().for_each(stderr::remove);
        }
    }

    /// Removes a trial that waits for others.
    fn pause(&mut self, trial: &Trial) {
        let Some(running) = self.trials.remove(&trial.index) else { return };
        running.bar.iter().for_each(stderr::remove);
        self.waiting.insert(trial.index, running.step);
        self.draw(true);
    }

    /// Takes a trial that was stopped early out of what is to do.
    fn stop(&mut self, trial: &Trial, pruned: &PrunedTrial) {
        let step = self.waiting.remove(&trial.index).unwrap_or(pruned.step);
        self.ended += 1;
        self.steps_of_ended += step;
        self.steps = self.steps.saturating_sub(pruned.steps.saturating_sub(step));
        self.draw(true);
    }

    fn steps_done(&self) -> u64 {
        self.steps_of_ended
            + self.waiting.values().sum::<u64>()
            + self.trials.values().map(|trial| trial.step).sum::<u64>()
    }

    /// Draws the sweep's bar, or writes a line; unless `at_once`, only as often as people can read.
    fn draw(&mut self, at_once: bool) {
        let done = self.steps_done();
        let (steps, of) = (self.steps.max(done), self.to_run);
        let trials = if of == 1 { "trial" } else { "trials" };
        let count = format!("{}/{of} {trials}", self.ended);
        let seconds = self.started.elapsed().as_secs_f64();
        let left = stderr::time_left(seconds, done, steps);
        let speed = self.tokens as f64 / seconds.max(1e-9);
        let losses = || self.trials.values().filter(|trial| trial.step > 0).map(|trial| trial.loss);
        let loss = losses().sum::<f64>() / losses().count().max(1) as f64;
        match &mut self.show {
            Show::Bars { all: Some(bar), drawn } => {
                bar.set_position(done);
                if at_once || drawn.is_none_or(|drawn| drawn.elapsed() >= stderr::REDRAW) {
                    bar.set_prefix(count);
                    bar.set_message(format!("{left} · {done}/{steps} · {speed:.0} tok/s · {}", memory()));
                    *drawn = Some(Instant::now());
                }
            }
            Show::Lines(lines) => {
                let is_due = !at_once && lines.is_due(done, steps);
                if is_due {
                    stderr::note(&format!("{count}, step {done}/{steps} loss {loss:.4} {speed:.0} tokens/s {left}"));
                }
            }
            _ => {}
        }
    }
}

impl TrainObserver for TrialObserver<'_> {
    fn on_note(&mut self, text: &str) {
        self.all.note(text);
    }

    fn on_step(&mut self, report: &StepReport) -> Result<()> {
        let sweep = &mut *self.all.lock();
        sweep.tokens += report.tokens as u64;
        if let Show::Objects = sweep.show {
            step_object(Some(&self.trial.name), report);
        }
        if let Show::Bars { .. } | Show::Lines(_) = &sweep.show {
            warning(report).iter().for_each(|line| stderr::note(&format!("{}: {line}", self.trial.point)));
        }
        if let Some(running) = sweep.trials.get_mut(&self.trial.index) {
            (running.step, running.total_steps, running.loss) = (report.step, report.total_steps, report.loss);
            running.draw();
        }
        sweep.draw(false);
        Ok(())
    }

    fn on_eval(&mut self, report: &EvalReport) -> Result<()> {
        let sweep = &mut *self.all.lock();
        let point = &self.trial.point;
        match &sweep.show {
            Show::Objects => eval_objects(Some(&self.trial.name), report),
            Show::Lines(_) => stderr::note(&format!("{point}: {}", eval_line(report))),
            Show::Bars { .. } | Show::Quiet => {}
        }
        if let (Show::Bars { .. } | Show::Lines(_), Some(overfitting)) = (&sweep.show, report.overfitting) {
            stderr::note(&format!("{point}: {}", overfitting_line(overfitting)));
        }
        if let Some(running) = sweep.trials.get_mut(&self.trial.index) {
            running.eval_loss = Some(report.loss);
            running.draw();
        }
        Ok(())
    }
}

impl Running {
    fn draw(&self) {
        let Some(bar) = &self.bar else { return };
        bar.set_position(self.step);
        bar.set_message(format!("{}/{} · {}", self.step, self.total_steps, losses(self.loss, self.eval_loss)));
    }
}

/// Writes an event as a JSON object. Events that concern people only become notes.
fn event_object(event: &Event) {
    let of = |trial: &Trial| [("trial", trial.name.as_str().into()), ("point", json!(trial.point.values))];
    match event {
        Event::Planned { finished, to_run } => {
            stderr::object("sweep_planned", [("finished", json!(finished)), ("to_run", json!(to_run))]);
        }
        Event::Started { trial, total } => {
            let position = [("number", json!(trial.index + 1)), ("trials", json!(total))];
            stderr::object("trial_started", of(trial).into_iter().chain(position));
        }
        Event::Finished { trial, outcome } => {
            stderr::object("trial_finished", of(trial).into_iter().chain(numbers(trial, outcome)));
        }
        Event::Failed { trial, failure } => {
            stderr::object("trial_failed", of(trial).into_iter().chain([("error", json!(failure))]));
        }
        Event::Paused { trial, outcome } => {
            stderr::object("trial_paused", of(trial).into_iter().chain(numbers(trial, outcome)));
        }
        Event::Decided { report } => {
            let counts =
                [("step", json!(report.step)), ("go_on", json!(report.go_on)), ("stopped", json!(report.stopped))];
            stderr::object("rung_decided", counts);
        }
        Event::Pruned { trial, pruned } => {
            let steps = [("step", json!(pruned.step)), ("total_steps", json!(pruned.steps))];
            let numbers = numbers(trial, &pruned.measurements);
            stderr::object("trial_pruned", of(trial).into_iter().chain(steps).chain(numbers));
        }
        Event::Joined { worker, out } => {
            stderr::object("worker", [("worker", json!(worker)), ("out", json!(out.display().to_string()))]);
        }
        Event::Elsewhere { trial, worker, .. } => {
            stderr::object("trial_elsewhere", of(trial).into_iter().chain([("worker", json!(worker))]));
        }
        Event::TakenOver { trial, worker, step } => {
            let from = [("worker", json!(worker)), ("step", json!(step))];
            stderr::object("trial_taken_over", of(trial).into_iter().chain(from));
        }
        Event::LeaseLost { trial } => stderr::object("lease_lost", of(trial)),
        Event::Waiting { trials } => stderr::object("waiting", [("trials", json!(trials))]),
        other => stderr::note(&other.to_string()),
    }
}

/// The numbers of a trial, as in `results.json`.
fn numbers<'a>(trial: &Trial, outcome: &'a Measurements) -> impl Iterator<Item = (&'a str, Value)> + use<'a> {
    let row = TrialRow::new(trial, TrialResult::Finished(outcome.clone()));
    let names = NUMBERS.into_iter().chain(outcome.metrics.keys().map(String::as_str));
    names.map(move |name| (name, row.value(name)))
}
