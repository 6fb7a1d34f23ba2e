//! The options of objectives, by the names and with the defaults of TRL's `DPOConfig`, `ORPOConfig`, `CPOConfig` and
//! `KTOConfig`.

use crate::data::{RowKind, TokenizedDataset};
use crate::error::{Error, Result};
use crate::options;
use crate::options::{range, OptionSet, OptionType, Refusal};
use crate::train::grpo::{GrpoLossConfig, GrpoLossType, GrpoOptions};
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
    /// Rewards for samples.
    Grpo,
}

crate::choices!(
    Objective,
    [
        ("sft", Objective::Sft),
        ("dpo", Objective::Dpo),
        ("orpo", Objective::Orpo),
        ("simpo", Objective::Simpo),
        ("kto", Objective::Kto),
        ("grpo", Objective::Grpo),
    ]
);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DpoLoss {
    #[default]
    Sigmoid,
    Hinge,
    Ipo,
}

/// The losses of DPO, and those of GRPO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossType {
    Dpo(DpoLoss),
    Grpo(GrpoLossType),
}

crate::choices!(
    LossType,
    [
        ("sigmoid", LossType::Dpo(DpoLoss::Sigmoid)),
        ("hinge", LossType::Dpo(DpoLoss::Hinge)),
        ("ipo", LossType::Dpo(DpoLoss::Ipo)),
        ("grpo", LossType::Grpo(GrpoLossType::Grpo)),
        ("bnpo", LossType::Grpo(GrpoLossType::Bnpo)),
        ("dr_grpo", LossType::Grpo(GrpoLossType::DrGrpo)),
        ("dapo", LossType::Grpo(GrpoLossType::Dapo)),
    ]
);

