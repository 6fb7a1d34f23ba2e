//! Several processes that train one run: each computes the gradients of its rows of every step, and all take the same step
//! from their sum.
//!
//! | file | defines |
//! |---|---|
//! | `mod.rs` | [`Processes`]: how they agree, fail together and add up |
//! | `window.rs` | which rows of a step each of them computes |
//! | `evaluation.rs` | which held-out rows each of them measures |
//! | `state.rs` | the state of a run that goes on, from the first process to all |
//! | `supported.rs` | what cannot be trained so |
//!
//! All run the same script, so all come to the same places in the same order. At each place they first exchange whether one
//! of them failed: then all fail, with its error, instead of waiting for one that does not come.
//!
//! Leaves to others: how they find each other (`cli/processes/`), and the sums (`native/process_group.rs`).

mod evaluation;
mod state;
mod supported;
mod window;

pub use evaluation::HeldOutPart;
pub use supported::ensure_supported;
pub use window::{rows_of_window, WindowTotals};

use super::settings_diff;
use crate::error::{Error, Kind, Result};
use crate::native::process_group::Group;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::ops::ControlFlow;
use tch::{no_grad, Device, Tensor};

/// What a process says of itself at a meeting.
const IS_WELL: i64 = 0;
const WAS_STOPPED: i64 = 1;
const HAS_FAILED: i64 = 2;

/// This process among those that train together.
#[derive(Debug)]
pub struct Processes {
    group: Group,
    /// Was the last meeting one that all left with an error?
    has_failed_together: Cell<bool>,
    /// Has another process ended, or not answered?
    has_lost_another: Cell<bool>,
    has_trained: Cell<bool>,
}

impl Processes {
    pub fn new(group: Group) -> Self {
        Processes {
            group,
            has_failed_together: Cell::new(false),
            has_lost_another: Cell::new(false),
            has_trained: Cell::new(false),
        }
    }

    pub fn rank(&self) -> usize {
        self.group.rank
    }

    pub fn size(&self) -> usize {
        self.group.size
    }

    /// Is this the process that writes files and reports progress?
    pub fn is_first(&self) -> bool {
        self.group.rank == 0
    }

    /// Did all processes fail with the error of one? The first reports it.
    pub fn has_failed_together(&self) -> bool {
        self.has_failed_together.get()
    }

    /// Has a run been trained by all?
    pub fn has_trained(&self) -> bool {
        self.has_trained.get()
    }

    /// Waits until all processes are at `place`, and gives each its outcome. If one failed, all do, with its error.
    ///
    /// # Errors
    /// The error of a process; a process that ended or is at another place.
    pub fn meet<T>(&self, place: &str, outcome: Result<T>) -> Result<T> {
        self.has_failed_together.set(false);
        let (rank, size) = (self.rank(), self.size());
        let mut table = vec![0_i64; 2 * size];
        table[rank] = match &outcome {
            Ok(_) => IS_WELL,
            Err(error) if error.kind == Kind::Stopped => WAS_STOPPED,
            Err(_) => HAS_FAILED,
        };
        table[size + rank] = hash_of(place);
        let table = Tensor::f_from_slice(&table)?;
        if let Err(lost) = self.sum(&table) {
            return Err(outcome.err().unwrap_or(lost));
        }
        let table = Vec::<i64>::try_from(&table)?;
        let (states, places) = table.split_at(size);
        // An error says more than a stop, which may have followed from it.
        let worst = states.iter().copied().max().unwrap_or(IS_WELL);
        if worst != IS_WELL {
            let failed = states.iter().position(|state| *state == worst).unwrap_or(0);
            let error = self.error_of(failed, outcome.err());
            self.has_failed_together.set(true);
            return Err(error);
        }
        if let Some(other) = places.iter().position(|place| *place != places[0]) {
            let [first, second] = [self.text_of(0, place)?, self.text_of(other, place)?];
            self.has_failed_together.set(true);
            return Err(Error::input(format!(
                "the processes are at different places of the script: process 0 at {first}, process {other} at {second}"
            ))
            .with_hint("what a script does may not depend on the time, the host or a file that it writes"));
        }
        outcome
    }

