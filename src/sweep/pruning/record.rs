//! `rungs.json` in the folder of a sweep: what trials measured at their rungs, and which settings go on.
//!
//! A sweep that was cut off decides as it would have, from the same numbers; decisions that were made stand.

use super::options::PruneOptions;
use crate::error::Result;
use crate::files;
use crate::sweep::record::Measurements;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

pub const RUNGS: &str = "rungs.json";
const FORMAT: &str = "lorhai rungs 1";

/// What a trial measured at a rung.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub stage: i64,
    pub step: u64,
    /// Of the metric that settings are compared by.
    pub value: f64,
}

/// The rungs of a trial that it came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Climb {
    /// The fingerprint of the trial's settings: with other settings the numbers are void.
    pub fingerprint: String,
    pub scores: Vec<Score>,
    /// At the last of these rungs.
    pub measurements: Measurements,
    /// Did it end there by itself, before its last step? It counts with the same value at later rungs.
    pub has_ended: bool,
}

/// A decision: which settings go on after a rung, by their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    pub stage: i64,
    pub setting: String,
    pub goes_on: bool,
}

/// The content of `rungs.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RungRecord {
    format: String,
    pub prune: PruneOptions,
    /// By the names of trials.
    pub trials: BTreeMap<String, Climb>,
    pub decisions: Vec<Decided>,
}

impl RungRecord {
    pub fn new(prune: &PruneOptions) -> Self {
        let (trials, decisions) = Default::default();
        RungRecord { format: FORMAT.to_owned(), prune: prune.clone(), trials, decisions }
    }

    /// The record of the sweep in `out`; `None` where there is no valid one.
    pub fn read(out: &Path) -> Option<Self> {
        let path = out.join(RUNGS);
        let record: RungRecord = serde_json::from_value(files::read_json(&path).ok()?).ok()?;
        (record.format == FORMAT).then_some(record)
    }

    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        files::write_json(&out.join(RUNGS), self)
    }

    /// Was the setting stopped at this rung, or may it go on? `None` where that is open.
    pub fn decision(&self, setting: &str, stage: i64) -> Option<bool> {
        let decided = self.decisions.iter().find(|decided| decided.setting == setting && decided.stage == stage);
        decided.map(|decided| decided.goes_on)
    }

    /// The rung at which the setting was stopped.
    pub fn stopped_at(&self, setting: &str) -> Option<i64> {
        let stopped = self.decisions.iter().find(|decided| decided.setting == setting && !decided.goes_on);
        stopped.map(|decided| decided.stage)
    }
}
