//! Which checkpoint a run in a folder goes on from, if any, and what happens to what it does not go on from.

use super::folder::{self, Checkpoint, SavedRun};
use super::options::Resume;
use super::state::checksum;
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::train::folder::{RunRecord, RunStatus, METRICS, RUN};
use crate::train::origin::ORIGIN;
use crate::train::recorded::ADAPTER;
use crate::train::run::MODEL;
use crate::train::settings_diff::{self, Change};
use crate::train::tensorboard;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The key of the trained values' checksum before the first step, in the conditions of a run.
pub const START: &str = "start";
/// Conditions that may change where the user asks a run to go on: its training settings, those of a script, and the
/// program.
const MAY_CHANGE: [&str; 5] = ["train.", "lorhai", "libtorch", "optimizers.", "settings."];
/// Folders that an earlier, unfinished run is moved to.
const OLD: &str = "old-";

/// What a checkpoint holds: a run of `train`, or a loop of a script.
pub trait Resumable: Sized {
    /// # Errors
    /// A checkpoint that is damaged, or of another kind of run.
    fn read(path: &Path) -> Result<Self>;

    fn step(&self) -> u64;

    /// What differs between this run and one with these conditions.
    fn changes(&self, conditions: &Value) -> Result<Vec<Change>>;
}

impl Resumable for SavedRun {
    fn read(path: &Path) -> Result<Self> {
        let mut runs = Checkpoint::read(path)?.runs;
        match (runs.pop(), runs.is_empty()) {
            (Some(run), true) => Ok(run),
            _ => {
                bail!(Kind::File, "`{}` is a checkpoint of several trials: expected one of a single run", path.display();
                hint: "a sweep goes on from it: run the sweep again")
            }
        }
    }

    fn step(&self) -> u64 {
        self.state.numbers.position.steps
    }

    /// A script that is run again builds its adapter anew; at a prompt the trained values may still be those of the stop.
    fn changes(&self, conditions: &Value) -> Result<Vec<Change>> {
        let mut changes = known_changes(&self.conditions, conditions);
        let start = changes.iter().position(|change| change.key == START);
        if let (Some(at), Some(now)) = (start, conditions.get(START)) {
            if *now == checksum(&self.state.parameters)? {
                changes.remove(at);
            }
        }
        Ok(changes)
    }
}

/// The differences in what `conditions` has: a rehearsal leaves out what it does not know.
pub fn known_changes(saved: &Value, conditions: &Value) -> Vec<Change> {
    let mut changes = settings_diff::between(saved, conditions);
    changes.retain(|change| conditions.get(change.key.split('.').next().unwrap_or_default()).is_some());
    changes
}

/// A run and the checkpoint that it goes on from.
#[derive(Debug)]
pub struct Found<R> {
    pub run: R,
    pub path: PathBuf,
}

/// Finds the checkpoint that the run in `folder` goes on from; `None` for one that begins anew. Changes nothing.
/// `note` gets lines for the user.
///
/// # Errors
/// A run that cannot go on: its settings, data or model changed, or there is no checkpoint where one was asked for.
pub fn find<R: Resumable>(
    folder: &Path,
    conditions: &Value,
    resume: Option<&Resume>,
    note: &mut dyn FnMut(&str),
) -> Result<Option<Found<R>>> {
    match resume {
        Some(Resume::No) => Ok(None),
        None if !is_unfinished(folder) => Ok(None),
        None => {
            let Some(found) = newest::<R>(folder, note)? else { return Ok(None) };
            let changes = found.run.changes(conditions)?;
            if !changes.is_empty() {
                return Err(changed(folder, &found, &changes));
            }
            Ok(Some(found))
        }
        Some(Resume::Yes) => {
            let Some(found) = newest(folder, note)? else { return Err(no_checkpoint(folder)) };
            accept(found, conditions, note).map(Some)
        }
        Some(Resume::From(path)) if folder::list(path).is_empty() => accept(read(path)?, conditions, note).map(Some),
        Some(Resume::From(path)) => {
            let Some(found) = newest(path, note)? else { return Err(no_checkpoint(path)) };
            accept(found, conditions, note).map(Some)
        }
    }
}

/// Is there a run in `folder` that began and did not end well?
pub fn is_unfinished(folder: &Path) -> bool {
    let finished = |record: RunRecord| matches!(record.status, RunStatus::Finished { .. });
    !folder.join(RUN).is_file() || !RunRecord::read(folder).is_ok_and(finished)
}

/// The newest checkpoint in `folder` that is whole.
fn newest<R: Resumable>(folder: &Path, note: &mut dyn FnMut(&str)) -> Result<Option<Found<R>>> {
    let mut was_damaged = false;
    for (step, path) in folder::list(folder) {
        match read(&path) {
            Ok(found) => return Ok(Some(found)),
            Err(error) if error.kind == Kind::Stopped => return Err(error),
            Err(error) => {
                was_damaged = true;
                note(&format!("the checkpoint of step {step} cannot be used: {}", error.message));
            }
        }
    }
    if was_damaged {
        note(&format!("no checkpoint in `{}` can be used: the run begins anew", folder.display()));
    }
    Ok(None)
}

