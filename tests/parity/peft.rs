//! The other direction: PEFT loads what lorhai saved and computes the same logits.

use crate::cases::*;
use crate::common::files::golden;
use crate::common::needs::python;
use lorhai::hub::weights;
use lorhai::lora::convert::to_lora;
use lorhai::lora::{peft, Adapter, AdapterSet, Bias, Init, LoraSpec, Targets, TrainableTokens};
use lorhai::model::Decoder;
use std::process::Command;
use tch::{Device, Kind, Tensor};

#[test]
#[ignore = "needs torch, transformers, peft and trl: set PEER_PYTHON"]
fn an_adapter_saved_here_loads_in_peft_with_the_same_logits() {
    let specs = [
        LoraSpec { r: 4, alpha: 8.0, target_modules: Targets::AllLinear, ..LoraSpec::default() },
        LoraSpec { r: 3, alpha: 5.5, use_rslora: true, ..LoraSpec::default() },
        LoraSpec {
            r: 2,
            target_modules: Targets::Pattern(r".*\.(q|down)_proj".into()),
            rank_pattern: [("down_proj".to_owned(), 5)].into(),
            ..LoraSpec::default()
        },
    ];
    let is_base = |case: &Case| case.json["base"].is_null();
    for case in cases("adapter").into_iter().filter(is_base).take(6) {
        specs.iter().for_each(|spec| check(&case, spec, false));
    }
}

/// An adapter with a resized vocabulary, whose file contains the embeddings.
#[test]
#[ignore = "needs torch, transformers, peft and trl: set PEER_PYTHON"]
fn an_adapter_with_its_own_embeddings_saved_here_loads_in_peft_with_the_same_logits() {
    let golden = golden("models/embedding_adapters");
    for (name, base) in [("own_tied", "qwen2_tied"), ("own_untied", "llama_untied_gqa"), ("one_matrix", "qwen2_tied")] {
        let case = Case::open(golden.with_file_name(base)).unwrap();
        let decoder = case.decoder(Device::Cpu);
        let adapter = peft::load(&golden.join(name), &decoder).unwrap();
        compare(&case, &decoder, &adapter, &adapter);
    }
}

#[test]
#[ignore = "needs torch, transformers, peft and trl: set PEER_PYTHON"]
fn a_variant_saved_here_loads_in_peft_with_the_same_logits() {
    let spec = || LoraSpec { r: 4, alpha: 8.0, target_modules: Targets::AllLinear, ..LoraSpec::default() };
    let modules = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let specs = [
        LoraSpec {
            use_dora: true,
            use_rslora: true,
            rank_pattern: [("down_proj".to_owned(), 5)].into(),
            alpha_pattern: [("layers.1.self_attn.q_proj".to_owned(), 3.0)].into(),
            ..spec()
        },
        LoraSpec { init: Init::Pissa, ..spec() },
        LoraSpec { init: Init::Olora, use_dora: true, bias: Bias::All, ..spec() },
        LoraSpec { bias: Bias::LoraOnly, modules_to_save: modules(&["embed_tokens", "o_proj"]), ..spec() },
        LoraSpec { bias: Bias::All, target_modules: Targets::Names(modules(&["q_proj"])), ..spec() },
    ];
    let beside_linears = [
        LoraSpec { target_modules: Targets::Names(modules(&["q_proj", "embed_tokens", "lm_head"])), ..spec() },
        LoraSpec { lora_bias: true, modules_to_save: modules(&["norm"]), ..spec() },
        LoraSpec { trainable_token_indices: TrainableTokens::Embeddings(vec![5, 40, 9]), ..spec() },
        LoraSpec { modules_to_save: modules(&["embed_tokens"]), ensure_weight_tying: true, ..spec() },
        LoraSpec {
            rank_pattern: [("q_proj".to_owned(), 3), (".*self_attn.q_proj".to_owned(), 6)].into(),
            target_modules: Targets::Pattern(r"model\.layers\.(?!0).*_proj".into()),
            ..spec()
        },
    ];
    let named = |case: &Case| ["qwen2_tied", "llama_bias"].contains(&case.name.as_str());
    for case in cases("adapter").into_iter().filter(named) {
        specs.iter().for_each(|spec| check(&case, spec, false));
        if case.name == "qwen2_tied" {
            beside_linears.iter().for_each(|spec| check(&case, spec, false));
        }
        let rank_pattern = [("down_proj".to_owned(), 2)].into();
        check(&case, &LoraSpec { init: Init::Pissa, use_rslora: true, rank_pattern, ..spec() }, true);
        check(&case, &LoraSpec { init: Init::Olora, ..spec() }, true);
    }
}

/// Saves a random adapter of `spec`, converted to an ordinary LoRA if `as_lora`, and compares it in PEFT.
fn check(case: &Case, spec: &LoraSpec, as_lora: bool) {
    let decoder = case.decoder(Device::Cpu);
    let mut adapter = Adapter::new(spec.clone(), &decoder, 5).unwrap();
    let values = adapter.parameters.snapshot().unwrap();
    adapter.parameters.restore(&(&values + Tensor::randn_like(&values) * 0.05)).unwrap();
    if as_lora {
        compare(case, &decoder, &adapter, &to_lora(&adapter, &decoder.config).unwrap())
    } else {
        compare(case, &decoder, &adapter, &adapter)
    }
}

/// Asserts that PEFT's logits with `saved` are ours with `adapter`.
fn compare(case: &Case, decoder: &Decoder, adapter: &Adapter, saved: &Adapter) {
    let folder = tempfile::tempdir().unwrap();
    peft::save(saved, "base", None, &folder.path().join("adapter"), false).unwrap();
    let batch = case.batch("");
    let shape = [batch.rows as i64, batch.seq_len as i64];
    let tensors = [
        ("input_ids", Tensor::from_slice(&batch.input_ids).view(shape)),
        ("attention_mask", case.tensor("attention_mask").to_kind(Kind::Int64)),
        ("logits", logits(decoder, &batch, &AdapterSet::one(adapter, None))),
    ];
    let tensors: Vec<(String, Tensor)> = tensors.into_iter().map(|(name, x)| (name.to_owned(), x)).collect();
    weights::save(&folder.path().join("ours.safetensors"), &tensors, &[]).unwrap();
    let script = golden("models/check_adapter.py");
    let mut command = Command::new(python("PEER_PYTHON"));
    command.arg(script).arg("--base").arg(case.base());
    command.arg("--adapter").arg(folder.path().join("adapter"));
    let output = command.arg("--ours").arg(folder.path().join("ours.safetensors")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let parameters = saved.parameters.names().len();
    println!("{} {:?}, {parameters} tensors: {}", case.name, saved.spec.init, said.trim());
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
