//! `lorhai status`: a sweep as text, while it runs or later.

use super::jobs;
use super::slurm::{self, QueuedTask};
use super::state::{Pulse, Running, SweepState, Worker};
use crate::error::Result;
use crate::sweep::folder::SWEEP;
use crate::sweep::history::{self, PastRun};
use crate::sweep::place::Place;
use crate::sweep::record::TrialResult;
use crate::sweep::results::TrialRow;
use crate::table;
use crate::train::rehearsal::duration;
use std::path::{Path, PathBuf};

/// So many trials that wait are named.
const NAMED: usize = 8;

/// The state of the sweep in `out`, of all sweeps below it, or of the single run in it.
///
/// # Errors
/// A folder without a run and without a job; a stop.
pub fn status(out: &Path) -> Result<String> {
    let sweeps = if out.join(SWEEP).is_file() { vec![out.to_owned()] } else { sweeps_below(out) };
    let numbers = jobs::numbers(out)?;
    let mut sections = Vec::new();
    for sweep in &sweeps {
        sections.push(section(sweep, &SweepState::read(sweep)?));
    }
    if sweeps.is_empty() {
        let state = match PastRun::open(out) {
            Ok(run) => run.status(),
            Err(_) if !numbers.is_empty() => "nothing has begun".to_owned(),
            Err(error) => return Err(error),
        };
        sections.push(format!("{}\n{state}\n", out.display()));
    }
    if !numbers.is_empty() {
        sections.push(queue(&numbers, slurm::queue(&numbers).ok()));
    }
    Ok(sections.join("\n"))
}

fn sweeps_below(out: &Path) -> Vec<PathBuf> {
    let runs = history::below(out).unwrap_or_default();
    runs.into_iter().map(|run| run.folder).filter(|folder| folder.join(SWEEP).is_file()).collect()
}

fn section(out: &Path, state: &SweepState) -> String {
    let mut text = format!("{}\n{}\n", out.display(), counts(state));
    if let Some(pace) = pace(state) {
        text += &format!("{pace}\n");
    }
    if state.is_locked {
        text += "one process runs it, without --shared\n";
    }
    if !state.workers.is_empty() {
        text += &format!("\n{}", workers(&state.workers));
    }
    let failed: Vec<Vec<String>> = state.failed().into_iter().map(failure).collect();
    if !failed.is_empty() {
        text += &format!("\nfailed; a new run tries them again\n{}", table::lines(&failed, &[]));
    }
    let waiting = state.waiting();
    if !waiting.is_empty() {
        let what = if state.is_locked { "running, or not begun" } else { "not begun, or left unfinished" };
        text += &format!("\n{what}\n{}", names(&waiting));
    }
    text
}

fn failure(row: &TrialRow) -> Vec<String> {
    let message = match &row.result {
        TrialResult::Failed(failure) => failure.message.lines().next().unwrap_or_default(),
        TrialResult::Finished(_) | TrialResult::Pruned(_) => "",
    };
    let place = row.place.as_ref().map(Place::short).unwrap_or_default();
    vec![format!("  {}", row.dir), place, message.to_owned()]
}

fn names(waiting: &[&String]) -> String {
    let mut text: String = waiting.iter().take(NAMED).map(|name| format!("  {name}\n")).collect();
    if waiting.len() > NAMED {
        text += &format!("  and {} more\n", waiting.len() - NAMED);
    }
    text
}

/// `24 trials: 10 finished, 1 failed, 6 running, 7 to come`.
fn counts(state: &SweepState) -> String {
    let result = &state.result;
    let (failed, waiting) = (state.failed().len(), state.waiting().len());
    let finished = result.rows().iter().filter(|row| row.outcome().is_some()).count();
    let pruned = result.pruned().filter(|row| !state.is_running(&row.dir)).count();
    let all = state.open.len() + result.rows().len();
    let running = all - failed - waiting - finished - pruned;
    let counted =
        [(finished, "finished"), (failed, "failed"), (pruned, "pruned"), (running, "running"), (waiting, "to come")];
    let counted = counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let trials = counted.collect::<Vec<_>>().join(", ");
    format!("{all} {}: {trials}", if all == 1 { "trial" } else { "trials" })
}

/// How fast it goes, and when it will be over.
fn pace(state: &SweepState) -> Option<String> {
    let each = format!("a trial takes a worker {}", duration(state.seconds_per_trial()?));
    let workers = state.alive().max(usize::from(state.is_locked));
    let count = if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") };
    Some(match state.seconds_left() {
        Some(seconds) => format!("{each}; about {} left with {count}", duration(seconds)),
        None => each,
    })
}

fn workers(workers: &[Worker]) -> String {
    let head = ["worker", "where", "heartbeat", "trains", "for", "step"].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    for worker in workers {
        let pulse = match worker.pulse {
            Pulse::Moves => "moves",
            Pulse::StandsStill => "stands still",
            Pulse::Ended => "has ended",
        };
        let of_worker = vec![worker.beat.id.clone(), worker.beat.place.short(), pulse.to_owned()];
        let mut trials = worker.trials.iter().map(running);
        rows.push([of_worker, trials.next().unwrap_or_else(|| vec!["nothing".to_owned()])].concat());
        rows.extend(trials.map(|trial| [vec![String::new(); 3], trial].concat()));
    }
    table::lines(&rows, &[])
}

fn running(trial: &Running) -> Vec<String> {
    let step = trial.step.map(|step| step.to_string()).unwrap_or_default();
    vec![trial.name.clone(), trial.time.map(|time| duration(time.as_secs_f64())).unwrap_or_default(), step]
}

fn queue(numbers: &[String], tasks: Option<Vec<QueuedTask>>) -> String {
    let jobs = numbers.join(", ");
    match tasks {
        None => format!("Slurm jobs {jobs}: squeue does not answer here\n"),
        Some(tasks) if tasks.is_empty() => format!("Slurm jobs {jobs}: none waits or runs\n"),
        Some(tasks) => {
            let row =
                |task: QueuedTask| vec![format!("  {}", task.task), task.state.to_lowercase(), task.place, task.time];
            format!("Slurm\n{}", table::lines(&tasks.into_iter().map(row).collect::<Vec<_>>(), &[]))
        }
    }
}