options! {
    #[derive(Debug, Clone, PartialEq)]
    pub struct ObjectiveOptions {
        /// What is trained for: "sft" is cross-entropy; "dpo", "orpo" and "simpo" train on rows of `chosen` and `rejected`,
        /// "kto" on rows of `completion` and `label`; "grpo" on prompts, whose samples functions reward.
        pub kind: Objective = Objective::Sft, name "objective";
        /// DPO and KTO: how strongly the model is held to the reference. ORPO: the weight of the odds ratio. SimPO: the
        /// scale of the rewards. GRPO: the weight of the divergence from the reference.
        pub beta: Option<f64> = None, range range::at_least(0.0), words "0.1; 0 with \"grpo\"";
        /// DPO: "sigmoid", "hinge" or "ipo". GRPO: what the sum of the tokens' losses is divided by: for each sample its
        /// tokens ("grpo"), the tokens of the micro-batch ("bnpo") or of the step ("dapo"), samples times
        /// `max_completion_length` ("dr_grpo").
        pub loss_type: Option<LossType> = None, words "\"sigmoid\"; \"dapo\" with \"grpo\"";
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
        pub grpo: GrpoOptions = GrpoOptions::default(), is set;
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
        if self.beta == Some(0.0) && self.kind != Objective::Grpo {
            return Some(Refusal::new("beta", "float above 0", "float 0.0"));
        }
        if self.kind != Objective::Grpo && self.grpo != GrpoOptions::default() {
            let (values, defaults) = (OptionSet::values(&self.grpo), OptionSet::values(&GrpoOptions::default()));
            let set = values.iter().zip(defaults).find(|(one, other)| one.1.to_json() != other.1.to_json());
            let name = set.map_or("num_generations", |((name, _), _)| name);
            return Some(Refusal::new(name, "objective \"grpo\" with it", self.kind.to_value().describe()));
        }
        let (expected, fits) = match (self.loss_type?, self.kind) {
            (LossType::Dpo(_), kind) => ("objective \"dpo\" with it", kind == Objective::Dpo),
            (LossType::Grpo(_), kind) => ("objective \"grpo\" with it", kind == Objective::Grpo),
        };
        (!fits).then(|| {
            let refusal = Refusal::new("loss_type", expected, self.kind.to_value().describe());
            refusal.with_hint("\"sigmoid\", \"hinge\" and \"ipo\" are losses of DPO, \"grpo\", \"bnpo\", \"dr_grpo\" and \"dapo\" of GRPO; other objectives have one each")
        })
    }

    /// The option or its default for the objective.
    pub fn beta(&self) -> f64 {
        self.beta.unwrap_or(if self.kind == Objective::Grpo { 0.0 } else { 0.1 })
    }

    pub fn dpo_loss(&self) -> DpoLoss {
        match self.loss_type {
            Some(LossType::Dpo(loss)) => loss,
            _ => DpoLoss::default(),
        }
    }

    pub fn grpo_loss(&self) -> GrpoLossConfig {
        let loss_type = match self.loss_type {
            Some(LossType::Grpo(loss)) => loss,
            _ => GrpoLossType::default(),
        };
        GrpoLossConfig { loss_type, beta: self.beta(), options: self.grpo.clone() }
    }

    /// Samples of a row in a step; 1 where rows are trained on themselves.
    pub fn samples_per_row(&self) -> usize {
        if self.kind == Objective::Grpo {
            self.grpo.num_generations
        } else {
            1
        }
    }

    /// Steps on the same rows.
    pub fn steps_per_rollout(&self) -> u64 {
        if self.kind == Objective::Grpo {
            self.grpo.num_iterations
        } else {
            1
        }
    }

    fn values_by_name(&self) -> Vec<(&'static str, crate::options::Value)> {
        crate::options::OptionSet::values(self)
    }

    pub fn is_preference(&self) -> bool {
        !matches!(self.kind, Objective::Sft | Objective::Grpo)
    }

    /// Does the loss compare the model with the one that the run begins with?
    pub fn needs_reference(&self) -> bool {
        matches!(self.kind, Objective::Dpo | Objective::Kto)
    }

    /// The options that change what is trained for.
    fn relevant(&self) -> Vec<&'static str> {
        let of_grpo = || OptionSet::values(&self.grpo).into_iter().map(|(name, _)| name);
        match self.kind {
            Objective::Sft => Vec::new(),
            Objective::Dpo => vec!["objective", "beta", "loss_type", "disable_dropout"],
            Objective::Orpo => vec!["objective", "beta", "disable_dropout"],
            Objective::Simpo => {
                vec!["objective", "beta", "label_smoothing", "simpo_gamma", "cpo_alpha", "disable_dropout"]
            }
            Objective::Kto => vec!["objective", "beta", "desirable_weight", "undesirable_weight", "disable_dropout"],
            Objective::Grpo => ["objective", "beta", "loss_type"].into_iter().chain(of_grpo()).collect(),
        }
    }

    /// Fails for one of these options that changes nothing with the objective. Other options are none of them.
    pub fn ensure_has_effect(&self, name: &str) -> Result<()> {
        let Some(option) = Self::table().find(name) else { return Ok(()) };
        if option.name == "objective" || self.relevant().contains(&option.name) {
            return Ok(());
        }
        let objective = self.kind.to_value().literal();
        Err(Error::input(format!("train: option `{name}`: expected an objective that has it, found {objective}"))
            .with_hint("vary it in a sweep of its own, over the objectives that have it"))
    }

    /// Fails where `data` has not the kind of rows that the objective trains on.
    pub fn ensure_fits(&self, data: &TokenizedDataset) -> Result<()> {
        let name = self.kind.to_value().literal();
        let expected = match self.kind {
            Objective::Sft => RowKind::Examples,
            Objective::Kto => RowKind::Labelled,
            Objective::Dpo | Objective::Orpo | Objective::Simpo => RowKind::Pairs,
            Objective::Grpo => RowKind::Prompts,
        };
        if data.kind() == expected {
            return Ok(());
        }
        let present = match data.kind() {
            RowKind::Examples => "examples",
            RowKind::Pairs => "pairs of chosen and rejected answers",
            RowKind::Labelled => "completions with a label",
            RowKind::Prompts => "prompts",
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
            (Objective::Grpo, _) => (
                "rows of `prompt` and functions that reward their answers",
                "give train the rows as they are: train(model, load_dataset(path), #{ objective: \"grpo\", reward: |answer, row| … }); \
                 in a sweep, train in `trial: |point, run| …`",
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
        Err(Error::data(format!("train: objective {name}: expected {wanted}, found {present}")).with_hint(hint))
    }
}

/// Only what has an effect: the settings of an ordinary run have no part here.
impl Serialize for ObjectiveOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let relevant = self.relevant();
        let values = self.values_by_name();
        let values = values.iter().filter(|(name, _)| relevant.contains(name));
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in values {
            let value = match (*name, self.kind) {
                ("beta", _) => self.beta().to_value(),
                ("loss_type", Objective::Dpo) => LossType::Dpo(self.dpo_loss()).to_value(),
                ("loss_type", _) => LossType::Grpo(self.grpo_loss().loss_type).to_value(),
                _ => value.clone(),
            };
            map.serialize_entry(name, &value.to_json())?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let beta = ObjectiveOptions { beta: Some(0.3), ..ObjectiveOptions::default() };
        let error = beta.ensure_valid("train").unwrap_err();
        assert_eq!(error.message, "train: option `beta`: expected an `objective` with it, found none");
        let simpo = ObjectiveOptions { kind: Objective::Simpo, ..ObjectiveOptions::default() };
        assert!(simpo.ensure_has_effect("simpo_gamma").is_ok() && simpo.ensure_has_effect("rank").is_ok());
        let error = simpo.ensure_has_effect("loss_type").unwrap_err();
        assert_eq!(error.message, "train: option `loss_type`: expected an objective that has it, found \"simpo\"");
        let hinge = ObjectiveOptions { kind: Objective::Orpo, loss_type: Some(LossType::Dpo(DpoLoss::Hinge)), ..beta };
        assert!(hinge.ensure_valid("train").unwrap_err().message.contains("`loss_type`: expected objective \"dpo\""));
    }
}
