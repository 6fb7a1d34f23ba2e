//! Models whose matrices are packed: steps, merging, memory.

use crate::common::files::tiny_folder;
use crate::common::models::{open, tiny};
use crate::common::numbers::relative_error;
use lorhai::hub::weights::Weights;
use lorhai::lora::{Adapter, AdapterSet, LoadOptions, LoraSpec, Model, Targets, Trainable};
use lorhai::model::packing::Packing;
use lorhai::model::{load, Config, Decoder, NoAdapters, Quantization};
use lorhai::train::memory::check::random_rows;
use lorhai::train::memory::{plan, Request};
use lorhai::train::step::{backward, batch_losses};
use serde_json::json;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The resident bytes of the mappings of a file, by smaps (proc(5)).
fn resident(path: &Path) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut is_of_file, mut kilobytes) = (false, 0);
    for line in smaps.lines() {
        match line.strip_prefix("Rss:") {
            Some(rest) if is_of_file => kilobytes += rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap(),
            None if !line.split(' ').next().unwrap().ends_with(':') => {
                is_of_file = line.ends_with(path.to_str().unwrap())
            }
            _ => {}
        }
    }
    kilobytes * 1024
}

#[test]
fn pages_of_mapped_matrices_are_dropped_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 512,
        "intermediate_size": 1408, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 4,
        "vocab_size": 512, "tie_word_embeddings": false, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
        "max_position_embeddings": 512,
    });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let options = LoadOptions { dtype: "f32".into(), device: "cpu".into(), ..LoadOptions::default() };
    Model::random(folder.path(), 0, &options).unwrap().save(folder.path(), true).unwrap();
    let weights = Weights::open(folder.path()).unwrap();
    let config = Config::from_folder(folder.path()).unwrap();
    let mut decoder = load::load(config, &weights, Kind::Float, Device::Cpu).unwrap();
    let matrices: u64 = decoder.linears().map(|linear| linear.weight.bytes()).sum();
    let sums = |decoder: &Decoder| -> Vec<f64> {
        decoder.linears().map(|linear| linear.weight.dense().unwrap().sum(Kind::Double).double_value(&[])).collect()
    };
    let expected = sums(&decoder);
    let file = folder.path().join("model.safetensors");
    assert!(resident(&file) > matrices, "{} of {matrices}", resident(&file));
    decoder.pack(Packing::All, Some(&weights)).unwrap();
    decoder.make_packed_copies().unwrap();
    // What remains: the embeddings, and less than two pages of 64 KiB at the ends of each matrix.
    let ends = decoder.linears().count() as u64 * (128 << 10);
    let rest = 512 * 512 * 4 + ends;
    assert!(resident(&file) < rest && rest < matrices / 2, "{} of {matrices}", resident(&file));
    assert_eq!(sums(&decoder), expected);
}

fn spec() -> LoraSpec {
    LoraSpec { r: 4, target_modules: Targets::AllLinear, ..LoraSpec::default() }
}

/// The loss and the gradients of an adapter over random tokens.
fn step(model: &Model) -> (f64, Tensor) {
    let decoder = model.decoder();
    let batch = random_rows(4, 32, decoder.config.vocab_size);
    let adapter = Adapter::new(spec(), decoder, 0).unwrap();
    let adapters = AdapterSet::new(adapter.active(Some(0), None).into_iter().collect());
    let losses = backward(decoder, &[&batch], &adapters, &[1.0], false).unwrap();
    (losses.sums().unwrap()[0], adapter.parameters.flat_gradient().copy())
}

