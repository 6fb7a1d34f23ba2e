//! Frozen matrices packed for the CPU: products, losses and runs as without, and no copy that is out of date.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{read_json, tiny_folder};
use common::models::{open, tiny};
use common::numbers::relative_error;
use common::program::{finished, lorhai};
use lorhai::hub::weights::Weights;
use lorhai::lora::{Adapter, AdapterSet, LoadOptions, LoraSpec, Model, Targets, Trainable};
use lorhai::model::packing::Packing;
use lorhai::model::processor::multiplies_bf16;
use lorhai::model::{load, Config, Decoder, NoAdapters, Quantization};
use lorhai::native::{self, Layer, Matrix, Segment};
use lorhai::random::Key;
use lorhai::train::memory::check::random_rows;
use lorhai::train::memory::{plan, Request};
use lorhai::train::step::{backward, batch_losses};
use serde_json::json;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The dtypes that can be packed here, with the bound on the relative error of a product.
fn dtypes() -> Vec<(Kind, f64)> {
    let all = [(Kind::Float, 2e-5), (Kind::BFloat16, 2e-2)];
    all.into_iter().filter(|(dtype, _)| native::can_pack(*dtype, multiplies_bf16())).collect()
}

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Double, Device::Cpu))
}

fn packed(w: Tensor) -> Tensor {
    // SAFETY: it is not mapped, and nobody else has it.
    unsafe { native::pack(&w, false) }.unwrap();
    w
}

fn keys(tokens: i64) -> Tensor {
    Tensor::arange(tokens, (Kind::Int64, Device::Cpu))
}

#[test]
fn products_of_any_number_of_tokens_are_those_of_the_matrix() {
    for (dtype, bound) in dtypes() {
        for (inputs, outputs) in [(64, 32), (70, 131), (33, 257), (512, 48)] {
            let [w, bias] = [random(&[outputs, inputs]), random(&[outputs])].map(|x| x.to_kind(dtype));
            let w = packed(w);
            for tokens in [1, 2, 3, 7, 16, 31, 32, 33, 100, 512] {
                assert_eq!(native::is_packed(&w, tokens), tokens >= 32);
                let x = random(&[tokens, inputs]).to_kind(dtype).set_requires_grad(true);
                let exact = x.to_kind(Kind::Double).detach().set_requires_grad(true);
                for bias in [None, Some(&bias)] {
                    let layer = Layer { w: Matrix::Dense(&w), bias, segments: &[] };
                    let y = native::linear(&x, layer, &keys(tokens)).unwrap();
                    let expected = exact.linear(&w.to_kind(Kind::Double), bias.map(|bias| bias.to_kind(Kind::Double)));
                    let what = format!("{dtype:?} {tokens}×{inputs}×{outputs}");
                    assert!(relative_error(&y, &expected) < bound, "{what}: {}", relative_error(&y, &expected));
                    let dy = random(&[tokens, outputs]).to_kind(dtype);
                    y.backward_with(&dy);
                    expected.backward_with(&dy.to_kind(Kind::Double));
                    let error = relative_error(&x.grad(), &exact.grad());
                    assert!(error < 2.0 * bound, "{what}: gradient {error}");
                }
            }
        }
    }
}

/// `y.backward(dy)`.
trait BackwardWith {
    fn backward_with(&self, dy: &Tensor);
}

impl BackwardWith for Tensor {
    fn backward_with(&self, dy: &Tensor) {
        native::backward(self, dy).unwrap();
    }
}

