//! The speed of a sweep as a whole, kept in `throughput.json`.
//!
//! `tokens_per_s` of a trial is the speed of its worker, whose time the trials side by side share by their tokens. Several
//! workers together are faster, which no trial shows. Every run of the sweep adds what it trained, so that the speed of a
//! sweep that was cut off is that of all its parts.

use crate::error::Result;
use crate::files;
use crate::format::thousands;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// The file in the folder of a sweep.
pub const THROUGHPUT: &str = "throughput.json";

/// What a sweep trained, over all runs of it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Throughput {
    /// The tokens of all steps that were taken, also of trials that failed later.
    pub tokens: u64,
    /// Wall time of training, with evaluations and saving.
    pub seconds: f64,
}

impl Throughput {
    /// Reads the record of the sweep in `out`; `None` if there is no valid one, or nothing was trained.
    pub fn read(out: &Path) -> Option<Self> {
        let throughput: Throughput = serde_json::from_value(files::read_json(&out.join(THROUGHPUT)).ok()?).ok()?;
        (throughput.tokens > 0 && throughput.seconds.is_finite() && throughput.seconds > 0.0).then_some(throughput)
    }

    /// Adds what a group of trials trained to the record in `out`.
    pub fn add(out: &Path, tokens: u64, time: Duration) -> Result<()> {
        let before = Self::read(out).unwrap_or_default();
        let sum = Throughput { tokens: before.tokens + tokens, seconds: before.seconds + time.as_secs_f64() };
        files::write_json(&out.join(THROUGHPUT), &sum)
    }

    /// Removes the record, before a sweep of which nothing was trained yet.
    pub fn forget(out: &Path) {
        let _ = std::fs::remove_file(out.join(THROUGHPUT));
    }

    pub fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }
}

/// `16,300 tokens per second (98,000 in 6.0 s, with evaluations and saving)`.
impl fmt::Display for Throughput {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (speed, tokens) = (thousands(self.tokens_per_s().round() as u64), thousands(self.tokens));
        write!(out, "{speed} tokens per second ({tokens} in {:.1} s, with evaluations and saving)", self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_of_a_sweep_add_up() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Throughput::read(folder.path()), None);
        Throughput::add(folder.path(), 60_000, Duration::from_secs(4)).unwrap();
        Throughput::add(folder.path(), 38_000, Duration::from_millis(2000)).unwrap();
        let sum = Throughput::read(folder.path()).unwrap();
        assert_eq!(sum, Throughput { tokens: 98_000, seconds: 6.0 });
        assert_eq!(sum.to_string(), "16,333 tokens per second (98,000 in 6.0 s, with evaluations and saving)");
        Throughput::forget(folder.path());
        assert_eq!(Throughput::read(folder.path()), None);
    }

    #[test]
    fn a_damaged_record_is_none() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["{", "{\"tokens\": 5}", "{\"tokens\": 0, \"seconds\": 1.0}", "{\"tokens\": 5, \"seconds\": 0.0}"] {
            std::fs::write(folder.path().join(THROUGHPUT), text).unwrap();
            assert_eq!(Throughput::read(folder.path()), None, "{text}");
        }
    }
}
