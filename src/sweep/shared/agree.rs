//! Workers of one sweep must have the same settings: each would otherwise replace what the others trained.

use super::heartbeat;
use crate::bail;
use crate::error::{Kind, Result};
use crate::interrupt;
use crate::sweep::folder::{read_marker, TRIALS};
use crate::sweep::trial::Plan;
use serde_json::Value;
use std::time::Duration;

/// How many heartbeats are waited for.
const BEATS: f64 = 2.0;

/// Fails if a trial of the plan has other settings than in `sweep.json`, and workers live that train by those. Waits for
/// a heartbeat only where settings differ.
///
/// # Errors
/// Other settings; a stop.
pub fn ensure_same_settings(plan: &Plan) -> Result<()> {
    let Some(marker) = read_marker(&plan.out)? else { return Ok(()) };
    let known = marker.get(TRIALS).and_then(Value::as_object).cloned().unwrap_or_default();
    let differs = |name: &str, fingerprint: String| known.get(name).is_some_and(|known| *known != fingerprint);
    let Some(trial) = plan.trials.iter().find(|trial| differs(&trial.name, trial.fingerprint())) else { return Ok(()) };
    let beats = || -> Vec<heartbeat::Beat> {
        let ids = heartbeat::ids(&plan.out);
        let beats = ids.iter().filter_map(|id| heartbeat::read(&plan.out, id));
        beats.filter(|beat| !beat.process.has_ended()).collect()
    };
    let before = beats();
    let longest = before.iter().map(|beat| beat.every_seconds.clamp(0.0, 60.0)).fold(0.0, f64::max);
    if before.is_empty() {
        return Ok(());
    }
    interrupt::sleep(Duration::from_secs_f64(BEATS * longest))?;
    let after = beats();
    let is_alive = |beat: &&heartbeat::Beat| after.iter().any(|now| now.id == beat.id && now.counter != beat.counter);
    match before.iter().find(is_alive) {
        Some(beat) => {
            bail!(Kind::Input, "out: worker {} runs the sweep in `{}` with other settings: those of {} differ",
            beat.id, plan.out.display(), trial.point;
            hint: "give all workers the same script and settings, or choose another out")
        }
        None => Ok(()),
    }
}
