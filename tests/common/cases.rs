//! Cases of transformers and peft (`golden.json`, `golden.safetensors` and a model), and the measures that they are
//! compared by.

use super::files::golden;
use super::numbers::floats;
pub use super::numbers::nmse;
use lorhai::data::batch::Batch;
use lorhai::hub::weights::Weights;
use lorhai::lora::{peft, Adapter, Trainable};
use lorhai::model::{load, Adapters, Config, Decoder, Input, Parameters};
use lorhai::options::OptionType;
use lorhai::train::schedule::{Schedule, SchedulerType};
use lorhai::train::update::{update, StepSettings};
use lorhai::train::{AdamW, AdamWConfig};
use serde_json::Value;
use std::path::PathBuf;
use tch::{no_grad, Device, Kind, Tensor};

// Bounds of f32 against f32. One rounding changes a number by up to a factor of u = 6e-8, and processors sum in
// different orders, so a bound is about fifteen times the largest observed error. An NMSE is a square. If `golden.json`
// has the error of PyTorch's own f32 relative to f64, that sets the scale of the case (see `Case::bound`); these are
// the lower limits. A wrong formula causes a far larger error: the `contrast` of each case.

/// (170 u)²: a few dozen sums of up to a hundred products in sequence; both sides are off by about 7 u.
pub const LOGITS_NMSE: f64 = 1e-10;
/// (530 u)²: the same sums forward and backward, and differences of them; both sides are off by up to 40 u.
pub const GRADIENT_NMSE: f64 = 1e-9;
/// (1700 u)²: AdamW normalises gradients, so that even one of pure rounding error changes a weight.
pub const TRAINED_NMSE: f64 = 1e-8;
/// 32 u: a mean of about a hundred losses, each a difference of logits; both sides are off by up to 3 u.
pub const LOSS_RELATIVE: f64 = 2e-6;
/// Below this size, relative to the largest tensor of a model, a number in f64 is rounding alone; in f32 none is so small.
const ROUNDING_NMSE: f64 = 1e-26;
/// The largest ratio of our error to that of PyTorch's own f32.
const ROOM: f64 = 30.0;

pub struct Case {
    pub name: String,
    pub folder: PathBuf,
    pub json: Value,
    pub tensors: Weights,
}

pub fn cases(kind: &str) -> Vec<Case> {
    // The models are tiny, and tests run in parallel.
    tch::set_num_threads(1);
    let root = golden("models");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let actual: Vec<Case> =
        folders.into_iter().filter_map(Case::open).filter(|case| case.json["kind"] == kind).collect();
    assert!(!actual.is_empty(), "no golden case of kind {kind}");
    actual
}

