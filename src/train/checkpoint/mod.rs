//! Checkpoints: the whole state of a run, or of runs that train side by side, written on the way and on every stop,
//! so that a run which was cut off goes on and ends with the numbers of one that was not.
//!
//! [`options`] says when they are written and what becomes of them, [`state`] what one holds, [`folder`] how it lies
//! on the disk, [`writer`] writes them while runs train, and [`resume`] finds the one to go on from. [`loop_state`] is for
//! loops that scripts write themselves. docs/checkpoints.md
//! tells users. Leaves to others: what a run's state consists of (`train/trainer.rs`).

pub mod folder;
pub mod interval;
pub mod loop_state;
pub mod options;
pub mod resume;
pub mod state;
pub mod writer;

pub use folder::Checkpoint;
pub use interval::SaveInterval;
pub use options::{CheckpointOptions, Resume};
pub use state::RunState;
pub use writer::CheckpointWriter;
