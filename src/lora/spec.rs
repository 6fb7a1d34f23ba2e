//! The specification of an adapter: rank, scale, targets. Names and defaults are PEFT's.

use super::nested_options::NestedOptions;
use super::pattern::Pattern;
use crate::options;
use crate::options::{Mismatch, OneOrMany, OptionType, Refusal, Value};
use crate::suggest;
use serde::Serialize;
use serde_json::{json, Map};

/// Which linear layers carry an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Targets {
    /// Every linear layer but the output head.
    AllLinear,
    /// Module names, matched exactly or as a dotted suffix.
    Names(Vec<String>),
    /// A regular expression over the full module name.
    Pattern(String),
}

/// How fresh adapters are initialised. A fresh adapter changes nothing: B is zero, or the base becomes the
/// residual W - s B₀A₀.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Init {
    /// A uniform in ±1/√in: PEFT's default (`init_lora_weights=True`).
    KaimingUniform,
    /// A normal with standard deviation 1/r.
    Gaussian,
    /// The r largest singular values of the base's weight.
    Pissa,
    /// The first r columns and rows of the base's QR decomposition.
    Olora,
}

impl Init {
    /// Are A and B initialised from W, so that the base becomes the residual?
    pub fn splits_base(self) -> bool {
        matches!(self, Init::Pissa | Init::Olora)
    }

    /// Reads PEFT's `init_lora_weights`. `pissa_niter_N`, a randomised approximation, becomes exact PiSSA.
    pub fn parse(name: &str) -> Option<Self> {
        let iterations = name.strip_prefix("pissa_niter_");
        match name {
            "kaiming" => Some(Init::KaimingUniform),
            "gaussian" => Some(Init::Gaussian),
            "pissa" => Some(Init::Pissa),
            "olora" => Some(Init::Olora),
            _ if iterations.is_some_and(|count| count.parse::<u32>().is_ok()) => Some(Init::Pissa),
            _ => None,
        }
    }
}

/// Which biases of the base are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Bias {
    None,
    /// Every bias that the base has.
    All,
    /// Those of the adapted layers.
    LoraOnly,
}

impl Bias {
    /// PEFT's names.
    pub const NAMES: [(&'static str, Bias); 3] =
        [("none", Bias::None), ("all", Bias::All), ("lora_only", Bias::LoraOnly)];

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, bias)| *bias == self).map_or("none", |(name, _)| name)
    }
}

/// PEFT's `trainable_token_indices`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub enum TrainableTokens {
    #[default]
    None,
    /// Of the input embeddings, and of the head that shares them.
    Embeddings(Vec<i64>),
    /// By module: "embed_tokens", "lm_head".
    ByModule(Vec<(String, Vec<i64>)>),
}

impl TrainableTokens {
    pub fn is_none(&self) -> bool {
        *self == TrainableTokens::None
    }
}

impl OptionType for Targets {
    fn type_name() -> String {
        "string or array of string".to_owned()
    }
    fn expected() -> String {
        "\"all-linear\", a regular expression, or an array of names".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value.as_str() {
            Some("all-linear") => return Ok(Targets::AllLinear),
            Some(pattern) => return Ok(Targets::Pattern(pattern.to_owned())),
            None => {}
        }
        match Vec::from_value(value) {
            Ok(names) if !names.is_empty() => Ok(Targets::Names(names)),
            _ => Err(Mismatch::of::<Self>(value)),
        }
    }
    fn to_value(&self) -> Value {
        match self {
            Targets::AllLinear => Value::Text("all-linear".to_owned()),
            Targets::Pattern(pattern) => Value::Text(pattern.clone()),
            Targets::Names(names) => names.to_value(),
        }
    }
}

