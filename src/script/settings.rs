//! Option maps to library settings: one place where the names of options are known.
//!
//! Our short names come first; the names of peft's `LoraConfig` and transformers'
//! `TrainingArguments` are accepted too.

use super::options::Options;
use super::values::{describe, FromScript};
use crate::error::{Error, Result};
use crate::eval::config::{GenerationConfig, Stop};
use crate::eval::sampling::Sampling;
use crate::hub::tokenizer::Tokenizer;
use crate::lora::{Bias, Init, LoraSpec, Targets};
use crate::suggest;
use crate::train::optim::Optim;
use crate::train::schedule::Shape;
use crate::train::{AdamWConfig, EvalInterval, TrainConfig};
use rhai::{Dynamic, Map};
use std::collections::BTreeMap;

/// Options with the other names that each has.
pub type Names = &'static [(&'static str, &'static [&'static str])];

/// Options of an adapter, with the names that peft knows them by.
pub const LORA: Names = &[
    ("r", &["rank"]),
    ("alpha", &["lora_alpha"]),
    ("dropout", &["lora_dropout"]),
    ("target_modules", &["targets"]),
    ("exclude_modules", &[]),
    ("layers_to_transform", &[]),
    ("rank_pattern", &[]),
    ("alpha_pattern", &[]),
    ("use_rslora", &["rslora"]),
    ("init", &["init_lora_weights"]),
    ("use_dora", &["dora"]),
    ("bias", &[]),
    ("modules_to_save", &[]),
];

/// Options of a training run, with the names that transformers knows them by.
pub const TRAIN: Names = &[
    ("steps", &["max_steps"]),
    ("epochs", &["num_train_epochs"]),
    ("batch", &["per_device_train_batch_size", "batch_size"]),
    ("accumulation", &["gradient_accumulation_steps"]),
    ("lr", &["learning_rate"]),
    ("beta1", &["adam_beta1"]),
    ("beta2", &["adam_beta2"]),
    ("eps", &["adam_epsilon"]),
    ("weight_decay", &[]),
    ("loraplus_lr_ratio", &[]),
    ("schedule", &["lr_scheduler_type"]),
    ("warmup", &["warmup_steps", "warmup_ratio"]),
    ("max_grad_norm", &["clip"]),
    ("seed", &[]),
    ("log_every", &["logging_steps"]),
    ("eval_every", &["eval_steps"]),
    ("eval_strategy", &["evaluation_strategy"]),
    ("evals_per_epoch", &[]),
    ("eval_batch", &["per_device_eval_batch_size"]),
    ("early_stopping", &["early_stopping_patience"]),
    ("keep_best", &["load_best_model_at_end"]),
    ("gradient_checkpointing", &[]),
    ("group_by_length", &[]),
    ("train_sampling_strategy", &[]),
    ("optim", &[]),
];

/// Options of generation, with transformers' name where that is another.
pub const GENERATION: Names = &[("stop", &["stop_strings"]), ("batch", &["batch_size"])];

/// The short name of an option of `table` that may be given by its other name.
pub fn short_name(table: Names, name: &str) -> Option<&'static str> {
    table.iter().find(|(short, others)| *short == name || others.contains(&name)).map(|(short, _)| *short)
}

/// Reads options that have several names.
struct Named<'a> {
    options: &'a mut Options,
    table: Names,
}

impl Named<'_> {
    fn any(&mut self, name: &str) -> Result<Option<Dynamic>> {
        let others = self.table.iter().find(|(short, _)| *short == name).map_or(&[][..], |(_, others)| *others);
        self.options.take_any_of(name, others)
    }

    fn take<T: FromScript>(&mut self, name: &str, default: T) -> Result<T> {
        match self.any(name)? {
            None => Ok(default),
            Some(value) => T::from_script(&value).ok_or_else(|| self.options.mistyped(name, &T::expected(), &value)),
        }
    }

    fn number(&mut self, name: &str, default: f64) -> Result<f64> {
        self.take(name, default)
    }
}

