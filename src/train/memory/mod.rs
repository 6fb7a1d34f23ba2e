//! Plans the memory of a training step from a model's configuration alone.
//!
//! | file | defines |
//! |---|---|
//! | `mod.rs` | the step to plan (`Request`), the methods compared, the plan |
//! | `layer.rs` | the bytes that one decoder layer keeps for its backward pass |
//! | `step.rs` | the peak of our step, followed tensor by tensor |
//! | `libtorch.rs` | what it holds where libtorch's operations compute, as in f16 |
//! | `recipe.rs` | the usual Python recipe, by formulas |
//! | `table.rs` | the plan as text |
//! | `check.rs` | a real step compared with its plan |
//!
//! All sizes are in bytes. Modules, norms and embeddings that are trained beside LoRA count with their values,
//! gradients and moments, not with the activations that they keep beyond the input of their layer. Left out: the
//! program itself (libtorch's code and the allocator's holes), token ids, and other small values per token.

pub mod check;
mod layer;
mod libtorch;
mod recipe;
mod step;
mod table;

pub use crate::process_memory as process;

use crate::error::{Error, Result};
use crate::lora::layout::Layout;
use crate::lora::targets::{fresh_targets, Target};
use crate::lora::LoraSpec;
use crate::model::full::is_decayed;
use crate::model::quantization::Quantization;
use crate::model::shapes::{linear_shapes, LinearShape};
use crate::model::{Config, Decoder};
use crate::native::gpu;
use crate::options;
use crate::options::{OptionSet, Refusal};
use serde::Serialize;
use tch::{Device, Kind as Dtype};

/// Elements that share a scale in NF4, and scales that share one when quantised twice
/// (Dettmers et al., 2023, "QLoRA", section 3).
const BLOCK: u64 = 64;
const SCALES_PER_BLOCK: u64 = 256;
/// The most tokens of a micro-batch.
const MAX_TOKENS: u64 = 1 << 30;

/// The trained values, and the precision of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Trains every weight.
    Full,
    /// Adapters over weights in the model's dtype.
    Lora,
    /// Adapters over linear layers in NF4.
    Qlora,
    /// The same with the scales of the blocks quantised to 8 bits.
    QloraDouble,
}

impl Method {
    pub const ALL: [Method; 4] = [Method::Full, Method::Lora, Method::Qlora, Method::QloraDouble];

    /// The method for adapters or all weights, over a base that may be 4-bit.
    pub fn of(adapters: bool, base: Option<Quantization>) -> Self {
        match base {
            _ if !adapters => Method::Full,
            None => Method::Lora,
            Some(base) if base.double_quant => Method::QloraDouble,
            Some(_) => Method::Qlora,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Method::Full => "full fine-tuning",
            Method::Lora => "LoRA",
            Method::Qlora => "QLoRA (NF4)",
            Method::QloraDouble => "QLoRA (NF4, double)",
        }
    }

    pub fn is_quantised(self) -> bool {
        matches!(self, Method::Qlora | Method::QloraDouble)
    }
}

/// The dtype of the base model's weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    F32,
    Bf16,
    F16,
}

crate::choices!(Precision, [("bf16", Precision::Bf16), ("f16", Precision::F16), ("f32", Precision::F32)]);

impl Precision {
    pub fn dtype(self) -> Dtype {
        match self {
            Precision::F32 => Dtype::Float,
            Precision::Bf16 => Dtype::BFloat16,
            Precision::F16 => Dtype::Half,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> u64 {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 | Precision::F16 => 2,
        }
    }
}

/// The device of the step: attention kernels and loss take different memory on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepDevice {
    Cpu,
    Cuda,
}

crate::choices!(StepDevice, [("cpu", StepDevice::Cpu), ("cuda", StepDevice::Cuda)]);

/// The optimizer, by its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// A mean and a square for every trained value.
    Adamw,
    /// No state, only gradients.
    Sgd,
}

crate::choices!(Optimizer, [("adamw", Optimizer::Adamw), ("sgd", Optimizer::Sgd)]);

options! {
    /// A training step to be planned.
    #[derive(Debug, Clone)]
    pub struct Request {
        /// Rows of a micro-batch.
        pub batch: u64 = 1, name "batch_size", alias ["batch"], range between(1.0, MAX_TOKENS as f64);
        /// Tokens of each row.
        pub length: u64 = 1024, name "max_length", range between(1.0, MAX_TOKENS as f64);
        /// The fraction of the tokens that have a label.
        pub labelled: f64 = 1.0, range above_up_to(0.0, 1.0), hint "90 % is 0.9";
        /// The dtype of the base model.
        pub precision: Precision = Precision::Bf16, name "dtype", words "\"bf16\"; for a loaded model its dtype";
        /// The device of the step.
        pub device: StepDevice = StepDevice::Cpu, words "\"cpu\"; for a loaded model its device";
        /// Keep only the input of each layer, and recompute the rest in the backward pass.
        pub gradient_checkpointing: bool = false;
        /// "adamw" keeps two moments of every trained value, "sgd" none.
        pub optimizer: Optimizer = Optimizer::Adamw;
        pub lora: LoraSpec = LoraSpec::default(), is set;
        /// Bytes of packed copies of frozen matrices, beyond those of the weights.
        pub packed_bytes: u64 = 0, is internal;
    }
    rule Request::rule;
}

