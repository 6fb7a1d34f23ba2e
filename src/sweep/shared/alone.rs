//! A sweep with `prune` is one lease: what stops a trial early are the results of all others at the same moment. One worker
//! trains, the others wait, and go on with it if that one ends.

use super::heartbeat::Heartbeat;
use super::identity::WorkerId;
use super::leases::{Lease, Leases};
use super::settings;
use super::watch::{Life, Watch};
use crate::error::Result;
use crate::files::FolderLock;
use crate::interrupt;
use crate::sweep::folder;
use crate::sweep::trial::Plan;
use std::time::Duration;

/// The lease of the whole sweep.
const SWEEP: &str = "@sweep";
const POLL: Duration = Duration::from_secs(1);

/// The lease of a whole sweep, until this is dropped.
pub struct WholeSweep {
    _heartbeat: Heartbeat,
}

impl WholeSweep {
    /// Waits until no other worker holds the sweep, and takes it. `note` is called if that takes a while.
    ///
    /// # Errors
    /// A folder that cannot be used, or a stop.
    pub fn take(plan: &Plan, note: &mut dyn FnMut(&str)) -> Result<Self> {
        let (me, stale_after) = (WorkerId::new(), settings::stale_after()?);
        folder::mark(plan)?;
        let place = plan.place.clone().unwrap_or_default();
        let heartbeat = Heartbeat::start(&plan.out, &me, &place, stale_after)?;
        let (mut leases, mut watch) = (Leases::open(&plan.out, &me)?, Watch::new(&plan.out, stale_after));
        let mut is_noted = false;
        loop {
            interrupt::check()?;
            let last = leases.read()?.get(SWEEP).cloned();
            watch.look();
            let is_held = |Lease { owner, .. }: &Lease| watch.life(owner) == Life::Alive;
            // A worker that is only paused keeps its lock, where there are locks: it is waited for.
            let is_free = !last.as_ref().is_some_and(is_held) && FolderLock::ensure_free(&plan.out).is_ok();
            if is_free && leases.take(SWEEP, last.map_or(1, |lease| lease.generation + 1))? {
                return Ok(WholeSweep { _heartbeat: heartbeat });
            }
            if !std::mem::replace(&mut is_noted, true) {
                note("prune: another worker trains the whole sweep; this one waits, and goes on with it if that one ends");
            }
            interrupt::sleep(POLL.min(stale_after / 5))?;
        }
    }
}
