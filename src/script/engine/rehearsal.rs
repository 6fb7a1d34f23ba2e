//! `lorhai run --dry-run`: how much of a script's work a rehearsal does, and what goes into its summary (`summary`).
//!
//! The functions in `api/` ask the [`State`] how much to do, and where to write (`redirect`); what a run would take is
//! found by `train::rehearsal` and `sweep::rehearsal`.

use crate::format;
use crate::script::engine::state::State;
use crate::script::engine::summary::Line;
use crate::sweep::rehearsal::SweepForecast;
use crate::train::memory::process::free;
use crate::train::rehearsal::Planned;
use std::path::Path;
use tch::Device;

/// Items of an evaluation, prompts of a generation, rows of a script's own batches.
const FEW: usize = 2;
/// Rows that are tokenised of larger data sets.
pub const TOKENIZED: usize = 4096;
/// The most bytes that a rehearsal writes for one model.
const WRITTEN: u64 = 256 << 20;

impl State {
    /// The most items of an evaluation, prompts, and new tokens of a prompt, where the script is rehearsed.
    pub fn rehearsal_cap(&self) -> Option<usize> {
        self.rehearsing().then_some(FEW)
    }

    /// `count` items, or few of them in a rehearsal.
    pub fn capped(&self, count: usize) -> usize {
        self.rehearsal_cap().map_or(count, |cap| count.min(cap))
    }

    /// Whether a rehearsal leaves out what the script would write to `path`, a model of `bytes` bytes made of
    /// `base`: where it is read again, `base` is.
    pub fn leaves_out(&self, path: &str, base: &str, bytes: u64) -> bool {
        let is_large = self.rehearsing() && bytes > WRITTEN;
        if is_large {
            self.leave_out(Path::new(path), base, bytes);
        }
        is_large
    }

    /// Notes that a model of `bytes` bytes was not written to `path`: where it is read again, `base` is.
    pub fn leave_out(&self, path: &Path, base: &str, bytes: u64) {
        self.in_overlay(|overlay| overlay.leave_out(path, Path::new(base), bytes));
        let (path, size) = (path.display(), format::bytes(bytes));
        self.note_for_summary(format!("{path}: about {size}, left out of the rehearsal"));
    }

    /// Tells the reader of the summary something, once.
    pub fn note_for_summary(&self, note: String) {
        self.in_rehearsal(|own| {
            if !own.notes.contains(&note) {
                own.notes.push(note);
            }
        });
    }

    /// Takes a planned run into the summary, if it was rehearsed.
    pub fn planned_run(&self, out: Option<&Path>, planned: Option<&Planned>, device: Device) {
        let Some(planned) = planned else { return };
        let what = out.map_or("train".to_owned(), |out| format!("train, {}", out.display()));
        let line = Line { is_whole: true, ..Line::of(what, 1, planned.tokens, planned.seconds, planned) };
        self.in_rehearsal(|own| own.plans.push(line));
        self.note_free(planned.memory.total() - planned.memory.weights, device);
    }

    /// Takes a planned sweep into the summary, if it was rehearsed.
    pub fn planned_sweep(&self, out: &Path, forecast: Option<&SweepForecast>, device: Device) {
        let Some(found) = forecast else { return };
        let trials = found.kinds.iter().map(|kind| kind.trials).sum();
        let of = |number: fn(&Planned) -> u64| {
            let mut all = found.kinds.iter().filter_map(|kind| kind.planned.as_ref().ok()).map(number);
            all.next().filter(|first| all.all(|other| other == *first))
        };
        let whole = Line {
            what: format!("sweep, {}", out.display()),
            is_whole: true,
            trials,
            steps: of(|planned| planned.steps),
            trainable: of(|planned| planned.trainable),
            memory: of(|planned| planned.memory.total()),
            tokens: Some(found.kinds.iter().map(|kind| kind.tokens).sum()),
            seconds: Some(found.seconds).filter(|_| trials > 0),
        };
        self.in_rehearsal(|own| {
            own.plans.push(whole);
            for kind in &found.kinds {
                let what = format!("  {}", if kind.name.is_empty() { "every seed" } else { &kind.name });
                let line = match &kind.planned {
                    Ok(planned) => Line::of(what, kind.trials, kind.tokens, kind.seconds(), planned),
                    Err(error) => {
                        own.failed += kind.trials;
                        own.notes.push(format!("{} would fail: {}", what.trim(), error.message));
                        let (steps, trainable, memory, tokens, seconds) = (None, None, None, None, None);
                        Line { what, is_whole: false, trials: kind.trials, steps, trainable, memory, tokens, seconds }
                    }
                };
                own.plans.push(line);
            }
            if found.skipped > 0 {
                own.notes.push(format!("{}: {} trials are finished already", out.display(), found.skipped));
            }
            if trials > 0 {
                own.notes.push(spread(out, found));
            }
        });
        self.note_free(found.memory - found.base, device);
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
fn spread(out: &Path, found: &SweepForecast) -> String {
    let (out, at_once, memory) = (out.display(), found.workers.at_once, format::bytes(found.memory));
    match found.workers.workers {
        1 => format!("{out}: {at_once} side by side in 1 thread, {memory} together"),
        workers => format!(
            "{out}: {at_once} side by side in {workers} threads, {memory} together; a line's time is that in one thread"
        ),
    }
}
