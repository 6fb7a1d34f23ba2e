//! bf16 and f16: our error relative to f32 is as large as that of transformers.

use crate::cases::*;
use lorhai::hub::weights::Weights;
use lorhai::lora::{peft, AdapterSet, Trainable};
use lorhai::model::{load, Adapters, Config, Decoder, NoAdapters};
use lorhai::train::step::batch_loss;
use lorhai::train::update::{update, StepSettings};
use lorhai::train::{AdamW, AdamWConfig};
use tch::{Device, Kind};

/// Our error may be twice that of transformers; an NMSE is a square.
const ALLOWANCE: f64 = 4.0;

on_devices! { rounding_is_of_the_size_of_transformers, training_in_f16_follows_f32 }

/// On a GPU this is flash attention, and for bf16 our kernels.
fn rounding_is_of_the_size_of_transformers(device: Device) {
    for (kind, dtype) in [("bf16", Kind::BFloat16), ("f16", Kind::Half)] {
        cases(kind).iter().for_each(|case| rounding_is_of_the_size(case, kind, dtype, device));
    }
}

fn decoder(case: &Case, dtype: Kind, device: Device) -> Decoder {
    let config = Config::from_folder(&case.folder).unwrap();
    load::load(config, &Weights::open(&case.folder).unwrap(), dtype, device).unwrap()
}

fn rounding_is_of_the_size(case: &Case, kind: &str, dtype: Kind, device: Device) {
    let decoder = decoder(case, dtype, device);
    let adapter = peft::load(&case.folder.join("adapter"), &decoder).unwrap();
    let (batch, visible) = (case.batch(""), case.tensor("attention_mask").unsqueeze(-1));
    let theirs = |name: &str| {
        let of = |attention: &str| case.json[format!("{kind}.{attention}")][name].as_f64().unwrap();
        of("eager").max(of("sdpa"))
    };
    for (which, adapters) in [("base", &NoAdapters as &dyn Adapters), ("adapter", &AdapterSet::one(&adapter, None))] {
        let actual = logits(&decoder, &batch, adapters).to_device(Device::Cpu).to_kind(Kind::Float) * &visible;
        let off = nmse(&actual, &case.tensor(&format!("{which}_logits")));
        let bound = ALLOWANCE * theirs(&format!("{which}_logits_nmse"));
        println!("{:<32} {which:<8} logits NMSE {off:.1e}, allowed {bound:.1e}", case.name);
        within(case, which, off, bound);
    }
    let actual = batch_loss(&decoder, &batch, &AdapterSet::one(&adapter, None)).unwrap();
    (&actual.sum / actual.labels as f64).backward();
    let names = adapter.parameters.names().iter().zip(adapter.parameters.leaves());
    let worst = names.map(|(name, leaf)| nmse(&leaf.grad(), &case.tensor(&format!("grad.{name}")))).fold(0.0, f64::max);
    println!("{:<32} gradients NMSE {worst:.1e}, theirs {:.1e}", case.name, theirs("grad_nmse"));
    within(case, "gradients", worst, ALLOWANCE * theirs("grad_nmse"));
}

/// Training over f16 with a scaled loss stays as close to f32 as in transformers. Without the scale, the smallest
/// gradients are lost.
fn training_in_f16_follows_f32(device: Device) {
    for case in cases("f16") {
        let training = &case.json["training"];
        let list = |name: &str| Vec::from_iter(training[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()));
        let (expected, allowed) = (list("losses"), ALLOWANCE * training["distance"].as_f64().unwrap());
        let decoder = decoder(&case, Kind::Half, device);
        let mut adapter = peft::load(&case.folder.join("adapter"), &decoder).unwrap();
        let lr = training["lr"].as_f64().unwrap();
        let config = AdamWConfig { lr, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(config, adapter.parameters()).unwrap();
        let mut worst = 0.0_f64;
        for (step, expected) in (0..).zip(expected) {
            let window = [case.batch(&format!("step{step}.micro0."))];
            let settings =
                StepSettings { step, seed: 0, lr, max_grad_norm: 0.0, gradient_checkpointing: step % 2 == 1 };
            let actual = update(&decoder, &mut adapter, &mut optimizer, &window, settings).unwrap();
            worst = worst.max(within(&case, &format!("loss of step {step}"), relative(actual.loss, expected), allowed));
        }
        println!("{:<32} losses within {worst:.1e}, allowed {allowed:.1e}", case.name);
    }
}
