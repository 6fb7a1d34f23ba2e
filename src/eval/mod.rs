//! Measuring a model: loss and perplexity, answers by log-likelihood and by generation, adapters side by side, the
//! uncertainty of the numbers, and the difference between a merged or exported model and its source.

pub mod bootstrap;
pub mod calls;
pub mod candidate;
pub mod certificate;
pub mod compare;
pub mod config;
pub mod divergence;
pub mod encoder;
pub mod exact_match;
pub mod export;
pub mod f1;
pub mod field;
pub mod generate;
pub mod generation_call;
pub mod generation_eval;
pub mod generation_file;
pub mod generator;
pub mod kobest;
pub mod likelihood;
pub mod loss;
pub mod measured;
pub mod multiple_choice;
pub mod paired;
pub mod perplexity;
pub mod processors;
pub mod prompt;
pub mod result;
pub mod rewards;
pub mod rolling;
pub mod sample;
pub mod sampling;
mod spectrum;
pub mod streaming;
pub mod table;
pub mod text;
pub mod token_ids;

pub use bootstrap::{Bootstrap, Spread};
pub use candidate::Candidate;
pub use encoder::Encoder;
pub use likelihood::Request;
pub use measured::Measured;
