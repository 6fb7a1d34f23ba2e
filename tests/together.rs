//! Trials that train side by side are what they would be alone.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::tiny_folder;
use common::models::{open, tiny};
use common::numbers::relative_error;
use lorhai::data::{self, Dataset, TokenizeOptions, TokenizedDataset};
use lorhai::eval::loss::{mean_loss, mean_losses};
use lorhai::lora::trainable::dropout_key;
use lorhai::lora::{Adapter, AdapterSet, Bias, Init, LoraSpec, Model, Targets, Trainable, TrainableTokens};
use lorhai::model::{Decoder, Quantization};
use lorhai::options::OneOrMany;
use lorhai::random::Key;
use lorhai::train::grouping::Grouping;
use lorhai::train::observer::Silent;
use lorhai::train::step::{backward, batch_losses, predicted_labels};
use lorhai::train::{train, train_together, AdamWConfig, Callbacks, EvalInterval, Job, TrainConfig};
use lorhai::Kind;
use tch::Tensor;

fn loaded(quantization: Option<Quantization>) -> Model {
    open(&tiny_folder(), "f32", quantization).unwrap()
}

/// Rows of very different lengths.
fn rows(model: &Model) -> TokenizedDataset {
    let path = tiny_folder().join("pretrain.jsonl");
    let rows = Dataset::load(path.to_str().unwrap()).unwrap().take(200);
    let options = TokenizeOptions { cache: false, ..TokenizeOptions::default() };
    data::tokenize(&rows, model.tokenizer().unwrap(), &options).unwrap()
}

/// Mixed ranks, targets, scales and dropout.
fn specs() -> Vec<LoraSpec> {
    let spec = |r: i64, dropout: f64, targets: Targets| LoraSpec {
        r,
        alpha: 16.0,
        dropout,
        target_modules: targets,
        ..LoraSpec::default()
    };
    vec![
        spec(2, 0.0, Targets::AllLinear),
        spec(16, 0.1, Targets::AllLinear),
        spec(5, 0.3, Targets::Names(vec!["q_proj".into(), "down_proj".into()])),
        LoraSpec { use_rslora: true, ..spec(33, 0.05, Targets::AllLinear) },
    ]
}

/// One of every kind.
fn variants() -> Vec<LoraSpec> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let base = || LoraSpec { r: 4, alpha: 8.0, target_modules: Targets::AllLinear, ..LoraSpec::default() };
    vec![
        LoraSpec { dropout: 0.1, ..base() },
        LoraSpec { use_dora: true, ..base() },
        LoraSpec {
            use_dora: true,
            dropout: 0.2,
            bias: Bias::LoraOnly,
            target_modules: Targets::Names(names(&["q_proj", "down_proj"])),
            ..base()
        },
        LoraSpec { init: Init::Pissa, dropout: 0.1, ..base() },
        LoraSpec { init: Init::Olora, use_dora: true, dropout: 0.1, r: 7, ..base() },
        LoraSpec { bias: Bias::All, modules_to_save: names(&["embed_tokens", "lm_head", "o_proj"]), ..base() },
        LoraSpec { target_modules: Targets::Names(names(&["v_proj", "embed_tokens", "lm_head"])), ..base() },
        LoraSpec { lora_bias: true, dropout: 0.1, modules_to_save: names(&["norm"]), ..base() },
        LoraSpec { trainable_token_indices: TrainableTokens::Embeddings(vec![9, 300, 17, 40]), ..base() },
        LoraSpec { modules_to_save: names(&["embed_tokens"]), ensure_weight_tying: true, ..base() },
    ]
}

/// Adapters whose B is not zero, so that every gradient counts.
fn adapters(decoder: &Decoder, specs: Vec<LoraSpec>) -> Vec<Adapter> {
    let make = |(seed, spec): (usize, LoraSpec)| {
        let mut adapter = Adapter::new(spec, decoder, seed as u64).unwrap();
        let mut values = adapter.parameters.snapshot().unwrap();
        let noise: Vec<f32> = (0..values.numel() as u64).map(|at| Key::new(seed as u64).normal(at) as f32).collect();
        values += Tensor::from_slice(&noise) * 0.02;
        adapter.parameters.restore(&values).unwrap();
        adapter
    };
    specs.into_iter().enumerate().map(make).collect()
}

