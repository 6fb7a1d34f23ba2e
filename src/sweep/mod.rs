//! Many trials over one base: the grid, one folder per trial, results, resuming.
//!
//! The runner knows nothing of tensors: a closure runs the trials, for LoRA [`workers`] with [`lora::run_group`]. [`rounds`] runs sweeps whose trials depend
//! on the results so far.
//! Read the files in this order: [`grid`] makes points, [`trial`] gives each its settings and folder, [`run`] runs
//! the trials that are not finished, [`results`] holds and writes the rows. [`summary`] defines the statistics that
//! [`table`] prints and [`series`] prepares for charts; [`ranking`] finds the best setting, [`decide`] the one
//! that is enough.

pub mod axes;
pub mod checkpoints;
pub mod columns;
pub mod comparison;
pub mod conclusion;
pub mod decide;
pub mod event;
pub mod folder;
pub mod grid;
pub mod groups;
pub mod history;
pub mod lora;
pub mod lora_pruning;
pub mod lora_sweep;
pub mod memory;
pub mod number;
pub mod options;
pub mod place;
pub mod progress;
pub mod pruning;
pub mod ranking;
pub mod record;
pub mod referee;
pub mod rehearsal;
pub mod results;
pub mod rounds;
pub mod run;
pub mod series;
pub mod settled;
pub mod shared;
pub mod summary;
pub mod table;
pub mod task;
pub mod throughput;
pub mod trial;
pub mod trial_sweep;
pub mod verify;
pub mod workers;

pub use crate::train::settings_diff;
pub use axes::Axes;
pub use event::{Event, SweepObserver};
pub use grid::{Axis, Grid, Point, SEED};
pub use lora_sweep::{LoraSweep, SweepReport};
pub use options::{SweepOptions, TrialSettings};
pub use pruning::{PruneOptions, PruneRule, Pruning};
pub use ranking::{BestSetting, Rival};
pub use record::{Failure, Measurements, PrunedTrial, Trained, TrialResult};
pub use results::{SweepResult, TrialRow};
pub use run::run;
pub use series::{SummaryPoint, SummarySeries};
pub use task::TrialInputs;
pub use throughput::Throughput;
pub use trial::{Plan, Trial};
pub use trial_sweep::TrialSweep;
pub use workers::Workers;