impl Request {
    /// A request with the dtype, the device and the packed copies of a loaded model.
    pub fn of(decoder: &Decoder) -> Self {
        let precision = match decoder.dtype {
            Dtype::BFloat16 => Precision::Bf16,
            Dtype::Half => Precision::F16,
            _ => Precision::F32,
        };
        let device = if decoder.device == Device::Cpu { StepDevice::Cpu } else { StepDevice::Cuda };
        Request { precision, device, packed_bytes: decoder.packed_bytes(), ..Request::default() }
    }

    fn rule(&self) -> Option<Refusal> {
        let tokens = format!("{} rows of {} tokens", self.batch, self.length);
        let refusal = Refusal::new("batch_size", format!("a micro-batch of at most {MAX_TOKENS} tokens"), tokens);
        (self.batch.saturating_mul(self.length) > MAX_TOKENS)
            .then(|| refusal.with_hint("lower batch_size or max_length"))
    }

    fn tokens(&self) -> u64 {
        self.batch * self.length
    }

    /// Tokens that predict a label; the last of each row predicts none.
    fn labels(&self) -> u64 {
        (self.batch as f64 * (self.length - 1) as f64 * self.labelled).ceil().max(1.0) as u64
    }
}

/// Bytes at the peak of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// Weights of the base, with the scales of quantised layers and the packed copies.
    pub weights: u64,
    pub adapter: u64,
    pub gradients: u64,
    pub optimizer: u64,
    /// Values kept for the backward pass.
    pub activations: u64,
    pub logits: u64,
    /// Temporary memory of single operations at that moment.
    pub working: u64,
}

impl Parts {
    /// The parts with their names, in the order of tables and charts.
    pub fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("weights", self.weights),
            ("adapter", self.adapter),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("activations", self.activations),
            ("logits", self.logits),
            ("working", self.working),
        ]
    }

    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, bytes)| bytes).sum()
    }
}

/// One method's needs.
#[derive(Debug, Clone, Serialize)]
pub struct Need {
    pub method: Method,
    /// The number of trained values.
    pub trainable: u64,
    pub ours: Parts,
    /// The usual Python recipe: see [`python`].
    pub python: Parts,
    /// Was our figure compared with measured steps (`tests/memory.rs`)?
    pub measured: bool,
}

/// The result of [`plan`].
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub model: String,
    pub parameters: u64,
    pub batch_size: u64,
    pub max_length: u64,
    pub precision: Precision,
    /// `place` is its key in scripts' maps.
    #[serde(rename = "place")]
    pub device: StepDevice,
    pub gradient_checkpointing: bool,
    pub optimizer: Optimizer,
    pub needs: Vec<Need>,
}

impl Plan {
    /// The plan with the totals of each method.
    pub fn to_json(&self) -> Result<serde_json::Value> {
        let mut value = serde_json::to_value(self).map_err(|error| Error::bug(error.to_string()))?;
        for (at, need) in self.needs.iter().enumerate() {
            value["needs"][at]["ours"]["total"] = need.ours.total().into();
            value["needs"][at]["python"]["total"] = need.python.total().into();
        }
        Ok(value)
    }
}

/// Plans a step of each method on the model of `config`, without its weights.
///
/// # Errors
/// A batch or length out of range; target modules that the model does not have.
pub fn plan(name: &str, config: &Config, request: &Request) -> Result<Plan> {
    request.ensure_valid("memory_plan")?;
    let needs = Method::ALL.into_iter().map(|method| need(config, request, method)).collect::<Result<_>>()?;
    Ok(Plan {
        model: name.to_owned(),
        parameters: config.parameter_count(),
        batch_size: request.batch,
        max_length: request.length,
        precision: request.precision,
        device: request.device,
        gradient_checkpointing: request.gradient_checkpointing,
        optimizer: request.optimizer,
        needs,
    })
}

fn need(config: &Config, request: &Request, method: Method) -> Result<Need> {
    let resolved = ResolvedRequest::new(config, request, method)?;
    let measured = request.device == StepDevice::Cpu && !request.gradient_checkpointing && !method.is_quantised();
    Ok(Need { method, trainable: resolved.trainable(), ours: ours(&resolved), python: python(&resolved), measured })
}

/// A request applied to a model.
pub(super) struct ResolvedRequest<'a> {
    config: &'a Config,
    request: &'a Request,
    method: Method,
    linears: Vec<LinearShape>,
    /// Empty for full fine-tuning.
    targets: Vec<Target>,
    /// The layout of the adapters' parameters; empty for full fine-tuning.
    layout: Layout,
}

impl<'a> ResolvedRequest<'a> {
    fn new(config: &'a Config, request: &'a Request, method: Method) -> Result<Self> {
        let linears = linear_shapes(config);
        let targets = fresh_targets(&request.lora, config)?;
        let layout = Layout::new(&request.lora, &targets, config)?;
        let (targets, layout) =
            if method == Method::Full { (Vec::new(), Layout::default()) } else { (targets, layout) };
        Ok(ResolvedRequest { config, request, method, linears, targets, layout })
    }