/// The adapter that `options` describe; peft's defaults.
pub fn lora_spec(options: &mut Options) -> Result<LoraSpec> {
    let default = LoraSpec::default();
    let mut named = Named { options, table: LORA };
    Ok(LoraSpec {
        r: named.take("r", default.r)?,
        alpha: named.number("alpha", default.alpha)?,
        dropout: named.number("dropout", default.dropout)?,
        target_modules: targets(&mut named, "target_modules")?.unwrap_or(default.target_modules),
        exclude_modules: targets(&mut named, "exclude_modules")?,
        layers_to_transform: layers(&mut named)?,
        rank_pattern: pattern(&mut named, "rank_pattern")?,
        alpha_pattern: pattern(&mut named, "alpha_pattern")?,
        use_rslora: named.take("use_rslora", default.use_rslora)?,
        init: init(&mut named)?,
        use_dora: named.take("use_dora", default.use_dora)?,
        bias: bias(&mut named)?,
        modules_to_save: named.take("modules_to_save", default.modules_to_save)?,
    })
}

/// "all-linear", a regular expression, or an array of names.
fn targets(named: &mut Named, name: &str) -> Result<Option<Targets>> {
    let Some(value) = named.any(name)? else { return Ok(None) };
    if let Some(text) = String::from_script(&value) {
        return Ok(Some(if text == "all-linear" { Targets::AllLinear } else { Targets::Pattern(text) }));
    }
    match Vec::<String>::from_script(&value) {
        Some(names) if !names.is_empty() => Ok(Some(Targets::Names(names))),
        _ => Err(named.options.wrong(
            name,
            "\"all-linear\", a regular expression, or an array of names",
            &describe(&value),
        )),
    }
}

fn layers(named: &mut Named) -> Result<Option<Vec<usize>>> {
    let Some(value) = named.any("layers_to_transform")? else { return Ok(None) };
    let one = usize::from_script(&value).map(|layer| vec![layer]);
    match one.or_else(|| Vec::from_script(&value)) {
        Some(layers) => Ok(Some(layers)),
        None => {
            Err(named.options.wrong("layers_to_transform", "a layer number or an array of them", &describe(&value)))
        }
    }
}

fn pattern<T: FromScript>(named: &mut Named, name: &str) -> Result<BTreeMap<String, T>> {
    let map: Map = named.take(name, Map::new())?;
    map.into_iter()
        .map(|(key, value)| match T::from_script(&value) {
            Some(read) => Ok((key.to_string(), read)),
            None => Err(named.options.mistyped(&format!("{name}.{key}"), &T::expected(), &value)),
        })
        .collect()
}

fn init(named: &mut Named) -> Result<Init> {
    let Some(value) = named.any("init")? else { return Ok(Init::KaimingUniform) };
    let name = String::from_script(&value);
    match (bool::from_script(&value), name.as_deref().and_then(Init::parse)) {
        (Some(true), _) => return Ok(Init::KaimingUniform),
        (_, Some(init)) => return Ok(init),
        _ => {}
    }
    let expected = "true, \"kaiming\", \"gaussian\", \"pissa\", \"olora\" or \"pissa_niter_N\" with a number N";
    let error = named.options.wrong("init", expected, &describe(&value));
    Err(match name {
        Some(name) => error.with_hint(suggest::hint(&name, ["kaiming", "gaussian", "pissa", "olora"])),
        None => error,
    })
}

fn bias(named: &mut Named) -> Result<Bias> {
    named.options.take_choice("bias", &Bias::NAMES, Bias::None)
}

