//! The specification of an adapter: rank, scale, targets. Names and defaults are PEFT's.

use super::pattern::Pattern;
use crate::bail;
use crate::error::{Kind, Result};
use serde::Serialize;

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

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoraSpec {
    pub r: i64,
    pub alpha: f64,
    pub dropout: f64,
    pub use_rslora: bool,
    pub target_modules: Targets,
    pub exclude_modules: Option<Targets>,
    /// Only these decoder layers; all if absent.
    pub layers_to_transform: Option<Vec<usize>>,
    /// Rank by module name, overriding `r`: the first key that matches wins.
    pub rank_pattern: Pattern<i64>,
    pub alpha_pattern: Pattern<f64>,
    pub init: Init,
    /// Weight-decomposed LoRA: a magnitude for every output, and A and B for the direction.
    pub use_dora: bool,
    pub bias: Bias,
    /// Modules of which the adapter trains a full copy.
    pub modules_to_save: Vec<String>,
    /// A bias of each B, initialised to 0.
    #[serde(skip_serializing_if = "is_false")]
    pub lora_bias: bool,
    /// Rows of the embeddings that are trained while the others stay frozen.
    #[serde(skip_serializing_if = "TrainableTokens::is_none")]
    pub trainable_token_indices: TrainableTokens,
    /// Where head and embeddings share a weight: one copy for both in `modules_to_save`.
    #[serde(skip_serializing_if = "is_false")]
    pub ensure_weight_tying: bool,
}

/// Options that are left at their default are not serialized, so that trials that were finished before the
/// option existed still count as finished.
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Default for LoraSpec {
    fn default() -> Self {
        LoraSpec {
            r: 8,
            alpha: 8.0,
            dropout: 0.0,
            use_rslora: false,
            target_modules: Targets::Names(vec!["q_proj".to_owned(), "v_proj".to_owned()]),
            exclude_modules: None,
            layers_to_transform: None,
            rank_pattern: Pattern::default(),
            alpha_pattern: Pattern::default(),
            init: Init::KaimingUniform,
            use_dora: false,
            bias: Bias::None,
            modules_to_save: Vec::new(),
            lora_bias: false,
            trainable_token_indices: TrainableTokens::None,
            ensure_weight_tying: false,
        }
    }
}

impl LoraSpec {
    /// Refuses values that PEFT refuses, or that could only be slips.
    pub fn check(&self) -> Result<()> {
        for (name, r) in std::iter::once(("r", self.r)).chain(self.rank_pattern.iter().map(|(name, r)| (name, *r))) {
            if r < 1 {
                bail!(Kind::Input, "lora `{name}`: expected a rank of at least 1, found {r}");
            }
        }
        let alphas =
            std::iter::once(("alpha", self.alpha)).chain(self.alpha_pattern.iter().map(|(name, alpha)| (name, *alpha)));
        for (name, alpha) in alphas {
            if !alpha.is_finite() || alpha <= 0.0 {
                bail!(Kind::Input, "lora `{name}`: expected an alpha above 0, found {alpha}");
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            bail!(
                Kind::Input,
                "lora `dropout`: expected a probability in [0, 1), found {}",
                self.dropout;
                hint: "5 % is 0.05"
            );
        }
        if self.lora_bias && (self.use_dora || self.init != Init::KaimingUniform) {
            let other = if self.use_dora { "use_dora" } else { "init" };
            bail!(Kind::Input, "lora `lora_bias`: expected it with plain LoRA and the default `init`, found `{other}` beside it"; hint: "leave `{other}` or `lora_bias` out: peft refuses both together too");
        }
        Ok(())
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
