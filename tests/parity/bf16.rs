//! bf16: our distance from the f32 run is of the size of transformers' own.

use crate::common::*;
use lorhai::hub::weights::Weights;
use lorhai::lora::{peft, AdapterSet};
use lorhai::model::{load, Adapters, Config, NoAdapters};
use lorhai::train::step::batch_loss;
use tch::{Device, Kind};

/// Ours may lie twice as far from f32 as transformers' own; an NMSE is a square.
const ALLOWANCE: f64 = 4.0;

#[test]
fn rounding_is_of_the_size_of_transformers() {
    for case in cases("bf16") {
        let config = Config::from_folder(&case.folder).unwrap();
        let decoder = load::load(config, &Weights::open(&case.folder).unwrap(), Kind::BFloat16, Device::Cpu).unwrap();
        let adapter = peft::load(&case.folder.join("adapter"), &decoder).unwrap();
        let (batch, visible) = (case.batch(""), case.tensor("attention_mask").unsqueeze(-1));
        let theirs = |name: &str| {
            let of = |attention: &str| case.json[format!("bf16.{attention}")][name].as_f64().unwrap();
            of("eager").max(of("sdpa"))
        };
        for (which, adapters) in [("base", &NoAdapters as &dyn Adapters), ("adapter", &AdapterSet::one(&adapter, None))]
        {
            let found = logits(&decoder, &batch, adapters).to_kind(Kind::Float) * &visible;
            let off = nmse(&found, &case.tensor(&format!("{which}_logits")));
            let bound = ALLOWANCE * theirs(&format!("{which}_logits_nmse"));
            println!("{:<32} {which:<8} logits NMSE {off:.1e}, allowed {bound:.1e}", case.name);
            within(&case, which, off, bound);
        }
        let found = batch_loss(&decoder, &batch, &AdapterSet::one(&adapter, None)).unwrap();
        (&found.sum / found.labels as f64).backward();
        let names = adapter.parameters.names().iter().zip(adapter.parameters.leaves());
        let worst =
            names.map(|(name, leaf)| nmse(&leaf.grad(), &case.tensor(&format!("grad.{name}")))).fold(0.0, f64::max);
        println!("{:<32} gradients NMSE {worst:.1e}, theirs {:.1e}", case.name, theirs("grad_nmse"));
        within(&case, "gradients", worst, ALLOWANCE * theirs("grad_nmse"));
    }
}
