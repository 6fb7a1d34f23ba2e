//! What is removed once all trials of a shared sweep are over.

use super::heartbeat;
use super::identity::WorkerId;
use super::watch::{Life, Watch};
use super::{WORK, WORKERS};
use crate::sweep::trial::Plan;
use std::fs;

/// Removes the folders and checkpoints of this worker and of those that do not live, and the heartbeats of dead ones.
/// Workers that live may be in a later round.
pub fn remove_leftovers(plan: &Plan, me: &WorkerId, watch: &Watch) {
    let is_over = |worker: &str| worker == me.as_str() || watch.life(worker) != Life::Alive;
    for entry in fs::read_dir(plan.out.join(WORK)).into_iter().flatten().flatten() {
        if is_over(&entry.file_name().to_string_lossy()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    // Fails while there are others.
    let _ = fs::remove_dir(plan.out.join(WORK));
    if let Some(checkpoints) = &plan.checkpoints {
        checkpoints.remove_of_workers(&is_over);
    }
    for worker in heartbeat::ids(&plan.out) {
        if watch.life(&worker) == Life::Dead {
            let _ = fs::remove_file(plan.out.join(WORKERS).join(format!("{worker}.json")));
        }
    }
}
