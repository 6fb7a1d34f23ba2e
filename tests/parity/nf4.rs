//! 4-bit weights: codes, scales and matrices equal to bitsandbytes' bit for bit, models with them, and reading and
//! writing its checkpoints.

use crate::cases::*;
use lorhai::hub::weights::{self, Weights};
use lorhai::lora::{peft, AdapterSet, LoadOptions, Model};
use lorhai::model::linear::Weight;
use lorhai::model::{load, Adapters, Config, Decoder, NoAdapters, Quantization};
use lorhai::native::{Nf4, Scales};
use lorhai::train::step::batch_loss;
use serde_json::Value;
use std::path::Path;
use tch::{Device, Kind, Tensor};

#[track_caller]
fn same(what: &str, actual: &Tensor, expected: &Tensor) {
    let actual = actual.to_device(Device::Cpu);
    assert_eq!((actual.kind(), actual.size()), (expected.kind(), expected.size()), "{what}");
    assert!(actual.equal(expected), "{what}: {actual} expected {expected}");
}

on_devices! { matrices_are_those_of_bitsandbytes_to_the_bit, logits_losses_and_gradients_over_four_bits_agree }

fn matrices_are_those_of_bitsandbytes_to_the_bit(device: Device) {
    for case in cases("nf4 matrices") {
        let names: Vec<&str> =
            case.json["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!(names.len() > 5);
        for name in names {
            let expected = |key: &str| case.tensor(&format!("{name}.{key}"));
            let dense = expected("dense").to_device(device);
            let plain = Nf4::quantize(&dense, dense.kind(), false).unwrap();
            same(name, &plain.codes, &expected("codes"));
            let Scales::Flat(absmax) = &plain.scales else { panic!("{name}: nested") };
            same(name, absmax, &expected("absmax"));
            same(name, &plain.dense(dense.kind()).unwrap(), &expected("dequantised"));
            let nested = Nf4::quantize(&dense, dense.kind(), true).unwrap();
            same(name, &nested.dense(dense.kind()).unwrap(), &expected("nested.dequantised"));
            // The path of other devices, with the table of bytes, here in f64.
            same(name, &nested.dense(Kind::Double).unwrap().to_kind(dense.kind()), &expected("nested.dequantised"));
            let Scales::Nested { codes, map, absmax, offset, block } = &nested.scales else { panic!("{name}: plain") };
            same(name, codes, &expected("nested.codes"));
            same(name, map, &expected("nested.map"));
            same(name, absmax, &expected("nested.absmax"));
            same(name, &Tensor::from_slice(&[*offset]), &expected("nested.offset"));
            assert_eq!((plain.block, *block), (64, 256));
        }
    }
}

/// A large matrix is converted in pieces, which must not change the result.
#[test]
fn a_large_matrix_is_quantised_as_its_parts() {
    let dense = Tensor::randn([1030, 1021], (Kind::Float, Device::Cpu));
    for dtype in [Kind::Float, Kind::BFloat16] {
        let actual = Nf4::quantize(&dense, dtype, false).unwrap().dense(Kind::Float).unwrap();
        let rows = dense.to_kind(dtype).flatten(0, -1).narrow(0, 0, 1030 * 1021 / 64 * 64).view([-1, 64]);
        let blocks: Vec<Tensor> = (0..rows.size()[0])
            .step_by(997)
            .map(|row| Nf4::quantize(&rows.narrow(0, row, 1), dtype, false).unwrap().dense(Kind::Float).unwrap())
            .collect();
        let chosen = actual.flatten(0, -1).narrow(0, 0, rows.numel() as i64).view([-1, 64]);
        let chosen = chosen.slice(0, None, None, 997);
        same("blocks", &chosen, &Tensor::cat(&blocks, 0));
    }
}

fn quantized(folder: &Path, double_quant: bool, device: Device) -> Decoder {
    let config = Config { quantization: Some(Quantization { double_quant }), ..Config::from_folder(folder).unwrap() };
    load::load(config, &Weights::open(folder).unwrap(), Kind::Float, device).unwrap()
}

fn logits_losses_and_gradients_over_four_bits_agree(device: Device) {
    for case in cases("nf4") {
        let base = case.beside(case.json["base"].as_str().unwrap());
        let decoder = quantized(&base.folder, case.json["double_quant"].as_bool().unwrap(), device);
        assert!(decoder
            .linears()
            .all(|linear| matches!(linear.weight, Weight::Nf4(_)) == linear.shape.layer.is_some()));
        let adapter = peft::load(&base.folder.join("adapter"), &decoder).unwrap();
        let batch = case.batch("");
        let visible = case.tensor("attention_mask").unsqueeze(-1);
        for (which, adapters) in [("base", &NoAdapters as &dyn Adapters), ("adapter", &AdapterSet::one(&adapter, None))]
        {
            let actual = logits(&decoder, &batch, adapters).to_device(Device::Cpu) * &visible;
            let off = within(&case, which, nmse(&actual, &case.tensor(&format!("{which}_logits"))), LOGITS_NMSE);
            let loss = batch_loss(&decoder, &batch, adapters).unwrap();
            let ours = loss.sum.double_value(&[]) / loss.labels as f64;
            let loss = within(&case, "loss", relative(ours, case.number(&format!("{which}_loss"))), LOSS_RELATIVE);
            println!("{:<32} {which:<8} logits NMSE {off:.1e}  loss {loss:.1e}", case.name);
        }
        let actual = batch_loss(&decoder, &batch, &AdapterSet::one(&adapter, None)).unwrap();
        (&actual.sum / actual.labels as f64).backward();
        let worst = gradients_agree(&case, &adapter.parameters);
        println!("{:<32} {} gradients, worst NMSE {worst:.1e}", case.name, adapter.parameters.names().len());
    }
}

/// A checkpoint that transformers quantised and saved: we read what we quantise from the same base, and save the same
/// tensors.
#[test]
fn a_checkpoint_of_transformers_is_read_and_written_the_same() {
    for case in cases("nf4 saved") {
        let base = case.beside(case.json["base"].as_str().unwrap());
        let theirs = case.decoder(Device::Cpu);
        assert_eq!(theirs.config.quantization, Some(Quantization { double_quant: true }));
        let mut ours = quantized(&base.folder, true, Device::Cpu);
        let batch = case.batch("");
        let actual = logits(&theirs, &batch, &NoAdapters);
        assert!(actual.equal(&logits(&ours, &batch, &NoAdapters)), "{}: read and made differ", case.name);
        let visible = case.tensor("attention_mask").unsqueeze(-1);
        let off = within(&case, "logits", nmse(&(actual * visible), &case.tensor("base_logits")), LOGITS_NMSE);
        println!("{:<32} logits NMSE {off:.1e}", case.name);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        weights::save(&path, &ours.named_weights().unwrap(), &[]).unwrap();
        let (saved, expected) = (Weights::open(&path).unwrap(), Weights::open(&case.folder).unwrap());
        assert_eq!(Vec::from_iter(saved.names()), Vec::from_iter(expected.names()));
        for name in expected.names() {
            let (actual, expected) = (saved.tensor(name).unwrap(), expected.tensor(name).unwrap());
            if name.contains("quant_state") {
                assert_eq!(json(&actual), json(&expected), "{name}")
            } else {
                same(name, &actual, &expected)
            }
        }
        let config: Value = serde_json::from_slice(&std::fs::read(case.folder.join("config.json")).unwrap()).unwrap();
        assert_eq!(ours.config.quantization.unwrap().to_json(Kind::Float), config["quantization_config"]);
    }
}

fn json(bytes: &Tensor) -> Value {
    serde_json::from_slice(&Vec::<u8>::try_from(bytes.copy()).unwrap()).unwrap()
}

/// Codes stored as another dtype, a 4-bit head, and fp4, which is made dense.
#[test]
fn checkpoints_of_other_kinds_are_read() {
    for case in cases("4-bit stored") {
        let decoder = case.decoder(Device::Cpu);
        let visible = case.tensor("attention_mask").unsqueeze(-1);
        let batch = case.batch("");
        let actual = logits(&decoder, &batch, &NoAdapters);
        let off = within(&case, "logits", nmse(&(&actual * visible), &case.tensor("base_logits")), LOGITS_NMSE);
        println!("{:<32} logits NMSE {off:.1e}", case.name);
        let is_nf4 = case.json["quant_type"] == "nf4";
        assert_eq!(decoder.config.quantization.is_some(), is_nf4);
        assert_eq!(decoder.notes.iter().any(|note| note.contains("fp4")), !is_nf4, "{:?}", decoder.notes);
        assert_eq!(matches!(decoder.lm_head.weight, Weight::Nf4(_)), case.json["head"] == true);
        // The loss depends on the head.
        let loss = batch_loss(&decoder, &batch, &NoAdapters).unwrap();
        assert!(loss.sum.double_value(&[]).is_finite());

        let options = LoadOptions { dtype: "f32".into(), device: "cpu".into(), ..LoadOptions::default() };
        let mut model = Model::load(case.folder.to_str().unwrap(), &options, &mut ()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        model.save(folder.path(), false).unwrap();
        let again = Model::load(folder.path().to_str().unwrap(), &options, &mut ()).unwrap();
        assert_eq!(again.decoder().config.quantization, decoder.config.quantization);
        assert!(logits(again.decoder(), &batch, &NoAdapters).equal(&actual), "{}: saved", case.name);
    }
}