/// The gradients of each adapter on its own batch, all in one pass.
fn gradients(decoder: &Decoder, data: &TokenizedDataset, adapters: &mut [Adapter]) -> Vec<Tensor> {
    adapters.iter_mut().for_each(|adapter| adapter.parameters.zero_gradients().unwrap());
    let batches: Vec<_> =
        (0..adapters.len() as u32).map(|at| data.batch(&[7 * at, 7 * at + 1, 7 * at + 2]).unwrap()).collect();
    let active = adapters
        .iter()
        .enumerate()
        .filter_map(|(part, own)| own.active(Some(part), Some(dropout_key(part as u64, 3, 0))));
    let set = AdapterSet::new(active.collect());
    let found = batch_losses(decoder, &batches.iter().collect::<Vec<_>>(), &set).unwrap();
    let weights: Vec<f64> = found.labels.iter().map(|&labels| 1.0 / labels as f64).collect();
    found.weighted(&weights).unwrap().backward();
    drop(set);
    adapters.iter().map(|adapter| adapter.parameters.flat_gradient().copy()).collect()
}

fn gradient_alone(decoder: &Decoder, data: &TokenizedDataset, adapter: &mut Adapter, at: usize) -> Tensor {
    adapter.parameters.zero_gradients().unwrap();
    let batch = data.batch(&[7 * at as u32, 7 * at as u32 + 1, 7 * at as u32 + 2]).unwrap();
    let set = AdapterSet::new(adapter.active(None, Some(dropout_key(at as u64, 3, 0))).into_iter().collect());
    let found = batch_losses(decoder, &[&batch], &set).unwrap();
    found.weighted(&[1.0 / found.labels[0] as f64]).unwrap().backward();
    drop(set);
    adapter.parameters.flat_gradient().copy()
}

/// Of the size of a gradient in f32: 1700 roundings. Sums over tokens are added up in another order side by side, and
/// DoRA's gradients are differences of such sums; a token in the wrong adapter changes a gradient by a tenth of it.
const GRADIENT_BOUND: f64 = 1e-4;
/// Of a loss: 64 roundings.
const LOSS_BOUND: f64 = 4e-6;

#[test]
fn gradients_side_by_side_are_those_alone() {
    compare_gradients(&tiny(), specs());
}

#[test]
fn gradients_of_variants_side_by_side_are_those_alone() {
    compare_gradients(&tiny(), variants());
}

#[test]
fn gradients_side_by_side_are_those_alone_over_four_bits() {
    compare_gradients(&loaded(Some(Quantization { double_quant: true })), specs());
}

fn compare_gradients(model: &Model, specs: Vec<LoraSpec>) {
    let (decoder, data) = (model.decoder(), rows(model));
    let mut adapters = adapters(decoder, specs);
    let together = gradients(decoder, &data, &mut adapters);
    for (at, (adapter, found)) in adapters.iter_mut().zip(&together).enumerate() {
        let distance = relative_error(found, &gradient_alone(decoder, &data, adapter, at));
        println!("adapter {at}: {distance:.1e}");
        assert!(distance < GRADIENT_BOUND, "adapter {at}: {distance:.1e}");
    }
}

#[test]
fn an_adapter_is_untouched_by_its_neighbours() {
    disturb(specs(), 1);
}

#[test]
fn a_variant_is_untouched_by_its_neighbours() {
    (0..variants().len()).for_each(|other| disturb(variants(), other));
}

/// Changes adapter `other`; the gradients of the rest must not.
fn disturb(specs: Vec<LoraSpec>, other: usize) {
    let model = tiny();
    let (decoder, data) = (model.decoder(), rows(&model));
    let mut adapters = adapters(decoder, specs);
    let before = gradients(decoder, &data, &mut adapters);
    let rest: Vec<usize> = (0..adapters.len()).filter(|&at| at != other).collect();
    let mut values = adapters[other].parameters.snapshot().unwrap();
    values *= 3.0;
    adapters[other].parameters.restore(&values).unwrap();
    let after = gradients(decoder, &data, &mut adapters);
    for &at in &rest {
        assert!(before[at].equal(&after[at]), "adapter {at} changed with its neighbour {other}");
    }
    assert!(!before[other].equal(&after[other]));
    // Not even a number that is none reaches the others.
    adapters[other].parameters.restore(&(values * f64::NAN)).unwrap();
    let poisoned = gradients(decoder, &data, &mut adapters);
    for &at in &rest {
        assert!(before[at].equal(&poisoned[at]), "adapter {at} got the NaN of its neighbour {other}");
    }
}

