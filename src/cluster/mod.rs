//! A sweep on a cluster: the array of jobs that trains it, what it is doing now, and how it is ended.
//!
//! Leaves to others: how workers share a sweep (`sweep::shared`), and what a trial's folder holds (`sweep`).
//!
//! | file | defines |
//! |---|---|
//! | `array_script.rs` | the script of a job array, as text |
//! | `jobs.rs` | the jobs that were submitted for an `out`, as `out` records them |
//! | `slurm.rs` | Slurm's commands: submit, list, cancel |
//! | `submit.rs` | `lorhai submit slurm` |
//! | `state.rs`, `status.rs` | a sweep as it is now, read from its folder; as text, for `lorhai status` |
//! | `cancel.rs` | `lorhai cancel` |

pub mod array_script;
pub mod cancel;
pub mod jobs;
pub mod slurm;
pub mod state;
pub mod status;
pub mod submit;
