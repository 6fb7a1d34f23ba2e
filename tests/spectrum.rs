//! Rank spectra, truncation and subspace similarity against dense SVD in numpy
//! (`golden/spectrum/generate.py`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{golden, read_json};
use common::numbers::floats;
use lorhai::lora::spectrum::{similarities, truncate, ModuleSpectrum, RankSpectrum, Side, SuggestOptions};
use lorhai::lora::targets::match_targets;
use lorhai::lora::{peft, Adapter, LoraSpec, Targets};
use lorhai::model::shapes::linear_shapes;
use lorhai::model::{load, Config, Decoder};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// Relative to the largest value: adapters are stored in f32, and both sides compute in f64.
const EXACT: f64 = 1e-12;
/// The halves of a truncated adapter are rounded to f32.
const ROUNDED: f64 = 3e-7;

fn config() -> Config {
    Config::from_folder(&golden("models/qwen2_tied")).unwrap()
}

fn decoder() -> Decoder {
    load::random(config(), 0, Kind::Float, Device::Cpu).unwrap()
}

fn expected() -> Value {
    read_json(golden("spectrum/spectrum.json"))
}

fn adapter(expected: &Value, name: &str) -> Adapter {
    let folder = expected["folders"][name].as_str().unwrap();
    peft::load(&golden("models").join(folder), &decoder()).unwrap()
}

fn deviation(actual: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let largest = expected.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    actual.iter().zip(expected).fold(0.0_f64, |most, (one, other)| most.max((one - other).abs())) / largest
}

/// s·B·A of a layer, f64, row after row.
fn delta(adapter: &Adapter, name: &str) -> Vec<f64> {
    let target = adapter.targets.iter().find(|target| target.linear.name == name).unwrap();
    let low_rank = adapter.low_rank(&target.linear).unwrap();
    let wide = |x: &Tensor| x.detach().to_kind(Kind::Double);
    Vec::try_from((wide(low_rank.b).matmul(&wide(low_rank.a)) * low_rank.scale).flatten(0, -1)).unwrap()
}

#[test]
fn singular_values_and_ranks_are_those_of_dense_svd() {
    let expected = expected();
    let (mut worst, mut worst_rank, mut layers) = (0.0_f64, 0.0_f64, 0);
    for (name, by_layer) in expected["spectra"].as_object().unwrap() {
        let spectrum = RankSpectrum::of(&adapter(&expected, name)).unwrap();
        assert_eq!(spectrum.modules.len(), by_layer.as_object().unwrap().len());
        for module in &spectrum.modules {
            let dense = &by_layer[&module.name];
            worst = worst.max(deviation(&module.values, &floats(&dense["values"])));
            let rank = dense["effective_rank"].as_f64().unwrap();
            worst_rank = worst_rank.max((module.effective_rank() / rank - 1.0).abs());
            assert_eq!(module.energy_rank(0.9), dense["rank_90"].as_i64().unwrap(), "{}", module.name);
            assert_eq!(module.energy_rank(0.99), dense["rank_99"].as_i64().unwrap(), "{}", module.name);
            layers += 1;
        }
    }
    println!("{layers} layers: singular values {worst:.1e} of the largest, effective ranks {worst_rank:.1e} relative");
    assert!(worst < EXACT && worst_rank < EXACT, "{worst:e}, {worst_rank:e}");
}

#[test]
fn a_truncated_adapter_is_the_best_of_its_rank() {
    let expected = expected();
    let mut worst = 0.0_f64;
    let mut compared = 0;
    for (name, by_layer) in expected["spectra"].as_object().unwrap() {
        let full = adapter(&expected, name);
        for (module, dense) in by_layer.as_object().unwrap() {
            for (rank, values) in dense["truncated"].as_object().into_iter().flatten() {
                let lower = truncate(&full, rank.parse().unwrap(), &config()).unwrap();
                worst = worst.max(deviation(&delta(&lower, module), &floats(values)));
                compared += 1;
            }
        }
    }
    println!("{compared} approximations: {worst:.1e} of the largest entry");
    assert!(compared >= 6 && worst < ROUNDED, "{compared}: {worst:e}");
}