#[test]
fn checkpointed_gradients_are_those_of_a_pass_that_keeps_all() {
    let model = tiny();
    let (decoder, data) = (model.decoder(), rows(&model));
    // One of them has nothing in the lowest layers.
    let upper = LoraSpec { layers_to_transform: Some(OneOrMany(vec![1])), ..specs().remove(1) };
    let specs = [specs(), variants(), vec![upper]].concat();
    let mut adapters = adapters(decoder, specs);
    for (at, adapter) in adapters.iter_mut().enumerate() {
        let expected = gradient_alone(decoder, &data, adapter, at);
        adapter.parameters.zero_gradients().unwrap();
        let batch = data.batch(&[7 * at as u32, 7 * at as u32 + 1, 7 * at as u32 + 2]).unwrap();
        let labels = predicted_labels(&batch);
        let set = AdapterSet::new(adapter.active(None, Some(dropout_key(at as u64, 3, 0))).into_iter().collect());
        backward(decoder, &[&batch], &set, &[1.0 / labels as f64], true).unwrap();
        drop(set);
        assert!(adapter.parameters.flat_gradient().equal(&expected), "adapter {at}");
    }
}

fn config(seed: u64, steps: u64, lr: f64) -> TrainConfig {
    TrainConfig {
        steps,
        batch: 3,
        accumulation: 2,
        seed,
        eval_every: EvalInterval::Steps(4),
        optimizer: AdamWConfig { lr, weight_decay: 0.01, ..AdamWConfig::default() },
        ..TrainConfig::default()
    }
}

#[test]
fn whole_runs_side_by_side_end_where_they_end_alone() {
    let configs = [(0, 10, 1e-3), (1, 6, 3e-3), (0, 8, 1e-4), (2, 10, 1e-3)];
    let configs = configs.map(|(seed, steps, lr)| config(seed, steps, lr));
    compare_runs(&specs(), &configs, &[vec![0, 1, 2, 3], vec![2, 0, 3, 1]]);
}

#[test]
fn runs_grouped_by_length_side_by_side_end_where_they_end_alone() {
    let grouped =
        |seed, group_by_length| TrainConfig { grouping: Grouping { group_by_length }, ..config(seed, 9, 1e-3) };
    let configs = [grouped(0, true), grouped(1, true), grouped(0, false), grouped(2, true)];
    compare_runs(&specs(), &configs, &[vec![0, 1, 2, 3], vec![3, 1, 0, 2]]);
}

#[test]
fn whole_runs_of_variants_side_by_side_end_where_they_end_alone() {
    let with_ratio = |ratio| {
        let mut config = config(0, 6, 1e-3);
        config.optimizer.loraplus_lr_ratio = ratio;
        config
    };
    let configs = [None, Some(4.0), None, None, Some(2.0), Some(8.0)].map(with_ratio);
    compare_runs(&variants(), &configs, &[vec![0, 1, 2, 3, 4, 5], vec![5, 3, 1, 4, 2, 0]]);
}

fn compare_runs(specs: &[LoraSpec], configs: &[TrainConfig], orders: &[Vec<usize>]) {
    let model = tiny();
    let (decoder, data) = (model.decoder(), rows(&model));
    let fresh = || -> Vec<Adapter> {
        let make = |(spec, config): (&LoraSpec, &TrainConfig)| Adapter::new(spec.clone(), decoder, config.seed);
        specs.iter().zip(configs).map(|pair| make(pair).unwrap()).collect()
    };
    let mut evaluate = |decoder: &Decoder, trainables: &[&dyn Trainable]| {
        let found = mean_losses(decoder, trainables, &data, 7)?;
        Ok(found.into_iter().map(|found| found.loss).collect())
    };
    let mut alone = fresh();
    let mut outcomes_alone = Vec::new();
    for (adapter, config) in alone.iter_mut().zip(configs) {
        outcomes_alone.push(train(decoder, adapter, &data, config, Some(&mut evaluate), &mut Silent).unwrap());
    }
    for order in orders {
        let mut together = fresh();
        let mut silent: Vec<Silent> = specs.iter().map(|_| Silent).collect();
        let mut slots: Vec<Option<(&mut Adapter, &mut Silent)>> =
            together.iter_mut().zip(&mut silent).map(Some).collect();
        let jobs = order.iter().map(|&at| {
            let (trainable, observer) = slots[at].take().unwrap();
            Job {
                trainable,
                config: &configs[at],
                observer,
                callbacks: Callbacks::default(),
                until: None,
                processes: None,
            }
        });
        let outcomes = train_together(decoder, jobs.collect(), &data, Some(&mut evaluate)).unwrap();
        for (outcome, &at) in outcomes.into_iter().zip(order) {
            let (found, expected) = (outcome.unwrap(), &outcomes_alone[at]);
            assert_eq!(
                (found.steps, found.tokens, found.best_step),
                (expected.steps, expected.tokens, expected.best_step)
            );
            let off = (found.eval_loss.unwrap() / expected.eval_loss.unwrap() - 1.0).abs();
            let weights = relative_error(together[at].parameters.flat(), alone[at].parameters.flat());
            println!("run {at}: eval loss {off:.1e}, weights {weights:.1e}");
            assert!(off < 1e-5 && weights < 1e-3, "run {at}: eval loss {off:.1e}, weights {weights:.1e}");
        }
    }
}

