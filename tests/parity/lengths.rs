//! Rotary frequencies that depend on the length of the sequence: generation with a cache, packed rows.

use crate::cases::*;
use crate::common::files::golden;
use lorhai::data::batch::Batch;
use lorhai::eval::config::GenerationConfig;
use lorhai::eval::generate::generate;
use lorhai::model::{Grid, Input, NoAdapters};
use serde_json::Value;
use tch::{no_grad, Device, Tensor};

/// transformers continued each prompt separately; here all prompts of a model are one batch.
#[test]
fn greedy_tokens_are_those_of_transformers() {
    let path = golden("models/continuations.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let ids = |value: &Value| Vec::from_iter(value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32));
    let mut compared = 0;
    for case in cases("adapter") {
        let own = golden["continuations"].as_array().unwrap().iter().filter(|one| one["case"] == case.name.as_str());
        let (prompts, expected): (Vec<_>, Vec<_>) = own.map(|one| (ids(&one["prompt"]), ids(&one["tokens"]))).unzip();
        if prompts.is_empty() {
            continue;
        }
        let config = GenerationConfig { max_new_tokens: Some(expected[0].len()), ..GenerationConfig::default() };
        let actual = generate(&case.decoder(Device::Cpu), &NoAdapters, 1, &prompts, &config, &mut |_| Ok(())).unwrap();
        let actual: Vec<Vec<u32>> = actual[0].iter().map(|continuation| continuation.ids.clone()).collect();
        assert_eq!(actual, expected, "{}", case.name);
        compared += actual.len();
    }
    assert_eq!(compared, 9);
}

/// A document in a packed row is rotated as if it had its own row in the batch.
#[test]
fn packed_rows_rotate_as_rows_of_a_batch() {
    for case in cases("adapter").iter().filter(|case| ["llama_dynamic", "qwen3_longrope"].contains(&case.name.as_str()))
    {
        let decoder = case.decoder(Device::Cpu);
        let documents: [&[i64]; 3] = [&[5, 9, 2], &[1; 15], &[7, 8, 9, 10, 3, 2]];
        let hidden = |input: &Input| no_grad(|| decoder.hidden(input, &NoAdapters)).unwrap();
        let time = documents.iter().map(|ids| ids.len()).max().unwrap();
        let padded = documents.iter().flat_map(|ids| ids.iter().copied().chain(std::iter::repeat(0)).take(time));
        let positions =
            documents.iter().flat_map(|ids| (0..time as i64).map(|at| if at < ids.len() as i64 { at } else { 0 }));
        let batch = Batch { position_ids: positions.collect(), ..Batch::of_rows(3, time, padded.collect()) };
        let rows = Input::from_batches(&[&batch], &decoder).unwrap();
        let ids: Vec<i64> = documents.concat();
        let positions: Vec<i64> = documents.iter().flat_map(|ids| 0..ids.len() as i64).collect();
        let segments: Vec<i64> = (0..).zip(documents).flat_map(|(at, ids)| ids.iter().map(move |_| at)).collect();
        let grid = Grid {
            rows: 1,
            time: ids.len(),
            input_ids: &ids,
            position_ids: &positions,
            segments: Some(&segments),
            shares_prefixes: false,
            part_of: None,
        };
        let packed = Input::new(&[grid], decoder.config.vocab_size, Device::Cpu).unwrap();
        assert!(hidden(&packed).equal(&hidden(&rows)), "{}", case.name);
        // In a batch of their own, the short documents are rotated differently.
        let alone: Vec<Tensor> = documents
            .iter()
            .map(|ids| hidden(&Input::from_ids(ids, decoder.config.vocab_size, Device::Cpu).unwrap()))
            .collect();
        assert!(!hidden(&packed).equal(&Tensor::cat(&alone, 0)), "{}", case.name);
        let apart = hidden(&packed.each_alone());
        assert!(nmse(&apart, &Tensor::cat(&alone, 0)) < LOGITS_NMSE, "{}", case.name);
    }
}