/// Queries, keys and values of one input: one of the matrices is not packed, and adapters act on some of the tokens.
#[test]
fn layers_of_one_input_sum_its_gradient() {
    let (tokens, width) = (48, 160);
    let weights: Vec<Tensor> = [160, 40, 72].iter().map(|&out| random(&[out, width]).to_kind(Kind::Float)).collect();
    let a = random(&[4, width]).to_kind(Kind::Float);
    let bs: Vec<Tensor> = [160, 40, 72].iter().map(|&out| random(&[out, 4]).to_kind(Kind::Float)).collect();
    let x = random(&[tokens, width]).to_kind(Kind::Float);
    let dys: Vec<Tensor> = [160, 40, 72].iter().map(|&out| random(&[tokens, out]).to_kind(Kind::Float)).collect();
    let run = |weights: &[Tensor]| -> (Vec<Tensor>, Tensor) {
        let x = x.copy().set_requires_grad(true);
        let segment =
            |b| Segment { a: &a, b, gradients: None, begin: 8, end: 40, scale: 0.5, p: 0.1, key: Key::new(3) };
        let segments: Vec<[Segment; 1]> = bs.iter().map(|b| [segment(b)]).collect();
        let layers: Vec<Layer> = weights
            .iter()
            .zip(&segments)
            .map(|(w, segments)| Layer { w: Matrix::Dense(w), bias: None, segments })
            .collect();
        let ys = native::linears(&x, &layers, &keys(tokens)).unwrap();
        let sum = ys.iter().zip(&dys).map(|(y, dy)| (y * dy).sum(Kind::Float)).reduce(|sum, next| sum + next);
        sum.unwrap().backward();
        (ys.iter().map(Tensor::detach).collect(), x.grad())
    };
    let (expected, expected_dx) = run(&weights);
    for left_out in 0..3 {
        let weights: Vec<Tensor> = weights.iter().map(Tensor::copy).collect();
        let others = weights.into_iter().enumerate();
        let weights: Vec<Tensor> = others.map(|(at, w)| if at == left_out { w } else { packed(w) }).collect();
        let (ys, dx) = run(&weights);
        for (y, expected) in ys.iter().zip(&expected) {
            assert!(relative_error(y, expected) < 1e-5);
        }
        assert!(relative_error(&dx, &expected_dx) < 1e-5, "{left_out}: {}", relative_error(&dx, &expected_dx));
    }
}

/// Its last piece has fewer tokens than a product that would be packed by itself.
#[test]
fn losses_are_those_of_the_matrix() {
    for (dtype, bound) in dtypes() {
        let (vocabulary, width) = (70_000, 48);
        let piece = native::loss_piece(vocabulary as u64, width as u64, 4, true) as i64;
        for tokens in [5, piece.min(500) + 3] {
            let w = (random(&[vocabulary, width]) * 0.1).to_kind(dtype);
            let hidden = random(&[tokens, width]).to_kind(dtype);
            let targets = keys(tokens) * 100;
            let run = |w: &Tensor| {
                let hidden = hidden.copy().set_requires_grad(true);
                let losses = native::token_losses(&hidden, w, &targets).unwrap();
                losses.mean(Kind::Float).backward();
                (losses.detach(), hidden.grad())
            };
            let (expected, expected_gradient) = run(&w);
            let (losses, gradient) = run(&packed(w));
            assert!(relative_error(&losses, &expected) < bound);
            assert!(relative_error(&gradient, &expected_gradient) < bound);
        }
    }
}

#[test]
fn a_matrix_that_was_written_to_or_is_trained_is_read_itself() {
    let w = packed(random(&[96, 64]).to_kind(Kind::Float));
    let x = random(&[40, 64]).to_kind(Kind::Float);
    let product =
        |w: &Tensor| native::linear(&x, Layer { w: Matrix::Dense(w), bias: None, segments: &[] }, &keys(40)).unwrap();
    assert!(relative_error(&product(&w), &x.linear(&w, None::<Tensor>)) < 1e-5);
    let detached = w.detach();
    assert!(native::is_packed(&detached, 40), "the same values");
    let _ = w.shallow_clone().fill_(1.0);
    assert!(!native::is_packed(&w, 40) && !native::is_packed(&detached, 40));
    assert!(relative_error(&product(&w), &x.linear(&w, None::<Tensor>)) < 1e-5);
    let trained = packed(random(&[96, 64]).to_kind(Kind::Float)).set_requires_grad(true);
    assert!(!native::is_packed(&trained, 40));
    assert_eq!(native::packed_bytes(&trained), 0);
    // A part of it is another matrix.
    let whole = packed(random(&[96, 64]).to_kind(Kind::Float));
    assert!(!native::is_packed(&whole.narrow(0, 0, 50), 40));
}

