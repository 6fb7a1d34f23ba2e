//! What a sweep is doing now, read from its folder by a process that takes no part in it.

use crate::error::Result;
use crate::files;
use crate::interrupt;
use crate::sweep::folder::{read_marker, TRIALS};
use crate::sweep::record::CONFIG;
use crate::sweep::results::{SweepResult, TrialRow};
use crate::sweep::shared::heartbeat::{self, Beat};
use crate::sweep::shared::WORK;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// A heartbeat may come late by this factor before it counts as standing still.
const LATE: f64 = 1.3;

/// A sweep at one moment.
#[derive(Debug)]
pub struct SweepState {
    /// The trials that are over.
    pub result: SweepResult,
    /// The names of the trials that are not, in the order of the plan. Of those that failed, some may be tried again.
    pub open: Vec<String>,
    pub workers: Vec<Worker>,
    /// Works a process in the folder that does not share it?
    pub is_locked: bool,
}

/// A worker with its heartbeat.
#[derive(Debug)]
pub struct Worker {
    pub beat: Beat,
    pub pulse: Pulse,
    /// What it trains and has not concluded.
    pub trials: Vec<Running>,
}

/// What became of a heartbeat while it was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    Moves,
    StandsStill,
    /// Its process, of this machine, has ended.
    Ended,
}

/// A trial that a worker trains.
#[derive(Debug)]
pub struct Running {
    pub name: String,
    /// For how long, by the times of its files.
    pub time: Option<Duration>,
    /// The last step that was logged.
    pub step: Option<u64>,
}

impl SweepState {
    /// Reads the sweep in `out`, and watches the heartbeats of its workers until each has moved, or should have.
    ///
    /// # Errors
    /// A folder of no sweep; files that cannot be read; a stop.
    pub fn read(out: &Path) -> Result<Self> {
        let beats = heartbeat::ids(out).into_iter().filter_map(|id| heartbeat::read(out, &id)).collect();
        let pulses = watch(out, beats)?;
        // Behind the wait, so that what follows is of one moment.
        let result = SweepResult::open(out)?;
        let is_over = |name: &str| result.rows().iter().any(|row| row.dir == name);
        let is_finished = |name: &str| result.rows().iter().any(|row| row.dir == name && row.outcome().is_some());
        let planned = read_marker(out)?.and_then(|marker| marker.get(TRIALS)?.as_object().cloned()).unwrap_or_default();
        let open: Vec<String> = planned.keys().filter(|name| !is_over(name)).cloned().collect();
        let worker = |(beat, pulse): (Beat, Pulse)| {
            // One that failed before is tried again.
            let of_worker = beat.trials.iter().filter(|name| planned.contains_key(*name) && !is_finished(name));
            let trials = of_worker.map(|name| Running::read(out, &beat.id, name)).collect();
            Worker { beat, pulse, trials }
        };
        let workers: Vec<Worker> = pulses.into_iter().map(worker).collect();
        let is_locked = workers.is_empty() && files::FolderLock::ensure_free(out).is_err();
        Ok(SweepState { result, open, workers, is_locked })
    }

    /// Does a worker train the trial?
    pub fn is_running(&self, name: &str) -> bool {
        self.workers.iter().flat_map(|worker| &worker.trials).any(|trial| trial.name == name)
    }

    /// The trials that failed and are not tried again now.
    pub fn failed(&self) -> Vec<&TrialRow> {
        self.result.failed().filter(|row| !self.is_running(&row.dir)).collect()
    }

    /// The names of the trials that are neither over nor trained.
    pub fn waiting(&self) -> Vec<&String> {
        self.open.iter().filter(|name| !self.is_running(name)).collect()
    }

    /// The workers that live.
    pub fn alive(&self) -> usize {
        self.workers.iter().filter(|worker| worker.pulse == Pulse::Moves).count()
    }

    /// How long a finished trial took its worker.
    pub fn seconds_per_trial(&self) -> Option<f64> {
        let seconds = self.result.rows().iter().filter_map(|row| row.outcome()).map(|outcome| outcome.seconds);
        let (count, sum) = seconds.fold((0_u32, 0.0), |(count, sum), seconds| (count + 1, sum + seconds));
        (count > 0 && sum > 0.0).then(|| sum / f64::from(count))
    }

    /// The time until all trials are over, if all of them take as long as those that are finished.
    pub fn seconds_left(&self) -> Option<f64> {
        let workers = self.alive().max(usize::from(self.is_locked));
        let seconds = self.seconds_per_trial().filter(|_| workers > 0 && !self.open.is_empty())?;
        Some(seconds * self.open.len() as f64 / workers as f64)
    }
}

impl Running {
    fn read(out: &Path, worker: &str, name: &str) -> Self {
        let folder = out.join(WORK).join(worker).join(name);
        let begun = fs::metadata(folder.join(CONFIG)).and_then(|data| data.modified()).ok();
        // The clock of the file's server may be ahead.
        let time = begun.map(|begun| SystemTime::now().duration_since(begun).unwrap_or_default());
        Running { name: name.to_owned(), time, step: last_step(&folder.join(crate::train::folder::METRICS)) }
    }
}

/// The step in the last whole line of a log.
fn last_step(log: &Path) -> Option<u64> {
    let text = fs::read_to_string(log).ok()?;
    let step = |line: &str| serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64();
    text.lines().rev().find_map(step)
}

/// Watches the heartbeats until each has moved, has ended, or is late.
fn watch(out: &Path, beats: Vec<Beat>) -> Result<Vec<(Beat, Pulse)>> {
    let begun = Instant::now();
    let counters: BTreeMap<String, u64> = beats.iter().map(|beat| (beat.id.clone(), beat.counter)).collect();
    let mut watched = Vec::new();
    let mut beats = beats;
    while !beats.is_empty() {
        interrupt::sleep(Duration::from_millis(100))?;
        let mut waiting = Vec::new();
        for beat in beats {
            // One that ended in order is no worker any more.
            let Some(now) = heartbeat::read(out, &beat.id) else { continue };
            let is_late = begun.elapsed().as_secs_f64() > LATE * now.every_seconds + 0.5;
            if counters.get(&now.id) != Some(&now.counter) {
                watched.push((now, Pulse::Moves));
            } else if now.process.has_ended() {
                watched.push((now, Pulse::Ended));
            } else if is_late {
                watched.push((now, Pulse::StandsStill));
            } else {
                waiting.push(now);
            }
        }
        beats = waiting;
    }
    watched.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
    Ok(watched)
}
