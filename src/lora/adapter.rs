//! One adapter: what it trains in each layer, as views of one flat buffer.
//!
//! Where each value lies in the buffer is for `layout.rs`; what reads it in a forward pass is `set.rs`.

use super::dora;
use super::init::{fresh_a, fresh_embedding_b};
use super::layout::{Layout, LeafIndices};
use super::nested::{Nested, Slice};
use super::residual::InitialFactors;
use super::spec::{Bias, LoraSpec};
use super::targets::{fresh_targets, match_targets, Target};
use super::tokens::{Index, Rows, Tokens};
use super::views::{EmbeddingLowRank, LowRank, SavedModule, TrainedRows};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::format::thousands;
use crate::interrupt;
use crate::model::full::is_decayed;
use crate::model::linear::Linear;
use crate::model::shapes::{linear_shapes, LinearShape};
use crate::model::{Config, Decoder, Parameters};
use serde_json::{Map, Value};
use tch::{Device, Kind as Dtype, Tensor};

#[derive(Debug)]
pub struct Adapter {
    pub spec: LoraSpec,
    pub targets: Vec<Target>,
    pub parameters: Parameters,
    pub(super) layout: Layout,
    /// The embeddings as a target of LoRA, beside the linear layers in `targets`.
    pub embedding_target: Option<Target>,
    /// Look-up tables of the trained rows of embeddings and head.
    embedding_rows: Option<Index>,
    head_rows: Option<Index>,
    /// Embeddings and head from the adapter's file, which replace the base's.
    pub(super) replaced: Replaced,
    /// Why the adapter cannot be trained further, if it cannot.
    pub(super) fixed: Option<&'static str>,
    /// Remarks on how the adapter was read, for its user.
    pub notes: Vec<String>,
    /// One for each target with PiSSA and OLoRA; else empty.
    pub(super) initial_factors: Vec<InitialFactors>,
    /// The prefixes that are trained together, if there are several.
    pub(super) nested: Option<Nested>,
}

/// Frozen weights in the dtype of the base, from PEFT's `save_embedding_layers`.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// `[vocabulary, width]`
    pub embedding: Option<Tensor>,
    /// `[vocabulary, width]`
    pub head: Option<Tensor>,
}

impl Adapter {
    /// A fresh adapter on `decoder`, random from `seed`. It changes nothing before it is
    /// trained: B is zero, or the base becomes the residual W - s B₀A₀.
    pub fn new(spec: LoraSpec, decoder: &Decoder, seed: u64) -> Result<Self> {
        fresh_targets(&spec, &decoder.config)?;
        let mut adapter = Self::zeros(spec, &decoder.config, Dtype::Float, decoder.device)?;
        adapter.split_base(decoder)?;
        for at in 0..adapter.targets.len() {
            adapter.init_low_rank(at, seed)?;
        }
        for linear in decoder.linears() {
            adapter.init_saved_modules(linear)?;
        }
        adapter.init_other_modules(decoder, seed)?;
        Ok(adapter)
    }

    /// An adapter of zeros, to be filled from a file; in f64 for gradient checks.
    pub fn zeros(spec: LoraSpec, config: &Config, dtype: Dtype, device: Device) -> Result<Self> {
        let targets = match_targets(&spec, &linear_shapes(config))?;
        let layout = Layout::new(&spec, &targets, config)?;
        let index = |rows: &Rows| Index::new(rows, config.vocab_size, device);
        let embedding_rows = layout.tokens.embedding.as_ref().map(index).transpose()?;
        let head_rows = layout.tokens.of_head().map(index).transpose()?;
        let mut parameters = Parameters::of_kind(&layout.shapes, dtype, device)?;
        if layout.shapes.iter().any(|(name, _)| !is_decayed(name)) {
            parameters.limit_decay(is_decayed)?;
        }
        let nested = Nested::new(&spec, &targets, &parameters)?;
        if let (Some(_), Some(target)) = (&nested, &layout.embedding_target) {
            bail!(Kind::Input, "lora `nested_ranks`: expected linear layers, found the target `{}`", target.linear.name; hint: "leave the embeddings out of target_modules");
        }
        Ok(Adapter {
            spec,
            targets,
            parameters,
            nested,
            embedding_target: layout.embedding_target.clone(),
            layout,
            embedding_rows,
            head_rows,
            replaced: Replaced::default(),
            fixed: None,
            notes: Vec::new(),
            initial_factors: Vec::new(),
        })
    }

