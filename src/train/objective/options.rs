//! The options of objectives, by the names and with the defaults of TRL's `DPOConfig`, `ORPOConfig`, `CPOConfig` and
//! `KTOConfig`.

use crate::data::{RowKind, TokenizedDataset};
use crate::error::{Error, Result};
use crate::options;
use crate::options::{range, OptionType, Refusal};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Objective {
    /// Cross-entropy.
    #[default]
    Sft,
    Dpo,
    Orpo,
    /// TRL's `CPOTrainer` with `loss_type="simpo"`.
    Simpo,
    Kto,
}

crate::choices!(
    Objective,
    [
        ("sft", Objective::Sft),
        ("dpo", Objective::Dpo),
        ("orpo", Objective::Orpo),
        ("simpo", Objective::Simpo),
        ("kto", Objective::Kto),
    ]
);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DpoLoss {
    #[default]
    Sigmoid,
    Hinge,
    Ipo,
}

crate::choices!(DpoLoss, [("sigmoid", DpoLoss::Sigmoid), ("hinge", DpoLoss::Hinge), ("ipo", DpoLoss::Ipo)]);

options! {
    #[derive(Debug, Clone, PartialEq)]
    pub struct ObjectiveOptions {
        /// What is trained for: "sft" is cross-entropy; "dpo", "orpo" and "simpo" train on rows of `chosen` and `rejected`,
        /// "kto" on rows of `completion` and `label`.
        pub kind: Objective = Objective::Sft, name "objective";
        /// DPO and KTO: how strongly the model is held to the reference. ORPO: the weight of the odds ratio. SimPO: the
        /// scale of the rewards.
        pub beta: f64 = 0.1, range range::above(0.0);
        /// The loss of DPO.
        pub loss_type: DpoLoss = DpoLoss::Sigmoid;
        /// SimPO: the probability that a pair is labelled the wrong way round.
        pub label_smoothing: f64 = 0.0, range range::probability();
        /// SimPO: the margin between the rewards that is aimed at.
        pub simpo_gamma: f64 = 0.5, range range::at_least(0.0);
        /// SimPO: the weight of the cross-entropy of chosen answers; 0 is SimPO as in its paper.
        pub cpo_alpha: f64 = 1.0, range range::at_least(0.0);
        /// KTO: the weight of desirable completions.
        pub desirable_weight: f64 = 1.0, range range::at_least(0.0);
        /// KTO: the weight of undesirable completions.
        pub undesirable_weight: f64 = 1.0, range range::at_least(0.0);
        /// Trains on preferences without the adapter's dropout, as TRL does.
        pub disable_dropout: bool = true;
    }
    rule ObjectiveOptions::rule;
}

impl ObjectiveOptions {
    fn rule(&self) -> Option<Refusal> {
        let default = ObjectiveOptions { kind: self.kind, ..ObjectiveOptions::default() };
        if self.kind == Objective::Sft && *self != default {
            let values = self.values_by_name();
            let set =
                values.iter().zip(default.values_by_name()).find(|(one, other)| one.1.to_json() != other.1.to_json());
            let name = set.map_or("beta", |((name, _), _)| name);
            let refusal = Refusal::new(name, "an `objective` with it", "none");
            return Some(refusal.with_hint("name what is trained for, e.g. objective: \"dpo\""));
        }
        let is_dpo = self.kind == Objective::Dpo;
        (!is_dpo && self.loss_type != DpoLoss::Sigmoid).then(|| {
            let refusal = Refusal::new("loss_type", "objective \"dpo\" with it", self.kind.to_value().describe());
            refusal.with_hint("leave it out; other objectives have one loss each")
        })
    }

    fn values_by_name(&self) -> Vec<(&'static str, crate::options::Value)> {
        crate::options::OptionSet::values(self)
    }

    pub fn is_preference(&self) -> bool {
        self.kind != Objective::Sft
    }

    /// Does the loss compare the model with the one that the run begins with?
    pub fn needs_reference(&self) -> bool {
        matches!(self.kind, Objective::Dpo | Objective::Kto)
    }

