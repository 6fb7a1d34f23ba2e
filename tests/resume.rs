//! Runs and sweeps that are stopped, killed or damaged on the way end with the very bytes of those that were not.
//!
//! Times differ from run to run: `tokens_per_s` in `metrics.jsonl` and in events, and the wall time of events. All
//! other bytes are compared.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "resume/cuts.rs"]
mod cuts;
#[path = "resume/damage.rs"]
mod damage;
#[path = "resume/kills.rs"]
mod kills;
#[path = "resume/logs.rs"]
mod logs;
#[path = "resume/loops.rs"]
mod loops;
