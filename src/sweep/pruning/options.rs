//! The option `prune` of a sweep.

use crate::error::{Error, Result};
use crate::options;
use crate::options::{Declared, Mismatch, OptionSet, OptionType, Refusal, Source, Table, Value};
use crate::suggest;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// Which settings go on at a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PruneRule {
    /// Successive halving: the best of every `eta` settings.
    Halving,
    /// Those whose best value is no worse than the median of the others' means.
    Median,
}

crate::choices!(
    PruneRule,
    [
        ("halving", PruneRule::Halving),
        ("median", PruneRule::Median),
        ("successive_halving", PruneRule::Halving),
        ("asha", PruneRule::Halving),
    ]
);

options! {
    /// How trials that fall behind are stopped.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub struct PruneOptions {
        /// "halving" lets the best of every `eta` settings go on at each rung; "median" stops a setting whose best value so
        /// far is worse than the median of the others' means so far. "asha" is "halving": trials here wait for each other.
        pub rule: PruneRule = PruneRule::Halving;
        /// With "halving": of how many settings one goes on, and how many times as many steps it then trains.
        pub eta: u64 = 3, alias ["reduction_factor"], range at_least(2.0);
        /// The steps before which no trial is stopped.
        pub min_steps: Option<u64> = None, alias ["warmup_steps", "min_resource", "grace_period"],
            range at_least(1.0), words "the steps of a trial / eta², and its learning rate's warm-up";
        /// The number that settings are compared by, as measured at the rung: a loss, or another one that the objective
        /// measures on held-out rows.
        pub metric: String = "eval_loss".to_owned();
        /// Keep the state of each stopped trial in its folder, so that it can go on later.
        pub keep_states: bool = true;
    }
}

/// The value of `prune`: whether trials are stopped early, and how.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pruning(pub Option<PruneOptions>);

impl OptionType for Pruning {
    fn type_name() -> String {
        "bool, string or map".to_owned()
    }
    fn expected() -> String {
        "\"halving\", \"median\", a map of options, or false".to_owned()
    }
    fn inner() -> Option<&'static Table> {
        Some(PruneOptions::table())
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Bool(false) => Ok(Pruning(None)),
            Value::Bool(true) => Ok(Pruning(Some(PruneOptions::default()))),
            Value::Text(_) => {
                let rule = PruneRule::from_value(value);
                let rule = rule.map_err(|mismatch| Mismatch { expected: Self::expected(), ..mismatch })?;
                Ok(Pruning(Some(PruneOptions { rule, ..PruneOptions::default() })))
            }
            Value::Map(entries) => options_of(entries).map(|options| Pruning(Some(options))),
            other => Err(Mismatch::of::<Self>(other)),
        }
    }
    fn to_value(&self) -> Value {
        let named = |(name, value): (&str, Value)| (name.to_owned(), value);
        self.0
            .as_ref()
            .map_or(Value::Bool(false), |options| Value::Map(options.values().into_iter().map(named).collect()))
    }
}

/// The entries of a map as a source of options.
struct Entries<'a> {
    rest: Vec<&'a (String, Value)>,
    refusal: RefCell<Option<Refusal>>,
}

impl Source for Entries<'_> {
    fn take(&mut self, option: &Declared) -> Result<Option<Value>> {
        let (named, rest): (Vec<_>, Vec<_>) = self.rest.drain(..).partition(|(name, _)| option.is_called(name));
        self.rest = rest;
        match named[..] {
            [] => Ok(None),
            [(_, value)] => Ok(Some(value.clone())),
            [(name, _), (other, _), ..] => {
                let refusal = Refusal::new(option.name, format!("`{name}` or `{other}`, which are the same"), "both");
                Err(self.refuse(refusal.with_hint("leave one of them out")))
            }
        }
    }

    fn refuse(&self, refusal: Refusal) -> Error {
        let error = refusal.clone().error("prune");
        self.refusal.replace(Some(refusal));
        error
    }
}

fn options_of(entries: &[(String, Value)]) -> Result<PruneOptions, Mismatch> {
    let mut source = Entries { rest: entries.iter().collect(), refusal: RefCell::default() };
    let options = PruneOptions::read(&mut source);
    if let (Ok(_), Some((name, value))) = (&options, source.rest.first()) {
        let known: Vec<&str> = PruneOptions::table().options().into_iter().map(|option| option.name).collect();
        let hint = suggest::hint(name, known.iter().copied());
        let inside = Some((name.clone(), format!("an unknown option, {}", value.describe())));
        return Err(Mismatch { expected: format!("one of {}", known.join(", ")), hint: Some(hint), inside });
    }
    options.map_err(|error| match source.refusal.take() {
        Some(Refusal { option, expected, found, hint }) => Mismatch { expected, hint, inside: Some((option, found)) },
        None => Mismatch { expected: error.message, hint: error.hint, inside: None },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<Pruning, Mismatch> {
        Pruning::from_value(&Value::from(&value))
    }

    #[test]
    fn a_name_a_map_and_a_switch_are_read() {
        let rule = |value| read(value).unwrap().0.map(|options| options.rule);
        assert_eq!(rule(json!(false)), None);
        assert_eq!(rule(json!(true)), Some(PruneRule::Halving));
        assert_eq!((rule(json!("asha")), rule(json!("median"))), (Some(PruneRule::Halving), Some(PruneRule::Median)));
        let map = read(json!({"reduction_factor": 4, "min_steps": 10, "metric": "train_loss"})).unwrap().0.unwrap();
        assert_eq!((map.eta, map.min_steps, map.metric.as_str()), (4, Some(10), "train_loss"));
        assert_eq!(map.rule, PruneRule::Halving);
        let again = Pruning(Some(map.clone())).to_value();
        assert_eq!(Pruning::from_value(&again), Ok(Pruning(Some(map))));
    }

    #[test]
    fn wrong_values_are_refused_by_their_names() {
        let wrong = |value| read(value).unwrap_err();
        let eta = wrong(json!({"eta": 1}));
        assert_eq!((eta.expected.as_str(), eta.inside), ("int of at least 2", Some(("eta".into(), "1".into()))));
        let unknown = wrong(json!({"etta": 3}));
        assert_eq!((unknown.inside.unwrap().0.as_str(), unknown.hint.unwrap().contains("`eta`")), ("etta", true));
        assert!(wrong(json!("halfing")).hint.unwrap().contains("halving"));
        assert!(wrong(json!(3)).expected.starts_with("\"halving\", \"median\""));
    }
}
