//! One display of what all workers report: a bar and lines, lines alone, or objects.

use crate::stderr::{self, Mode};
use indicatif::ProgressBar;
use serde_json::{json, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The length of a trial in the bar.
const TRIAL: f64 = 1000.0;
const PREFIX: usize = 16;

pub struct Display {
    mode: Mode,
    workers: usize,
    bar: Option<ProgressBar>,
    drawn: Option<Instant>,
    started: Instant,
    /// Trials of the sweep, and those that were finished before.
    trials: u64,
    before: u64,
    over: BTreeSet<String>,
    /// The part of each running trial that is done, and the worker that trains it.
    running: BTreeMap<String, (f64, usize)>,
    tokens: u64,
    /// What was said by one worker is not said again by another.
    said: BTreeSet<String>,
    failure: Option<(usize, Value)>,
}

impl Display {
    pub fn new(quiet: bool, workers: usize) -> Self {
        Display {
            mode: stderr::mode(quiet),
            workers,
            bar: None,
            drawn: None,
            started: Instant::now(),
            trials: 0,
            before: 0,
            over: BTreeSet::new(),
            running: BTreeMap::new(),
            tokens: 0,
            said: BTreeSet::new(),
            failure: None,
        }
    }

    /// Shows a line of this program.
    pub fn note(&self, text: &str) {
        if self.mode != Mode::Quiet {
            stderr::note(text);
        }
    }

    /// Shows a line that a worker wrote without being asked, such as that of a fault.
    pub fn line(&self, number: usize, text: &str) {
        if !text.trim().is_empty() {
            self.note(&format!("worker {}: {text}", number + 1));
        }
    }

    /// Shows what a worker reports.
    pub fn object(&mut self, number: usize, object: &Value) {
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        let kind = text("kind");
        if kind == "failed" {
            let is_first = self.failure.as_ref().is_none_or(|(first, _)| number < *first);
            if is_first {
                self.failure = Some((number, object["error"].clone()));
            }
            return;
        }
        if self.mode == Mode::Json {
            if kind != "done" {
                relay(number, object);
            }
            return;
        }
        let (trial, point) = (text("trial").to_owned(), point(object));
        match kind {
            "sweep_planned" => self.plan(object),
            "trial_started" => {
                self.running.insert(trial, (0.0, number));
                if self.mode == Mode::Lines {
                    stderr::note(&format!(
                        "trial {}/{}: {point} (worker {})",
                        object["number"],
                        object["trials"],
                        number + 1
                    ));
                }
            }
            "step" => self.step(&trial, object),
            "trial_finished" => {
                self.conclude(&trial);
                self.note(&format!("{point}: {}(worker {})", losses(object), number + 1));
            }
            "trial_failed" => {
                self.conclude(&trial);
                let error = object["error"]["message"].as_str().unwrap_or_default();
                self.note(&format!("{point}: failed: {error} (worker {})", number + 1));
            }
            "trial_elsewhere" => self.conclude(&trial),
            "trial_taken_over" => {
                let from = object["step"].as_u64().map_or("its start".to_owned(), |step| format!("step {step}"));
                self.note(&format!(
                    "{point}: left by {}, going on from {from} (worker {})",
                    text("worker"),
                    number + 1
                ));
            }
            "lease_lost" => {
                self.note(&format!("{point}: another worker took it over from worker {}", number + 1));
            }
            "note" => self.say(text("text")),
            "warning" => self.say(object["warning"]["message"].as_str().unwrap_or_default()),
            "download" => self.say(&format!("fetching {}", text("file"))),
            "stalled" => self.note(&format!("{trial}: the gradient is exactly 0: it does not learn")),
            "flat_loss" => self.note(&format!("{trial}: the loss has not fallen")),
            "overfitting" => self.note(&format!("{trial}: overfits after step {}", object["overfits_after"])),
            _ => {}
        }
        self.draw();
    }

    fn say(&mut self, text: &str) {
        if self.said.insert(text.to_owned()) {
            self.note(text);
        }
    }

    fn plan(&mut self, object: &Value) {
        let count = |key: &str| object[key].as_u64().unwrap_or(0);
        let (finished, to_run) = (count("finished"), count("to_run"));
        if finished + to_run == self.trials {
            return;
        }
        (self.trials, self.before) = (finished + to_run, finished);
        self.over.clear();
        self.started = Instant::now();
        let workers = if self.workers == 1 { "1 worker".to_owned() } else { format!("{} workers", self.workers) };
        self.note(&format!("{to_run} trials to run by {workers}, {finished} finished before"));
        if self.mode == Mode::Bars {
            self.bar.take().iter().for_each(stderr::remove);
            self.bar = Some(stderr::bar("", PREFIX, self.trials * TRIAL as u64));
        }
    }

    fn step(&mut self, trial: &str, object: &Value) {
        self.tokens += object["tokens"].as_u64().unwrap_or(0);
        let (step, total) = (object["step"].as_f64(), object["total_steps"].as_f64());
        if let (Some((done, _)), Some(step), Some(total)) = (self.running.get_mut(trial), step, total) {
            *done = (step / total.max(1.0)).min(1.0);
        }
    }

    fn conclude(&mut self, trial: &str) {
        self.running.remove(trial);
        self.over.insert(trial.to_owned());
    }

    /// A worker has ended: it trains nothing any more.
    pub fn leave(&mut self, number: usize) {
        self.running.retain(|_, (_, worker)| *worker != number);
        self.draw();
    }

    fn draw(&mut self) {
        let Some(bar) = &self.bar else { return };
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < stderr::REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        let ended = (self.before + self.over.len() as u64).min(self.trials);
        let done = ended as f64 + self.running.values().map(|(done, _)| done).sum::<f64>();
        let seconds = self.started.elapsed().as_secs_f64();
        let units = |trials: f64| (trials.max(0.0) * TRIAL) as u64;
        let (trained, to_train) = (units(done - self.before as f64), units((self.trials - self.before) as f64));
        let left = stderr::time_left(seconds, trained, to_train);
        let busy: BTreeSet<usize> = self.running.values().map(|(_, worker)| *worker).collect();
        let speed = self.tokens as f64 / seconds.max(1e-9);
        bar.set_position(units(done));
        bar.set_prefix(format!("{ended}/{} trials", self.trials));
        bar.set_message(format!("{left} · {} of {} workers train · {speed:.0} tok/s", busy.len(), self.workers));
    }

    /// Takes the bar off the screen.
    pub fn clear(&mut self) {
        self.bar.take().iter().for_each(stderr::remove);
    }

    /// Mentions an error that ended a worker while others came to the end.
    pub fn note_failure(&self) {
        if let Some((number, error)) = &self.failure {
            let message = error["message"].as_str().unwrap_or_default();
            self.note(&format!("worker {} failed, and the others went on without it: {message}", number + 1));
        }
    }

    /// Reports the error of the worker with the lowest number, as that of a run without workers.
    pub fn failure(&self) {
        let Some((_, error)) = &self.failure else { return };
        if stderr::is_json() {
            stderr::object("failed", [("error", error.clone())]);
            return;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        stderr::line(&format!("error: {}", text(&error["message"])));
        let place = &error["place"];
        if let (Some(file), Some(line)) = (place["file"].as_str(), place["line"].as_u64()) {
            stderr::line(&format!("  --> {file}:{line}"));
        }
        if let Some(hint) = error["hint"].as_str() {
            stderr::line(&format!("  = hint: {hint}"));
        }
    }
}

/// Passes an object on, with the number of its worker.
fn relay(number: usize, object: &Value) {
    let Some(fields) = object.as_object() else { return };
    let kind = object["kind"].as_str().unwrap_or_default();
    let rest = fields.iter().filter(|(key, _)| !["kind", "time"].contains(&key.as_str()));
    let rest = rest.map(|(key, value)| (key.as_str(), value.clone()));
    stderr::object(kind, rest.chain([("worker_number", json!(number + 1))]));
}

/// "rank=4, seed=0"
fn point(object: &Value) -> String {
    let point = object["point"].as_object().cloned().unwrap_or_default();
    crate::sweep::Point { values: point }.to_string()
}

fn losses(object: &Value) -> String {
    let loss = |name: &str| object[name].as_f64().map(|loss| format!("{name} {loss:.4} "));
    ["train_loss", "eval_loss"].into_iter().filter_map(loss).collect()
}