    /// The same adapter: what it trains is shared.
    pub fn shallow_clone(&self) -> Self {
        let shared = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Adapter {
            spec: self.spec.clone(),
            targets: self.targets.clone(),
            parameters: self.parameters.shallow_clone(),
            layout: self.layout.clone(),
            embedding_target: self.embedding_target.clone(),
            embedding_rows: self.embedding_rows.as_ref().map(Index::shallow_clone),
            head_rows: self.head_rows.as_ref().map(Index::shallow_clone),
            replaced: Replaced { embedding: shared(&self.replaced.embedding), head: shared(&self.replaced.head) },
            fixed: self.fixed,
            notes: self.notes.clone(),
            initial_factors: self.initial_factors.iter().map(InitialFactors::shallow_clone).collect(),
            nested: self.nested.as_ref().map(Nested::shallow_clone),
        }
    }

    /// With PiSSA and OLoRA: splits each weight of the base into initial factors and the residual.
    pub(super) fn split_base(&mut self, decoder: &Decoder) -> Result<()> {
        if !self.spec.init.splits_base() {
            return Ok(());
        }
        let linears: Vec<&Linear> = decoder.linears().collect();
        let factors = self.targets.iter().map(|target| {
            interrupt::check()?;
            let linear = linears.get(target.linear.index).ok_or_else(|| Error::bug("a target outside the decoder"))?;
            let weight = linear.weight.dense().map_err(|error| {
                error
                    .context(format!("`{}`: PiSSA and OLoRA", linear.shape.name))
                    .with_hint("initialise them over the model in f32 or bf16; over 4-bit weights use the default init")
            })?;
            InitialFactors::of(self.spec.init, target, weight)
        });
        self.initial_factors = factors.collect::<Result<_>>()?;
        Ok(())
    }

    fn init_low_rank(&mut self, at: usize, seed: u64) -> Result<()> {
        if let Some(InitialFactors { a, b }) = self.initial_factors.get(at) {
            self.parameters.set(2 * at, a)?;
            return self.parameters.set(2 * at + 1, b);
        }
        let Target { linear, r, .. } = &self.targets[at];
        let a = fresh_a(self.spec.init, seed, &linear.name, *r, linear.in_features)?;
        self.parameters.set(2 * at, &a)
    }

    /// Copies the layer's weight and bias where the adapter trains copies, and sets DoRA's magnitudes.
    fn init_saved_modules(&mut self, linear: &Linear) -> Result<()> {
        let LeafIndices { magnitude, weight, bias, .. } = self.layout.of(&linear.shape);
        if let Some(leaf) = weight.filter(|leaf| Some(*leaf) != self.layout.embedding) {
            self.parameters.set(leaf, linear.weight.dense()?)?;
        }
        if let (Some(leaf), Some(bias)) = (bias, &linear.bias) {
            self.parameters.set(leaf, bias)?;
        }
        if let (Some(leaf), Some(low_rank)) = (magnitude, self.low_rank(&linear.shape)) {
            let norms = dora::row_norms(&linear.weight.to_dense(Dtype::Float)?, &low_rank)?;
            self.parameters.set(leaf, &norms)?;
        }
        Ok(())
    }

    /// Sets the parameters outside the linear layers: copies of embeddings, norms and rows, and fresh embedding matrices.
    fn init_other_modules(&mut self, decoder: &Decoder, seed: u64) -> Result<()> {
        if let Some(leaf) = self.layout.embedding {
            self.parameters.set(leaf, &decoder.embed_tokens)?;
        }
        for norm in decoder.norms() {
            if let Some(leaf) = self.layout.norms.get(&norm.name) {
                self.parameters.set(*leaf, &norm.weight)?;
            }
        }
        if let (Some(a), Some(target)) = (self.layout.embedding_lora, &self.embedding_target) {
            let b = fresh_embedding_b(seed, target.linear.out_features, target.r)?;
            self.parameters.set(a + 1, &b)?;
        }
        let Tokens { embedding, head, .. } = &self.layout.tokens;
        if let (Some(rows), Some(index)) = (embedding, &self.embedding_rows) {
            self.parameters.set(rows.leaf, &decoder.embed_tokens.f_index_select(0, &index.ids)?)?;
        }
        if let (Some(rows), Some(index)) = (head, &self.head_rows) {
            let weight = decoder.lm_head.weight.to_dense(decoder.dtype)?;
            self.parameters.set(rows.leaf, &weight.f_index_select(0, &index.ids)?)?;
        }
        Ok(())
    }