    /// Whether libtorch's operations compute the small layers and the loss, which hold more temporary tensors than our
    /// loops and kernels: those are for f32 and bf16.
    pub(super) fn is_by_libtorch(&self) -> bool {
        let is_f16 = self.request.precision == Precision::F16 && self.method != Method::Full;
        is_f16 || (self.request.device == StepDevice::Cuda && gpu::are_disabled())
    }

    /// The rows of a pass: with the loss of all nested ranks each once for every rank.
    fn copies(&self) -> u64 {
        if self.method == Method::Full {
            1
        } else {
            self.request.lora.nested.passes() as u64
        }
    }

    fn adapter_values(&self) -> u64 {
        self.layout.count()
    }

    /// Is the head, or are single rows of it, trained?
    fn trains_head(&self) -> bool {
        let head = self.layout.head();
        head.target.is_some() || head.weight.is_some() || self.layout.tokens.of_head().is_some()
    }

    fn trainable(&self) -> u64 {
        match self.method {
            Method::Full => self.config.parameter_count(),
            _ => self.adapter_values(),
        }
    }

    /// Bytes of the weights, with `bytes` for each number that is not quantised.
    ///
    /// NF4 takes half a byte per weight, and an f32 scale for each 64 of them; with double quantisation a byte for
    /// each scale, an f32 for each 256 scales, and their mean (QLoRA, section 3). Embedding, head, norms and biases
    /// are not quantised.
    fn weight_bytes(&self, bytes: u64) -> u64 {
        let all = self.config.parameter_count();
        let in_layers = self.linears.iter().filter(|linear| linear.layer.is_some() && self.method.is_quantised());
        let packed: Vec<u64> = in_layers.map(|linear| (linear.in_features * linear.out_features) as u64).collect();
        let rest = (all - packed.iter().sum::<u64>()) * bytes;
        rest + packed.iter().map(|&count| self.packed_bytes(count)).sum::<u64>()
    }

    fn packed_bytes(&self, count: u64) -> u64 {
        let scales = count.div_ceil(BLOCK);
        count.div_ceil(2)
            + match self.method {
                Method::QloraDouble => scales + 4 * scales.div_ceil(SCALES_PER_BLOCK) + 4,
                _ => 4 * scales,
            }
    }

    /// Bytes of the optimizer's f32 moments.
    fn moments(&self) -> u64 {
        match self.request.optimizer {
            Optimizer::Adamw => 8 * self.trainable(),
            Optimizer::Sgd => 0,
        }
    }
}

/// Our step: weights in the requested dtype (f32 if all of them are trained, because bf16 would lose small updates),
/// adapters, gradients and moments in f32. Full fine-tuning, and adapters with biases or norms, keep one more f32 per
/// value, the mask of weight decay (`Parameters::decayed`).
fn ours(resolved: &ResolvedRequest) -> Parts {
    let trainable = resolved.trainable();
    let is_full = resolved.method == Method::Full;
    let bytes = if is_full { 4 } else { resolved.request.precision.bytes() };
    let spares_some = resolved.layout.shapes.iter().any(|(name, _)| !is_decayed(name));
    let mask = if is_full || spares_some { 4 * trainable } else { 0 };
    let (activations, logits, working) = step::peak(resolved);
    // What is trained or 4-bit is not packed.
    let packed = if resolved.method == Method::Lora { resolved.request.packed_bytes } else { 0 };
    Parts {
        weights: resolved.weight_bytes(bytes) + packed,
        adapter: 4 * resolved.adapter_values(),
        gradients: 4 * trainable,
        optimizer: resolved.moments() + mask,
        activations,
        logits,
        working,
    }
}

/// The usual Python recipe: transformers' model with SDPA attention, peft's adapters in f32,
/// logits of all tokens in f32.
///
/// Full fine-tuning in bf16 is mixed precision as in Rajbhandari et al., 2020 ("ZeRO", section 3.1): 2 bytes per
/// weight, 2 per gradient, 12 for the optimizer's f32 copy, mean and square. Values kept for the backward pass were
/// counted with torch's saved-tensor hooks (`tests/golden/memory/`). Not included: temporary memory of single
/// operations, and the cast of the rest of the model to f32 by `prepare_model_for_kbit_training`.
fn python(resolved: &ResolvedRequest) -> Parts {
    let trainable = resolved.trainable();
    let bytes = resolved.request.precision.bytes();
    let is_full = resolved.method == Method::Full;
    let master = if is_full && bytes == 2 { 4 * trainable } else { 0 };
    let (activations, logits) = recipe::kept(resolved);
    Parts {
        weights: resolved.weight_bytes(bytes),
        adapter: 4 * resolved.adapter_values(),
        gradients: if is_full { bytes * trainable } else { 4 * trainable },
        optimizer: resolved.moments() + master,
        activations,
        logits,
        working: 0,
    }
}
