//! Writes the checkpoints of runs while they train.

use super::folder::{self, Checkpoint, SavedRun};
use super::interval::{Position, SaveInterval, SinceLast};
use super::options::CheckpointOptions;
use super::state::RunState;
use crate::error::Result;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a checkpoint says of a run beside its state.
#[derive(Debug, Clone)]
pub struct RunLabel {
    pub name: String,
    pub conditions: Value,
}

/// Writes checkpoints of runs that train side by side into one folder, and keeps the newest.
#[derive(Debug)]
pub struct CheckpointWriter {
    folder: PathBuf,
    interval: SaveInterval,
    keep: usize,
    labels: Vec<RunLabel>,
    last: Instant,
    cost: Duration,
    /// Of a sweep, whose trials are tried again if they fail.
    is_of_trials: bool,
}

impl CheckpointWriter {
    pub fn new(folder: &Path, options: &CheckpointOptions) -> Self {
        CheckpointWriter {
            folder: folder.to_owned(),
            interval: options.interval(),
            keep: options.kept(),
            labels: Vec::new(),
            last: Instant::now(),
            cost: Duration::ZERO,
            is_of_trials: false,
        }
    }

    /// As [`Self::new`], for trials of a sweep.
    pub fn of_trials(folder: &Path, options: &CheckpointOptions) -> Self {
        CheckpointWriter { is_of_trials: true, ..Self::new(folder, options) }
    }

    pub fn is_of_trials(&self) -> bool {
        self.is_of_trials
    }

    /// Names the runs, in the order of the states that are saved.
    pub fn set_runs(&mut self, labels: Vec<RunLabel>) {
        self.labels = labels;
    }

    /// Is a checkpoint due after the step just taken?
    pub fn is_due(&self, position: Position) -> bool {
        self.interval.is_due(position, SinceLast { time: self.last.elapsed(), cost: self.cost })
    }

    /// Are checkpoints written at evaluations alone?
    pub fn needs_evaluations(&self) -> bool {
        self.interval == SaveInterval::Best
    }

    /// The newest checkpoint.
    pub fn newest(&self) -> Option<PathBuf> {
        folder::list(&self.folder).into_iter().next().map(|(_, path)| path)
    }

    /// Writes the states of all runs and removes what is older than the checkpoints to keep.
    ///
    /// # Errors
    /// A folder that cannot be written; earlier checkpoints stay.
    pub fn save(&mut self, states: Vec<RunState>) -> Result<PathBuf> {
        let started = Instant::now();
        let step = states.iter().map(|state| state.numbers.position.steps).max().unwrap_or(0);
        let runs = self.labels.iter().zip(states);
        let runs = runs.map(|(label, state)| SavedRun {
            name: label.name.clone(),
            conditions: label.conditions.clone(),
            state,
        });
        let written = Checkpoint { step, runs: runs.collect() }.write(&self.folder);
        (self.last, self.cost) = (Instant::now(), started.elapsed());
        let path = written?;
        folder::prune(&self.folder, self.keep)?;
        Ok(path)
    }
}