#[test]
fn a_step_of_a_packed_model_is_that_of_the_model() {
    let (expected, expected_gradient) = step(&tiny());
    for is_mapped in [false, true] {
        let mut model = tiny();
        let weights = Weights::open(&tiny_folder()).unwrap();
        if is_mapped {
            let config = Config::from_folder(&tiny_folder()).unwrap();
            model.adapted.decoder = load::load(config, &weights, Kind::Float, Device::Cpu).unwrap();
        }
        model.adapted.decoder.pack(Packing::All, Some(&weights)).unwrap();
        assert_eq!(model.decoder().weights_dtype(), "f32, packed for the CPU");
        let matrices = model.decoder().linears().map(|linear| linear.weight.bytes()).sum::<u64>();
        let copies = if is_mapped { 1 } else { 2 };
        assert_eq!(model.decoder().packed_bytes(), copies * matrices);
        let (loss, gradient) = step(&model);
        assert!((loss - expected).abs() < 1e-5 * expected && loss != 0.0, "{loss} {expected}");
        assert!(relative_error(&gradient, &expected_gradient) < 1e-4);
        // The matrices themselves are still there.
        let decoder = model.decoder();
        let base = tiny();
        for (packed, linear) in decoder.linears().zip(base.decoder().linears()) {
            assert_eq!(packed.weight.dense().unwrap(), linear.weight.dense().unwrap());
        }
    }
}

/// The loss of the model as it is over random tokens.
fn loss(model: &Model) -> f64 {
    let decoder = model.decoder();
    let batch = random_rows(4, 32, decoder.config.vocab_size);
    batch_losses(decoder, &[&batch], &NoAdapters).unwrap().sums().unwrap()[0]
}

#[test]
fn merging_resizing_and_full_training_read_no_copy_of_before() {
    let losses = |mut model: Model| {
        let mut losses = vec![loss(&model)];
        let mut adapter = Adapter::new(spec(), model.decoder(), 1).unwrap();
        for leaf in 0..adapter.parameters.leaves().len() {
            let shape = adapter.parameters.leaves()[leaf].size();
            let values = (0..shape.iter().product::<i64>()).map(|at| (at as f32 * 0.7).sin() * 0.05);
            let values = Tensor::from_slice(&values.collect::<Vec<f32>>()).view(&shape[..]);
            adapter.parameters.set(leaf, &values).unwrap();
        }
        model.adapted.insert("default", adapter).unwrap();
        model.adapted.merge(None).unwrap();
        losses.push(loss(&model));
        model.adapted.unmerge().unwrap();
        losses.push(loss(&model));
        model.adapted.decoder.resize_token_embeddings(600).unwrap();
        losses.push(loss(&model));
        let parameters = model.adapted.decoder.train_all().unwrap();
        losses.push(loss(&model));
        let _ = tch::no_grad(|| parameters.flat().shallow_clone().g_mul_scalar_(1.1));
        losses.push(loss(&model));
        assert_eq!(model.decoder().packed_bytes(), 0);
        losses
    };
    let mut packed = tiny();
    packed.adapted.decoder.pack(Packing::All, None).unwrap();
    for (at, (packed, expected)) in losses(packed).into_iter().zip(losses(tiny())).enumerate() {
        assert!((packed - expected).abs() < 1e-5 * expected, "{at}: {packed} {expected}");
    }
}

#[test]
fn four_bit_models_are_as_they_were() {
    let mut model = open(&tiny_folder(), "f32", Some(Quantization { double_quant: true })).unwrap();
    let expected = step(&model);
    let head = model.decoder().lm_head.weight.bytes();
    model.adapted.decoder.pack(Packing::All, None).unwrap();
    // The head is dense.
    assert_eq!(model.decoder().packed_bytes(), 2 * head);
    assert!(model.decoder().weights_dtype().starts_with("4-bit nf4"));
    assert!((step(&model).0 - expected.0).abs() < 1e-5 * expected.0);
}

/// The copies are made before a step is measured, and the plan counts them.
#[test]
fn the_memory_plan_counts_packed_copies() {
    let mut model = tiny();
    let lora = |model: &Model| {
        let request = Request { lora: spec(), ..Request::of(model.decoder()) };
        let plan = plan("tiny", &model.decoder().config, &request).unwrap();
        plan.needs.iter().map(|need| need.ours.weights).collect::<Vec<u64>>()
    };
    let before = lora(&model);
    model.adapted.decoder.pack(Packing::All, None).unwrap();
    let mut expected = before.clone();
    expected[1] += model.decoder().packed_bytes();
    assert_eq!(lora(&model), expected, "only LoRA over dense weights has packed ones");
}
