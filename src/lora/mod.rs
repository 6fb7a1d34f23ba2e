//! LoRA as PEFT defines it: specification, targets, adapters, saving and loading.
//!
//! Leaves to others: the network itself (`model/`), optimizing the parameters (`train/`).

pub mod adapted;
pub mod adapter;
pub mod adapter_file;
mod batched;
pub mod convert;
pub mod dora;
pub mod dropout;
pub mod gguf;
mod in_place;
pub mod init;
pub mod layout;
pub mod merge;
pub mod model;
mod model_adapters;
pub mod nested;
pub mod nested_options;
pub mod pattern;
pub mod peft;
pub mod prefix;
pub mod residual;
pub mod set;
pub mod spec;
pub mod spectrum;
pub mod targets;
pub mod tokens;
pub mod trainable;
pub mod views;

pub use adapted::AdaptedModel;
pub use adapter::Adapter;
pub use model::{LoadOptions, Model, RandomModelOptions};
pub use nested::Nested;
pub use nested_options::{NestedLoss, NestedOptions, NestedScale};
pub use pattern::Pattern;
pub use set::{Active, AdapterSet};
pub use spec::{Bias, Init, LoraSpec, Targets, TrainableTokens};
pub use trainable::Trainable;