#[test]
fn threads_that_use_a_matrix_first_at_once_share_its_copies() {
    let w = packed(random(&[700, 300]).to_kind(Kind::Float));
    let x = random(&[64, 300]).to_kind(Kind::Float);
    let expected = x.linear(&w, None::<Tensor>);
    let products: Vec<Tensor> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..4)
            .map(|_| {
                let (w, x) = (w.shallow_clone(), x.shallow_clone());
                scope.spawn(move || {
                    lorhai::threads::use_threads(1);
                    let x = x.detach().set_requires_grad(true);
                    let layer = Layer { w: Matrix::Dense(&w), bias: None, segments: &[] };
                    let y = native::linear(&x, layer, &keys(64)).unwrap();
                    y.backward_with(&y.detach());
                    Tensor::cat(&[y.detach(), x.grad()], 1)
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert!(relative_error(&products[0].narrow(1, 0, 700), &expected) < 1e-5);
    assert!(products.iter().all(|product| product == &products[0]));
}

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
    let adapters = AdapterSet { active: adapter.active(Some(0), None).into_iter().collect() };
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

const SCRIPT: &str = r#"
let model = load_model("TINY", #{ dtype: "f32" });
print(model.generate("The", #{ max_new_tokens: 40 }));
let data = load_dataset("TINY/train.jsonl").take(24).tokenize(model, #{ cache: false }).split(#{ test: 8 });
let result = sweep(model, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 4, batch: 4 }, out: "runs/ranks" });
model.add_lora(#{ r: 4 });
train(model, data, #{ steps: 4, batch: 4, lr: 1e-3, log_every: 1, out: "runs/single" });
"#;

/// The run's record has the choice, and a repetition of the run has the same bits.
#[test]
fn the_variable_chooses_and_the_record_has_the_choice() {
    let outputs: Vec<(String, Vec<f64>)> = ["0", "1"]
        .iter()
        .map(|variable| {
            let folder = tempfile::tempdir().unwrap();
            let source = SCRIPT.replace("TINY", tiny_folder().to_str().unwrap());
            std::fs::write(folder.path().join("case.rhai"), source).unwrap();
            let command = |arguments: &[&str]| {
                let mut command = lorhai(folder.path());
                finished(command.env("LORHAI_PACKED_WEIGHTS", variable).args(arguments))
            };
            let ran = command(&["run", "--quiet", "case.rhai"]);
            assert_eq!(ran.code, Some(0), "{}", ran.errors);
            let origin = read_json(&folder.path().join("runs/single/origin.json"));
            let expected = if *variable == "1" { "f32, packed for the CPU" } else { "f32" };
            assert_eq!(origin["machine"]["dtype"], expected);
            let again = command(&["replay", "runs/single"]);
            assert_eq!(again.code, Some(0), "{}{}", again.output, again.errors);
            let log = std::fs::read_to_string(folder.path().join("runs/single/metrics.jsonl")).unwrap();
            let rows = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            (ran.output, rows.filter_map(|row| row["loss"].as_f64()).collect())
        })
        .collect();
    let [(text, losses), (packed_text, packed_losses)] = &outputs[..] else { panic!() };
    assert_eq!(text, packed_text);
    assert_eq!((losses.len(), packed_losses.len()), (4, 4));
    assert!(losses.iter().zip(packed_losses).all(|(loss, packed)| (loss - packed).abs() < 1e-4 * loss));
}

#[test]
fn doctor_says_what_is_packed_and_another_value_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = |variable: &str| finished(lorhai(folder.path()).env("LORHAI_PACKED_WEIGHTS", variable).arg("doctor"));
    assert!(doctor("0").output.contains("packed weights     none: "), "{}", doctor("0").output);
    let refused = doctor("yes");
    assert!(
        refused.output.contains("problem: LORHAI_PACKED_WEIGHTS: expected 0 or 1, found \"yes\""),
        "{}",
        refused.output
    );
}
