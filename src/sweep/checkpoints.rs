//! The checkpoints of a sweep's trials: those that an earlier run left, by trial, and a writer for each group.
//!
//! Trials that train side by side are saved together, at the same step, in `checkpoints/GROUP/checkpoint-STEP`. A trial
//! goes on from the newest whole checkpoint that it is in, in whatever group.

use crate::error::{Error, Kind, Result};
use crate::train::checkpoint::folder::{list, Checkpoint};
use crate::train::checkpoint::{CheckpointOptions, CheckpointWriter, Resume, RunState};
use crate::train::settings_diff::{self, Change};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of checkpoints within that of a sweep.
pub const CHECKPOINTS: &str = "checkpoints";

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
    folder: PathBuf,
    options: CheckpointOptions,
    saved: BTreeMap<String, Saved>,
    /// Trials that cannot go on, for their settings are others now.
    changed: BTreeMap<String, Vec<Change>>,
    /// Lines for the user: checkpoints that cannot be used.
    pub notes: Vec<String>,
}

impl TrialCheckpoints {
    /// Looks for checkpoints of `begun` in the sweep's folder `out`. Changes nothing.
    ///
    /// # Errors
    /// The user stopped it.
    pub fn open(out: &Path, begun: &[Begun], options: &CheckpointOptions) -> Result<Self> {
        let (saved, changed, notes) = Default::default();
        let folder = out.join(CHECKPOINTS);
        let checkpoints = TrialCheckpoints { folder, options: options.clone(), saved, changed, notes };
        if checkpoints.are_ignored() {
            Ok(checkpoints)
        } else {
            checkpoints.find(begun)
        }
    }

    /// As [`Self::open`], with what was saved since: for trials that have to be grouped anew.
    ///
    /// # Errors
    /// The user stopped it.
    pub fn reopen(&self, begun: &[Begun]) -> Result<Self> {
        self.clone().find(begun)
    }

    fn find(mut self, begun: &[Begun]) -> Result<Self> {
        for group in folders_in(&self.folder) {
            for (_, path) in list(&group) {
                match Checkpoint::read(&path) {
                    Ok(checkpoint) => {
                        self.add(&checkpoint, &path, begun);
                        break;
                    }
                    Err(error) if error.kind == Kind::Stopped => return Err(error),
                    Err(error) => self.notes.push(format!("a checkpoint cannot be used: {}", error.message)),
                }
            }
        }
        Ok(self)
    }

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

    /// The step that a trial goes on from; `None` for one that begins.
    pub fn step(&self, trial: &str) -> Option<u64> {
        self.saved.get(trial).map(|saved| saved.step)
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
        let mut read: BTreeMap<&Path, Checkpoint> = BTreeMap::new();
        let mut states = Vec::with_capacity(trials.len());
        for name in trials {
            let Some(Saved { path, .. }) = self.saved.get(*name) else {
                states.push(None);
                continue;
            };
            if !read.contains_key(path.as_path()) {
                read.insert(path, Checkpoint::read(path)?);
            }
            let runs = read.get_mut(path.as_path()).map(|checkpoint| &mut checkpoint.runs);
            let state = runs.and_then(|runs| {
                let at = runs.iter().position(|run| run.name == **name)?;
                Some(runs.swap_remove(at).state)
            });
            states.push(Some(state.ok_or_else(|| Error::bug("a checkpoint lost a trial"))?));
        }
        Ok(states)
    }

    /// Saves trials that train side by side.
    pub fn writer(&self, trials: &[&str]) -> CheckpointWriter {
        let mut hash = Sha256::new();
        trials.iter().for_each(|name| hash.update(format!("{name}\n")));
        let name = format!("{:x}", hash.finalize());
        CheckpointWriter::of_trials(&self.folder.join(&name[..12]), &self.options)
    }

    /// Removes all checkpoints of groups whose trials are all among `concluded`.
    pub fn remove(&self, concluded: &[&str]) {
        let is_over = |run: &str| concluded.contains(&run);
        for group in folders_in(&self.folder) {
            let newest = list(&group).into_iter().find_map(|(_, path)| Checkpoint::read(&path).ok());
            if newest.is_none_or(|checkpoint| checkpoint.runs.iter().all(|run| is_over(&run.name))) {
                let _ = fs::remove_dir_all(&group);
            }
        }
        // Fails while there are others.
        let _ = fs::remove_dir(&self.folder);
    }

    /// Removes all of them.
    pub fn remove_all(&self) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::file("remove", &self.folder, &error))
            }
            _ => Ok(()),
        }
    }

    /// Does every trial begin anew?
    pub fn are_ignored(&self) -> bool {
        self.options.resume == Some(Resume::No)
    }
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
