//! `lorhai submit slurm`: one array script, written into `out` and submitted.

use super::array_script::ArrayScript;
use super::jobs::{self, Job};
use super::slurm;
use crate::error::Result;
use crate::files;
use std::path::{Path, PathBuf};

/// A job array that Slurm has accepted.
#[derive(Debug)]
pub struct Submitted {
    pub job: Job,
    pub script: PathBuf,
}

/// Writes the script to `out/slurm/NAME.sh`, submits it, and records the number of its job there.
pub fn submit(array: &ArrayScript, out: &Path) -> Result<Submitted> {
    let name = format!("{}.sh", array.name());
    let script = jobs::folder(out).join(&name);
    files::write_atomic(&script, array.text()?.as_bytes())?;
    let job = Job { job: slurm::submit(&script)?, tasks: array.resources.tasks, script: name };
    jobs::add(out, &job)?;
    Ok(Submitted { job, script })
}
