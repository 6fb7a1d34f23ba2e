//! The initial values of variants, and saving them. Their logits, gradients and training runs are compared in
//! `adapters`, with those of all other cases.

use crate::cases::*;
use lorhai::lora::convert::to_lora;
use lorhai::lora::{peft, Adapter, AdapterSet, LoraSpec};
use lorhai::model::NoAdapters;
use tch::{Device, Kind, Tensor};

/// Weights of a fresh adapter against PEFT's. PiSSA's are decomposed in f64 on both sides (`exact_svd.py`), so that
/// products of f32 numbers differ, not singular vectors; OLoRA's QR is stable in f32.
const FRESH_NMSE: f64 = LOGITS_NMSE;

fn variants() -> impl Iterator<Item = Case> {
    cases("adapter").into_iter().filter(|case| case.json["base"].is_string())
}

fn spec(case: &Case) -> LoraSpec {
    let text = std::fs::read_to_string(case.folder.join("adapter/adapter_config.json")).unwrap();
    peft::spec_from_json(&serde_json::from_str(&text).unwrap()).unwrap()
}

fn double(x: &Tensor) -> Tensor {
    x.detach().to_kind(Kind::Double)
}

#[test]
fn initial_values_of_variants_are_those_of_peft() {
    for case in variants() {
        let decoder = case.decoder(Device::Cpu);
        let adapter = Adapter::new(spec(&case), &decoder, 3).unwrap();
        let mut compared = 0;
        for (name, leaf) in adapter.parameters.names().iter().zip(adapter.parameters.leaves()) {
            let Ok(fresh) = case.tensors.tensor(&format!("fresh.{name}")) else { continue };
            compared += 1;
            // Columns of A and B may change sign together, so their products are compared.
            let (actual, expected) = match name.strip_suffix("lora_A.weight") {
                None if name.ends_with("lora_B.weight") => continue,
                None => (double(leaf), double(&fresh)),
                Some(layer) => {
                    let b = format!("{layer}lora_B.weight");
                    let ours = double(adapter.parameters.leaf(&b).unwrap()).matmul(&double(leaf));
                    (ours, double(&case.tensor(&format!("fresh.{b}"))).matmul(&double(&fresh)))
                }
            };
            within(&case, name, nmse(&actual, &expected), FRESH_NMSE);
        }
        let visible = case.tensor("attention_mask").unsqueeze(-1);
        let actual = logits(&decoder, &case.batch(""), &AdapterSet::one(&adapter, None)) * visible;
        let off = within(&case, "fresh", nmse(&actual, &case.tensor("base_logits")), LOGITS_NMSE);
        println!("{:<20} {compared} tensors compared, a fresh adapter changes the logits by {off:.1e}", case.name);
    }
}

#[test]
fn every_variant_is_read_back() {
    for case in variants() {
        let decoder = case.decoder(Device::Cpu);
        let adapter = case.adapter(&decoder);
        let folder = tempfile::tempdir().unwrap();
        peft::save(&adapter, "base", None, folder.path(), false).unwrap();
        let again = peft::load(folder.path(), &decoder).unwrap();
        assert_eq!(again.parameters.names(), adapter.parameters.names());
        assert!(again.parameters.flat().equal(adapter.parameters.flat()), "{}", case.name);
        assert_eq!(again.spec, adapter.spec, "{}", case.name);
        let of = |adapter: &Adapter| logits(&decoder, &case.batch(""), &AdapterSet::one(adapter, None));
        assert!(of(&again).equal(&of(&adapter)), "{}: other logits", case.name);
    }
}

#[test]
fn a_residual_adapter_is_an_ordinary_lora_of_twice_the_rank() {
    let mut converted = 0;
    for case in variants() {
        let decoder = case.decoder(Device::Cpu);
        let adapter = case.adapter(&decoder);
        if !adapter.spec.init.splits_base() || adapter.spec.use_dora {
            assert!(to_lora(&adapter, &decoder.config).is_err(), "{}", case.name);
            continue;
        }
        converted += 1;
        let lora = to_lora(&adapter, &decoder.config).unwrap();
        assert_eq!(lora.targets[0].r, 2 * adapter.targets[0].r);
        let folder = tempfile::tempdir().unwrap();
        peft::save(&lora, "base", None, folder.path(), false).unwrap();
        let lora = peft::load(folder.path(), &decoder).unwrap();
        let visible = case.tensor("attention_mask").unsqueeze(-1);
        let actual = logits(&decoder, &case.batch(""), &AdapterSet::one(&lora, None)) * visible;
        within(&case, "as LoRA", nmse(&actual, &case.tensor("adapter_logits")), LOGITS_NMSE);
    }
    assert!(converted >= 4);
}

#[test]
fn the_base_is_not_modified() {
    for case in variants() {
        let decoder = case.decoder(Device::Cpu);
        let of = || logits(&decoder, &case.batch(""), &NoAdapters);
        let before = of();
        let mut adapter = case.adapter(&decoder);
        train_as_recorded(&case, &decoder, &mut adapter);
        assert!(of().equal(&before), "{}", case.name);
    }
}
