//! The jobs that were submitted for an `out`: `out/slurm/jobs.jsonl`, with a line for each array.

use super::array_script::RUN_PREFIX;
use crate::error::{Error, Result};
use crate::files;
use crate::sweep::folder::SLURM;
use crate::sweep::shared::heartbeat;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

const JOBS: &str = "jobs.jsonl";

/// A job array that was submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Slurm's number of the array.
    pub job: String,
    pub tasks: u32,
    /// The file that was submitted, in the same folder.
    pub script: String,
}

/// The folder of scripts, logs and jobs in `out`.
pub fn folder(out: &Path) -> PathBuf {
    out.join(SLURM)
}

/// Records a job.
pub fn add(out: &Path, job: &Job) -> Result<()> {
    let path = folder(out).join(JOBS);
    let failed = |error: std::io::Error| Error::file("write", &path, &error);
    let line = serde_json::to_string(job).map_err(|error| Error::bug(format!("cannot write JSON: {error}")))?;
    let mut file = File::options().append(true).create(true).open(&path).map_err(failed)?;
    // In one call, so that two submissions do not mix.
    file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// The jobs of `out`, oldest first; none where nothing was submitted. A line that was cut off is skipped.
pub fn read(out: &Path) -> Result<Vec<Job>> {
    let path = folder(out).join(JOBS);
    if !path.exists() {
        return Ok(Vec::new());
    }
    Ok(files::read_text(&path)?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The numbers of the Slurm jobs of `out`: those that were submitted for it, and those whose tasks work in it.
pub fn numbers(out: &Path) -> Result<Vec<String>> {
    let mut numbers: Vec<String> = read(out)?.into_iter().map(|job| job.job).collect();
    let runs = heartbeat::ids(out).into_iter().filter_map(|id| heartbeat::read(out, &id)?.place.run);
    for run in runs {
        let number = run.strip_prefix(RUN_PREFIX).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(number) = number.filter(|number| !numbers.iter().any(|known| known == number)) {
            numbers.push(number.to_owned());
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_come_back_in_order() {
        let out = tempfile::tempdir().unwrap();
        assert_eq!(read(out.path()).unwrap(), []);
        std::fs::create_dir(folder(out.path())).unwrap();
        let job = |job: &str| Job { job: job.into(), tasks: 4, script: "rank_sweep.sh".into() };
        add(out.path(), &job("17")).unwrap();
        add(out.path(), &job("9")).unwrap();
        let path = folder(out.path()).join(JOBS);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"job\": \"2")).unwrap();
        assert_eq!(read(out.path()).unwrap(), [job("17"), job("9")]);
    }
}
