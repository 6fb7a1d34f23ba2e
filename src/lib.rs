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

// Foundations: no domain knowledge, imported by anyone.
pub mod error;
pub mod files;
pub mod foreign;
pub mod format;
pub mod interrupt;
pub mod native;
pub mod options;
pub mod overlay;
pub mod random;
pub mod stderr;
pub mod stdout;
pub mod suggest;
pub mod table;

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
pub mod doctor;
pub mod repl;
pub mod replay;
pub mod runs;
pub mod script;

pub use error::{Error, Kind, Result};