fn job<'a>(((trainable, config), observer): ((&'a mut Adapter, &'a TrainConfig), &'a mut Silent)) -> Job<'a> {
    Job { trainable, config, observer, callbacks: Callbacks::default(), until: None, processes: None }
}

#[test]
fn a_run_that_fails_leaves_and_the_others_go_on() {
    let model = tiny();
    let (decoder, data) = (model.decoder(), rows(&model));
    let configs = [config(0, 8, 1e-3), config(0, 8, 1e30), config(1, 8, 1e-3)];
    let mut adapters: Vec<Adapter> =
        configs.iter().map(|_| Adapter::new(specs()[0].clone(), decoder, 0).unwrap()).collect();
    let mut silent = [Silent; 3];
    let jobs = adapters.iter_mut().zip(&configs).zip(&mut silent);
    let jobs = jobs.map(job).collect();
    let outcomes = train_together(decoder, jobs, &data, None).unwrap();
    assert_eq!(outcomes[1].as_ref().unwrap_err().kind, Kind::Numeric);
    assert!(outcomes[0].as_ref().is_ok_and(|outcome| outcome.steps == 8));
    assert!(outcomes[2].as_ref().is_ok_and(|outcome| outcome.steps == 8));
    assert!(adapters[1].parameters.flat().isfinite().all().int64_value(&[]) == 1, "the weights are as they were");
}

#[test]
fn a_last_step_that_leaves_no_finite_weights_fails_its_run_alone() {
    let model = tiny();
    let (decoder, data) = (model.decoder(), rows(&model));
    let mut measured = 0;
    let mut evaluate = |_: &Decoder, trainables: &[&dyn Trainable]| {
        measured += trainables.len();
        Ok(trainables.iter().map(|_| 1.0).collect())
    };
    // Beyond what f32 holds: loss and gradient are finite, the update is not.
    let diverging = config(0, 1, 1e39);
    for keep_best in [false, true] {
        let configs =
            [TrainConfig { keep_best, eval_every: EvalInterval::Steps(1), ..diverging.clone() }, config(0, 1, 1e-3)];
        let mut adapters = configs.each_ref().map(|_| Adapter::new(specs()[0].clone(), decoder, 0).unwrap());
        let mut silent = [Silent; 2];
        let jobs = adapters.iter_mut().zip(&configs).zip(&mut silent);
        let jobs = jobs.map(job).collect();
        let outcomes = train_together(decoder, jobs, &data, Some(&mut evaluate)).unwrap();
        let error = outcomes[0].as_ref().unwrap_err();
        assert_eq!(error.kind, Kind::Numeric);
        assert!(error.message.contains("step 1") && error.message.contains("update"), "{error}");
        assert!(outcomes[1].as_ref().is_ok_and(|outcome| outcome.eval_loss == Some(1.0)));
    }
    assert_eq!(measured, 2, "what is not finite is not measured");
    let mut adapter = Adapter::new(specs()[0].clone(), decoder, 0).unwrap();
    let alone = train(decoder, &mut adapter, &data, &diverging, None, &mut Silent).unwrap_err();
    assert_eq!(alone.kind, Kind::Numeric);
}

#[test]
fn several_are_evaluated_as_each_alone() {
    let model = tiny();
    let (decoder, data) = (model.decoder(), rows(&model));
    let adapters = adapters(decoder, specs().into_iter().chain(variants()).collect());
    let trainables: Vec<&dyn Trainable> = adapters.iter().map(|adapter| adapter as &dyn Trainable).collect();
    let together = mean_losses(decoder, &trainables, &data, 8).unwrap();
    for (adapter, found) in adapters.iter().zip(together) {
        let alone = mean_loss(decoder, &AdapterSet::one(adapter, None), &data, 5).unwrap();
        assert_eq!(found.labels, alone.labels);
        assert!((found.loss / alone.loss - 1.0).abs() < LOSS_BOUND, "{} {}", found.loss, alone.loss);
    }
}