fn read<R: Resumable>(path: &Path) -> Result<Found<R>> {
    Ok(Found { run: R::read(path)?, path: path.to_owned() })
}

fn no_checkpoint(folder: &Path) -> Error {
    Error::input(format!("resume: expected a checkpoint in `{}`, found none", folder.display()))
        .with_hint("leave `resume` out: a run goes on by itself where there is one")
}

/// Takes changes that the user may ask for, and reports them.
fn accept<R: Resumable>(found: Found<R>, conditions: &Value, note: &mut dyn FnMut(&str)) -> Result<Found<R>> {
    let (allowed, refused): (Vec<Change>, Vec<Change>) = found
        .run
        .changes(conditions)?
        .into_iter()
        .partition(|change| MAY_CHANGE.iter().any(|prefix| change.key.starts_with(prefix)));
    if !refused.is_empty() {
        bail!(Kind::Input, "resume: `{}` is of a run with another model, adapter or data:{}", found.path.display(),
            lines(&refused); hint: "resume: false begins anew");
    }
    if !allowed.is_empty() {
        note(&format!("going on under changed settings:{}", lines(&allowed)));
    }
    Ok(found)
}

fn changed<R: Resumable>(folder: &Path, found: &Found<R>, changes: &[Change]) -> Error {
    let step = found.run.step();
    let may_go_on = changes.iter().all(|change| MAY_CHANGE.iter().any(|prefix| change.key.starts_with(prefix)));
    let message = format!(
        "`{}` holds an unfinished run, saved at step {step}, and what it depends on has changed:{}",
        folder.display(),
        lines(changes)
    );
    let begin = "resume: false begins anew, and keeps the old run beside the new one";
    Error::input(message).with_hint(match may_go_on {
        true => format!("{begin}; resume: true goes on under the new settings"),
        false => begin.to_owned(),
    })
}

fn lines(changes: &[Change]) -> String {
    changes.iter().map(|change| format!("\n  {}", describe(change))).collect()
}

fn describe(change: &Change) -> String {
    match change.key.as_str() {
        START => "the trained values before the first step differ".to_owned(),
        "data.train" => "the training rows differ".to_owned(),
        "data.test" => "the held-out rows differ".to_owned(),
        key if key.ends_with(".fingerprint") => "the files of the model differ".to_owned(),
        key if change.old.is_some() && change.new.is_some() && key.starts_with("data.") => {
            format!("the rows of `{}` differ", &key["data.".len()..])
        }
        _ => change.to_string(),
    }
}

/// Makes room for a run that begins anew in `folder`. Checkpoints of a finished run are removed. With `keep`, what an
/// unfinished run left is moved to a folder in it; its name is returned.
pub fn clear(folder: &Path, keep: bool) -> Result<Option<PathBuf>> {
    let checkpoints = folder::list(folder);
    if !keep || checkpoints.is_empty() || !is_unfinished(folder) {
        folder::prune(folder, 0)?;
        return Ok(None);
    }
    let mut paths: Vec<PathBuf> = checkpoints.into_iter().map(|(_, path)| path).collect();
    let names = [RUN, ORIGIN, METRICS, ADAPTER, MODEL];
    paths.extend(names.map(|name| folder.join(name)).into_iter().filter(|path| path.exists()));
    paths.extend(tensorboard::event_files(folder));
    move_aside(folder, &paths).map(Some)
}

/// Removes or moves away the checkpoints in `folder` that are newer than the one that a run goes on from: those that
/// are damaged are of no use, and others are of a run that went another way.
pub fn drop_newer(folder: &Path, step: u64) -> Result<()> {
    let newer: Vec<PathBuf> =
        folder::list(folder).into_iter().filter(|(other, _)| *other > step).map(|(_, path)| path).collect();
    match newer.is_empty() {
        true => Ok(()),
        false => move_aside(folder, &newer).map(|_| ()),
    }
}

/// Moves `paths` into a new folder `old-N` in `folder`.
fn move_aside(folder: &Path, paths: &[PathBuf]) -> Result<PathBuf> {
    let free = (1..).map(|number| folder.join(format!("{OLD}{number}"))).find(|path| !path.exists());
    let aside = free.ok_or_else(|| Error::bug("no name is free"))?;
    files::create_folder(&aside)?;
    for path in paths {
        let to = aside.join(path.file_name().unwrap_or_default());
        fs::rename(path, &to).map_err(|error| Error::file("move", path, &error))?;
    }
    Ok(aside)
}
