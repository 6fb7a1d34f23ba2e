//! `lorhai run --dry-run`: what a rehearsal leaves out, and what goes into its summary (`summary`).
//!
//! The functions in `api/` do not ask whether this is a rehearsal: they hand down the [`Pace`](crate::data::Pace) of the
//! session, and their results to the functions here. Where files go is `redirect`'s; what a run would take is found by
//! `train::rehearsal` and `sweep::rehearsal`.

use crate::error::Result;
use crate::format;
use crate::lora;
use crate::script::engine::state::State;
use crate::script::engine::summary::Line;
use crate::sweep::rehearsal::SweepForecast;
use crate::train::memory::process::free;
use crate::train::rehearsal::Planned;
use crate::train::run::{RunReport, MODEL};
use std::path::Path;
use tch::Device;

impl State {
    /// Writes a model of `bytes` bytes to what the script calls `path` by `write`, unless it is too large for a
    /// rehearsal: then the result is that of `unwritten`, and where `path` is read again, `base` is.
    pub fn save_model<T>(
        &self,
        path: &str,
        base: &str,
        bytes: u64,
        unwritten: impl FnOnce() -> Result<T>,
        write: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if self.pace().saves_model(bytes) {
            return write();
        }
        self.leave_out(Path::new(path), base, bytes);
        unwritten()
    }

    /// Notes that a model of `bytes` bytes was not written to `path`: where it is read again, `base` is.
    fn leave_out(&self, path: &Path, base: &str, bytes: u64) {
        self.in_overlay(|overlay| overlay.leave_out(path, Path::new(base), bytes));
        let (path, size) = (path.display(), format::bytes(bytes));
        self.note_for_summary(format!("{path}: about {size}, left out of the rehearsal"));
    }

    /// Adds a note to the summary, once.
    pub fn note_for_summary(&self, note: String) {
        self.in_rehearsal(|rehearsal| {
            if !rehearsal.notes.contains(&note) {
                rehearsal.notes.push(note);
            }
        });
    }

    /// Takes a run into the summary, if it was rehearsed.
    pub fn note_run(&self, out: Option<&Path>, report: &RunReport, model: &lora::Model) {
        if let Some(planned) = &report.planned {
            let what = out.map_or("train".to_owned(), |out| format!("train, {}", out.display()));
            let line = Line { is_whole: true, ..Line::of(what, 1, planned.tokens, planned.seconds, planned) };
            self.in_rehearsal(|rehearsal| rehearsal.plans.push(line));
            self.note_free(planned.memory.total() - planned.memory.weights, model.decoder().device);
        }
        if let (Some(bytes), Some(out)) = (report.unsaved, out) {
            self.leave_out(&out.join(MODEL), &model.name, bytes);
        }
    }

    /// Takes a sweep into the summary, if it was rehearsed.
    pub fn note_sweep(&self, out: &Path, forecast: Option<&SweepForecast>, device: Device) {
        let Some(forecast) = forecast else { return };
        let trials = forecast.kinds.iter().map(|kind| kind.trials).sum();
        let of = |number: fn(&Planned) -> u64| {
            let mut all = forecast.kinds.iter().filter_map(|kind| kind.planned.as_ref().ok()).map(number);
            all.next().filter(|first| all.all(|other| other == *first))
        };
        let whole = Line {
            what: format!("sweep, {}", out.display()),
            is_whole: true,
            trials,
            steps: of(|planned| planned.steps),
            trainable: of(|planned| planned.trainable),
            memory: of(|planned| planned.memory.total()),
            tokens: Some(forecast.kinds.iter().map(|kind| kind.tokens).sum()),
            seconds: Some(forecast.seconds).filter(|_| trials > 0),
        };
        self.in_rehearsal(|rehearsal| {
            rehearsal.plans.push(whole);
            for kind in &forecast.kinds {
                let what = format!("  {}", if kind.name.is_empty() { "every seed" } else { &kind.name });
                let line = match &kind.planned {
                    Ok(planned) => Line::of(what, kind.trials, kind.tokens, kind.seconds(), planned),
                    Err(error) => {
                        rehearsal.failed += kind.trials;
                        rehearsal.notes.push(format!("{} would fail: {}", what.trim(), error.message));
                        let (steps, trainable, memory, tokens, seconds) = (None, None, None, None, None);
                        Line { what, is_whole: false, trials: kind.trials, steps, trainable, memory, tokens, seconds }
                    }
                };
                rehearsal.plans.push(line);
            }
            if forecast.skipped > 0 {
                rehearsal.notes.push(format!("{}: {} trials are finished already", out.display(), forecast.skipped));
            }
            if trials > 0 {
                rehearsal.notes.push(spread(out, forecast));
            }
            if let Some(pruning) = forecast.pruning.as_ref().filter(|_| trials > 0) {
                rehearsal.notes.push(format!("{}: {pruning}", out.display()));
            }
        });
        self.note_free(forecast.memory - forecast.base, device);
    }

    /// Takes trials that would fail into the summary, a line for each.
    pub fn note_failing(&self, lines: impl Iterator<Item = String>) {
        let lines: Vec<String> = lines.collect();
        self.in_rehearsal(|rehearsal| {
            rehearsal.failed += lines.len();
            rehearsal.notes.extend(lines);
        });
    }

    /// Says so where more memory is planned, beside the weights that are there already, than is free.
    fn note_free(&self, planned: u64, device: Device) {
        if let Some(free) = free(device).filter(|free| planned > *free) {
            let (planned, free) = (format::bytes(planned), format::bytes(free));
            self.note_for_summary(format!("a step needs {planned} beside the base, and {free} are free now"));
        }
    }
}

/// "runs/x: 18 side by side in 2 threads, 1.2 GB together"
fn spread(out: &Path, forecast: &SweepForecast) -> String {
    let (out, at_once, memory) = (out.display(), forecast.workers.at_once, format::bytes(forecast.memory));
    match forecast.workers.workers {
        1 => format!("{out}: {at_once} side by side in 1 thread, {memory} together"),
        workers => format!(
            "{out}: {at_once} side by side in {workers} threads, {memory} together; a line's time is that in one thread"
        ),
    }
}
