//! A checkpoint on the disk: a folder `checkpoint-STEP`, as transformers names it.
//!
//! It is published as every folder is (`files/publish.rs`). Reading checks every byte against its manifest, so that a
//! damaged checkpoint is an error, never other numbers.

use super::state::{RunNumbers, RunState};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::files::manifest::{self, Manifest, MANIFEST};
use crate::files::{self, FolderKind, TemporaryFolder};
use crate::hub::weights::{self, Weights};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// What the names of checkpoints begin with, before the step.
const PREFIX: &str = "checkpoint-";
const FORMAT: &str = "lorhai checkpoint 1";
const STATE: &str = "state.json";
const TENSORS: &str = "state.safetensors";
/// Checkpoints are replaced by those of the same step.
const FOLDER: FolderKind = FolderKind { name: "checkpoint", mark: None, has_file: |_| false };
/// Free space that is left on a disk beside a checkpoint.
const MARGIN: u64 = 1 << 20;

/// A run in a checkpoint.
#[derive(Debug)]
pub struct SavedRun {
    /// The name of the trial; that of a single run is always the same.
    pub name: String,
    /// What must be the same for the run to go on.
    pub conditions: Value,
    pub state: RunState,
}

/// Runs that train side by side, all at the same moment.
#[derive(Debug)]
pub struct Checkpoint {
    /// The most steps that one of the runs has taken.
    pub step: u64,
    pub runs: Vec<SavedRun>,
}

/// The content of `state.json`.
#[derive(Serialize, Deserialize)]
struct Content<S> {
    format: String,
    state: S,
}

/// The state of runs.
#[derive(Serialize, Deserialize)]
struct Record {
    step: u64,
    runs: Vec<RunRecord>,
}

#[derive(Serialize, Deserialize)]
struct RunRecord {
    name: String,
    conditions: Value,
    numbers: RunNumbers,
}

impl Checkpoint {
    /// Writes the checkpoint into `parent`, in place of one of the same step. Does not stop on a requested stop.
    ///
    /// # Errors
    /// A folder that cannot be written; what was there stays.
    pub fn write(&self, parent: &Path) -> Result<PathBuf> {
        let mut tensors = Vec::new();
        for run in &self.runs {
            for (part, tensor) in run.state.tensors() {
                tensors.push((tensor_name(&run.name, part), tensor.shallow_clone()));
            }
        }
        let record = |run: &SavedRun| RunRecord {
            name: run.name.clone(),
            conditions: run.conditions.clone(),
            numbers: run.state.numbers.clone(),
        };
        let runs = self.runs.iter().map(record).collect();
        write(parent, self.step, &Record { step: self.step, runs }, &tensors)
    }

    /// Reads a checkpoint and checks every byte of it.
    ///
    /// # Errors
    /// A folder that is no checkpoint, damaged, or of another version.
    pub fn read(path: &Path) -> Result<Self> {
        let (record, tensors) = read(path)?;
        let invalid = |error: serde_json::Error| {
            Error::new(Kind::File, format!("`{}` is not the state of a run: {error}", path.join(STATE).display()))
        };
        let Record { step, runs } = serde_json::from_value(record).map_err(invalid)?;
        let saved = |run: RunRecord| {
            let tensor = |part: &str| {
                let name = tensor_name(&run.name, part);
                tensors.info(&name).map(|_| tensors.tensor(&name)).transpose()
            };
            let state = RunState::assemble(run.numbers, tensor).map_err(|error| error.context(path.display()))?;
            Ok(SavedRun { name: run.name, conditions: run.conditions, state })
        };
        Ok(Checkpoint { step, runs: runs.into_iter().map(saved).collect::<Result<_>>()? })
    }
}

/// Writes the checkpoint of a step into `parent`, in place of one of the same step: `state` as JSON, and `tensors`. Does
/// not stop on a requested stop.
///
/// # Errors
/// A folder that cannot be written; what was there stays.
pub fn write(parent: &Path, step: u64, state: &impl Serialize, tensors: &[(String, Tensor)]) -> Result<PathBuf> {
    files::create_folder(parent)?;
    ensure_space(parent, tensors)?;
    // Not indented: a long run has a number for each step.
    let text = serde_json::to_vec(&Content { format: FORMAT.into(), state });
    let text = text.map_err(|error| Error::bug(format!("cannot write JSON: {error}")))?;
    let path = parent.join(format!("{PREFIX}{step}"));
    files::publish_folder(&FOLDER, &path, true, |folder| {
        weights::save(&folder.join(TENSORS), tensors, &[])?;
        files::write_atomic(&folder.join(STATE), &text)
    })?;
    Ok(path)
}

fn ensure_space(parent: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let size = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
    let bytes: u64 = tensors.iter().map(|(_, tensor)| size(tensor)).sum();
    match files::disk_of(parent) {
        Some(disk) if disk.free < bytes + MARGIN => {
            let (free, bytes) = (crate::format::bytes(disk.free), crate::format::bytes(bytes));
            bail!(Kind::File, "`{}`: a checkpoint takes {bytes}, and {free} are free on that disk", parent.display();
                hint: "free some space, or choose another out")
        }
        _ => Ok(()),
    }
}

/// The JSON and the tensors of a checkpoint, every byte of them checked.
///
/// # Errors
/// A folder that is no checkpoint, damaged, or of another version.
pub fn read(path: &Path) -> Result<(Value, Weights)> {
    let manifest = manifest::read(path)?;
    let is_whole = |manifest: &Manifest| {
        manifest.kind == FOLDER.name && [STATE, TENSORS].iter().all(|name| manifest.files.contains_key(*name))
    };
    if !manifest.is_some_and(|manifest| is_whole(&manifest)) {
        bail!(
            Kind::File,
            "`{}` is not a whole checkpoint: expected `{STATE}` and `{TENSORS}` in its `{MANIFEST}`",
            path.display()
        );
    }
    manifest::verify(path, u64::MAX)?;
    let state = path.join(STATE);
    let content: Content<Value> = serde_json::from_value(files::read_json(&state)?)
        .map_err(|error| Error::new(Kind::File, format!("`{}` is not a state: {error}", state.display())))?;
    if content.format != FORMAT {
        bail!(Kind::File, "`{}`: expected the format \"{FORMAT}\", found {:?}", state.display(), content.format;
            hint: "another version of lorhai made it: go on with that one");
    }
    Ok((content.state, Weights::open_files(&[path.join(TENSORS)])?))
}

fn tensor_name(run: &str, part: &str) -> String {
    format!("{run}/{part}")
}

/// Is this the name of a checkpoint? Its step.
pub fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// The checkpoints in a folder by their steps, the newest first.
pub fn list(parent: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let checkpoint = |entry: fs::DirEntry| {
        let step = step_of(&entry.file_name().to_string_lossy())?;
        entry.path().is_dir().then(|| (step, entry.path()))
    };
    let mut found: Vec<(u64, PathBuf)> = entries.filter_map(checkpoint).collect();
    found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    found
}

/// Removes all but the newest `keep` checkpoints in a folder.
pub fn prune(parent: &Path, keep: usize) -> Result<()> {
    list(parent).into_iter().skip(keep).try_for_each(|(_, path)| remove(&path))
}

fn remove(path: &Path) -> Result<()> {
    TemporaryFolder::beside(path)?.swallow(path)
}
