//! Schedules, parameter counts, statistics of new adapters, and adapters of older versions of PEFT.

use crate::cases::*;
use crate::common::files::{golden, read_json};
use lorhai::lora::adapter::{count_line, trainable_count};
use lorhai::lora::targets::match_targets;
use lorhai::lora::{peft, Adapter, AdapterSet, Init, LoraSpec, Targets};
use lorhai::model::shapes::linear_shapes;
use lorhai::model::Config;
use lorhai::options::{OneOrMany, OptionType};
use lorhai::train::schedule::{Schedule, SchedulerType};
use serde_json::Value;
use tch::{Device, Kind};

fn json(path: &str) -> Value {
    read_json(golden(path))
}

#[test]
fn schedules_are_those_of_transformers() {
    let table = json("models/schedules.json");
    let rows = table["rows"].as_array().unwrap();
    assert!(rows.len() >= 8, "only {} schedules", rows.len());
    for row in rows {
        let kind = SchedulerType::named(row["schedule"].as_str().unwrap()).unwrap();
        let mut schedule =
            Schedule::new(kind, row["steps"].as_u64().unwrap(), row["warmup"].as_f64().unwrap()).unwrap();
        if row["schedule"] == "constant" {
            schedule.warmup_steps = 0;
        }
        for (step, factor) in row["factors"].as_array().unwrap().iter().enumerate() {
            let (actual, expected) = (schedule.factor(step as u64), factor.as_f64().unwrap());
            assert!((actual - expected).abs() < 1e-12, "{} step {step}: {actual} expected {expected}", row["schedule"]);
        }
    }
}

#[test]
fn counts_from_the_configuration_alone() {
    let table = json("models/counts.json");
    for (name, counts) in table["models"].as_object().unwrap() {
        let config = Config::from_file(&golden(&format!("configs/{name}.json"))).unwrap();
        assert_eq!(config.parameter_count(), counts["parameters"].as_u64().unwrap(), "{name}");
        for (lora, arguments) in table["loras"].as_object().unwrap() {
            let names = counts[lora]["target_modules"].as_array().unwrap().iter();
            let names = names.map(|name| name.as_str().unwrap().to_owned()).collect();
            let spec = LoraSpec {
                r: arguments["r"].as_i64().unwrap(),
                target_modules: Targets::Names(names),
                ..LoraSpec::default()
            };
            let trainable = trainable_count(&spec, &config).unwrap();
            let line = count_line(trainable, config.parameter_count() + trainable);
            assert_eq!(line, counts[lora]["print_trainable_parameters"].as_str().unwrap(), "{name} {lora}");
            println!("{name}: {line}");
        }
    }
}

#[test]
fn the_figures_of_the_reference_article() {
    let config = Config::from_file(&golden("configs/qwen2.5-7b.json")).unwrap();
    let spec = LoraSpec { r: 16, target_modules: Targets::AllLinear, ..LoraSpec::default() };
    let trainable = trainable_count(&spec, &config).unwrap();
    assert_eq!(
        count_line(trainable, config.parameter_count() + trainable),
        "trainable params: 40,370,176 || all params: 7,655,986,688 || trainable%: 0.5273"
    );
}

#[test]
fn adapters_of_older_versions_load() {
    let table = json("models/pefts/golden.json");
    let case = Case::open(golden("models/pefts")).unwrap();
    let decoder = case.beside("qwen2_tied").decoder(Device::Cpu);
    for name in table["adapters"].as_object().unwrap().keys() {
        let adapter = peft::load(&golden(&format!("models/pefts/{name}")), &decoder).unwrap();
        let visible = case.tensor("attention_mask").unsqueeze(-1);
        let mut batch = case.batch_of(&case.tensor("input_ids"), &case.tensor("input_ids"));
        batch.segments = None;
        let actual = logits(&decoder, &batch, &AdapterSet::one(&adapter, None)) * &visible;
        within(&case, name, nmse(&actual, &case.tensor(&format!("{name}.logits"))), LOGITS_NMSE);
    }
}

