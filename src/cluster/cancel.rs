//! `lorhai cancel`: ends the jobs that were submitted for an `out`. What they trained stays.

use super::jobs;
use super::slurm;
use crate::bail;
use crate::error::{Kind, Result};
use std::path::Path;

/// Cancels the jobs of `out` that wait or run; returns what was done, as a text.
pub fn cancel(out: &Path) -> Result<String> {
    let numbers = jobs::numbers(out)?;
    if numbers.is_empty() {
        bail!(Kind::Input, "`{}` names no job: expected the folder of a sweep that `lorhai submit` started", out.display();
            hint: "Ctrl-C stops workers that were started by hand, and scancel jobs that were submitted otherwise");
    }
    let tasks = slurm::queue(&numbers)?;
    if tasks.is_empty() {
        return Ok(format!("none of the jobs waits or runs: {}\n", numbers.join(", ")));
    }
    // Those that have ended would only be complaints.
    let number = |task: &str| task.split(['_', '.']).next().unwrap_or(task).to_owned();
    let mut live: Vec<String> = tasks.iter().map(|task| number(&task.task)).collect();
    live.dedup();
    slurm::cancel(&live)?;
    let hint = "what is finished stays; submit again to go on";
    Ok(format!("cancelled {}: {hint}\n", live.iter().map(|job| format!("job {job}")).collect::<Vec<_>>().join(", ")))
}