/// The training run that `options` describe.
pub fn train_config(options: &mut Options) -> Result<TrainConfig> {
    let default = TrainConfig::default();
    let mut named = Named { options, table: TRAIN };
    let log_every = named.take("log_every", default.log_every)?;
    Ok(TrainConfig {
        steps: named.take("steps", default.steps)?,
        epochs: named.number("epochs", default.epochs)?,
        batch: named.take("batch", default.batch)?,
        accumulation: named.take("accumulation", default.accumulation)?,
        optimizer: adamw(&mut named, default.optimizer)?,
        schedule: Shape::parse(&named.take("schedule", "linear".to_owned())?)?,
        warmup: named.number("warmup", default.warmup)?,
        max_grad_norm: named.number("max_grad_norm", default.max_grad_norm)?,
        seed: named.take("seed", default.seed)?,
        log_every,
        eval_every: eval_interval(&mut named, log_every)?,
        eval_batch: named.take("eval_batch", default.eval_batch)?,
        early_stopping: named.take("early_stopping", default.early_stopping)?,
        keep_best: named.take("keep_best", default.keep_best)?,
        gradient_checkpointing: named.take("gradient_checkpointing", default.gradient_checkpointing)?,
        group_by_length: group_by_length(&mut named)?,
        optim: match named.any("optim")? {
            None => default.optim,
            Some(value) => match String::from_script(&value) {
                Some(name) => Optim::parse(&name).ok_or_else(|| another_optimizer(&named, &name))?,
                None => return Err(named.options.mistyped("optim", &String::expected(), &value)),
            },
        },
    })
}

fn another_optimizer(named: &Named, name: &str) -> Error {
    named.options.wrong("optim", "AdamW, the only optimizer there is", &format!("\"{name}\"")).with_hint(
        "leave it out to train with AdamW, whose numbers are others; its names are taken, such as \"adamw_torch\" and \
         \"paged_adamw_8bit\"",
    )
}

/// `eval_every`, or what TrainingArguments calls `eval_strategy`, or axolotl's `evals_per_epoch`.
fn eval_interval(named: &mut Named, log_every: u64) -> Result<EvalInterval> {
    let every = optional::<f64>(named, "eval_every")?;
    let strategy = optional::<String>(named, "eval_strategy")?;
    let per_epoch = optional::<u64>(named, "evals_per_epoch")?;
    if per_epoch == Some(0) {
        return Err(named.options.wrong("evals_per_epoch", "int of at least 1", "int 0"));
    }
    let found = match (strategy.as_deref(), every, per_epoch) {
        (None | Some("no"), None, None) => EvalInterval::Steps(0),
        // As in transformers: where `eval_steps` is not given, at every step that is logged.
        (Some("steps"), None, None) => EvalInterval::Steps(log_every),
        (None | Some("steps"), Some(every), None) => EvalInterval::parse(every)?,
        (Some("epoch"), None, None) => EvalInterval::PerEpoch { evals_per_epoch: 1 },
        (None | Some("epoch"), None, Some(evals_per_epoch)) => EvalInterval::PerEpoch { evals_per_epoch },
        (None, Some(_), Some(_)) => {
            let error = named.options.wrong("evals_per_epoch", "it or `eval_every`", "both");
            return Err(error.with_hint("leave one of them out"));
        }
        (Some(known @ ("no" | "steps" | "epoch")), ..) => {
            let other = if every.is_some() { "eval_every" } else { "evals_per_epoch" };
            let found = format!("\"{known}\" and `{other}`");
            let expected = "\"steps\" with `eval_every`, \"epoch\" with `evals_per_epoch` or alone, or \"no\"";
            return Err(named.options.wrong("eval_strategy", expected, &found));
        }
        (Some(other), ..) => {
            let error =
                named.options.wrong("eval_strategy", "one of \"no\", \"steps\", \"epoch\"", &format!("\"{other}\""));
            return Err(error.with_hint(suggest::hint(other, ["no", "steps", "epoch"])));
        }
    };
    Ok(found)
}

/// By its own name, or as transformers 5 has it.
fn group_by_length(named: &mut Named) -> Result<bool> {
    let grouped = optional::<bool>(named, "group_by_length")?;
    let strategy = optional::<String>(named, "train_sampling_strategy")?;
    let by_strategy = match strategy.as_deref() {
        None => grouped.unwrap_or_default(),
        Some("random") => false,
        Some("group_by_length") => true,
        Some(other) => {
            let expected = "\"random\" or \"group_by_length\"";
            return Err(named.options.wrong("train_sampling_strategy", expected, &format!("\"{other}\"")));
        }
    };
    match grouped.is_some_and(|grouped| grouped != by_strategy) {
        true => Err(named
            .options
            .wrong("group_by_length", "what `train_sampling_strategy` says", "another")
            .with_hint("leave one of them out")),
        false => Ok(by_strategy),
    }
}

