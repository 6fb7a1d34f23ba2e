//! Models and data sets by name: resolves a hub name or a folder to files on disk, maps safetensors
//! into memory, and reads tokenizer files into a [`tokenizer::Tokenizer`].
//!
//! Leaves to others: what the tensors mean (`model/`), what the rows mean (`data/`).

mod cache;
pub mod dataset;
mod download;
pub mod gguf;
mod http;
mod local;
pub mod mapped;
mod model;
mod name;
mod observe;
mod settings;
mod snapshot;
mod stoppable;
pub mod tokenizer;
pub mod weights;

pub use cache::cached_names;
pub use dataset::{resolve_dataset, DatasetFiles, FORMATS};
pub use local::ensure_may_load;
pub use model::{resolve_config, resolve_model, ModelFolder};
pub use observe::FetchObserver;
pub use settings::{Hub, Secret, DEFAULT_ENDPOINT};
