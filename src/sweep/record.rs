//! The result of a trial, and the two files of its folder: `config.json`, written first, and `result.json`, written
//! last. Only a folder with both is complete.

use super::place::Place;
use super::trial::Trial;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::train::outcome::PEAK_MEMORY;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub const CONFIG: &str = "config.json";
pub const RESULT: &str = "result.json";

/// The measurements of a finished trial. All must be finite: a trial with a NaN loss has failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    pub trainable_params: u64,
    /// Mean cross-entropy in nats per supervised token; `None` in an experiment that measures none.
    pub train_loss: Option<f64>,
    pub eval_loss: Option<f64>,
    /// Tokens seen in training.
    pub tokens: u64,
    /// Time of training; of a trial side by side with others, its share of that of its worker.
    pub seconds: f64,
    /// Further columns of the results, by name.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// The names among `metrics` that functions of the caller measured.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub measured: BTreeSet<String>,
}

/// Names of results that are columns of their own.
const FIXED: [&str; 5] = ["trainable_params", "train_loss", "eval_loss", "tokens", "seconds"];
/// Columns that follow from these.
const DERIVED: [&str; 2] = ["eval_perplexity", "tokens_per_s"];

impl Measurements {
    /// The results of an experiment that took `seconds`, by name.
    pub fn of(results: BTreeMap<String, f64>, seconds: f64) -> Self {
        let number = |name: &str| results.get(name).copied();
        let count = |name: &str| number(name).map_or(0, |count| count.max(0.0) as u64);
        let is_free = |name: &String| !FIXED.contains(&name.as_str()) && !DERIVED.contains(&name.as_str());
        let metrics: BTreeMap<String, f64> = results.iter().filter(|(name, _)| is_free(name)).map(pair).collect();
        Measurements {
            trainable_params: count("trainable_params"),
            train_loss: number("train_loss"),
            eval_loss: number("eval_loss"),
            tokens: count("tokens"),
            seconds: number("seconds").unwrap_or(seconds),
            measured: metrics.keys().filter(|name| *name != PEAK_MEMORY).cloned().collect(),
            metrics,
        }
    }

    /// Adds what a function measured of a trained model.
    ///
    /// # Errors
    /// A name that is that of another number.
    pub fn add(&mut self, metrics: BTreeMap<String, f64>) -> Result<()> {
        for (name, value) in metrics {
            if self.metrics.insert(name.clone(), value).is_some() {
                return Err(Error::input(format!("metrics: `{name}` is measured by the sweep itself"))
                    .with_hint("choose another name"));
            }
            self.measured.insert(name);
        }
        Ok(())
    }

    /// exp(eval_loss); the loss on preferences is no cross-entropy, and has none.
    pub fn eval_perplexity(&self) -> Option<f64> {
        let is_preference = self.metrics.keys().any(|name| name.starts_with("eval_rewards/"));
        self.eval_loss.filter(|_| !is_preference).map(f64::exp)
    }

    /// A number by the name of its column; `None` where the trial has no such number.
    pub fn number(&self, name: &str) -> Option<f64> {
        let present = |count: u64| (count > 0).then_some(count as f64);
        match name {
            "trainable_params" => present(self.trainable_params),
            "train_loss" => self.train_loss,
            "eval_loss" => self.eval_loss,
            "eval_perplexity" => self.eval_perplexity(),
            "tokens" => present(self.tokens),
            "tokens_per_s" => present(self.tokens).map(|_| self.tokens_per_s()),
            "seconds" => Some(self.seconds),
            other => self.metrics.get(other).copied(),
        }
    }

    /// The training speed, which is that of its worker; 0 if no time was measured.
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
            ("train_loss", self.train_loss),
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

fn pair((name, value): (&String, &f64)) -> (String, f64) {
    (name.clone(), *value)
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

/// A trial that was stopped early, because it fell behind the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrunedTrial {
    /// The step after which it was stopped.
    pub step: u64,
    /// The steps that the whole trial would have taken, and their tokens.
    pub steps: u64,
    pub planned_tokens: u64,
    /// At that step.
    pub measurements: Measurements,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrialResult {
    Finished(Measurements),
    Failed(Failure),
    Pruned(PrunedTrial),
}

/// A trial as far as it was trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    pub measurements: Measurements,
    /// Did it pause before its end?
    pub is_paused: bool,
}

impl From<Measurements> for Trained {
    fn from(measurements: Measurements) -> Self {
        Trained { measurements, is_paused: false }
    }
}

/// The content of `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The fingerprint of the trial's settings.
    pub fingerprint: String,
    #[serde(flatten)]
    pub result: TrialResult,
    /// Where the trial ran; unknown of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
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
        let measured = BTreeSet::new();
        let (trainable_params, tokens, seconds) = (8, 100, 4.0);
        let (train_loss, eval_loss) = (Some(1.5), Some(2.0));
        Measurements { trainable_params, train_loss, eval_loss, tokens, seconds, metrics, measured }
    }

    #[test]
    fn derived_numbers() {
        assert_eq!(outcome().tokens_per_s(), 25.0);
        assert_eq!(outcome().eval_perplexity(), Some(2.0_f64.exp()));
        assert_eq!(Measurements { seconds: 0.0, ..outcome() }.tokens_per_s(), 0.0);
    }

    #[test]
    fn results_of_an_experiment_have_their_columns() {
        let results = [("accuracy", 0.5), ("eval_loss", 2.0), ("eval_perplexity", 9.0), ("tokens", 10.0)];
        let results = results.map(|(name, value)| (name.to_owned(), value));
        let mut outcome = Measurements::of(BTreeMap::from(results), 4.0);
        assert_eq!(
            (outcome.train_loss, outcome.eval_loss, outcome.tokens, outcome.seconds),
            (None, Some(2.0), 10, 4.0)
        );
        assert_eq!(outcome.metrics, BTreeMap::from([("accuracy".to_owned(), 0.5)]));
        outcome.add(BTreeMap::from([("bleu".to_owned(), 1.0)])).unwrap();
        assert!(outcome.measured.contains("bleu") && outcome.check().is_ok());
        assert!(outcome.add(BTreeMap::from([("accuracy".to_owned(), 1.0)])).unwrap_err().message.contains("accuracy"));
    }

    #[test]
    fn numbers_that_are_none_fail_the_trial() {
        assert!(outcome().check().is_ok());
        let bad = [
            Measurements { train_loss: Some(f64::NAN), ..outcome() },
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
        let place = Some(Place::here(None));
        let finished = Record { fingerprint: "ab".into(), result: TrialResult::Finished(outcome()), place };
        assert_eq!(finished.write(folder.path()).unwrap(), finished);
        let error = Error::new(Kind::Memory, "out of memory").with_hint("smaller batch");
        let result = TrialResult::Failed(Failure::from(&error));
        let failed = Record { fingerprint: "ab".into(), result, place: None };
        assert_eq!(failed.write(folder.path()).unwrap(), failed);
        let text = std::fs::read_to_string(folder.path().join(RESULT)).unwrap();
        for length in 0..text.trim_end().len() {
            std::fs::write(folder.path().join(RESULT), &text[..length]).unwrap();
            assert_eq!(Record::read(folder.path()), None, "cut to {length}");
        }
    }
}
