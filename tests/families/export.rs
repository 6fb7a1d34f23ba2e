//! One model in files that lorhai wrote: for PEFT and transformers, and GGUF.

use crate::common::cases::{logits, Case};
use crate::common::files::{read_json, root};
use crate::common::models;
use crate::common::numbers::strings;
use crate::table::{Deviations, Property};
use lorhai::error::{Error, Kind};
use lorhai::eval::certificate::{save_merged, MergeOptions};
use lorhai::eval::export::{export_adapter, export_model};
use lorhai::hub::gguf::BlockType;
use lorhai::hub::weights;
use lorhai::lora::{peft, Model};
use lorhai::Result;
use std::path::Path;
use std::process::Command;
use tch::{Kind as Dtype, Tensor};

/// Writes `ours`, which `check.py` reads, and GGUF files.
pub fn save_all(case: &Case) -> Result<Deviations> {
    let mut model = models::load(&case.folder, "f32");
    model.adapted.insert("default", other_adapter(case, &model)?)?;
    let ours = case.folder.join("ours");
    std::fs::create_dir_all(&ours).unwrap();
    model.save_adapter(&ours.join("adapter"), false, false)?;
    save_merged(&model, &ours.join("merged"), &MergeOptions::default())?;
    save_logits(case, &model, &ours.join("logits.safetensors"))?;
    let gguf = save_gguf(case, &model, &ours)?;
    model.save(&ours.join("base"), false)?;
    Ok(gguf)
}

/// PEFT's adapter with other numbers than those that were read.
fn other_adapter(case: &Case, model: &Model) -> Result<lorhai::lora::Adapter> {
    let mut adapter = peft::load(&case.folder.join("adapter"), model.decoder())?;
    let values = adapter.parameters.snapshot()?;
    adapter.parameters.restore(&(&values + Tensor::randn_like(&values) * 0.05))?;
    Ok(adapter)
}

fn save_logits(case: &Case, model: &Model, path: &Path) -> Result<()> {
    let logits = logits(model.decoder(), &case.batch(""), &model.adapted.adapter_set(None));
    let mask = case.tensor("attention_mask").to_kind(Dtype::Int64);
    let tensors = [("input_ids", case.tensor("input_ids")), ("attention_mask", mask), ("logits", logits)];
    weights::save(path, &tensors.map(|(name, tensor)| (name.to_owned(), tensor)), &[])
}

/// Writes GGUF files, which are read back and compared. Where llama.cpp does not support a setting of the model, they are
/// those of its weights under the usual settings; where it does not support those either, nothing is compared.
fn save_gguf(case: &Case, model: &Model, ours: &Path) -> Result<Deviations> {
    let refusals = ["GGUF: llama.cpp does not support", "GGUF: lorhai does not write"];
    let is_refusal = |error: &Error| refusals.iter().any(|refusal| error.message.starts_with(refusal));
    match export(model, ours) {
        Err(error) if is_refusal(&error) => {}
        other => return other,
    }
    let mut plain = models::load(&case.folder.join("plain"), "f32");
    plain.adapted.insert("default", other_adapter(case, &plain)?)?;
    match export(&plain, ours) {
        Err(error) if is_refusal(&error) => Ok(Vec::new()),
        other => other,
    }
}

fn export(model: &Model, ours: &Path) -> Result<Deviations> {
    let (merged, adapter) = (ours.join("merged.gguf"), ours.join("adapter.gguf"));
    let of_merged = export_model(model, &merged, Some(BlockType::F32), false)?;
    let of_adapter = export_adapter(model, &adapter, None, None, false)?;
    let found = vec![(Property::Gguf, of_merged.logit_error), (Property::Gguf, of_adapter.logit_error)];
    Ok(found.into_iter().chain(names_of_gguf(&merged, &ours.join("merged"))).collect())
}

/// The number of tensors with a name or shape other than the gguf package gives them, if there is a Python that has it.
fn names_of_gguf(file: &Path, folder: &Path) -> Option<(Property, f64)> {
    let python = std::env::var_os("LLAMA_PYTHON")?;
    let script = root().join("tests/families/gguf_names.py");
    let output = Command::new(python).arg(script).arg(file).arg(folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    print!("{text}");
    Some((Property::GgufNames, text.lines().count() as f64))
}

/// What `check.py` says of them.
pub fn checked(case: &Case) -> Result<Deviations> {
    let path = case.folder.join("ours/check.json");
    if !path.is_file() {
        return Err(Error::new(Kind::File, "nothing was saved for transformers and PEFT to read"));
    }
    let report = read_json(&path);
    let faults = strings(&report["faults"]);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let number = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
    Ok(vec![
        (Property::SavedAdapter, number("adapter logits")),
        (Property::Merged, number("merged logits")),
        (Property::Merged, number("merged weights")),
        (Property::SavedBase, number("base weights")),
    ])
}
