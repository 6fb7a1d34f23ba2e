//! Trains sampled trials of a finished sweep again, each alone, and measures how far they differ from the jointly
//! trained ones.

use super::lora::{run_group, TrialLosses};
use super::progress::SweepProgress;
use super::record::Measurements;
use super::results::SweepResult;
use super::task::{Cohorts, Task};
use super::trial::Trial;
use crate::error::{Error, Kind, Result};
use crate::lora::peft;
use std::fmt;

/// The number of trials that are trained again.
const SAMPLES: usize = 2;

/// The relative difference between a jointly trained trial and the same trial trained alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// The trial's point.
    pub trial: String,
    /// The difference of the held-out loss, or of the training loss without held-out rows.
    pub loss: f64,
    /// The Euclidean norm of the difference of all adapter weights.
    pub weights: f64,
}

impl fmt::Display for Deviation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Deviation { trial, loss, weights } = self;
        write!(out, "{trial} trained alone: loss off by {loss:.1e}, weights by {weights:.1e} (relative)")
    }
}

/// Trains the first and the last finished trial again, in a folder that is then removed. In a shared sweep those that other
/// workers than `me` trained, if there are any.
pub fn verify(
    cohorts: &Cohorts,
    tasks: &[Task],
    losses: Option<&TrialLosses>,
    result: &SweepResult,
    me: Option<&str>,
) -> Result<Vec<Deviation>> {
    let row = |task: &Task| result.rows().iter().find(|row| row.index == task.trial.index);
    let is_finished = |task: &&Task| row(task).is_some_and(|row| row.outcome().is_some());
    let finished: Vec<&Task> = tasks.iter().filter(is_finished).collect();
    let worker = |task: &Task| row(task)?.place.as_ref()?.worker.as_deref();
    let of_others: Vec<&Task> =
        finished.iter().filter(|task| me.is_some() && worker(task).is_some_and(|id| Some(id) != me)).copied().collect();
    let finished = if of_others.is_empty() { finished } else { of_others };
    let step = finished.len().saturating_sub(1).max(1) / (SAMPLES - 1);
    finished.into_iter().step_by(step).take(SAMPLES).map(|task| deviation(cohorts, task, losses, result)).collect()
}

fn deviation(cohorts: &Cohorts, task: &Task, losses: Option<&TrialLosses>, result: &SweepResult) -> Result<Deviation> {
    let cohort = cohorts.get(task)?;
    let decoder = cohort.decoder();
    let scratch =
        tempfile::tempdir().map_err(|error| Error::new(Kind::File, format!("cannot make a folder: {error}")))?;
    let trial = Trial { dir: scratch.path().join(&task.trial.name), ..task.trial.clone() };
    let silent = SweepProgress::new(true);
    let alone = run_group(decoder, cohort.shared, &[Task { trial: &trial, ..*task }], &silent, losses).pop();
    let alone = alone.unwrap_or_else(|| Err(Error::bug("a trial without an outcome")))?.measurements;
    let row = result.rows().iter().find(|row| row.index == task.trial.index);
    let together =
        row.and_then(|row| row.outcome()).ok_or_else(|| Error::bug("a finished trial without an outcome"))?;
    let loss = |measured: &Measurements| measured.eval_loss.or(measured.train_loss).unwrap_or(f64::NAN);
    let (loss_alone, loss_together) = (loss(&alone), loss(together));
    let weights = |trial: &Trial| -> Result<tch::Tensor> {
        let adapter = peft::load(&trial.adapter_dir(), decoder)?;
        Ok(adapter.parameters.flat().f_detach()?.f_to_kind(tch::Kind::Double)?)
    };
    // A worker of a shared sweep trains elsewhere than where the result is.
    let joint = Trial { dir: result.out.join(&task.trial.name), ..task.trial.clone() };
    let (alone, together) = (weights(&trial)?, weights(&joint)?);
    let distance = together.f_sub(&alone)?.f_norm()?.f_double_value(&[])?;
    Ok(Deviation {
        trial: task.trial.point.to_string(),
        loss: (loss_together - loss_alone).abs() / loss_alone.abs().max(1e-12),
        weights: distance / alone.f_norm()?.f_double_value(&[])?.max(1e-12),
    })
}