#[test]
fn subspace_similarities_are_those_of_numpy() {
    let expected = expected();
    let (one, other) = (adapter(&expected, "adapter"), adapter(&expected, "all_linear"));
    let mut worst = 0.0_f64;
    for (side, key) in [(Side::A, "A"), (Side::B, "B")] {
        let layers = similarities(&one, &other, side).unwrap();
        assert_eq!(layers.len(), expected["similarity"][key].as_object().unwrap().len());
        for layer in layers {
            let rows = expected["similarity"][key][&layer.name].as_array().unwrap();
            assert_eq!(layer.grid.len(), rows.len());
            for (phi, row) in layer.grid.iter().zip(rows) {
                let pairs = phi.iter().zip(floats(row));
                worst = pairs.fold(worst, |most, (one, other)| most.max((one - other).abs()));
            }
        }
        let with_itself = similarities(&one, &one, side).unwrap();
        let last = with_itself[0].grid.last().unwrap();
        assert!((last.last().unwrap() - 1.0).abs() < EXACT, "an adapter contains its own subspace");
    }
    println!("φ: {worst:.1e}");
    assert!(worst < EXACT, "{worst:e}");
}

#[test]
fn a_truncated_adapter_can_be_saved_and_loaded() {
    let expected = expected();
    let full = adapter(&expected, "patterns");
    let lower = truncate(&full, 3, &config()).unwrap();
    for (before, after) in full.targets.iter().zip(&lower.targets) {
        assert_eq!(after.r, before.r.min(3), "{}", after.linear.name);
        assert!((after.scale / before.scale - 1.0).abs() < 1e-9, "{}", after.linear.name);
    }
    let folder = tempfile::tempdir().unwrap();
    peft::save(&lower, "base", None, folder.path(), false).unwrap();
    let back = peft::load(folder.path(), &decoder()).unwrap();
    assert!(back.parameters.flat().equal(lower.parameters.flat()));
    let whole = truncate(&full, 6, &config()).unwrap();
    let name = &full.targets[0].linear.name;
    assert!(deviation(&delta(&whole, name), &delta(&full, name)) < ROUNDED, "nothing is lost at the full rank");
    for rank in [0, 7] {
        let error = truncate(&full, rank, &config()).unwrap_err();
        assert!(error.message.contains("a rank from 1 to 6"), "{}", error.message);
    }
}

#[test]
fn the_suggested_ranks_are_what_the_spectrum_says() {
    let config = config();
    let spec = LoraSpec { r: 8, alpha: 16.0, target_modules: Targets::AllLinear, ..LoraSpec::default() };
    let mut adapter = Adapter::new(spec, &decoder(), 1).unwrap();
    // B with fewer and fewer columns that are not zero.
    for at in 0..adapter.targets.len() {
        let kept = (at % 8 + 1) as i64;
        let out = adapter.targets[at].linear.out_features;
        let b = Tensor::zeros([out, 8], (Kind::Float, Device::Cpu));
        b.narrow(1, 0, kept).copy_(&Tensor::eye(out, (Kind::Float, Device::Cpu)).narrow(1, 0, kept));
        adapter.parameters.set(2 * at + 1, &b).unwrap();
    }
    let spectrum = RankSpectrum::of(&adapter).unwrap();
    let ranks = |energy: f64| -> Vec<i64> {
        let suggested = spectrum.suggested(&SuggestOptions { energy }).unwrap();
        let targets = match_targets(&suggested, &linear_shapes(&config)).unwrap();
        assert!(targets.iter().all(|target| target.scale == 2.0), "scales stay");
        targets.iter().map(|target| target.r).collect()
    };
    let kept: Vec<i64> = (0..adapter.targets.len()).map(|at| (at % 8 + 1) as i64).collect();
    assert_eq!(ranks(1.0 - 1e-12), kept);
    let halved: Vec<i64> = spectrum.modules.iter().map(|module: &ModuleSpectrum| module.energy_rank(0.5)).collect();
    assert_eq!(ranks(0.5), halved);
    for energy in [0.0, 1.1] {
        let error = spectrum.suggested(&SuggestOptions { energy }).unwrap_err();
        assert!(error.message.starts_with("suggest: option `energy`: expected float "), "{error}");
    }
    let fresh = RankSpectrum::of(&Adapter::new(LoraSpec::default(), &decoder(), 1).unwrap()).unwrap();
    let suggested = fresh.suggested(&SuggestOptions { energy: 0.9 }).unwrap();
    assert_eq!(suggested.r, 1, "a zero change needs no more than rank 1");
}
