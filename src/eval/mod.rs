//! Measuring a model: loss and perplexity, answers by log-likelihood and by generation,
//! adapters side by side, how far the numbers can be trusted, and how far a merged or exported
//! model lies from what it was made of.

pub mod bootstrap;
pub mod candidate;
pub mod certificate;
pub mod compare;
pub mod config;
pub mod divergence;
pub mod encoder;
pub mod exact_match;
pub mod export;
pub mod f1;
pub mod generate;
mod generation_file;
pub mod kobest;
pub mod likelihood;
pub mod loss;
pub mod measured;
pub mod multiple_choice;
pub mod paired;
pub mod perplexity;
pub mod processors;
pub mod prompt;
pub mod rolling;
pub mod sampling;
mod spectrum;
pub mod table;
pub mod text;
pub mod written;

pub use bootstrap::{Bootstrap, Spread};
pub use candidate::Candidate;
pub use encoder::Encoder;
pub use likelihood::Request;
pub use measured::Measured;
