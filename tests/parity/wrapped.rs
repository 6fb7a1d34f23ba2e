//! The language model of a multimodal checkpoint, and adapters over it under peft's names.

use crate::cases::*;
use crate::common::models::load;
use lorhai::lora::{peft, AdapterSet};
use lorhai::model::{Adapters, Decoder, Input, NoAdapters};
use serde_json::Value;
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

/// The logits of each row, `[tokens, vocabulary]`.
fn logits(case: &Case, decoder: &Decoder, adapters: &dyn Adapters) -> Vec<Tensor> {
    rows(case)
        .into_iter()
        .map(|ids| {
            let input = Input::from_ids(&ids, decoder.config.vocab_size, Device::Cpu).unwrap();
            let hidden = decoder.hidden(&input, adapters).unwrap();
            decoder.logits(&hidden, &input.tokens, adapters).unwrap()
        })
        .collect()
}

/// The ids of each row, without padding.
fn rows(case: &Case) -> Vec<Vec<i64>> {
    let (ids, mask) = (case.tensor("input_ids"), case.tensor("attention_mask"));
    let length = |row: i64| mask.get(row).sum(Kind::Int64).int64_value(&[]);
    (0..ids.size()[0]).map(|row| Vec::try_from(ids.get(row).narrow(0, 0, length(row))).unwrap()).collect()
}

fn compare(case: &Case, ours: &[Tensor], name: &str) {
    let theirs = case.tensor(name);
    for (row, ours) in ours.iter().enumerate() {
        let error = nmse(ours, &theirs.get(row as i64).narrow(0, 0, ours.size()[0]));
        assert!(error < LOGITS_NMSE, "{} {name}: {error:e}", case.name);
    }
}

#[test]
fn the_language_model_and_its_adapter_answer_as_in_transformers() {
    for case in cases("wrapped") {
        let decoder = case.decoder(Device::Cpu);
        assert!(decoder.notes.iter().any(|note| note.contains("multimodal")), "{:?}", decoder.notes);
        compare(&case, &logits(&case, &decoder, &NoAdapters), "base_logits");
        let adapter = case.adapter(&decoder);
        compare(&case, &logits(&case, &decoder, &AdapterSet::one(&adapter, None)), "adapter_logits");
    }
}

#[test]
fn an_adapter_is_saved_under_the_names_of_the_whole_model() {
    for case in cases("wrapped") {
        let decoder = case.decoder(Device::Cpu);
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("adapter");
        peft::save(&case.adapter(&decoder), "base", None, &saved, false).unwrap();
        let names = |folder: &std::path::Path| -> BTreeSet<String> {
            let weights = lorhai::hub::weights::Weights::open(&folder.join("adapter_model.safetensors")).unwrap();
            weights.names().map(str::to_owned).collect()
        };
        assert_eq!(names(&saved), names(&case.folder.join("adapter")));
        let adapter = peft::load(&saved, &decoder).unwrap();
        compare(&case, &logits(&case, &decoder, &AdapterSet::one(&adapter, None)), "adapter_logits");
    }
}

#[test]
fn a_saved_model_is_the_language_model_alone() {
    for case in cases("wrapped") {
        let mut model = load(&case.folder, "f32");
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("model");
        model.save(&saved, false).unwrap();
        let config: Value = serde_json::from_slice(&std::fs::read(saved.join("config.json")).unwrap()).unwrap();
        assert_eq!(
            (&config["model_type"], &config["architectures"][0]),
            (&"gemma3_text".into(), &"Gemma3ForCausalLM".into())
        );
        let read = load(&saved, "f32");
        compare(&case, &logits(&case, read.decoder(), &NoAdapters), "base_logits");
    }
}
