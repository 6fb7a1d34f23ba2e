//! What a run trains for: cross-entropy on examples, or preferences by DPO, ORPO, SimPO and KTO as in TRL.
//!
//! A preference objective is a function of the log-probabilities of whole answers: `answers.rs` sums those of the labels,
//! `reference.rs` computes them for the model as the run begins, and `dpo.rs`, `orpo.rs`, `simpo.rs` and `kto.rs` make a
//! loss of them. `preference.rs` puts these together for a run, `evaluate.rs` for held-out rows.
//!
//! Leaves to others: rows and tokens (`data/preference.rs`), the step (`train/update.rs`).

pub mod answers;
mod dpo;
pub mod evaluate;
mod kto;
pub mod loss;
pub mod options;
mod orpo;
pub mod preference;
pub mod reference;
mod simpo;

pub use loss::ObjectiveLoss;
pub use options::{DpoLoss, LossType, Objective, ObjectiveOptions};
pub use preference::{PreferenceBatch, PreferenceRun};
pub use reference::References;
