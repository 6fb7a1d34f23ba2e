//! Training: optimizer, schedules, clipping, the step, and the trainer built from them.
//!
//! Leaves to others: what rows and batches are (`data/`), how held-out loss is measured
//! (`eval/`, given to the trainer as a closure), which runs there are (`sweep/`).

mod active_run;
pub mod adamw;
pub mod batches;
pub mod by_hand;
pub mod callbacks;
pub mod checkpoint;
pub mod clip;
pub mod config;
pub mod eval_interval;
pub mod flat_loss;
pub mod folder;
pub mod forward;
pub mod grouping;
pub mod grpo;
pub mod log_file;
pub mod loop_progress;
pub mod loop_run;
pub mod loss_scale;
pub mod mean_metrics;
pub mod memory;
pub mod metrics;
pub mod nested;
pub mod objective;
pub mod observer;
pub mod optim;
pub mod origin;
pub mod outcome;
pub mod overfitting;
pub mod previous;
pub mod processes;
pub mod progress;
pub mod recorded;
pub mod recorder;
pub mod rehearsal;
pub mod reserve;
pub mod run;
pub mod sampler;
mod saver;
pub mod schedule;
pub mod settings_diff;
pub mod stalled;
pub mod step;
pub mod tensorboard;
pub mod trace;
pub mod trainer;
pub mod update;

pub use active_run::Job;
pub use adamw::{AdamW, AdamWConfig};
pub use batches::{Batches, BatchesOptions};
pub use callbacks::Callbacks;
pub use config::TrainConfig;
pub use eval_interval::EvalInterval;
pub use outcome::TrainOutcome;
pub use progress::Progress;
pub use rehearsal::Pace;
pub use run::{RunReport, TrainRun};
pub use trainer::{train, train_together};