impl OptionType for Init {
    fn type_name() -> String {
        "string or bool".to_owned()
    }
    fn expected() -> String {
        "true, \"kaiming\", \"gaussian\", \"pissa\", \"olora\" or \"pissa_niter_N\" with a number N".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let mismatch = Mismatch::of::<Self>(value);
        match value {
            Value::Bool(true) => Ok(Init::KaimingUniform),
            Value::Text(name) => Init::parse(name)
                .ok_or_else(|| mismatch.with_hint(suggest::hint(name, ["kaiming", "gaussian", "pissa", "olora"]))),
            _ => Err(mismatch),
        }
    }
    fn to_value(&self) -> Value {
        let name = match self {
            Init::KaimingUniform => "kaiming",
            Init::Gaussian => "gaussian",
            Init::Pissa => "pissa",
            Init::Olora => "olora",
        };
        Value::Text(name.to_owned())
    }
}

crate::choices!(Bias, [("none", Bias::None), ("all", Bias::All), ("lora_only", Bias::LoraOnly)]);

impl OptionType for TrainableTokens {
    fn type_name() -> String {
        "array of int or map".to_owned()
    }
    fn expected() -> String {
        "an array of token ids, or a map with such an array for `embed_tokens` and `lm_head`".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let mismatch = || Mismatch::of::<Self>(value);
        let Some(entries) = value.as_map() else {
            return Vec::from_value(value).map(TrainableTokens::Embeddings).map_err(|_| mismatch());
        };
        let module = |(name, ids): &(String, Value)| Ok((name.clone(), Vec::from_value(ids).map_err(|_| mismatch())?));
        Ok(TrainableTokens::ByModule(entries.iter().map(module).collect::<Result<_, _>>()?))
    }
    fn to_value(&self) -> Value {
        match self {
            TrainableTokens::None => Value::Unit,
            TrainableTokens::Embeddings(ids) => ids.to_value(),
            TrainableTokens::ByModule(modules) => {
                Value::Map(modules.iter().map(|(name, ids)| (name.clone(), ids.to_value())).collect())
            }
        }
    }
}

options! {
    #[derive(Debug, Clone, PartialEq, Serialize)]
    pub struct LoraSpec {
        /// The rank.
        pub r: i64 = 8, alias ["rank"], range at_least(1.0);
        /// The output of an adapter is scaled by `alpha / r`.
        pub alpha: f64 = 8.0, alias ["lora_alpha"], range above(0.0);
        /// The probability that an input of an adapter is dropped in training.
        pub dropout: f64 = 0.0, alias ["lora_dropout"], range probability(), hint "5 % is 0.05";
        /// Scale by `alpha / sqrt(r)` instead: rank-stabilised LoRA.
        pub use_rslora: bool = false, alias ["rslora"];
        /// The layers that carry an adapter: an array of names ("embed_tokens" may be one), "all-linear", or a regular
        /// expression over full names.
        pub target_modules: Targets = Targets::Names(vec!["q_proj".to_owned(), "v_proj".to_owned()]),
            alias ["targets"];
        /// Layers among these that carry none, written in the same way.
        pub exclude_modules: Option<Targets> = None;
        /// Only these decoder layers: a number or an array of them.
        pub layers_to_transform: Option<OneOrMany<usize>> = None, words "all";
        /// Ranks by layer name, over `r`: a map, or an array of pairs such as `[["q_proj", 4], [".*proj", 8]]`. The
        /// first key that matches a layer counts.
        pub rank_pattern: Pattern<i64> = Pattern::default(), range at_least(1.0);
        /// Alphas by layer name, over `alpha`.
        pub alpha_pattern: Pattern<f64> = Pattern::default(), range above(0.0);
        /// The starting values: "kaiming" (or true), "gaussian", or "pissa", "pissa_niter_4" and "olora", which are
        /// computed from W and leave the residual in the base.
        pub init: Init = Init::KaimingUniform, alias ["init_lora_weights"];
        /// Weight-decomposed LoRA: a magnitude for every output beside the low-rank direction.
        pub use_dora: bool = false, alias ["dora"];
        /// The biases of the base that are trained with the adapter: none, all, or those of adapted layers.
        pub bias: Bias = Bias::None;
        /// Modules of which the adapter trains a full copy: linear layers, "lm_head", "embed_tokens", norms. A name
        /// means every module whose name ends with it.
        pub modules_to_save: Vec<String> = Vec::new();
        /// A bias behind each B, trained from 0.
        #[serde(skip_serializing_if = "is_false")]
        pub lora_bias: bool = false;
        /// Ids of tokens whose rows of the embeddings are trained, or a map with such ids for "embed_tokens" and
        /// "lm_head".
        #[serde(skip_serializing_if = "TrainableTokens::is_none")]
        pub trainable_token_indices: TrainableTokens = TrainableTokens::None;
        /// Where head and embeddings share a weight: one copy for both in `modules_to_save`.
        #[serde(skip_serializing_if = "is_false")]
        pub ensure_weight_tying: bool = false;
        #[serde(flatten)]
        pub nested: NestedOptions = NestedOptions::default(), is set;
    }
    rule LoraSpec::rule;
}

