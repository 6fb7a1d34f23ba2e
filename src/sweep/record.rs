//! The result of a trial, and the two files of its folder: `config.json`, written first, and `result.json`, written
//! last. Only a folder with both is complete.

use super::trial::Trial;
use crate::error::{Error, Kind, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::path::Path;

pub const CONFIG: &str = "config.json";
pub const RESULT: &str = "result.json";

/// The measurements of a finished trial. All must be finite: a trial with a NaN loss has failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    pub trainable_params: u64,
    /// Mean cross-entropy in nats per supervised token.
    pub train_loss: f64,
    pub eval_loss: Option<f64>,
    /// Tokens seen in training.
    pub tokens: u64,
    /// Wall time of training.
    pub seconds: f64,
    /// Further columns of the results, by name.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
}

impl Measurements {
    /// exp(eval_loss); the loss on preferences is no cross-entropy, and has none.
    pub fn eval_perplexity(&self) -> Option<f64> {
        let is_preference = self.metrics.keys().any(|name| name.starts_with("eval_rewards/"));
        self.eval_loss.filter(|_| !is_preference).map(f64::exp)
    }

    /// The training speed; 0 if no time was measured.
    pub fn tokens_per_s(&self) -> f64 {
        if self.seconds > 0.0 {
            self.tokens as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// Fails if a number is infinite or not a number.
    pub fn check(&self) -> Result<()> {
        let named = [
            ("train_loss", Some(self.train_loss)),
            ("eval_loss", self.eval_loss),
            ("eval_perplexity", self.eval_perplexity()),
            ("seconds", Some(self.seconds)),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let all = named.chain(self.metrics.iter().map(|(name, value)| (name.as_str(), *value)));
        for (name, value) in all {
            if !value.is_finite() {
                return Err(Error::new(Kind::Numeric, format!("{name}: expected a finite number, found {value}"))
                    .with_hint("lower lr, add warm-up, or clip the gradient"));
            }
        }
        Ok(())
    }
}

/// Why a trial failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The [`Kind`] in lower case.
    pub kind: String,
    pub message: String,
    #[serde(default)]
    pub hint: Option<String>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Failure {
            kind: format!("{:?}", error.kind).to_lowercase(),
            message: error.message.clone(),
            hint: error.hint.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrialResult {
    Finished(Measurements),
    Failed(Failure),
}

/// The content of `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The fingerprint of the trial's settings.
    pub fingerprint: String,
    #[serde(flatten)]
    pub result: TrialResult,
}

impl Record {
    /// Writes `result.json` and returns what a later run will read from it: a float may differ in the last place when
    /// it is read back, and results must not depend on whether a trial was run or skipped.
    pub fn write(&self, folder: &Path) -> Result<Record> {
        files::write_json(&folder.join(RESULT), self)?;
        Self::read(folder).ok_or_else(|| {
            let path = folder.join(RESULT);
            Error::new(Kind::File, format!("cannot read `{}` back after writing it", path.display()))
        })
    }

    /// Reads `result.json`; `None` if there is no valid one, in which case the trial is not complete.
    pub fn read(folder: &Path) -> Option<Record> {
        serde_json::from_value(files::read_json(&folder.join(RESULT)).ok()?).ok()
    }
}

/// Writes `config.json`, which marks the folder of a trial.
pub fn write_config(trial: &Trial) -> Result<()> {
    let config = json!({
        "name": trial.name,
        "point": trial.point.values,
        "fingerprint": trial.fingerprint(),
        "settings": trial.settings,
    });
    files::write_json(&trial.dir.join(CONFIG), &config)
}

/// Reads the settings in `config.json`; `None` if the folder is not a trial's.
pub fn read_settings(folder: &Path) -> Option<Value> {
    let mut config = files::read_json(&folder.join(CONFIG)).ok()?;
    config.get("fingerprint")?;
    config.get_mut("settings").map(Value::take)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Measurements {
        let metrics = BTreeMap::from([("eval_accuracy".to_string(), 0.5)]);
        Measurements { trainable_params: 8, train_loss: 1.5, eval_loss: Some(2.0), tokens: 100, seconds: 4.0, metrics }
    }

    #[test]
    fn derived_numbers() {
        assert_eq!(outcome().tokens_per_s(), 25.0);
        assert_eq!(outcome().eval_perplexity(), Some(2.0_f64.exp()));
        assert_eq!(Measurements { seconds: 0.0, ..outcome() }.tokens_per_s(), 0.0);
    }

    #[test]
    fn numbers_that_are_none_fail_the_trial() {
        assert!(outcome().check().is_ok());
        let bad = [
            Measurements { train_loss: f64::NAN, ..outcome() },
            Measurements { eval_loss: Some(f64::INFINITY), ..outcome() },
            Measurements { eval_loss: Some(1e4), ..outcome() },
            Measurements { metrics: BTreeMap::from([("x".into(), f64::NAN)]), ..outcome() },
        ];
        for outcome in bad {
            assert_eq!(outcome.check().unwrap_err().kind, Kind::Numeric);
        }
    }

    #[test]
    fn records_come_back_and_damaged_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let finished = Record { fingerprint: "ab".into(), result: TrialResult::Finished(outcome()) };
        assert_eq!(finished.write(folder.path()).unwrap(), finished);
        let error = Error::new(Kind::Memory, "out of memory").with_hint("smaller batch");
        let failed = Record { fingerprint: "ab".into(), result: TrialResult::Failed(Failure::from(&error)) };
        assert_eq!(failed.write(folder.path()).unwrap(), failed);
        let text = std::fs::read_to_string(folder.path().join(RESULT)).unwrap();
        for length in 0..text.trim_end().len() {
            std::fs::write(folder.path().join(RESULT), &text[..length]).unwrap();
            assert_eq!(Record::read(folder.path()), None, "cut to {length}");
        }
    }
}