    /// The matrices that adapt `linear`, if it is a target.
    pub fn low_rank(&self, linear: &LinearShape) -> Option<LowRank<'_>> {
        let leaves = self.layout.of(linear);
        let at = leaves.target?;
        let gradients = self.parameters.gradients();
        let (a, b) = (2 * at, 2 * at + 1);
        Some(LowRank {
            a: self.leaf(Some(a))?,
            b: self.leaf(Some(b))?,
            grad_a: gradients.get(a)?,
            grad_b: gradients.get(b)?,
            scale: self.targets.get(at)?.scale,
            initial: self.initial_factors.get(at),
            magnitude: self.leaf(leaves.magnitude),
            bias: self.leaf(leaves.lora_bias),
        })
    }

    /// As [`Self::low_rank`], of some rows of A and columns of B.
    pub fn sliced_low_rank<'a>(&self, linear: &LinearShape, slice: &'a Slice) -> Option<LowRank<'a>> {
        slice.low_rank(self.layout.of(linear).target?)
    }

    /// The layers of the decoder that read the same input.
    pub fn input_groups(&self) -> &[Vec<LinearShape>] {
        &self.layout.groups
    }

    /// Is the adapter trained over a residual of the base?
    pub fn splits_base(&self) -> bool {
        !self.initial_factors.is_empty()
    }

    /// The adapter's copies of the weight and bias of `linear`.
    pub fn saved_module(&self, linear: &LinearShape) -> SavedModule<'_> {
        let leaves = self.layout.of(linear);
        SavedModule { weight: self.leaf(leaves.weight), bias: self.leaf(leaves.bias) }
    }

    /// The embeddings that replace the base's, trained or from the file, `[vocabulary, width]`.
    pub fn embedding(&self) -> Option<&Tensor> {
        self.leaf(self.layout.embedding).or(self.replaced.embedding.as_ref())
    }

    /// The matrices of the embeddings, if they are a target.
    pub fn embedding_low_rank(&self) -> Option<EmbeddingLowRank<'_>> {
        let a = self.layout.embedding_lora?;
        let scale = self.embedding_target.as_ref()?.scale;
        Some(EmbeddingLowRank { a: self.leaf(Some(a))?, b: self.leaf(Some(a + 1))?, scale })
    }

    /// The trained rows of the embeddings.
    pub fn embedding_rows(&self) -> Option<TrainedRows<'_>> {
        let rows = self.layout.tokens.embedding.as_ref()?;
        Some(TrainedRows { index: self.embedding_rows.as_ref()?, rows: self.leaf(Some(rows.leaf))? })
    }

    /// The trained rows that act in `linear`, which only the head has.
    pub fn head_rows(&self, linear: &LinearShape) -> Option<TrainedRows<'_>> {
        let rows = self.layout.tokens.of_head().filter(|_| linear.layer.is_none())?;
        Some(TrainedRows { index: self.head_rows.as_ref()?, rows: self.leaf(Some(rows.leaf))? })
    }

    /// The weight from the adapter's file that replaces that of `linear`, which only the head has.
    pub fn replaced(&self, linear: &LinearShape) -> Option<&Tensor> {
        self.replaced.head.as_ref().filter(|_| linear.layer.is_none())
    }

    /// The adapter's copy of the weight of the norm `name`.
    pub fn norm(&self, name: &str) -> Option<&Tensor> {
        self.leaf(self.layout.norms.get(name).copied())
    }

    /// The copy of the embeddings that is trained.
    pub(super) fn trained_embedding(&self) -> Option<&Tensor> {
        self.leaf(self.layout.embedding)
    }

    /// The copy of the head that is trained: that of the embeddings where they are tied.
    pub(super) fn trained_head(&self) -> Option<&Tensor> {
        self.leaf(self.layout.head().weight)
    }

    /// Is the head a target?
    pub(super) fn has_head_target(&self) -> bool {
        self.layout.head().target.is_some()
    }

    /// Do head and embeddings that are one weight stay one under this adapter?
    pub fn keeps_tie(&self) -> bool {
        let Layout { is_tied, embedding_lora, tokens, .. } = &self.layout;
        let are_replaced_alike = match (&self.replaced.embedding, &self.replaced.head) {
            (None, None) => true,
            (Some(embedding), Some(head)) => embedding.data_ptr() == head.data_ptr(),
            _ => false,
        };
        let are_trained_alike = *is_tied || (self.trained_embedding().is_none() && self.trained_head().is_none());
        let are_adapted_alike = embedding_lora.is_none() && !self.has_head_target() && tokens.head.is_none();
        are_replaced_alike && are_trained_alike && are_adapted_alike
    }

    /// Does the adapter change the output of this layer?
    pub fn affects(&self, linear: &LinearShape) -> bool {
        !self.layout.of(linear).is_empty() || self.head_rows(linear).is_some() || self.replaced(linear).is_some()
    }

    /// Fails if the adapter can be used but not trained further.
    pub fn ensure_trainable(&self) -> Result<()> {
        match self.fixed {
            None => Ok(()),
            Some(reason) => Err(Error::input(format!("this adapter cannot be trained: {reason}"))
                .with_hint("generate and evaluate with it, merge it, or train a fresh one with model.add_lora(…)")),
        }
    }

    /// Fails if the adapter holds more than matrices A and B, which `what` cannot express.
    pub fn ensure_lora_only(&self, what: &str) -> Result<()> {
        let LoraSpec { use_dora, init, bias, modules_to_save, lora_bias, trainable_token_indices, .. } = &self.spec;
        let Replaced { embedding, head } = &self.replaced;
        let extras = [
            (*use_dora, "DoRA's magnitudes"),
            (init.splits_base(), "a residual of the base (PiSSA or OLoRA)"),
            (*bias != Bias::None, "trained biases"),
            (!modules_to_save.is_empty(), "`modules_to_save`"),
            (*lora_bias, "biases of B (`lora_bias`)"),
            (!trainable_token_indices.is_none(), "trained rows of the embeddings"),
            (self.embedding_target.is_some(), "LoRA on the embeddings"),
            (embedding.is_some() || head.is_some(), "embeddings or a head in its file"),
        ];
        match extras.into_iter().find(|(is_present, _)| *is_present) {
            None => Ok(()),
            Some((_, extra)) => {
                Err(Error::input(format!("{what}: expected an adapter of A and B alone, found one with {extra}")))
            }
        }
    }

    /// Are all matrices B zero, with nothing beside A and B? What such an adapter adds to the base is 0.
    pub fn adds_nothing(&self) -> Result<bool> {
        if self.ensure_lora_only("reference").is_err() {
            return Ok(false);
        }
        for at in 0..self.targets.len() {
            let b = self.leaf(Some(2 * at + 1)).ok_or_else(|| Error::bug("a target without B"))?;
            if b.f_count_nonzero(None::<i64>)?.f_int64_value(&[])? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The number of parameters that PEFT counts in addition to those of the base.
    pub fn added_count(&self) -> u64 {
        self.layout.added()
    }

    fn leaf(&self, at: Option<usize>) -> Option<&Tensor> {
        self.parameters.leaves().get(at?)
    }
}

/// The number of parameters that `spec` would train on the model of `config`; needs no weights.
pub fn trainable_count(spec: &LoraSpec, config: &Config) -> Result<u64> {
    Ok(Layout::new(spec, &fresh_targets(spec, config)?, config)?.count())
}

/// What [`Adapter::added_count`] would be for `spec`; needs no weights.
pub fn added_count(spec: &LoraSpec, config: &Config) -> Result<u64> {
    Ok(Layout::new(spec, &match_targets(spec, &linear_shapes(config))?, config)?.added())
}

/// Parameters of a model with an adapter, counted without weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterCounts {
    /// Of the base.
    pub base: u64,
    pub trainable: u64,
    /// Of the base and the adapter.
    pub all: u64,
}

impl ParameterCounts {
    pub fn of(spec: &LoraSpec, config: &Config) -> Result<Self> {
        let base = config.parameter_count();
        let trainable = trainable_count(spec, config)?;
        Ok(ParameterCounts { base, trainable, all: base + added_count(spec, config)? })
    }

    /// As an object, with the line that PEFT prints.
    pub fn fields(&self) -> Map<String, Value> {
        let ParameterCounts { base, trainable, all } = *self;
        let line = count_line(trainable, all);
        let fields =
            [("parameters", base.into()), ("trainable", trainable.into()), ("all", all.into()), ("line", line.into())];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// PEFT's line: `trainable params: 1,234 || all params: 5,678 || trainable%: 21.7330`.
/// `all` counts the base and the adapters.
pub fn count_line(trainable: u64, all: u64) -> String {
    let percent = 100.0 * trainable as f64 / (all as f64).max(1.0);
    format!("trainable params: {} || all params: {} || trainable%: {percent:.4}", thousands(trainable), thousands(all))
}