/// New options stay out of the settings of trials that do not use them, so that finished trials still count as
/// finished.
fn is_false(flag: &bool) -> bool {
    !flag
}

impl LoraSpec {
    /// Rank, scale and targets as options of `add_lora`; those that are not set are left out.
    pub fn fields(&self) -> Map<String, serde_json::Value> {
        let targets = match &self.target_modules {
            Targets::AllLinear => json!("all-linear"),
            Targets::Names(names) => json!(names),
            Targets::Pattern(pattern) => json!(pattern),
        };
        let fields = json!({
            "r": self.r, "alpha": self.alpha, "rank_pattern": self.rank_pattern, "alpha_pattern": self.alpha_pattern,
            "target_modules": targets, "use_rslora": self.use_rslora, "layers_to_transform": self.layers_to_transform,
        });
        let mut fields = fields.as_object().cloned().unwrap_or_default();
        fields.retain(|_, value| !value.is_null());
        fields
    }
}

impl LoraSpec {
    fn rule(&self) -> Option<Refusal> {
        self.bias_of_b_problem().or_else(|| self.nested.problem_with(self.r)).or_else(|| self.nesting_problem())
    }

    /// A variant that prefixes cannot have.
    fn nesting_problem(&self) -> Option<Refusal> {
        let variants = [
            ("use_dora", self.use_dora, "DoRA's magnitudes are of the whole rank"),
            ("init", self.init.splits_base(), "the residual of the base is of the whole rank"),
            ("rank_pattern", self.rank_pattern.iter().next().is_some(), "the prefixes have one rank in all layers"),
            ("bias", self.bias != Bias::None, "biases have no rank"),
            ("modules_to_save", !self.modules_to_save.is_empty(), "whole modules have no rank"),
            ("lora_bias", self.lora_bias, "biases have no rank"),
            ("trainable_token_indices", !self.trainable_token_indices.is_none(), "trained rows have no rank"),
        ];
        let (name, _, reason) = variants.into_iter().find(|(_, is_set, _)| *is_set && self.nested.is_nested())?;
        let refusal = Refusal::new("nested_ranks", "an adapter of A and B alone", format!("`{name}` beside it"));
        Some(refusal.with_hint(format!("leave `{name}` or `nested_ranks` out: {reason}")))
    }

    fn bias_of_b_problem(&self) -> Option<Refusal> {
        let other = if self.use_dora { "use_dora" } else { "init" };
        let collides = self.lora_bias && (self.use_dora || self.init != Init::KaimingUniform);
        let hint = format!("leave `{other}` or `lora_bias` out: peft refuses both together too");
        let refusal =
            Refusal::new("lora_bias", "it with plain LoRA and the default `init`", format!("`{other}` beside it"));
        collides.then(|| refusal.with_hint(hint))
    }

    /// What B(A(x)) is multiplied by: α/r, or α/√r for rank-stabilised LoRA.
    pub fn scale(&self, r: i64, alpha: f64) -> f64 {
        if self.use_rslora {
            alpha / (r as f64).sqrt()
        } else {
            alpha / r as f64
        }
    }
}
