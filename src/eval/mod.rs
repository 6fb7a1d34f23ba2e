//! Measuring a model: loss and perplexity on a split, and generation.

pub mod generate;
pub mod loss;
mod spectrum;
