//! Finds for each setting the best value of one option: a search along its candidates, in rounds that all settings
//! share.

use super::space::Distribution;
use crate::options::{Mismatch, OptionType, Value};
use std::collections::BTreeMap;

/// The option that each setting tunes, and its candidates in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tune {
    pub option: String,
    pub candidates: Vec<serde_json::Value>,
}

/// The learning rates that are tried by default: half decades around those that LoRA is trained with.
const LEARNING_RATES: [f64; 7] = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2];

impl OptionType for Tune {
    fn type_name() -> String {
        "string or map of distributions".to_owned()
    }
    fn expected() -> String {
        "\"lr\", or one option with the values to try".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Text(option) if option == "lr" || option == "learning_rate" => {
                Ok(Tune { option: option.clone(), candidates: LEARNING_RATES.map(serde_json::Value::from).to_vec() })
            }
            Value::Map(entries) => match entries.as_slice() {
                [(option, values)] => {
                    let distribution =
                        Distribution::from_value(values).map_err(|mismatch| mismatch.at(option, values))?;
                    let candidates = distribution.candidates();
                    if candidates.len() < 2 {
                        return Err(Mismatch::expected("at least two values to try", values).at(option, values));
                    }
                    Ok(Tune { option: option.clone(), candidates })
                }
                _ => Err(Mismatch::of::<Self>(value)),
            },
            other => {
                Err(Mismatch::of::<Self>(other).with_hint("as in tune: \"lr\", or tune: #{ lr: [1e-4, 3e-4, 1e-3] }"))
            }
        }
    }
    fn to_value(&self) -> Value {
        let candidates = self.candidates.iter().map(Value::from).collect();
        Value::Map(vec![(self.option.clone(), Value::Array(candidates))])
    }
}

/// The search of one setting along the candidates. It begins with the middle and its neighbours, and goes on to the side of
/// the best until both of its neighbours are worse: the loss falls and then rises along a learning rate.
#[derive(Debug, Clone)]
pub struct Climb {
    candidates: usize,
    /// The scores of those that were tried, of which smaller ones are better; `None` where the trial failed.
    tried: BTreeMap<usize, Option<f64>>,
}

impl Climb {
    pub fn new(candidates: usize) -> Self {
        Climb { candidates, tried: BTreeMap::new() }
    }

    pub fn record(&mut self, candidate: usize, score: Option<f64>) {
        self.tried.insert(candidate, score);
    }

    pub fn tried(&self) -> impl Iterator<Item = usize> + '_ {
        self.tried.keys().copied()
    }

    /// The candidate with the best score so far, the first of equal ones.
    pub fn best(&self) -> Option<usize> {
        let scored = self.tried.iter().filter_map(|(candidate, score)| Some((*candidate, (*score)?)));
        scored.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(candidate, _)| candidate)
    }

    /// Is the best candidate at an end, so that a better value may lie beyond?
    pub fn is_at_an_end(&self) -> bool {
        self.best().is_some_and(|best| best == 0 || best + 1 == self.candidates)
    }

    /// The candidates to try next; none once the best is found.
    pub fn next(&self) -> Vec<usize> {
        let center = match self.best() {
            Some(best) => best,
            None if self.tried.is_empty() => (self.candidates - 1) / 2,
            // All failed: what fails at a high learning rate may work at a lower one.
            None => match self.tried.keys().next() {
                Some(lowest) if *lowest > 0 => return vec![lowest - 1],
                _ => return Vec::new(),
            },
        };
        let around = center.saturating_sub(1)..=(center + 1).min(self.candidates - 1);
        around.filter(|candidate| !self.tried.contains_key(candidate)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The candidates that a search tries for these losses, and the best.
    fn search(losses: &[Option<f64>]) -> (Vec<usize>, Option<usize>) {
        let mut climb = Climb::new(losses.len());
        loop {
            let next = climb.next();
            if next.is_empty() {
                return (climb.tried().collect(), climb.best());
            }
            next.iter().for_each(|&candidate| climb.record(candidate, losses[candidate]));
        }
    }

    #[test]
    fn the_search_ends_when_both_neighbours_are_worse() {
        let losses = [5.0, 4.0, 3.0, 2.0, 1.0, 2.5, 4.0].map(Some);
        assert_eq!(search(&losses), (vec![2, 3, 4, 5], Some(4)));
        assert_eq!(search(&[3.0, 1.0, 2.0].map(Some)), (vec![0, 1, 2], Some(1)));
        assert_eq!(search(&[1.0, 2.0, 3.0, 4.0, 5.0].map(Some)), (vec![0, 1, 2, 3], Some(0)));
    }

    #[test]
    fn failed_trials_count_as_worse() {
        let losses = [Some(3.0), Some(2.0), Some(2.5), None, None];
        assert_eq!(search(&losses), (vec![0, 1, 2, 3], Some(1)));
        let losses = [Some(3.0), None, None, None, None, None, None];
        assert_eq!(search(&losses), (vec![0, 1, 2, 3, 4], Some(0)));
        assert_eq!(search(&[None, None]), (vec![0, 1], None));
    }

    #[test]
    fn the_learning_rate_has_candidates_of_its_own() {
        let read = |value: serde_json::Value| Tune::from_value(&Value::from(&value));
        assert_eq!(read(json!("lr")).unwrap().candidates.len(), 7);
        assert_eq!(read(json!({"lr": [1e-4, 1e-3]})).unwrap().candidates, [json!(1e-4), json!(1e-3)]);
        for wrong in [json!("rank"), json!({}), json!({"lr": [1e-4]}), json!({"lr": [1], "rank": [2]}), json!(3)] {
            assert!(read(wrong).is_err());
        }
    }
}
