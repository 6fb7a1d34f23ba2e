//! Measuring a model: loss and perplexity on a split, generated text, adapters side by side.

pub mod compare;
pub mod config;
pub mod generate;
pub mod loss;
pub mod prompt;
pub mod sampling;
pub mod text;
