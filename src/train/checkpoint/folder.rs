//! A checkpoint on the disk: a folder `checkpoint-STEP`, as transformers names it.
//!
//! It is written under a temporary name and renamed when all of it is on the disk. `manifest.json`, written last, has
//! the size and SHA-256 of every other file; reading checks them all, so that a damaged checkpoint is an error, never
//! other numbers.

use super::state::{RunNumbers, RunState};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::hub::weights::{self, Weights};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// What the names of checkpoints begin with, before the step.
const PREFIX: &str = "checkpoint-";
/// What the name of one that is being written or removed begins with.
const TEMPORARY: &str = ".part-checkpoint-";
const FORMAT: &str = "lorhai checkpoint 1";
const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
const TENSORS: &str = "state.safetensors";
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

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    format: String,
    files: BTreeMap<String, FileRecord>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FileRecord {
    bytes: u64,
    sha256: String,
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
    let path = parent.join(format!("{PREFIX}{step}"));
    ensure_space(parent, tensors)?;
    let failed = |error: std::io::Error| Error::file("make a folder in", parent, &error);
    let staged = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(parent).map_err(failed)?;
    weights::save(&staged.path().join(TENSORS), tensors, &[])?;
    // Not indented: a long run has a number for each step.
    let text = serde_json::to_vec(state).map_err(|error| Error::bug(format!("cannot write JSON: {error}")))?;
    files::write_atomic(&staged.path().join(STATE), &text)?;
    files::write_json(&staged.path().join(MANIFEST), &Manifest::of(staged.path(), &[STATE, TENSORS])?)?;
    files::replace_folder(staged, &path)?;
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
    Manifest::verify(path)?;
    Ok((files::read_json(&path.join(STATE))?, Weights::open_files(&[path.join(TENSORS)])?))
}

fn tensor_name(run: &str, part: &str) -> String {
    format!("{run}/{part}")
}

impl Manifest {
    fn of(folder: &Path, names: &[&str]) -> Result<Self> {
        let record = |name: &&str| {
            let path = folder.join(name);
            let bytes = fs::metadata(&path).map_err(|error| Error::file("read", &path, &error))?.len();
            Ok((name.to_string(), FileRecord { bytes, sha256: files::sha256_to_the_end(&path)? }))
        };
        let files = names.iter().map(record).collect::<Result<_>>()?;
        Ok(Manifest { format: FORMAT.to_owned(), files })
    }

    fn verify(folder: &Path) -> Result<()> {
        let path = folder.join(MANIFEST);
        let value = files::read_json(&path)?;
        if let Some(other) = value.get("format").filter(|format| **format != FORMAT) {
            bail!(Kind::File, "`{}`: expected the format \"{FORMAT}\", found {other}", path.display();
                hint: "another version of lorhai made it: go on with that one")
        }
        let damaged = |error| Error::new(Kind::File, format!("`{}` is not a manifest: {error}", path.display()));
        let manifest: Manifest = serde_json::from_value(value).map_err(damaged)?;
        for name in [STATE, TENSORS] {
            let file = folder.join(name);
            let Some(expected) = manifest.files.get(name) else {
                bail!(Kind::File, "`{}`: expected an entry for `{name}`, found none", path.display());
            };
            let bytes = fs::metadata(&file).map_err(|error| Error::file("read", &file, &error))?.len();
            if bytes != expected.bytes {
                bail!(Kind::File, "`{}`: expected {} bytes, found {bytes}", file.display(), expected.bytes);
            }
            if files::sha256(&file)? != expected.sha256 {
                bail!(Kind::File, "`{}`: its content is not what was written", file.display());
            }
        }
        Ok(())
    }
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

/// Removes what a killed process left of checkpoints that it was writing or removing.
pub fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Renamed first: a half-removed folder must not look like a checkpoint.
fn remove(path: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::file("remove", path, &error);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let step = name.strip_prefix(PREFIX).unwrap_or(&name);
    let aside = path.with_file_name(format!("{TEMPORARY}{step}-old"));
    fs::rename(path, &aside).and_then(|()| fs::remove_dir_all(&aside)).map_err(failed)
}
