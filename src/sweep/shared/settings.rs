//! What the environment says about workers. Whoever starts several of them sets these variables.

use crate::bail;
use crate::error::{Kind, Result};
use std::time::Duration;

/// Seconds without a heartbeat after which a worker counts as dead.
pub const STALE_AFTER: &str = "LORHAI_STALE_AFTER";
/// The number of workers that are expected: a worker that starts first leaves trials for the others.
pub const EXPECTED: &str = "LORHAI_WORKERS";
/// The number of workers that share this machine's memory.
pub const BESIDE: &str = "LORHAI_WORKERS_HERE";
/// Names a run of several workers: what failed in it is not tried again in it.
pub const RUN: &str = "LORHAI_SWEEP_RUN";

/// Without a variable.
const USUAL_STALE_AFTER: Duration = Duration::from_secs(60);
const USUAL_EXPECTED: usize = 2;

/// How long the heartbeat of a worker may stand still.
///
/// # Errors
/// A variable that is no such time.
pub fn stale_after() -> Result<Duration> {
    let Some(text) = variable(STALE_AFTER) else { return Ok(USUAL_STALE_AFTER) };
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| (0.1..=1e6).contains(seconds));
    match seconds {
        Some(seconds) => Ok(Duration::from_secs_f64(seconds)),
        None => bail!(Kind::Input, "{STALE_AFTER}: expected seconds from 0.1 to 1000000, found \"{text}\""),
    }
}

/// The number of workers that are expected.
///
/// # Errors
/// A variable that is no count.
pub fn expected() -> Result<usize> {
    count(EXPECTED, USUAL_EXPECTED)
}

/// The number of workers on this machine.
///
/// # Errors
/// A variable that is no count.
pub fn beside() -> Result<usize> {
    count(BESIDE, 1)
}

/// The name of this run, where it has one.
pub fn run() -> Option<String> {
    variable(RUN)
}

fn count(name: &str, usual: usize) -> Result<usize> {
    let Some(text) = variable(name) else { return Ok(usual) };
    match text.trim().parse() {
        Ok(count) if (1..=100_000).contains(&count) => Ok(count),
        _ => bail!(Kind::Input, "{name}: expected a number of workers, found \"{text}\""),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}
