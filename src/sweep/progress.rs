//! What is seen of a sweep: a bar for all of it and one for each trial that runs, or lines, or
//! objects for a machine. How they get to stderr is `stderr.rs`'s; what is said of a
//! single step is `train/progress.rs`'s.

use super::columns::NUMBERS;
use super::record::{Measurements, TrialResult};
use super::results::Row;
use super::run::Event;
use super::task::Task;
use super::trial::Trial;
use crate::error::Result;
use crate::stderr::{self, Mode};
use crate::table;
use crate::train::observer::{EvalReport, Observer, StepReport};
use crate::train::progress::{eval_line, eval_objects, losses, memory, overfitting_line, step_object, warning, Lines};
use indicatif::ProgressBar;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// More trials side by side than this get no bars of their own.
const MOST_BARS: usize = 8;
/// The name of the bar of all trials is about this long.
const SHORTEST_NAME: usize = 12;

/// Told by the runner and by trials in several threads.
pub struct SweepProgress(Mutex<Sweep>);

struct Sweep {
    show: Show,
    trials: BTreeMap<usize, Running>,
    /// What is to run, and how much of it is over.
    to_run: usize,
    over: usize,
    steps: u64,
    steps_over: u64,
    tokens: u64,
    started: Instant,
}

enum Show {
    Bars { all: Option<ProgressBar>, drawn: Option<Instant> },
    Lines(Lines),
    Objects,
    Quiet,
}

/// A trial under way.
#[derive(Default)]
struct Running {
    step: u64,
    total_steps: u64,
    loss: f64,
    eval_loss: Option<f64>,
    bar: Option<ProgressBar>,
}

/// Listens to one trial.
pub struct Watcher<'a> {
    all: &'a SweepProgress,
    trial: &'a Trial,
}

impl SweepProgress {
    pub fn new(quiet: bool) -> Self {
        let show = match stderr::mode(quiet) {
            Mode::Quiet => Show::Quiet,
            Mode::Json => Show::Objects,
            Mode::Bars => Show::Bars { all: None, drawn: None },
            Mode::Lines => Show::Lines(Lines::default()),
        };
        SweepProgress(Mutex::new(Sweep {
            show,
            trials: BTreeMap::new(),
            to_run: 0,
            over: 0,
            steps: 0,
            steps_over: 0,
            tokens: 0,
            started: Instant::now(),
        }))
    }

    /// So many trials of so many steps together are to run.
    pub fn begin(&self, to_run: usize, steps: u64) {
        let mut sweep = self.lock();
        (sweep.to_run, sweep.steps, sweep.started) = (to_run, steps, Instant::now());
    }

    /// These trials start, each of so many steps.
    pub fn side_by_side(&self, tasks: &[(Task, u64)]) {
        let sweep = &mut *self.lock();
        let name = |task: &Task| task.trial.point.to_string();
        let longest = tasks.iter().map(|(task, _)| table::width(&name(task))).max().unwrap_or(0).max(SHORTEST_NAME);
        if let Show::Bars { all, .. } = &mut sweep.show {
            // Its names are as long as those below it.
            all.take().iter().for_each(stderr::remove);
            *all = Some(stderr::bar("", longest, sweep.steps));
        }
        let has_bars = matches!(sweep.show, Show::Bars { .. }) && tasks.len() <= MOST_BARS;
        for (task, total_steps) in tasks {
            let bar = has_bars.then(|| stderr::bar(&name(task), longest, *total_steps));
            let running = Running { total_steps: *total_steps, bar, ..Running::default() };
            sweep.trials.insert(task.trial.index, running);
        }
        sweep.draw(true);
    }

    pub fn watcher<'a>(&'a self, trial: &'a Trial) -> Watcher<'a> {
        Watcher { all: self, trial }
    }

    /// A line for the user, beside what the runner tells.
    pub fn note(&self, text: &str) {
        if !matches!(self.lock().show, Show::Quiet) {
            stderr::note(text);
        }
    }

    /// Shows what the runner tells.
    pub fn event(&self, event: &Event) {
        let sweep = &mut *self.lock();
        if let Event::Finished { trial, .. } | Event::Failed { trial, .. } = event {
            sweep.conclude(trial);
        }
        match (&sweep.show, event) {
            (Show::Quiet, _) => {}
            (Show::Objects, event) => event_object(event),
            // The trial's bar tells it.
            (Show::Bars { .. }, Event::Started { .. }) => {}
            _ => stderr::note(&event.to_string()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sweep> {
        // A thread that panicked here only left numbers behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sweep {
    /// However the sweep ended, its bars leave the screen.
    fn drop(&mut self) {
        if let Show::Bars { all, .. } = &self.show {
            self.trials.values().filter_map(|trial| trial.bar.as_ref()).chain(all).for_each(stderr::remove);
        }
    }
}

impl Sweep {
    /// A trial that ended early has no steps left to wait for.
    fn conclude(&mut self, trial: &Trial) {
        let Some(running) = self.trials.remove(&trial.index) else { return };
        running.bar.iter().for_each(stderr::remove);
        self.over += 1;
        self.steps_over += running.total_steps;
        self.draw(true);
    }

    fn steps_done(&self) -> u64 {
        self.steps_over + self.trials.values().map(|trial| trial.step).sum::<u64>()
    }

    /// The bar of all trials, or a line in its place; not more often than can be read.
    fn draw(&mut self, at_once: bool) {
        let done = self.steps_done();
        let (steps, of) = (self.steps.max(done), self.to_run);
        let trials = if of == 1 { "trial" } else { "trials" };
        let count = format!("{}/{of} {trials}", self.over);
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

impl Observer for Watcher<'_> {
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
        if let (Show::Bars { .. } | Show::Lines(_), Some(found)) = (&sweep.show, report.overfitting) {
            stderr::note(&format!("{point}: {}", overfitting_line(found)));
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

/// What a machine is told; what needs no answer from one is a note.
fn event_object(event: &Event) {
    let of = |trial: &Trial| [("trial", trial.name.as_str().into()), ("point", json!(trial.point.values))];
    match event {
        Event::Planned { finished, to_run } => {
            stderr::object("sweep_planned", [("finished", json!(finished)), ("to_run", json!(to_run))]);
        }
        Event::Started { trial, total } => {
            let place = [("number", json!(trial.index + 1)), ("trials", json!(total))];
            stderr::object("trial_started", of(trial).into_iter().chain(place));
        }
        Event::Finished { trial, outcome } => {
            stderr::object("trial_finished", of(trial).into_iter().chain(numbers(trial, outcome)));
        }
        Event::Failed { trial, failure } => {
            stderr::object("trial_failed", of(trial).into_iter().chain([("error", json!(failure))]));
        }
        other => stderr::note(&other.to_string()),
    }
}

/// As in `results.json`.
fn numbers<'a>(trial: &Trial, outcome: &'a Measurements) -> impl Iterator<Item = (&'a str, Value)> + use<'a> {
    let row = Row::new(trial, TrialResult::Finished(outcome.clone()));
    let names = NUMBERS.into_iter().chain(outcome.metrics.keys().map(String::as_str));
    names.map(move |name| (name, row.value(name)))
}