    /// The text of process `from`, in each process.
    fn text_of(&self, from: usize, own: &str) -> Result<String> {
        let text = self.group.text_of(from, own);
        self.has_lost_another.set(self.has_lost_another.get() || text.is_err());
        text
    }

    /// The error of process `failed`, in each process.
    fn error_of(&self, failed: usize, own: Option<Error>) -> Error {
        let text = own.as_ref().and_then(|error| serde_json::to_string(error).ok()).unwrap_or_default();
        let error = match self.text_of(failed, &text) {
            Ok(text) => text,
            Err(error) => return own.unwrap_or(error),
        };
        if failed == self.rank() {
            return own.unwrap_or_else(|| Error::bug("a process failed without an error"));
        }
        let error: Error = serde_json::from_str(&error).unwrap_or_else(|_| Error::bug("a process failed"));
        // All came upon the same, as upon a mistake in the script.
        match own {
            Some(own) if own.message == error.message => own,
            _ => error.context(format!("process {failed} of {}", self.size())),
        }
    }

    /// As [`Self::meet`], for the end of something that meets on the way: an error that all have already, or of a process
    /// that is lost, is not met again.
    ///
    /// # Errors
    /// As [`Self::meet`].
    pub fn conclude<T>(&self, place: &str, outcome: Result<T>) -> Result<T> {
        match outcome {
            Err(error) if self.has_failed_together() || self.has_lost_another.get() => Err(error),
            outcome => self.meet(place, outcome),
        }
    }

    /// Fails unless `own` is the same in all processes.
    ///
    /// # Errors
    /// What differs, and as [`Self::meet`].
    pub fn ensure_same(&self, what: &str, own: &Value) -> Result<()> {
        self.meet(what, Ok(()))?;
        let text = self.text_of(0, &own.to_string())?;
        let first: Value = serde_json::from_str(&text).unwrap_or_default();
        let changes = settings_diff::between(&first, own);
        let outcome = match changes.as_slice() {
            [] => Ok(()),
            changes => {
                let all: Vec<String> = changes.iter().map(ToString::to_string).collect();
                let message = format!("{what}: expected the same as in process 0, found {}", all.join(", "));
                Err(Error::input(message).with_hint("start all processes with the same script, settings and files"))
            }
        };
        self.meet(what, outcome)
    }

    /// Marks that a run is trained by all.
    pub fn begin_run(&self) {
        self.has_trained.set(true);
    }

    /// Replaces the tensor by its sum over all processes, the same in each to the last bit.
    ///
    /// # Errors
    /// A process that ended.
    pub fn sum(&self, tensor: &Tensor) -> Result<()> {
        let host = if tensor.device() == Device::Cpu { None } else { Some(tensor.f_to_device(Device::Cpu)?) };
        let sum = self.group.sum(&[host.as_ref().unwrap_or(tensor)]);
        self.has_lost_another.set(self.has_lost_another.get() || sum.is_err());
        sum?;
        let Some(host) = host else { return Ok(()) };
        Ok(no_grad(|| tensor.shallow_clone().f_copy_(&host))?)
    }

    /// The sums of numbers over all processes.
    ///
    /// # Errors
    /// As [`Self::sum`].
    pub fn sum_numbers(&self, numbers: &[f64]) -> Result<Vec<f64>> {
        let sums = Tensor::f_from_slice(numbers)?;
        self.sum(&sums)?;
        Ok(Vec::<f64>::try_from(&sums)?)
    }

    /// Breaks where one of the processes does.
    ///
    /// # Errors
    /// As [`Self::meet`].
    pub fn any_break(&self, place: &str, flow: Result<ControlFlow<()>>) -> Result<ControlFlow<()>> {
        let flow = self.meet(place, flow)?;
        let breaks = self.sum_numbers(&[f64::from(u8::from(flow.is_break()))])?;
        let is_break = breaks.iter().any(|count| *count > 0.0);
        Ok(if is_break { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

/// A hash of the place: two places have different ones.
fn hash_of(place: &str) -> i64 {
    let hash = Sha256::digest(place);
    // Sums of these numbers are those of one process each, with zeros.
    hash.iter().take(7).fold(0, |number, byte| number << 8 | i64::from(*byte))
}