#[test]
fn new_adapters_have_the_spread_of_pefts() {
    let table = json("models/init.json");
    let decoder = Case::open(golden("models/qwen2_tied")).unwrap().decoder(Device::Cpu);
    let r = table["r"].as_i64().unwrap();
    for (kind, init) in [("kaiming", Init::KaimingUniform), ("gaussian", Init::Gaussian)] {
        for width in [64, 32] {
            let theirs = &table["init_lora_weights"][kind][format!("in{width}.lora_A")];
            let pooled: Vec<f64> = (0..40)
                .flat_map(|seed| {
                    let spec = LoraSpec { r, init, target_modules: Targets::AllLinear, ..LoraSpec::default() };
                    let adapter = Adapter::new(spec, &decoder, seed).unwrap();
                    let of_width = adapter.targets.iter().filter(|target| target.linear.in_features == width);
                    let matrices: Vec<f64> = of_width
                        .flat_map(|target| {
                            Vec::<f64>::try_from(
                                adapter
                                    .low_rank(&target.linear)
                                    .unwrap()
                                    .a
                                    .detach()
                                    .flatten(0, -1)
                                    .to_kind(Kind::Double),
                            )
                            .unwrap()
                        })
                        .collect();
                    matrices
                })
                .collect();
            let deviation = (pooled.iter().map(|x| x * x).sum::<f64>() / pooled.len() as f64).sqrt();
            let expected = theirs["std"].as_f64().unwrap();
            assert!(relative(deviation, expected) < 0.05, "{kind} {width}: {deviation} expected {expected}");
            println!("{kind} {width}: deviation {deviation:.4}, theirs {expected:.4}");
        }
    }
}

/// The layers that peft 0.21 chooses for the same options and model.
#[test]
fn chosen_layers_are_those_of_peft() {
    let config = Config::from_folder(&golden("models/llama_untied_gqa")).unwrap();
    let attention = |layer: usize, name: &str| format!("model.layers.{layer}.self_attn.{name}");
    let last = config.num_hidden_layers - 1;
    let all: Vec<String> = (0..=last).map(|layer| attention(layer, "v_proj")).collect();
    for (names, layers, expected) in [
        (vec!["q_proj".to_owned(), "lm_head".into()], vec![0], vec![attention(0, "q_proj"), "lm_head".into()]),
        (vec![attention(1, "v_proj"), "q_proj".into()], vec![0], vec![attention(0, "q_proj"), attention(1, "v_proj")]),
        (vec!["v_proj".into()], vec![], all),
    ] {
        let target_modules = Targets::Names(names);
        let spec =
            LoraSpec { r: 2, target_modules, layers_to_transform: Some(OneOrMany(layers)), ..LoraSpec::default() };
        let actual = match_targets(&spec, &linear_shapes(&config)).unwrap();
        let actual: Vec<String> = actual.into_iter().map(|target| target.linear.name).collect();
        assert_eq!(actual, expected, "{spec:?}");
    }
}

/// As in `get_pattern_key` of peft 0.21, by the order of keys in adapter_config.json.
#[test]
fn the_first_key_of_a_pattern_that_matches_counts() {
    let config = Config::from_folder(&golden("models/qwen2_tied")).unwrap();
    let keys = ["q_proj", "layers.0.self_attn.q_proj"];
    for (order, ranks) in [([0, 1], [3, 3]), ([1, 0], [6, 3])] {
        let value = |key: &str| if key == "q_proj" { 3 } else { 6 };
        let pattern: serde_json::Map<String, Value> =
            order.iter().map(|&at| (keys[at].to_owned(), value(keys[at]).into())).collect();
        let spec = peft::spec_from_json(&serde_json::json!({
            "peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "rank_pattern": pattern, "alpha_pattern": pattern,
        }))
        .unwrap();
        let targets = match_targets(&spec, &linear_shapes(&config)).unwrap();
        assert_eq!(targets.iter().map(|target| target.r).collect::<Vec<_>>(), ranks);
        assert_eq!(targets.iter().map(|target| target.alpha as i64).collect::<Vec<_>>(), ranks);
        let adapter = Adapter::zeros(spec, &config, Kind::Float, Device::Cpu).unwrap();
        let written = peft::config_json(&adapter, "base");
        let order: Vec<&str> = order.iter().map(|&at| keys[at]).collect();
        for name in ["rank_pattern", "alpha_pattern"] {
            assert_eq!(written[name].as_object().unwrap().keys().collect::<Vec<_>>(), order, "{name} keeps its order");
        }
    }
}
