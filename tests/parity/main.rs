//! Our numbers compared with those of transformers and peft, on tiny random models.
//!
//! `tests/golden/models/generate.py` wrote the files; its README says what they hold.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
mod devices;

mod adapters;
mod bf16;
mod checkpoints;
#[path = "../common/mod.rs"]
mod common;
mod configs;
mod embeddings;
mod full;
mod lengths;
mod nf4;
mod packed;
mod peft;
mod prefixes;
mod tables;
mod variants;
mod wrapped;

use common::cases;
