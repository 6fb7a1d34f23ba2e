//! What differs between the layers of model families. The default is Llama's; each file in `family/` states what its
//! family changes.

use super::experts::Routing;
use super::rope_scaling::RopeScaling;
use crate::native::LogitShape;

#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    pub norm_placement: NormPlacement,
    pub norm_kind: NormKind,
    /// Whether queries and keys are normalised before the rotation.
    pub qk_norm: Option<QkNorm>,
    pub projections: Projections,
    /// One flag per layer: whether it leaves queries and keys unrotated. Empty if every layer rotates them.
    pub unrotated_layers: Vec<bool>,
    /// The rotation in layers with a sliding window, where it differs from that in the others.
    pub local_rope: Option<LocalRope>,
    pub embedding_multiplier: EmbeddingMultiplier,
    /// What the outputs of attention and MLP are multiplied by before they are added to the residual stream.
    pub residual_multiplier: f64,
    /// What the products of queries and keys are multiplied by; `None`: `1 / sqrt(head_dim)`.
    pub attention_multiplier: Option<f64>,
    /// Scores of attention become `cap · tanh(score / cap)`.
    pub attention_softcap: Option<f64>,
    pub logits: LogitShape,
    /// The mixture of experts in the place of the MLP.
    pub experts: Option<ExpertShapes>,
}

/// Where the norms of a layer stand: each of attention and MLP is a branch off the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before each branch.
    Before,
    /// After each branch, before its output is added to the stream (OLMo 2).
    After,
    /// Before and after each branch (Gemma 2 and 3).
    Around,
}

/// How a norm applies its weight. It matters below f32, and for what a stored weight means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `w · round(x / rms)`, rounded to the dtype of x before the product.
    Standard,
    /// `w · x / rms` in f32, then rounded (OLMo 2).
    Wide,
    /// `(1 + w) · x / rms` in f32, then rounded (Gemma).
    UnitOffset,
}

/// What of queries and keys is normalised together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head, with one weight for all heads.
    PerHead,
    /// All heads of a token (OLMo 2).
    Whole,
}

/// Whether linear layers that read the same input are one layer in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projections {
    /// `q_proj`, `k_proj`, `v_proj`; `gate_proj`, `up_proj`.
    Separate,
    /// `qkv_proj`; `gate_up_proj` (Phi-3).
    Fused,
}

/// What the embeddings are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EmbeddingMultiplier {
    One,
    Number(f64),
    /// Rounded to the dtype of the embeddings first (Gemma).
    Rounded(f64),
}

/// The experts of the layers that have them.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertShapes {
    /// The number of experts.
    pub count: i64,
    pub intermediate_size: i64,
    pub routing: Routing,
    /// One flag per layer: whether it has experts in the place of an MLP.
    pub layers: Vec<bool>,
    /// The module of a layer that holds them, and an expert's gate, up and down, by their names in a checkpoint.
    pub module: &'static str,
    pub names: [&'static str; 3],
    /// The weight of a loss for evenly used experts, which transformers adds in training and lorhai does not.
    pub auxiliary_loss: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LocalRope {
    pub theta: f64,
    pub scaling: RopeScaling,
}

impl Default for Architecture {
    fn default() -> Self {
        Architecture {
            norm_placement: NormPlacement::Before,
            norm_kind: NormKind::Standard,
            qk_norm: None,
            projections: Projections::Separate,
            unrotated_layers: Vec::new(),
            local_rope: None,
            embedding_multiplier: EmbeddingMultiplier::One,
            residual_multiplier: 1.0,
            attention_multiplier: None,
            attention_softcap: None,
            logits: LogitShape::default(),
            experts: None,
        }
    }
}
