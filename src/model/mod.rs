//! The decoder: its configuration, its weights and the one definition of its forward pass.
//!
//! Leaves to others: where files come from (`hub/`), what adapters are (`lora/`).

pub mod activation;
pub mod architecture;
pub mod attention;
pub mod cache;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod device;
pub mod documents;
pub mod experts;
pub mod family;
pub mod fields;
pub mod full;
pub mod gguf;
pub mod input;
pub mod linear;
pub mod load;
pub mod loss;
pub mod norm;
pub mod packing;
pub mod parameters;
mod prefixes;
pub mod processor;
pub mod quantization;
pub mod resize;
pub mod rope;
pub mod rope_scaling;
pub mod shapes;
mod stored;

pub use cache::KeyValueCache;
pub use config::Config;
pub use decoder::Decoder;
pub use input::{Grid, Input, LargerBatch, Tokens};
pub use linear::{Adapters, NoAdapters};
pub use parameters::Parameters;
pub use quantization::Quantization;
