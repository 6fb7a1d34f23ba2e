//! The checkpoints of a sweep's trials: those that an earlier run left, by trial, and a writer for each group.
//!
//! Trials that train side by side are saved together, at the same step, in `checkpoints/GROUP/checkpoint-STEP`. A trial
//! goes on from the newest whole checkpoint that it is in, in whatever group. One that was stopped early has its state in
//! its own folder, `TRIAL/checkpoint-STEP`.

use super::shared::WorkerId;
use crate::error::{Error, Kind, Result};
use crate::train::checkpoint::folder::{list, prune, Checkpoint};
use crate::train::checkpoint::{CheckpointOptions, CheckpointWriter, Resume, RunState};
use crate::train::settings_diff::{self, Change};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The folder of checkpoints within that of a sweep.
pub const CHECKPOINTS: &str = "checkpoints";

/// The characters of the name of a group that are of its trials.
const HASH: usize = 12;

/// A trial that may go on from a checkpoint: its name and its settings.
pub type Begun<'a> = (&'a str, &'a Value);

/// What a trial goes on from.
#[derive(Debug, Clone, PartialEq)]
struct Saved {
    step: u64,
    path: PathBuf,
}

#[derive(Debug, Clone)]
pub struct TrialCheckpoints {
    /// The folder of the sweep.
    out: PathBuf,
    options: CheckpointOptions,
    /// The worker whose checkpoints these are, in a sweep that several processes share.
    worker: Option<WorkerId>,
    /// Looked for again where trials go on within a run of the sweep.
    saved: Arc<Mutex<BTreeMap<String, Saved>>>,
    /// Trials that cannot go on, for their settings are others now.
    changed: BTreeMap<String, Vec<Change>>,
    /// Lines for the user: checkpoints that cannot be used.
    pub notes: Vec<String>,
}

/// What was found of trials.
#[derive(Default)]
struct Findings {
    saved: BTreeMap<String, Saved>,
    changed: BTreeMap<String, Vec<Change>>,
    notes: Vec<String>,
}

impl TrialCheckpoints {
    /// Looks for checkpoints of `begun` in the sweep's folder `out`. Changes nothing.
    ///
    /// # Errors
    /// The user stopped it.
    pub fn open(out: &Path, begun: &[Begun], options: &CheckpointOptions) -> Result<Self> {
        let (saved, changed, notes) = Default::default();
        let (out, options, worker) = (out.to_owned(), options.clone(), None);
        let mut checkpoints = TrialCheckpoints { out, options, worker, saved, changed, notes };
        if !checkpoints.are_ignored() {
            let Findings { saved, changed, notes } = checkpoints.find(begun)?;
            *checkpoints.saved() = saved;
            (checkpoints.changed, checkpoints.notes) = (changed, notes);
        }
        Ok(checkpoints)
    }

    /// Writes checkpoints as this worker of a shared sweep, beside those of others.
    pub fn of_worker(self, worker: Option<WorkerId>) -> Self {
        TrialCheckpoints { worker, ..self }
    }

    /// Looks again, for what this run of the sweep saved of `begun` since.
    ///
    /// # Errors
    /// The user stopped it.
    pub fn refresh(&self, begun: &[Begun]) -> Result<()> {
        let found = self.find(begun)?.saved;
        let mut saved = self.saved();
        saved.retain(|name, _| !begun.iter().any(|(other, _)| other == name));
        saved.extend(found);
        Ok(())
    }

