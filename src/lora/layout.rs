//! Which leaf of an adapter is what: names, shapes and indices of its parameters.
//!
//! Names are those of PEFT's files, without its prefix.

use super::spec::{Bias, LoraSpec};
use super::targets::{is_saved, match_embedding, ties_saved, Target};
use super::tokens::{TokenRows, Tokens};
use crate::bail;
use crate::error::{Kind, Result};
use crate::model::family::wrapper::Wrapper;
use crate::model::shapes::{input_groups, linear_shapes, norm_shapes, LinearShape, EMBEDDING, HEAD};
use crate::model::Config;
use std::collections::HashMap;

/// Names and shapes of the leaves, and where to find them.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    pub shapes: Vec<(String, Vec<i64>)>,
    /// By [`LinearShape::index`].
    linears: Vec<LeafIndices>,
    /// The layers of the decoder that read the same input.
    pub groups: Vec<Vec<LinearShape>>,
    /// The copy of the embeddings, `[vocabulary, width]`.
    pub embedding: Option<usize>,
    /// Is that copy also the head?
    pub is_tied: bool,
    /// The embeddings, if they are a LoRA target.
    pub embedding_target: Option<Target>,
    /// A of the embeddings, `[r, vocabulary]`; B, `[width, r]`, follows.
    pub embedding_lora: Option<usize>,
    /// Copies of norms by module name, `[width]`.
    pub norms: HashMap<String, usize>,
    /// Single rows of embeddings and head.
    pub tokens: Tokens,
    /// The multimodal model that the base is a part of.
    pub wrapper: Option<&'static Wrapper>,
}

/// Which leaves of the adapter belong to one linear layer, by their index in [`Layout::shapes`].
#[derive(Debug, Clone, Copy, Default)]
pub struct LeafIndices {
    /// The index of the layer among the targets: A and B are leaves 2 · target and 2 · target + 1.
    pub target: Option<usize>,
    /// `[out_features]`, DoRA's.
    pub magnitude: Option<usize>,
    /// The bias of B (`lora_bias`), `[out_features]`.
    pub lora_bias: Option<usize>,
    /// The trained copy of the layer's weight (`modules_to_save`).
    pub weight: Option<usize>,
    pub bias: Option<usize>,
}

impl Layout {
    pub fn new(spec: &LoraSpec, targets: &[Target], config: &Config) -> Result<Self> {
        let linears = linear_shapes(config);
        let mut layout = Layout {
            linears: vec![LeafIndices::default(); linears.len()],
            groups: input_groups(config),
            wrapper: config.wrapper,
            ..Layout::default()
        };
        for (at, Target { linear, r, .. }) in targets.iter().enumerate() {
            layout.linears[linear.index].target = Some(at);
            layout.add(format!("{}.lora_A.weight", linear.name), vec![*r, linear.in_features]);
            layout.add(format!("{}.lora_B.weight", linear.name), vec![linear.out_features, *r]);
        }
        layout.is_tied = ties_saved(spec, config);
        for linear in &linears {
            layout.add_beside_low_rank(spec, linear);
        }
        if is_saved(spec, EMBEDDING) || layout.is_tied {
            let shape = vec![config.vocab_size, config.hidden_size];
            layout.embedding = Some(layout.add(format!("{EMBEDDING}.weight"), shape));
        }
        for (name, width) in norm_shapes(config).into_iter().filter(|(name, _)| is_saved(spec, name)) {
            let leaf = layout.add(format!("{name}.weight"), vec![width]);
            layout.norms.insert(name, leaf);
        }
        layout.add_embedding_lora(match_embedding(spec, &linears)?);
        layout.add_tokens(spec, config)?;
        layout.tie(&linears)?;
        Ok(layout)
    }

    /// Adds what the adapter trains in a linear layer beside A and B.
    fn add_beside_low_rank(&mut self, spec: &LoraSpec, linear: &LinearShape) {
        let LinearShape { index, name, in_features, out_features, .. } = linear;
        let mut leaves = self.linears[*index];
        let is_target = leaves.target.is_some();
        if spec.use_dora && is_target {
            leaves.magnitude = Some(self.add(format!("{name}.lora_magnitude_vector"), vec![*out_features]));
        }
        if spec.lora_bias && is_target {
            leaves.lora_bias = Some(self.add(format!("{name}.lora_B.bias"), vec![*out_features]));
        }
        let saved = is_saved(spec, name) && !(self.is_tied && name == HEAD);
        if saved {
            leaves.weight = Some(self.add(format!("{name}.weight"), vec![*out_features, *in_features]));
        }
        let trains_bias = saved || spec.bias == Bias::All || (spec.bias == Bias::LoraOnly && is_target);
        if linear.bias && trains_bias {
            // PEFT wraps a target: the layer itself is its `base_layer`.
            let name = if is_target { format!("{name}.base_layer.bias") } else { format!("{name}.bias") };
            leaves.bias = Some(self.add(name, vec![*out_features]));
        }
        self.linears[*index] = leaves;
    }

