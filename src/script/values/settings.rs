//! Option maps to library settings: one place where the names of options are known.
//!
//! Our short names come first; the names of peft's `LoraConfig` and transformers'
//! `TrainingArguments` are accepted too.

use crate::error::{Error, Result};
use crate::eval::config::{GenerationConfig, Source};
use crate::eval::sampling::Sampling;
use crate::hub::tokenizer::Tokenizer;
use crate::lora::{Bias, Init, LoraSpec, Pattern, Targets, TrainableTokens};
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::json::{to_dynamic, to_json};
use crate::script::values::options::Options;
use crate::suggest;
use crate::train::optim::Optim;
use crate::train::schedule::Shape;
use crate::train::{AdamWConfig, EvalInterval, TrainConfig};
use rhai::{Dynamic, Map};
use serde_json::Value;

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
    ("lora_bias", &[]),
    ("trainable_token_indices", &[]),
    ("ensure_weight_tying", &[]),
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
        lora_bias: named.take("lora_bias", default.lora_bias)?,
        trainable_token_indices: trainable_tokens(&mut named)?,
        ensure_weight_tying: named.take("ensure_weight_tying", default.ensure_weight_tying)?,
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

/// A map, whose keys have no order, or an array of pairs, of which the first that matches counts.
fn pattern<T: FromScript>(named: &mut Named, name: &str) -> Result<Pattern<T>> {
    let Some(value) = named.any(name)? else { return Ok(Pattern::default()) };
    let typed = |key: &str, value: &Dynamic| match T::from_script(value) {
        Some(read) => Ok((key.to_owned(), read)),
        None => Err(named.options.mistyped(&format!("{name}.{key}"), &T::expected(), value)),
    };
    if let Some(map) = Map::from_script(&value) {
        return Ok(Pattern::unordered(map.iter().map(|(key, value)| typed(key, value)).collect::<Result<Vec<_>>>()?));
    }
    let pair = |pair: &Vec<Dynamic>| match pair.as_slice() {
        [key, value] => Some((String::from_script(key)?, value.clone())),
        _ => None,
    };
    let pairs = Vec::<Vec<Dynamic>>::from_script(&value);
    match pairs.and_then(|pairs| pairs.iter().map(pair).collect::<Option<Vec<_>>>()) {
        Some(pairs) => pairs.iter().map(|(key, value)| typed(key, value)).collect(),
        None => {
            let expected = format!("a map from name to {} or an array of such pairs", T::expected());
            Err(named.options.wrong(name, &expected, &describe(&value)))
        }
    }
}

/// An array is of the input embeddings; a map names the modules.
fn trainable_tokens(named: &mut Named) -> Result<TrainableTokens> {
    const NAME: &str = "trainable_token_indices";
    let Some(value) = named.any(NAME)? else { return Ok(TrainableTokens::None) };
    let list = |value: &Dynamic| Vec::<i64>::from_script(value);
    let modules = Map::from_script(&value)
        .and_then(|map| map.iter().map(|(name, ids)| Some((name.to_string(), list(ids)?))).collect::<Option<Vec<_>>>());
    let tokens = list(&value).map(TrainableTokens::Embeddings).or(modules.map(TrainableTokens::ByModule));
    tokens.ok_or_else(|| {
        let expected = "an array of token ids, or a map with such an array for `embed_tokens` and `lm_head`";
        named.options.wrong(NAME, expected, &describe(&value))
    })
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

/// How to generate, where `config` is what the model says of itself.
pub fn generation_config(
    options: &mut Options,
    mut config: GenerationConfig,
    tokenizer: &Tokenizer,
) -> Result<GenerationConfig> {
    let idle = Sampling::FILTERS.into_iter().find(|name| options.has(name));
    let says_how = options.has("do_sample");
    let given = config.update(&mut GenerationOptions(options), Some(tokenizer))?;
    // Temperature 0 is how other programs ask for the most likely token.
    let is_greedy = says_how || (given.contains(&"temperature") && config.sampling.temperature == 0.0);
    if let Some(name) = idle.filter(|_| !config.sampling.do_sample && !is_greedy) {
        let error = options.wrong(name, "`do_sample: true` with it", "greedy decoding");
        return Err(
            error.with_hint("without it the most likely token is taken at each step, and this option changes nothing")
        );
    }
    config.seed = options.take("seed", config.seed)?;
    config.batch = options.take_either("batch", "batch_size", config.batch)?;
    Ok(config)
}

/// The options of a call as settings of generation, by transformers' names.
struct GenerationOptions<'a>(&'a mut Options);

impl GenerationOptions<'_> {
    /// Our name of a setting, with its others.
    fn names(name: &str) -> (&str, &'static [&'static str]) {
        let entry = GENERATION.iter().find(|(_, others)| others.contains(&name));
        entry.map_or((name, &[]), |(short, others)| (short, others))
    }
}

impl Source for GenerationOptions<'_> {
    fn take(&mut self, name: &str) -> Result<Option<Value>> {
        let (name, others) = Self::names(name);
        let Some(value) = self.0.take_any_of(name, others)? else { return Ok(None) };
        match to_json(&value) {
            Ok(json) => Ok(Some(json)),
            Err(_) => Err(self.0.wrong(name, "a plain value", &describe(&value))),
        }
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value) -> Error {
        self.0.mistyped(Self::names(name).0, expected, &to_dynamic(found))
    }
}
