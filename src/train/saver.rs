//! Saves runs that train together, at intervals and however they end.

use super::active_run::ActiveRun;
use super::checkpoint::interval::Position;
use super::checkpoint::state::RunPosition;
use super::checkpoint::CheckpointWriter;
use super::memory::process::PeakWatch;
use crate::error::{Error, Kind, Result};
use crate::hub::mapped;
use std::path::{Path, PathBuf};

/// Saves runs that train together, all at the same moment. What cannot be saved is reported and ends no run.
pub(super) struct Saver<'a> {
    writer: &'a mut CheckpointWriter,
    /// How far the runs were when they were last saved, or when they began.
    saved: Vec<RunPosition>,
    has_warned: bool,
}

impl<'a> Saver<'a> {
    /// # Errors
    /// Checkpoints at the best evaluations, of runs that are evaluated at their end alone.
    pub(super) fn new(writer: &'a mut CheckpointWriter, runs: &[ActiveRun]) -> Result<Self> {
        if writer.needs_evaluations() && !runs.iter().all(ActiveRun::is_evaluated_on_the_way) {
            return Err(Error::input(
                "save_strategy: \"best\" saves at evaluations, and there are none before the end",
            )
            .with_hint("set `eval_every`, e.g. eval_every: 50, and split the data: .split(#{ test: 0.1 })"));
        }
        Ok(Saver { writer, saved: positions(runs), has_warned: false })
    }

    pub(super) fn after_step(&mut self, runs: &mut [ActiveRun], memory: &PeakWatch) {
        let going = || runs.iter().filter(|run| run.is_going());
        let step = going().map(|run| run.position.steps).max().unwrap_or(0);
        let total = going().map(|run| run.schedule.steps).max().unwrap_or(0);
        let steps_per_epoch = going().map(|run| run.sampler.steps_per_epoch()).next().unwrap_or(1);
        let is_at_best = going().any(ActiveRun::is_at_best);
        if !self.writer.is_due(Position { step, total, steps_per_epoch, is_at_best }) {
            return;
        }
        match self.save(runs, memory.peak()) {
            Err(error) if !self.has_warned => {
                self.has_warned = true;
                note(runs, &format!("the run goes on without a checkpoint: {error}"));
            }
            _ => {}
        }
    }

    /// However the runs ended, what they would lose is saved: also a run that pauses. Runs side by side are saved at their
    /// end too: they are recorded one after the other.
    pub(super) fn at_the_end(&mut self, runs: &mut [ActiveRun], peak_memory: Option<u64>, error: Option<&Error>) {
        let is_of_trials = self.writer.is_of_trials();
        let has_failed = error.is_some() || matches!(runs, [run] if run.failure.is_some() && !is_of_trials);
        let is_stop = error.is_some_and(|error| error.kind == Kind::Stopped);
        let step = runs.iter().map(|run| run.position.steps).max().unwrap_or(0);
        let has_paused = runs.iter().any(ActiveRun::is_paused);
        if step == 0 || !(has_failed || has_paused || runs.len() > 1) {
            return;
        }
        let saved = match positions(runs) == self.saved {
            true => Ok(self.writer.newest()),
            false => self.save(runs, peak_memory),
        };
        match saved {
            Ok(Some(path)) if has_failed && !is_of_trials => note(runs, &saved_line(step, &path, is_stop)),
            Ok(Some(_)) if is_stop => {
                let trials =
                    if runs.len() == 1 { "1 trial is".to_owned() } else { format!("{} trials are", runs.len()) };
                note(runs, &format!("{trials} saved at step {step}: run the sweep again to go on"));
            }
            Ok(_) => {}
            Err(error) => note(runs, &format!("the state of step {step} could not be saved: {error}")),
        }
    }

    /// `None` where there is no state worth saving.
    fn save(&mut self, runs: &mut [ActiveRun], peak_memory: Option<u64>) -> Result<Option<PathBuf>> {
        mapped::ensure_unchanged()?;
        let is_alone = runs.len() == 1;
        for run in runs.iter() {
            // Stopped inside of an update, or left without finite numbers by one. A run that left the others is not used
            // again.
            let has_left = !is_alone && run.failure.is_some();
            let is_between_steps = run.optimizer.steps() == run.position.steps || has_left;
            if !is_between_steps || (is_alone && run.trainable.parameters().not_finite()?.is_some()) {
                return Ok(None);
            }
        }
        let states = runs.iter_mut().map(|run| run.state(is_alone, peak_memory)).collect::<Result<_>>()?;
        let path = self.writer.save(states)?;
        self.saved = positions(runs);
        Ok(Some(path))
    }
}

fn positions(runs: &[ActiveRun]) -> Vec<RunPosition> {
    runs.iter().map(|run| run.position.clone()).collect()
}

fn saved_line(step: u64, path: &Path, is_stop: bool) -> String {
    let path = path.display();
    match is_stop {
        true => format!("saved at step {step} in `{path}`: run the script again to go on"),
        false => format!("saved as it was after step {step} in `{path}`: a run with resume: true goes on from there"),
    }
}

/// A line for the user, once for all runs.
pub(super) fn note(runs: &mut [ActiveRun], text: &str) {
    if let Some(run) = runs.first_mut() {
        run.observer.on_note(text);
    }
}
