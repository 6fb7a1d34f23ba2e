//! The way back: PEFT itself loads what lorhai saved, and computes the same logits.
//!
//! Skipped unless `PEER_PYTHON` names a Python that has torch, transformers and peft.

use crate::common::*;
use lorhai::hub::weights;
use lorhai::lora::{peft, Adapter, AdapterSet};
use lorhai::lora::{LoraSpec, Targets};
use std::path::Path;
use std::process::Command;
use tch::{Device, Kind, Tensor};

#[test]
fn an_adapter_saved_here_loads_in_peft_with_the_same_logits() {
    let Some(python) = std::env::var_os("PEER_PYTHON") else {
        println!("skipped: PEER_PYTHON names no Python with peft");
        return;
    };
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
    for case in cases("adapter").into_iter().take(6) {
        let decoder = case.decoder(Device::Cpu);
        for (number, spec) in specs.iter().enumerate() {
            let mut adapter = Adapter::new(spec.clone(), &decoder, 5).unwrap();
            let values = adapter.parameters.snapshot().unwrap();
            adapter.parameters.restore(&(&values + Tensor::randn_like(&values) * 0.05)).unwrap();
            let folder = tempfile::tempdir().unwrap();
            peft::save(&adapter, "base", &folder.path().join("adapter")).unwrap();
            let batch = case.batch("");
            let shape = [batch.rows as i64, batch.time as i64];
            let tensors = [
                ("input_ids", Tensor::from_slice(&batch.input_ids).view(shape)),
                ("attention_mask", case.tensor("attention_mask").to_kind(Kind::Int64)),
                ("logits", logits(&decoder, &batch, &AdapterSet::one(&adapter, None))),
            ];
            let tensors: Vec<(String, Tensor)> = tensors.into_iter().map(|(name, x)| (name.to_owned(), x)).collect();
            weights::save(&folder.path().join("ours.safetensors"), &tensors, &[]).unwrap();
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/check_adapter.py");
            let mut command = Command::new(&python);
            command.arg(script).arg("--base").arg(case.base());
            command.arg("--adapter").arg(folder.path().join("adapter"));
            let output = command.arg("--ours").arg(folder.path().join("ours.safetensors")).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            println!("{} {number}: {}", case.name, said.trim());
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