fn optional<T: FromScript>(named: &mut Named, name: &str) -> Result<Option<T>> {
    let Some(value) = named.any(name)? else { return Ok(None) };
    match T::from_script(&value) {
        Some(read) => Ok(Some(read)),
        None => Err(named.options.mistyped(name, &T::expected(), &value)),
    }
}

fn adamw(named: &mut Named, default: AdamWConfig) -> Result<AdamWConfig> {
    Ok(AdamWConfig {
        lr: named.number("lr", default.lr)?,
        beta1: named.number("beta1", default.beta1)?,
        beta2: named.number("beta2", default.beta2)?,
        eps: named.number("eps", default.eps)?,
        weight_decay: named.number("weight_decay", default.weight_decay)?,
        loraplus_lr_ratio: ratio(named)?,
    })
}

/// `()` stands for none, so that an axis can hold plain LoRA too: `[(), 4, 16]`.
fn ratio(named: &mut Named) -> Result<Option<f64>> {
    let Some(value) = named.any("loraplus_lr_ratio")? else { return Ok(None) };
    match f64::from_script(&value) {
        Some(ratio) => Ok(Some(ratio)),
        None => Err(named.options.mistyped("loraplus_lr_ratio", &f64::expected(), &value)),
    }
}

/// The optimizer that `options` describe; the defaults of `TrainingArguments` but for the learning rate.
pub fn adamw_config(options: &mut Options) -> Result<AdamWConfig> {
    adamw(&mut Named { options, table: TRAIN }, AdamWConfig::default())
}

/// How to generate, where `default` is what the model says of itself.
pub fn generation_config(
    options: &mut Options,
    default: GenerationConfig,
    tokenizer: &Tokenizer,
) -> Result<GenerationConfig> {
    let mut named = Named { options, table: GENERATION };
    let stop = one_or_many::<String>(&mut named, "stop", "a string or an array of strings")?;
    let eos = one_or_many::<usize>(&mut named, "eos_token_id", "a token id or an array of them")?;
    Ok(GenerationConfig {
        sampling: sampling(&mut named, default.sampling)?,
        max_new_tokens: named.take("max_new_tokens", default.max_new_tokens)?,
        eos_token_id: match eos {
            Some(ids) => ids.into_iter().map(|id| id as u32).collect(),
            None => default.eos_token_id,
        },
        stop: stop.map(|strings| Stop { tokenizer: tokenizer.clone(), strings }),
        seed: named.take("seed", default.seed)?,
        batch: named.take("batch", default.batch)?,
    })
}

fn sampling(named: &mut Named, default: Sampling) -> Result<Sampling> {
    let idle = ["temperature", "top_k", "top_p"].into_iter().find(|name| named.options.has(name));
    let sampling = Sampling {
        do_sample: named.take("do_sample", default.do_sample)?,
        temperature: named.number("temperature", default.temperature)?,
        top_k: named.take("top_k", default.top_k)?,
        top_p: named.number("top_p", default.top_p)?,
        repetition_penalty: named.number("repetition_penalty", default.repetition_penalty)?,
    };
    match idle.filter(|_| !sampling.do_sample) {
        None => Ok(sampling),
        Some(name) => Err(named
            .options
            .wrong(name, "`do_sample: true` with it", "greedy decoding")
            .with_hint("without it the most likely token is taken at each step, and this option changes nothing")),
    }
}

fn one_or_many<T: FromScript>(named: &mut Named, name: &str, expected: &str) -> Result<Option<Vec<T>>> {
    let Some(value) = named.any(name)? else { return Ok(None) };
    match T::from_script(&value).map(|one| vec![one]).or_else(|| Vec::from_script(&value)) {
        Some(values) => Ok(Some(values)),
        None => Err(named.options.wrong(name, expected, &describe(&value))),
    }
}
