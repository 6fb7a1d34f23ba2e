//! docs/defaults.md: each value of ours is the program's, each of theirs is what the Python tools have
//! (`golden/training/defaults.json`), and a row whose values differ says why.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use lorhai::data::{SplitOptions, TokenizeOptions, Truncation};
use lorhai::eval::config::{GenerationConfig, DEFAULT_NEW_TOKENS};
use lorhai::lora::{Bias, Init, LoadOptions, LoraSpec, Targets};
use lorhai::options::OptionSet;
use lorhai::train::checkpoint::CheckpointOptions;
use lorhai::train::grouping::Grouping;
use lorhai::train::objective::ObjectiveOptions;
use lorhai::train::optim::Optim;
use lorhai::train::schedule::SchedulerType;
use lorhai::train::{AdamWConfig, EvalInterval, TrainConfig};
use serde_json::{json, Map, Value};
use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Our defaults by function and option, as a script would write them.
fn ours() -> Value {
    let AdamWConfig { lr, beta1, beta2, eps, weight_decay, loraplus_lr_ratio } = AdamWConfig::default();
    let adamw = json!({ "lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay });
    let mut train = adamw.clone();
    let own = train_options(&TrainConfig::default());
    train.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    train["loraplus_lr_ratio"] = json!(loraplus_lr_ratio);
    let saving = defaults::<CheckpointOptions>(&["save_every", "save_strategy", "keep_last", "resume"]);
    train.as_object_mut().unwrap().extend(saving.as_object().unwrap().clone());
    let objective = ObjectiveOptions::table().options();
    let objective = defaults::<ObjectiveOptions>(&objective.iter().map(|option| option.name).collect::<Vec<_>>());
    train.as_object_mut().unwrap().extend(objective.as_object().unwrap().clone());
    json!({
        "train": train,
        "adamw": adamw,
        "add_lora": lora_options(&LoraSpec::default()),
        "tokenize": tokenize_options(&TokenizeOptions::default()),
        "generate": generate_options(&GenerationConfig::default()),
        "load_model": defaults::<LoadOptions>(&["bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "dtype"]),
        "split": defaults::<SplitOptions>(&["test", "seed"]),
    })
}

/// The declared defaults of some options.
fn defaults<T: OptionSet>(names: &[&str]) -> Value {
    let default = |name: &&str| {
        let option = T::table().find(name).unwrap();
        (name.to_string(), (option.default)().to_json().unwrap())
    };
    Value::Object(names.iter().map(default).collect())
}

fn train_options(config: &TrainConfig) -> Value {
    assert_eq!((config.eval_every, config.optim), (EvalInterval::Steps(0), Optim::Default));
    assert_eq!(config.schedule, SchedulerType::Linear);
    json!({
        "epochs": config.epochs,
        "steps": config.steps,
        "batch": config.batch,
        "accumulation": config.accumulation,
        "optim": "adamw_torch",
        "schedule": config.schedule,
        "warmup": config.warmup,
        "max_grad_norm": config.max_grad_norm,
        "shuffle": config.shuffle,
        "seed": config.seed,
        "log_every": config.log_every,
        "eval_every": config.eval_every,
        "eval_strategy": "no",
        "evals_per_epoch": null,
        "eval_batch": config.eval_batch,
        "early_stopping": config.early_stopping,
        "keep_best": config.keep_best,
        "gradient_checkpointing": config.gradient_checkpointing,
        "group_by_length": config.grouping.group_by_length,
        "train_sampling_strategy": "random",
    })
}

fn lora_options(spec: &LoraSpec) -> Value {
    assert!(spec.rank_pattern.is_empty() && spec.alpha_pattern.is_empty() && spec.modules_to_save.is_empty());
    assert_eq!((&spec.init, &spec.bias), (&Init::KaimingUniform, &Bias::None));
    let Targets::Names(targets) = &spec.target_modules else { panic!("{:?}", spec.target_modules) };
    json!({
        "r": spec.r,
        "alpha": spec.alpha,
        "dropout": spec.dropout,
        "target_modules": targets,
        "exclude_modules": spec.exclude_modules,
        "layers_to_transform": spec.layers_to_transform,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": spec.use_rslora,
        "init": true,
        "use_dora": spec.use_dora,
        "bias": "none",
        "modules_to_save": null,
    })
}

fn tokenize_options(options: &TokenizeOptions) -> Value {
    assert!(options.loss_on.is_none() && options.truncation == Truncation::KeepStart);
    json!({
        "max_length": options.max_length,
        "truncation": "keep_start",
        "packing": options.packing,
        // None is this column too, but one that is asked for comes before all that is recognised.
        "text_column": options.text_column.as_deref().unwrap_or("text"),
        "loss_on": "assistant",
    })
}

fn generate_options(config: &GenerationConfig) -> Value {
    let sampling = &config.sampling;
    json!({
        "max_new_tokens": config.max_new_tokens.unwrap_or(DEFAULT_NEW_TOKENS),
        "do_sample": sampling.do_sample,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "repetition_penalty": config.processors.repetition_penalty,
    })
}

/// A row of a table whose first column is `lorhai`.
#[derive(Debug)]
struct Line {
    function: String,
    option: String,
    ours: Value,
    /// Class, name and value; none where a tool has no such option.
    theirs: Vec<Option<(String, String, Value)>>,
    reason: String,
}

fn lines(page: &str) -> Vec<Line> {
    let (mut found, mut function, mut classes) = (Vec::new(), String::new(), Vec::new());
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            function = heading.trim_matches('`').to_owned();
            classes.clear();
            continue;
        }
        let Some(row) = line.strip_prefix("| ") else { continue };
        let cells: Vec<String> =
            row.trim_end().trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        if cells[0] == "lorhai" {
            classes = cells[2..cells.len() - 1].to_vec();
        } else if !classes.is_empty() {
            found.push(parsed(&function, &classes, &cells));
        }
    }
    found
}

fn parsed(function: &str, classes: &[String], cells: &[String]) -> Line {
    let mut name = String::new();
    let theirs = classes.iter().zip(&cells[2..]).map(|(class, cell)| {
        if cell == "–" {
            return None;
        }
        let shown = match cell.strip_prefix('`').and_then(|rest| rest.split_once("` ")) {
            Some((own, shown)) => {
                name = own.to_owned();
                shown
            }
            // The name is that of the column before.
            None => cell.as_str(),
        };
        Some((class.clone(), name.clone(), value(shown)))
    });
    Line {
        function: function.to_owned(),
        option: cells[0].trim_matches('`').to_owned(),
        ours: value(&cells[1]),
        theirs: theirs.collect(),
        reason: cells[classes.len() + 2].clone(),
    }
}

fn value(text: &str) -> Value {
    match text {
        "none" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}")),
    }
}

fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

#[test]
fn the_page_of_defaults_is_true() {
    let golden: Value = serde_json::from_str(&read("tests/golden/training/defaults.json")).unwrap();
    let (ours, lines) = (ours(), lines(&read("docs/defaults.md")));
    let mut wrong = Vec::new();
    for line in &lines {
        let place = format!("{}: {}", line.function, line.option);
        match ours[&line.function].get(&line.option) {
            Some(true_value) if same(true_value, &line.ours) => {}
            other => wrong.push(format!("{place}: the page says {}, the program {other:?}", line.ours)),
        }
        for (class, name, told) in line.theirs.iter().flatten() {
            match golden[class].get(name) {
                Some(true_value) if same(true_value, told) => {}
                other => wrong.push(format!("{place}: the page says {told}, {class}.{name} is {other:?}")),
            }
        }
        let differs = line.theirs.iter().flatten().any(|(.., told)| !same(told, &line.ours));
        if differs == line.reason.is_empty() {
            wrong.push(format!("{place}: differs: {differs}, reason: {:?}", line.reason));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let told: BTreeSet<(String, String)> =
        lines.iter().map(|line| (line.function.clone(), line.option.clone())).collect();
    for (function, options) in ours.as_object().unwrap() {
        for option in options.as_object().unwrap().keys() {
            assert!(told.contains(&(function.clone(), option.clone())), "{function}: {option} is missing on the page");
        }
    }
    assert!(lines.len() >= 50, "{}", lines.len());
}

/// Every setting of a run is an option on the page: a new one has to be compared too.
#[test]
fn the_page_has_every_setting_of_a_run() {
    let lines = lines(&read("docs/defaults.md"));
    let is_told = |name: &str| lines.iter().any(|line| line.function == "train" && line.option == name);
    let grouped = TrainConfig { grouping: Grouping { group_by_length: true }, ..TrainConfig::default() };
    let Value::Object(mut settings) = serde_json::to_value(grouped).unwrap() else { panic!() };
    let Some(Value::Object(optimizer)) = settings.remove("optimizer") else { panic!() };
    for name in settings.keys().chain(optimizer.keys()) {
        assert!(is_told(name), "{name}");
    }
}

#[test]
fn settings_from_before_stay_what_they_were() {
    // A sweep's trials are finished by a hash of these: a default that is new must not be among them.
    let Value::Object(settings) = serde_json::to_value(TrainConfig::default()).unwrap() else { panic!() };
    let expected: Map<String, Value> = serde_json::from_value(json!({
        "steps": 0, "epochs": 3.0, "batch": 8, "accumulation": 1,
        "optimizer": { "lr": 2e-4, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "loraplus_lr_ratio": null },
        "schedule": "linear", "warmup": 0.0, "max_grad_norm": 1.0, "seed": 42, "log_every": 10, "eval_every": 0,
        "eval_batch": 8, "early_stopping": 0, "keep_best": false, "gradient_checkpointing": false,
    }))
    .unwrap();
    assert_eq!(settings, expected);
}
