//! lorhai: LoRA fine-tuning experiments as short Rhai scripts, on libtorch.
//!
//! Data flows one way, and so do the imports:
//!
//! ```text
//! hub → model → lora → data → train → eval → sweep → plot
//!                    script/ binds these to Rhai; cli is the edge
//! ```
//!
//! A folder imports only folders to its left and the small foundations listed first
//! below. `rhai` is imported in `script/` alone, `plotters` in `plot/` alone; the test
//! `tests/layers.rs` holds both rules. `docs/architecture.md` is the map.
//!
//! A Rust program trains, rehearses, sweeps and draws charts without a script (`tests/library.rs`):
//!
//! ```
//! use lorhai::data::{tokenize, Dataset, TokenizeOptions};
//! use lorhai::eval::loss::held_out_loss;
//! use lorhai::lora::{LoadOptions, LoraSpec, Model};
//! use lorhai::train::{Callbacks, Pace, Progress, TrainConfig, TrainRun};
//! use std::path::Path;
//!
//! let mut model = Model::load("scripts/tiny", &LoadOptions::default(), &mut ())?;
//! model.adapted.add("default", LoraSpec { r: 4, ..LoraSpec::default() }, 42)?;
//! let rows = Dataset::load("scripts/tiny/train.jsonl")?.take(64);
//! let tokens = tokenize(&rows, model.tokenizer()?, &TokenizeOptions::default())?;
//! let (train, test) = tokens.split(0.1, 0)?;
//! let config = TrainConfig { steps: 2, ..TrainConfig::default() };
//! let out = Path::new("runs/from-rust");
//! # let folder = tempfile::tempdir().unwrap();
//! # let out = folder.path();
//! let run = TrainRun {
//!     train: &train,
//!     test: Some(&test),
//!     config: &config,
//!     folder: Some(out),
//!     checkpoints: None,
//!     origin: None,
//!     callbacks: Callbacks::default(),
//!     processes: None,
//! };
//! let measure = &mut held_out_loss(config.eval_batch);
//! let report = run.run(&mut model, measure, Pace::Full, Progress::Quiet)?;
//! println!("held-out loss: {:?}", report.outcome.eval_loss);
//! # assert!(out.join("adapter/adapter_model.safetensors").is_file());
//! # Ok::<(), lorhai::Error>(())
//! ```

// Foundations: no domain knowledge, imported by anyone.
pub mod error;
pub mod fence;
pub mod files;
pub mod foreign;
pub mod format;
pub mod heap;
pub mod interrupt;
pub mod native;
pub mod options;
pub mod overlay;
pub mod process_memory;
pub mod random;
pub mod sandbox;
pub mod stderr;
pub mod stdout;
pub mod suggest;
pub mod table;
pub mod threads;

// The flow.
pub mod data;
pub mod eval;
pub mod hub;
pub mod lora;
pub mod model;
pub mod plot;
pub mod sweep;
pub mod train;

// The edge.
pub mod cli;
pub mod cluster;
pub mod doctor;
pub mod repl;
pub mod replay;
pub mod runs;
pub mod script;

pub use error::{Error, Kind, Result};