    fn saved(&self) -> MutexGuard<'_, BTreeMap<String, Saved>> {
        // A thread that panicked here left a map that is whole.
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self) -> PathBuf {
        self.out.join(CHECKPOINTS)
    }

    fn find(&self, begun: &[Begun]) -> Result<Findings> {
        let mut findings = Findings::default();
        // A trial that was stopped early keeps its state in its own folder.
        let own = begun.iter().map(|(name, _)| self.out.join(name)).filter(|_| !self.are_ignored());
        for group in folders_in(&self.folder()).into_iter().chain(own) {
            for (_, path) in list(&group) {
                match Checkpoint::read(&path) {
                    Ok(checkpoint) => {
                        findings.add(&checkpoint, &path, begun);
                        break;
                    }
                    Err(error) if error.kind == Kind::Stopped => return Err(error),
                    Err(error) => findings.notes.push(format!("a checkpoint cannot be used: {}", error.message)),
                }
            }
        }
        Ok(findings)
    }

    /// The step that a trial goes on from; `None` for one that begins.
    pub fn step(&self, trial: &str) -> Option<u64> {
        self.saved().get(trial).map(|saved| saved.step)
    }

    /// The worker of a shared sweep that saved what a trial goes on from.
    pub fn worker(&self, trial: &str) -> Option<String> {
        let path = self.saved().get(trial)?.path.clone();
        worker_of(path.parent()?).map(str::to_owned)
    }

    /// The settings that keep a trial from going on.
    pub fn changes(&self, trial: &str) -> Option<&[Change]> {
        self.changed.get(trial).filter(|_| self.step(trial).is_none()).map(Vec::as_slice)
    }

    /// The states that trials go on from, in their order.
    ///
    /// # Errors
    /// A checkpoint that can no longer be read.
    pub fn states(&self, trials: &[&str]) -> Result<Vec<Option<RunState>>> {
        let mut read: BTreeMap<PathBuf, Checkpoint> = BTreeMap::new();
        let mut states = Vec::with_capacity(trials.len());
        for name in trials {
            let path = self.saved().get(*name).map(|saved| saved.path.clone());
            let Some(path) = path else {
                states.push(None);
                continue;
            };
            if !read.contains_key(&path) {
                let checkpoint = Checkpoint::read(&path)?;
                read.insert(path.clone(), checkpoint);
            }
            let runs = read.get_mut(&path).map(|checkpoint| &mut checkpoint.runs);
            let state = runs.and_then(|runs| {
                let at = runs.iter().position(|run| run.name == **name)?;
                Some(runs.swap_remove(at).state)
            });
            states.push(Some(state.ok_or_else(|| Error::bug("a checkpoint lost a trial"))?));
        }
        Ok(states)
    }

    /// Moves the states of trials that were stopped early into their own folders, where they stay when the sweep ends.
    ///
    /// # Errors
    /// A state that cannot be read or written.
    pub fn keep(&self, trials: &[&str]) -> Result<()> {
        let mut by_path: BTreeMap<PathBuf, Vec<&str>> = BTreeMap::new();
        for name in trials {
            if let Some(saved) = self.saved().get(*name) {
                by_path.entry(saved.path.clone()).or_default().push(name);
            }
        }
        for (path, names) in by_path {
            for run in Checkpoint::read(&path)?.runs {
                let folder = self.out.join(&run.name);
                if !names.contains(&run.name.as_str()) || path.starts_with(&folder) {
                    continue;
                }
                Checkpoint { step: run.state.numbers.position.steps, runs: vec![run] }.write(&folder)?;
                prune(&folder, 1)?;
            }
        }
        Ok(())
    }

    /// Removes the checkpoints in a trial's own folder.
    pub fn forget(&self, trial: &str) -> Result<()> {
        prune(&self.out.join(trial), 0)
    }

    /// Removes the checkpoints of groups that none of `trials` goes on from.
    pub fn remove_unused(&self, trials: &[&str]) {
        let used: Vec<PathBuf> = {
            let saved = self.saved();
            trials.iter().filter_map(|name| saved.get(*name)).map(|saved| saved.path.clone()).collect()
        };
        for group in folders_in(&self.folder()) {
            if !used.iter().any(|path| path.starts_with(&group)) {
                let _ = fs::remove_dir_all(&group);
            }
        }
    }

    /// Saves trials that train side by side.
    pub fn writer(&self, trials: &[&str]) -> CheckpointWriter {
        let mut hash = Sha256::new();
        trials.iter().for_each(|name| hash.update(format!("{name}\n")));
        let name = format!("{:x}", hash.finalize());
        let name = match &self.worker {
            Some(worker) => format!("{worker}-{}", &name[..HASH]),
            None => name[..HASH].to_owned(),
        };
        CheckpointWriter::of_trials(&self.folder().join(name), &self.options)
    }

    /// Removes all checkpoints of groups whose trials are all among `concluded`.
    pub fn remove(&self, concluded: &[&str]) {
        let is_over = |run: &str| concluded.contains(&run);
        for group in folders_in(&self.folder()) {
            let newest = list(&group).into_iter().find_map(|(_, path)| Checkpoint::read(&path).ok());
            if newest.is_none_or(|checkpoint| checkpoint.runs.iter().all(|run| is_over(&run.name))) {
                let _ = fs::remove_dir_all(&group);
            }
        }
        // Fails while there are others.
        let _ = fs::remove_dir(self.folder());
    }

    /// Removes the checkpoints of a worker, all of whose trials are over.
    pub fn remove_of_worker(&self, worker: &str) {
        self.remove_of_workers(&|other| other == worker);
    }

    /// As [`Self::remove_of_worker`], of all workers of which `is_over` says so.
    pub fn remove_of_workers(&self, is_over: &dyn Fn(&str) -> bool) {
        for group in folders_in(&self.folder()) {
            if worker_of(&group).is_some_and(is_over) {
                let _ = fs::remove_dir_all(&group);
            }
        }
        // Fails while there are others.
        let _ = fs::remove_dir(self.folder());
    }

    /// Removes all of them.
    pub fn remove_all(&self) -> Result<()> {
        match fs::remove_dir_all(self.folder()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::file("remove", &self.folder(), &error))
            }
            _ => Ok(()),
        }
    }

    /// Does every trial begin anew?
    pub fn are_ignored(&self) -> bool {
        self.options.resume == Some(Resume::No)
    }
}

impl Findings {
    fn add(&mut self, checkpoint: &Checkpoint, path: &Path, begun: &[Begun]) {
        for run in &checkpoint.runs {
            let Some((name, settings)) = begun.iter().find(|(name, _)| *name == run.name) else { continue };
            let changes = settings_diff::between(&run.conditions, settings);
            if !changes.is_empty() {
                self.changed.insert(name.to_string(), changes);
                continue;
            }
            let step = run.state.numbers.position.steps;
            if self.saved.get(*name).is_none_or(|known| known.step < step) {
                self.saved.insert(name.to_string(), Saved { step, path: path.to_owned() });
            }
        }
    }
}

/// The worker that a group of checkpoints is of.
fn worker_of(group: &Path) -> Option<&str> {
    let (worker, hash) = group.file_name()?.to_str()?.rsplit_once('-')?;
    (hash.len() == HASH).then_some(worker)
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
