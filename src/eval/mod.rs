//! Measuring a model: loss and perplexity on a split, generation, and how far a merged or
//! exported model lies from what it was made of.

pub mod certificate;
pub mod divergence;
pub mod export;
pub mod generate;
pub mod loss;