    /// Fails where `data` has not the kind of rows that the objective trains on.
    pub fn ensure_fits(&self, data: &TokenizedDataset) -> Result<()> {
        let name = self.kind.to_value().literal();
        let expected = match self.kind {
            Objective::Sft => RowKind::Examples,
            Objective::Kto => RowKind::Labelled,
            Objective::Dpo | Objective::Orpo | Objective::Simpo => RowKind::Pairs,
        };
        if data.kind() == expected {
            return Ok(());
        }
        let found = match data.kind() {
            RowKind::Examples => "examples",
            RowKind::Pairs => "pairs of chosen and rejected answers",
            RowKind::Labelled => "completions with a label",
            RowKind::Mixed => "rows of several kinds, concatenated",
        };
        let (wanted, hint) = match (self.kind, data.kind()) {
            (Objective::Sft, RowKind::Pairs) => (
                "examples",
                "train on the preferences with objective: \"dpo\", or on the chosen answers alone: \
                 data.map(|row| #{ prompt: row.prompt, completion: row.chosen })",
            ),
            (Objective::Sft, _) => (
                "examples",
                "train on the labels with objective: \"kto\", or on all completions alike: \
                 data.map(|row| #{ prompt: row.prompt, completion: row.completion })",
            ),
            (Objective::Kto, RowKind::Pairs) => (
                "rows of `prompt`, `completion` and `label` (true or false)",
                "make two rows of each pair, or train on the pairs with objective: \"dpo\"",
            ),
            (Objective::Kto, _) => (
                "rows of `prompt`, `completion` and `label` (true or false)",
                "map the rows: data.map(|row| #{ prompt: row.question, completion: row.answer, label: row.liked })",
            ),
            _ => (
                "rows of `prompt`, `chosen` and `rejected`",
                "map the rows: data.map(|row| #{ prompt: row.question, chosen: row.better, rejected: row.worse }), or \
                 leave out the columns by which they are read as examples, such as `messages`",
            ),
        };
        Err(Error::data(format!("train: objective {name}: expected {wanted}, found {found}")).with_hint(hint))
    }
}

/// Only what has an effect: the settings of an ordinary run have no part here.
impl Serialize for ObjectiveOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let relevant: &[&str] = match self.kind {
            Objective::Sft => &[],
            Objective::Dpo => &["objective", "beta", "loss_type", "disable_dropout"],
            Objective::Orpo => &["objective", "beta", "disable_dropout"],
            Objective::Simpo => {
                &["objective", "beta", "label_smoothing", "simpo_gamma", "cpo_alpha", "disable_dropout"]
            }
            Objective::Kto => &["objective", "beta", "desirable_weight", "undesirable_weight", "disable_dropout"],
        };
        let values = self.values_by_name();
        let values = values.iter().filter(|(name, _)| relevant.contains(name));
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in values {
            map.serialize_entry(name, &value.to_json())?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OptionSet;
    use serde_json::json;

    #[test]
    fn settings_hold_what_has_an_effect() {
        let of = |kind| serde_json::to_value(ObjectiveOptions { kind, ..ObjectiveOptions::default() }).unwrap();
        assert_eq!(of(Objective::Sft), json!({}));
        let dpo = json!({"objective": "dpo", "beta": 0.1, "loss_type": "sigmoid", "disable_dropout": true});
        assert_eq!(of(Objective::Dpo), dpo);
        assert_eq!(of(Objective::Simpo)["cpo_alpha"], 1.0);
    }

    #[test]
    fn options_without_their_objective_are_refused() {
        let beta = ObjectiveOptions { beta: 0.3, ..ObjectiveOptions::default() };
        let error = beta.ensure_valid("train").unwrap_err();
        assert_eq!(error.message, "train: option `beta`: expected an `objective` with it, found none");
        let hinge = ObjectiveOptions { kind: Objective::Orpo, loss_type: DpoLoss::Hinge, ..beta };
        assert!(hinge.ensure_valid("train").unwrap_err().message.contains("`loss_type`: expected objective \"dpo\""));
    }
}
