//! Models on the CPU, loaded as scripts load them.

use super::files::tiny_folder;
use lorhai::lora::{LoadOptions, Model};
use lorhai::model::Quantization;
use std::path::Path;

/// The model in `folder`, in 4 bits where `quantization` says so.
pub fn open(folder: &Path, dtype: &str, quantization: Option<Quantization>) -> lorhai::Result<Model> {
    let options = LoadOptions { dtype: dtype.into(), device: "cpu".into(), quantization, ..LoadOptions::default() };
    Model::load(folder.to_str().unwrap(), &options, &mut ())
}

pub fn load(folder: &Path, dtype: &str) -> Model {
    open(folder, dtype, None).unwrap()
}

/// The model that is shipped, in f32.
pub fn tiny() -> Model {
    load(&tiny_folder(), "f32")
}
