//! Slurm's commands, with errors for people who have no Slurm, or whose Slurm refuses.

use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::foreign;
use std::io;
use std::path::Path;
use std::process::{Command, Output};

/// A task of an array, as the queue has it.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedTask {
    /// `17_3`, or `17_[2-3]` for tasks that wait together.
    pub task: String,
    /// `RUNNING`, `PENDING` and so on.
    pub state: String,
    /// The nodes, or why it waits.
    pub place: String,
    /// How long it has run, as Slurm writes it.
    pub time: String,
}

/// Submits a script, and returns the number of its job.
pub fn submit(script: &Path) -> Result<String> {
    let output = run("sbatch", Command::new("sbatch").arg("--parsable").arg(script))?;
    if !output.status.success() {
        bail!(Kind::Input, "sbatch refused `{}`: {}", script.display(), complaint(&output);
            hint: "give what it asks for by --partition, --time, --gpus, --cpus, --mem, or any of its options by --sbatch");
    }
    // The number, and behind a semicolon the cluster.
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.trim().split(';').next().unwrap_or_default();
    if number.is_empty() || !number.chars().all(|digit| digit.is_ascii_digit()) {
        bail!(Kind::Input, "sbatch: expected the number of a job, found `{}`", foreign::line(text.trim()));
    }
    Ok(number.to_owned())
}

/// The tasks of these jobs that wait or run.
pub fn queue(jobs: &[String]) -> Result<Vec<QueuedTask>> {
    let format = "--format=%i|%T|%R|%M";
    let arguments = ["--noheader", format, &format!("--jobs={}", jobs.join(","))];
    let output = run("squeue", Command::new("squeue").args(arguments))?;
    // Slurm forgets a job some minutes after its end.
    if !output.status.success() && !complaint(&output).contains("Invalid job id") {
        bail!(Kind::Input, "squeue failed: {}", complaint(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(queued_task).collect())
}

fn queued_task(line: &str) -> Option<QueuedTask> {
    let mut cells = line.trim().splitn(4, '|').map(|cell| foreign::line(cell).into_owned());
    let (task, state, place, time) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
    Some(QueuedTask { task, state, place, time })
}

/// Cancels these jobs, waiting and running. One that has ended is no error.
pub fn cancel(jobs: &[String]) -> Result<()> {
    let output = run("scancel", Command::new("scancel").args(jobs))?;
    if !output.status.success() && !complaint(&output).contains("Invalid job id") {
        bail!(Kind::Input, "scancel failed: {}", complaint(&output));
    }
    Ok(())
}

fn run(name: &str, command: &mut Command) -> Result<Output> {
    command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::input(format!("expected Slurm's command `{name}`, found none in PATH"))
            .with_hint("run this where Slurm's commands are, such as the login node of the cluster"),
        _ => Error::input(format!("cannot run `{name}`: {error}")),
    })
}

/// What a command wrote to stderr, in one line.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return output.status.to_string();
    }
    foreign::line(&lines.join("; ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_queue() {
        let task = queued_task("3_[1-2]|PENDING|(Resources)|0:00\n").unwrap();
        let (state, place, time) = ("PENDING".into(), "(Resources)".into(), "0:00".into());
        assert_eq!(task, QueuedTask { task: "3_[1-2]".into(), state, place, time });
        assert_eq!(queued_task("3_1|RUNNING"), None);
    }
}
