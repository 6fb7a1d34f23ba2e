//! `lorhai run --dry-run`: what a rehearsal of a script gathers, and the summary at its end.
//!
//! The functions in `api/` ask the [`State`] how much to do, and where to write (`redirect`); what a run would take is
//! found by `train::rehearsal` and `sweep::rehearsal`.

use crate::format::{self, thousands};
use crate::overlay::{Overlay, Written};
use crate::script::engine::state::State;
use crate::sweep::rehearsal::SweepForecast;
use crate::table::{table, Align};
use crate::train::memory::process::free;
use crate::train::rehearsal::{duration, Planned};
use std::path::Path;
use tch::Device;

/// Items of an evaluation, prompts of a generation, rows of a script's own batches.
const FEW: usize = 2;
/// Rows that are tokenised of larger data sets.
pub const TOKENIZED: usize = 4096;
/// The most bytes that a rehearsal writes for one model.
const WRITTEN: u64 = 256 << 20;

/// What was found until now.
#[derive(Debug, Default)]
pub struct Rehearsal {
    plans: Vec<Line>,
    notes: Vec<String>,
    failed: usize,
}

/// A line of the table of the summary.
#[derive(Debug)]
struct Line {
    what: String,
    /// A run or a sweep; not some of its trials.
    is_whole: bool,
    trials: usize,
    /// Of one trial: steps, trained values, bytes.
    steps: Option<u64>,
    trainable: Option<u64>,
    memory: Option<u64>,
    /// Of all of them.
    tokens: Option<u64>,
    seconds: Option<f64>,
}

impl Rehearsal {
    /// How many trials would fail.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// All that was found, for a person.
    pub fn summary(&self, script: &str, overlay: &Overlay) -> String {
        let mut text = format!("\nrehearsal of {script}: nothing was trained or written\n");
        text.push_str("the numbers that the script printed come from tiny pieces of its work and mean nothing\n");
        if !self.plans.is_empty() {
            let header = ["", "trials", "steps", "tokens", "trainable", "memory", "time"].map(str::to_owned);
            let align = [&[Align::Left][..], &[Align::Right; 6]].concat();
            let rows = self.plans.iter().map(Line::cells).collect();
            text.push_str(&format!("\n{}", table(header.to_vec(), rows, &align)));
            text.push_str("steps, trainable and memory are those of one trial; time is an estimate\n");
            let seconds: Vec<f64> = self.plans.iter().filter(|line| line.is_whole).filter_map(|l| l.seconds).collect();
            if seconds.len() > 1 {
                text.push_str(&format!("all together: about {}\n", duration(seconds.iter().sum())));
            }
        }
        for note in &self.notes {
            text.push_str(&format!("{note}\n"));
        }
        if let Some((path, bytes)) = overlay.missing_space() {
            text.push_str(&format!(
                "the disk of {} lacks {} for what a run would write\n",
                path.display(),
                format::bytes(bytes)
            ));
        }
        let written = overlay.written();
        if !written.is_empty() {
            text.push_str("\na run would write, with longer logs than are counted here\n");
            written.iter().for_each(|found| text.push_str(&format!("  {}\n", shown(found))));
        }
        text
    }
}

fn shown(Written { path, is_folder, files, bytes }: &Written) -> String {
    match (is_folder, files) {
        (true, 1) => format!("{}/ (1 file, {})", path.display(), format::bytes(*bytes)),
        (true, files) => format!("{}/ ({files} files, {})", path.display(), format::bytes(*bytes)),
        (false, _) => path.display().to_string(),
    }
}

impl Line {
    fn cells(&self) -> Vec<String> {
        let number = |value: Option<u64>| value.map_or(String::new(), thousands);
        vec![
            self.what.clone(),
            self.trials.to_string(),
            number(self.steps),
            number(self.tokens),
            number(self.trainable),
            self.memory.map_or(String::new(), format::bytes),
            self.seconds.map_or(String::new(), |seconds| format!("about {}", duration(seconds))),
        ]
    }

    /// Of trials that `planned` is one of.
    fn of(what: String, trials: usize, tokens: u64, seconds: f64, planned: &Planned) -> Self {
        Line {
            what,
            is_whole: false,
            trials,
            steps: Some(planned.steps),
            tokens: Some(tokens),
            trainable: Some(planned.trainable),
            memory: Some(planned.memory.total()),
            seconds: Some(seconds),
        }
    }
}

impl State {
    /// `count` items, or few of them in a rehearsal.
    pub fn few(&self, count: usize) -> usize {
        if self.rehearsing() {
            count.min(FEW)
        } else {
            count
        }
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
    let (out, at_once, memory) = (out.display(), found.lanes.at_once, format::bytes(found.memory));
    match found.lanes.lanes {
        1 => format!("{out}: {at_once} side by side in 1 thread, {memory} together"),
        lanes => format!(
            "{out}: {at_once} side by side in {lanes} threads, {memory} together; a line's time is that in one thread"
        ),
    }
}