impl Case {
    pub fn open(folder: PathBuf) -> Option<Case> {
        let json: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("golden.json")).ok()?).unwrap();
        let tensors = Weights::open(&folder.join("golden.safetensors")).unwrap();
        Some(Case { name: folder.file_name()?.to_str()?.to_owned(), folder, json, tensors })
    }

    /// Another case of the same folder.
    pub fn beside(&self, name: &str) -> Case {
        Case::open(self.folder.parent().unwrap().join(name)).unwrap()
    }

    /// The folder of the base: for a variant, that of the case that `golden.json` names.
    pub fn base(&self) -> PathBuf {
        self.json["base"].as_str().map_or(self.folder.clone(), |base| self.folder.with_file_name(base))
    }

    pub fn decoder(&self, device: Device) -> Decoder {
        self.decoder_in(Kind::Float, device)
    }

    pub fn decoder_in(&self, dtype: Kind, device: Device) -> Decoder {
        // Some cases have their own model, others use that of another case.
        let has_model = self.folder.join("config.json").is_file();
        let folder = if has_model { self.folder.clone() } else { self.base() };
        let config = Config::from_folder(&folder).unwrap();
        load::load(config, &Weights::open(&folder).unwrap(), dtype, device).unwrap()
    }

    pub fn adapter(&self, decoder: &Decoder) -> Adapter {
        peft::load(&self.folder.join("adapter"), decoder).unwrap()
    }

    pub fn tensor(&self, name: &str) -> Tensor {
        self.tensors.tensor(name).unwrap()
    }

    pub fn batch(&self, prefix: &str) -> Batch {
        self.batch_of(&self.tensor(&format!("{prefix}input_ids")), &self.tensor(&format!("{prefix}labels")))
    }

    /// Documents in packed rows.
    pub fn packed_batch(&self, prefix: &str) -> Batch {
        let list = |name: &str| Vec::<i64>::try_from(self.tensor(&format!("{prefix}{name}")).flatten(0, -1)).unwrap();
        let segments = list("document_ids").iter().map(|document| document - 1).collect();
        Batch { position_ids: list("position_ids"), segments: Some(segments), ..self.batch(prefix) }
    }

    pub fn batch_of(&self, ids: &Tensor, labels: &Tensor) -> Batch {
        let (rows, time) = ids.size2().unwrap();
        let list = |values: &Tensor| Vec::<i64>::try_from(values.flatten(0, -1)).unwrap();
        Batch { labels: list(labels), ..Batch::of_rows(rows as usize, time as usize, list(ids)) }
    }

    /// `least`, or more if PyTorch's own rounding error in this case, the entry `name` of `f64_difference`, is large.
    pub fn bound(&self, name: &str, least: f64) -> f64 {
        let rounding = self.json["f64_difference"][name].as_f64().unwrap_or(0.0);
        let is_square = name.ends_with("_nmse");
        least.max(rounding * if is_square { ROOM * ROOM } else { ROOM })
    }

    pub fn number(&self, name: &str) -> f64 {
        self.json[name].as_f64().unwrap_or_else(|| panic!("{}: no number `{name}`", self.name))
    }
}

pub fn relative(actual: f64, expected: f64) -> f64 {
    (actual - expected).abs() / expected.abs().max(1e-12)
}

#[track_caller]
pub fn within(case: &Case, what: &str, actual: f64, bound: f64) -> f64 {
    assert!(actual <= bound, "{}: {what}: {actual:.3e} is above {bound:.0e}", case.name);
    actual
}

/// Asserts that every gradient is that of Python. Returns the largest error.
pub fn gradients_agree(case: &Case, parameters: &Parameters) -> f64 {
    leaves_agree(case, parameters, "grad.", case.bound("grad_nmse", GRADIENT_NMSE), Tensor::grad)
}

/// Asserts that every trained weight is that of Python. Returns the largest error.
pub fn trained_weights_agree(case: &Case, parameters: &Parameters) -> f64 {
    leaves_agree(case, parameters, "trained.", case.bound("trained_nmse", TRAINED_NMSE), Tensor::detach)
}

fn leaves_agree(case: &Case, parameters: &Parameters, prefix: &str, bound: f64, of: fn(&Tensor) -> Tensor) -> f64 {
    let errors = leaf_errors(case, parameters, prefix, of);
    errors.into_iter().map(|(name, error)| within(case, &name, error, bound)).fold(0.0, f64::max)
}

/// How far what `of` makes of each leaf is from the case's tensor `prefix` + name. Leaves of which nothing but rounding is
/// expected are left out, such as the gradients of a key's bias where no rotation follows.
pub fn leaf_errors(
    case: &Case,
    parameters: &Parameters,
    prefix: &str,
    of: fn(&Tensor) -> Tensor,
) -> Vec<(String, f64)> {
    let named = parameters.names().iter().zip(parameters.leaves());
    let expected: Vec<_> = named.map(|(name, leaf)| (name, leaf, case.tensor(&format!("{prefix}{name}")))).collect();
    let size = |x: &Tensor| x.square().mean(Kind::Double).double_value(&[]);
    let largest = expected.iter().map(|(.., tensor)| size(tensor)).fold(0.0, f64::max);
    let is_rounding = |tensor: &Tensor| size(tensor) < largest * ROUNDING_NMSE;
    let kept = expected.into_iter().filter(|(.., tensor)| !is_rounding(tensor));
    kept.map(|(name, leaf, tensor)| (name.clone(), nmse(&of(leaf), &tensor))).collect()
}

