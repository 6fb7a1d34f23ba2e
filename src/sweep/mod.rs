//! Many trials over one base: the grid, one folder per trial, results, resuming.
//!
//! The runner knows nothing of tensors: trials are run by a closure, which for LoRA is made
//! of [`workers`] of [`lora::run_group`]. The path
//! through the files: [`grid`] makes points, [`trial`] gives each its settings and folder,
//! [`run`] runs what is not finished, [`results`] holds and writes the rows; [`summary`]
//! defines the statistics that [`table`] prints and [`series`] hands to the charts;
//! [`ranking`] says which setting is best.

pub mod checkpoints;
pub mod columns;
pub mod folder;
pub mod grid;
pub mod groups;
pub mod history;
pub mod lora;
pub mod lora_sweep;
pub mod memory;
pub mod number;
pub mod options;
pub mod progress;
pub mod ranking;
pub mod record;
pub mod rehearsal;
pub mod results;
pub mod run;
pub mod series;
pub mod summary;
pub mod table;
pub mod task;
pub mod trial;
pub mod verify;
pub mod workers;

pub use crate::train::settings_diff;
pub use grid::{Axis, Grid, Point, SEED};
pub use lora_sweep::{LoraSweep, SweepReport};
pub use options::{SweepOptions, TrialSettings};
pub use ranking::{BestSetting, Rival};
pub use record::{Failure, Measurements, TrialResult};
pub use results::{Row, SweepResult};
pub use run::{run, Event, SweepObserver};
pub use series::{SummaryPoint, SummarySeries};
pub use trial::{Plan, Trial};
pub use workers::Workers;
