//! A real pretrained model: losses and greedy continuations of stories260K.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::read_json;
use common::needs::assets;
use lorhai::data::batch::Batch;
use lorhai::eval::config::GenerationConfig;
use lorhai::eval::generate::generate;
use lorhai::hub::tokenizer::Tokenizer;
use lorhai::hub::weights::Weights;
use lorhai::model::{load, Config, Decoder, NoAdapters};
use lorhai::train::step::batch_loss;
use serde_json::Value;
use tch::{no_grad, Device, Kind};

fn stories() -> (Decoder, Value) {
    let folder = assets("models/stories260K");
    let golden = read_json(folder.join("golden.json"));
    let config = Config::from_folder(&folder).unwrap();
    let decoder = load::load(config, &Weights::open(&folder).unwrap(), Kind::Float, Device::Cpu).unwrap();
    (decoder, golden)
}

fn integers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

/// Given, or made by the model's tokenizer from the text, or from a story of the sample.
fn ids_of(case: &Value) -> Vec<i64> {
    if case["ids"].is_array() {
        return integers(&case["ids"]);
    }
    let label = case["label"].as_str().unwrap();
    let text = match label.strip_prefix("tinystories_sample[") {
        None => case["text"].as_str().unwrap().to_owned(),
        Some(number) => {
            let sample = std::fs::read_to_string(assets("data/tinystories_sample/tinystories_sample.txt")).unwrap();
            let number: usize = number.trim_end_matches(']').parse().unwrap();
            sample.split("<|endoftext|>").nth(number).unwrap().trim().to_owned()
        }
    };
    let tokenizer = Tokenizer::from_folder(&assets("models/stories260K")).unwrap();
    tokenizer.encode(&text, true).unwrap().into_iter().map(i64::from).collect()
}

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn losses_are_those_of_transformers() {
    let (decoder, golden) = stories();
    for text in golden["texts"].as_array().unwrap() {
        let ids = ids_of(text);
        assert_eq!(ids.len() as u64, text["n_ids"].as_u64().unwrap(), "{}", text["label"]);
        let batch = Batch::of_rows(1, ids.len(), ids);
        let found = no_grad(|| batch_loss(&decoder, &batch, &NoAdapters)).unwrap();
        let loss = found.sum.double_value(&[]) / found.labels as f64;
        let expected = text["loss"].as_f64().unwrap();
        println!("{}: {loss:.7} expected {expected:.7}", text["label"]);
        assert!((loss / expected - 1.0).abs() < 4e-6, "{}: {loss} expected {expected}", text["label"]);
    }
}

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn greedy_continuations_are_those_of_transformers() {
    let (decoder, golden) = stories();
    let ids = |value: &Value| integers(value).iter().map(|&id| id as u32).collect::<Vec<u32>>();
    let cases = golden["greedy"].as_array().unwrap();
    let prompts: Vec<Vec<u32>> = cases.iter().map(|case| ids(&case["prompt_ids"])).collect();
    let expected: Vec<Vec<u32>> = cases.iter().map(|case| ids(&case["new_ids"])).collect();
    let longest = expected.iter().map(Vec::len).max().unwrap();
    let run = |prompts: &[Vec<u32>], max_new_tokens: usize| {
        let config =
            GenerationConfig { max_new_tokens: Some(max_new_tokens), eos_token_id: vec![1, 2], ..Default::default() };
        generate(&decoder, &NoAdapters, 1, prompts, &config, &mut |_| Ok(())).unwrap().remove(0)
    };
    let together = run(&prompts, longest);
    for ((prompt, expected), batched) in prompts.iter().zip(&expected).zip(&together) {
        assert_eq!(run(std::slice::from_ref(prompt), expected.len())[0].ids, *expected);
        assert_eq!(batched.ids[..expected.len()], *expected);
    }
}