    fn add_embedding_lora(&mut self, target: Option<Target>) {
        if let Some(Target { linear, r, .. }) = &target {
            let a = self.add(format!("{EMBEDDING}.lora_embedding_A"), vec![*r, linear.in_features]);
            self.add(format!("{EMBEDDING}.lora_embedding_B"), vec![linear.out_features, *r]);
            self.embedding_lora = Some(a);
        }
        self.embedding_target = target;
    }

    fn add_tokens(&mut self, spec: &LoraSpec, config: &Config) -> Result<()> {
        let mut tokens = TokenRows::resolve(&spec.trainable_token_indices, config)?;
        for (module, rows) in [(EMBEDDING, &mut tokens.embedding), (HEAD, &mut tokens.head)] {
            if let Some(rows) = rows {
                let shape = vec![rows.ids.len() as i64, config.hidden_size];
                rows.leaf = self.add(format!("{module}.token_adapter.trainable_tokens_delta"), shape);
            }
        }
        if spec.ensure_weight_tying && tokens.is_tied && tokens.embedding.is_some() && tokens.head.is_some() {
            bail!(Kind::Input, "lora `ensure_weight_tying`: expected the same `trainable_token_indices` for embed_tokens and lm_head, found different ones"; hint: "give both the same ids in the same order, or leave ensure_weight_tying out");
        }
        let head = self.head();
        let conflicts = [
            (EMBEDDING, tokens.embedding.is_some(), self.embedding.is_some() || self.embedding_lora.is_some()),
            (HEAD, tokens.of_head().is_some(), head.weight.is_some() || head.magnitude.is_some()),
            (HEAD, tokens.of_head().is_some(), head.target.is_some() && spec.init.splits_base()),
        ];
        if let Some((module, ..)) = conflicts.into_iter().find(|(_, has_rows, is_adapted)| *has_rows && *is_adapted) {
            bail!(Kind::Input, "lora `trainable_token_indices`: rows of `{module}` cannot be trained where the adapter also changes that module in another way"; hint: "leave `{module}` out of target_modules and modules_to_save");
        }
        self.tokens = tokens;
        Ok(())
    }

    /// Makes the trained copy of the embeddings the head's weight too.
    fn tie(&mut self, linears: &[LinearShape]) -> Result<()> {
        let (Some(head), Some(leaf)) = (linears.last(), self.embedding.filter(|_| self.is_tied)) else { return Ok(()) };
        let leaves = &mut self.linears[head.index];
        if leaves.target.is_some() {
            bail!(Kind::Input, "lora `ensure_weight_tying`: the head cannot both share the trained copy of the embeddings and be a target"; hint: "leave lm_head out of target_modules");
        }
        leaves.weight = Some(leaf);
        Ok(())
    }

    fn add(&mut self, name: String, shape: Vec<i64>) -> usize {
        self.shapes.push((name, shape));
        self.shapes.len() - 1
    }

    /// What is trained in this layer.
    pub fn of(&self, linear: &LinearShape) -> LeafIndices {
        self.linears.get(linear.index).copied().unwrap_or_default()
    }

    /// What is trained in the output head.
    pub fn head(&self) -> LeafIndices {
        self.linears.last().copied().unwrap_or_default()
    }

    /// The number of trained values.
    pub fn count(&self) -> u64 {
        (0..self.shapes.len()).map(|leaf| self.size(leaf)).sum()
    }

    /// The number of values that PEFT counts in addition to the base's. It trains the base's own
    /// biases, which therefore count once.
    pub fn added(&self) -> u64 {
        let is_base_bias = |leaves: &&LeafIndices| leaves.weight.is_none();
        let biases = self.linears.iter().filter(is_base_bias).filter_map(|leaves| leaves.bias);
        self.count() - biases.map(|leaf| self.size(leaf)).sum::<u64>()
    }

    /// Is anything trained before the first layer?
    pub fn trains_embeddings(&self) -> bool {
        self.embedding.is_some() || self.embedding_lora.is_some() || self.tokens.embedding.is_some()
    }

    fn size(&self, leaf: usize) -> u64 {
        self.shapes[leaf].1.iter().product::<i64>() as u64
    }
}

impl LeafIndices {
    pub fn is_empty(&self) -> bool {
        self.target.is_none() && self.weight.is_none() && self.bias.is_none()
    }
}