pub fn logits(decoder: &Decoder, batch: &Batch, adapters: &dyn Adapters) -> Tensor {
    logits_of(decoder, &Input::from_batches(&[batch], decoder).unwrap(), adapters)
}

/// `[rows, time, vocabulary]`
pub fn logits_of(decoder: &Decoder, input: &Input, adapters: &dyn Adapters) -> Tensor {
    no_grad(|| {
        let hidden = decoder.hidden(input, adapters).unwrap();
        input.padded(&decoder.logits(&hidden, &input.tokens, adapters).unwrap()).unwrap()
    })
}

/// Repeats the training run that `golden.json` describes. Returns the largest error of a loss.
pub fn train_as_recorded(case: &Case, decoder: &Decoder, trainable: &mut dyn Trainable) -> f64 {
    train_with(case, decoder, trainable, false)
}

/// As [`train_as_recorded`], possibly with gradient checkpointing.
pub fn train_with(case: &Case, decoder: &Decoder, trainable: &mut dyn Trainable, gradient_checkpointing: bool) -> f64 {
    let errors = training_errors(case, decoder, trainable, gradient_checkpointing);
    let mut worst = 0f64;
    for (step, StepErrors { loss, grad_norm }) in errors.into_iter().enumerate() {
        let bound = case.bound("losses_relative", LOSS_RELATIVE);
        worst = worst.max(within(case, &format!("loss of step {step}"), loss, bound));
        within(case, &format!("norm of step {step}"), grad_norm, 1e-4);
    }
    worst
}

/// How far a step is from the recorded one, relative to it.
pub struct StepErrors {
    pub loss: f64,
    pub grad_norm: f64,
}

/// Repeats the training run that `golden.json` describes. Returns the errors of each step.
pub fn training_errors(
    case: &Case,
    decoder: &Decoder,
    trainable: &mut dyn Trainable,
    gradient_checkpointing: bool,
) -> Vec<StepErrors> {
    let training = &case.json["training"];
    let number = |name: &str| training[name].as_f64().unwrap();
    let list = |name: &str| floats(&training[name]);
    let (losses, norms, lrs) = (list("losses"), list("grad_norms"), list("lrs"));
    let steps = number("steps") as u64;
    let schedule = Schedule::new(
        SchedulerType::named(training["schedule"].as_str().unwrap()).unwrap(),
        steps,
        number("warmup_steps"),
    )
    .unwrap();
    let betas = list("betas");
    let config = AdamWConfig {
        lr: number("lr"),
        beta1: betas[0],
        beta2: betas[1],
        eps: number("eps"),
        weight_decay: number("weight_decay"),
        loraplus_lr_ratio: training["loraplus_lr_ratio"].as_f64(),
    };
    let mut optimizer = AdamW::new(config, trainable.parameters()).unwrap();
    let mut one_step = |step: u64| {
        let micro_batches = number("gradient_accumulation_steps") as usize;
        let window: Vec<Batch> =
            (0..micro_batches).map(|micro| case.batch(&format!("step{step}.micro{micro}."))).collect();
        let lr = config.lr * schedule.factor(step);
        assert!(
            relative(lr, lrs[step as usize]) < 1e-12 || lr == lrs[step as usize],
            "{}: lr of step {step}",
            case.name
        );
        let settings =
            StepSettings { step, seed: 0, lr, max_grad_norm: number("max_grad_norm"), gradient_checkpointing };
        let result = update(decoder, trainable, &mut optimizer, &window, settings).unwrap();
        let at = step as usize;
        StepErrors { loss: relative(result.loss, losses[at]), grad_norm: relative(result.grad_norm, norms[at]) }
    };
    (0..steps).map(&mut one_step).collect()
}
