//! What a person sees of a run: a bar on a terminal, plain lines elsewhere.

use super::memory::process;
use super::observer::{EvalReport, Observer, StepReport};
use super::overfitting::Overfitting;
use crate::error::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Lines are for logs, so there are few of them.
const LINES_PER_RUN: u64 = 10;

pub enum Progress {
    Bar { bar: ProgressBar, eval_loss: Option<f64> },
    Lines { name: String },
    Quiet,
}

impl Progress {
    /// `name` stands before the bar: a trial's point, or nothing.
    pub fn new(name: &str, quiet: bool) -> Self {
        if quiet {
            return Progress::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            return Progress::Lines { name: name.to_owned() };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix}{wide_bar} {pos}/{len} {msg} · {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(if name.is_empty() { String::new() } else { format!("{name} ") });
        Progress::Bar { bar, eval_loss: None }
    }

    /// Removes the bar from the screen.
    pub fn finish(&self) {
        if let Progress::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Progress {
    fn on_step(&mut self, report: &StepReport) -> Result<()> {
        match self {
            Progress::Bar { bar, eval_loss } => {
                bar.set_length(report.total_steps);
                let eval = eval_loss.map_or(String::new(), |loss| format!(" eval {loss:.4}"));
                bar.set_message(format!(
                    "loss {:.4}{eval} lr {:.1e} · {:.0} tok/s · {}",
                    report.loss,
                    report.learning_rate,
                    report.tokens_per_s,
                    memory()
                ));
                bar.set_position(report.step);
            }
            Progress::Lines { name } => {
                let every = report.total_steps.div_ceil(LINES_PER_RUN).max(1);
                if report.step.is_multiple_of(every) || report.step == report.total_steps {
                    eprintln!("{}", line(name, report));
                }
            }
            Progress::Quiet => {}
        }
        Ok(())
    }

    fn on_eval(&mut self, report: &EvalReport) -> Result<()> {
        match self {
            Progress::Bar { eval_loss, bar } => {
                *eval_loss = Some(report.loss);
                if let Some(found) = report.overfitting {
                    bar.println(overfitting("", found));
                }
            }
            Progress::Lines { name } => {
                let name = prefix(name);
                eprintln!(
                    "{name}step {} eval_loss {:.4}{}",
                    report.step,
                    report.loss,
                    if report.is_best { " (best)" } else { "" }
                );
                if let Some(found) = report.overfitting {
                    eprintln!("{}", overfitting(&name, found));
                }
            }
            Progress::Quiet => {}
        }
        Ok(())
    }
}

/// One bar or one series of lines for runs that train side by side, maybe in several threads.
pub struct SharedProgress(Mutex<Together>);

struct Together {
    progress: Progress,
    total: u64,
    steps: u64,
    tokens: u64,
    started: Instant,
}

/// Tells a [`SharedProgress`] of one run.
pub struct Watcher<'a> {
    all: &'a SharedProgress,
    name: String,
}

impl SharedProgress {
    /// For runs of `total` steps together.
    pub fn new(total: u64, quiet: bool) -> Self {
        let progress = Progress::new("", quiet);
        SharedProgress(Mutex::new(Together { progress, total, steps: 0, tokens: 0, started: Instant::now() }))
    }

    pub fn watcher(&self, name: &str) -> Watcher<'_> {
        Watcher { all: self, name: name.to_owned() }
    }

    /// A line for the user, above the bar if there is one.
    pub fn note(&self, text: &str) {
        match &self.lock().progress {
            Progress::Bar { bar, .. } => bar.println(text),
            Progress::Lines { .. } => eprintln!("{text}"),
            Progress::Quiet => {}
        }
    }

    /// Removes the bar from the screen.
    pub fn finish(&self) {
        self.lock().progress.finish();
    }

    fn lock(&self) -> MutexGuard<'_, Together> {
        // A thread that panicked here only left numbers behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Watcher<'_> {
    fn on_step(&mut self, report: &StepReport) -> Result<()> {
        let mut all = self.all.lock();
        all.steps += 1;
        all.tokens += report.tokens as u64;
        let (step, total_steps, seconds) = (all.steps, all.total.max(all.steps), all.started.elapsed().as_secs_f64());
        let tokens_per_s = all.tokens as f64 / seconds.max(1e-9);
        // The steps of all runs count as one run's.
        all.progress.on_step(&StepReport { step, total_steps, seconds, tokens_per_s, ..report.clone() })
    }

    fn on_eval(&mut self, report: &EvalReport) -> Result<()> {
        let mut all = self.all.lock();
        if let Progress::Lines { name } = &mut all.progress {
            name.clone_from(&self.name);
        }
        let told = all.progress.on_eval(report);
        if let Progress::Lines { name } = &mut all.progress {
            name.clear();
        }
        told
    }
}

fn prefix(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!("{name}: ")
    }
}

fn overfitting(prefix: &str, found: Overfitting) -> String {
    format!(
        "{prefix}overfitting: held-out loss rises since step {} (best {:.4}) while training loss falls",
        found.best_step, found.best_loss
    )
}

fn line(name: &str, report: &StepReport) -> String {
    let left = report.seconds / report.step as f64 * (report.total_steps - report.step) as f64;
    format!(
        "{}step {}/{} loss {:.4} lr {:.2e} {:.0} tokens/s {:.0}s left",
        prefix(name),
        report.step,
        report.total_steps,
        report.loss,
        report.learning_rate,
        report.tokens_per_s,
        left
    )
}

/// The memory that this process holds, as the system counts it.
fn memory() -> String {
    format!("{:.1} GiB", process::held().unwrap_or(0) as f64 / f64::from(1 << 30))
}
