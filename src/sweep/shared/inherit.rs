//! What an earlier worker left of a trial: its folder is copied, never moved, for that worker may only be paused.

use super::WORK;
use crate::error::{Error, Result};
use crate::files;
use crate::sweep::folder::{remove, step_in};
use crate::sweep::record;
use crate::sweep::trial::{Plan, Trial};
use crate::train::recorded::ADAPTER;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Makes the folder in which a trial trains: with the logs of the worker from whose checkpoint it goes on, or a new one.
/// Returns the step that it goes on from.
///
/// # Errors
/// Files that cannot be copied or written.
pub fn prepare(trial: &Trial, plan: &Plan) -> Result<Option<u64>> {
    let (source, step) = match earlier(trial, plan) {
        Some((source, step)) => (Some(source), Some(step)),
        None => (None, None),
    };
    if source.as_ref() == Some(&trial.dir) {
        return Ok(step);
    }
    if trial.dir.exists() {
        remove(&trial.dir)?;
    }
    files::create_folder(&trial.dir)?;
    if let Some(source) = &source {
        copy_folder(source, &trial.dir)?;
    }
    record::write_config(trial)?;
    trial.origin.as_ref().map_or(Ok(()), |origin| origin.write(&trial.dir))?;
    Ok(step)
}

/// The folder of the worker from whose checkpoint a trial goes on, and the step.
fn earlier(trial: &Trial, plan: &Plan) -> Option<(PathBuf, u64)> {
    if plan.goes_on_in_place {
        let folders = folders_of(&trial.name, &plan.out).into_iter();
        let steps = folders.filter_map(|folder| step_in(&folder, &trial.settings).map(|step| (folder, step)));
        return steps.max_by_key(|(_, step)| *step);
    }
    let checkpoints = plan.checkpoints.as_ref()?;
    let step = checkpoints.step(&trial.name)?;
    let source = match checkpoints.worker(&trial.name) {
        Some(worker) => plan.out.join(WORK).join(worker).join(&trial.name),
        None => plan.out.join(&trial.name),
    };
    Some((source, step))
}

/// Every folder that holds something of a trial.
pub(super) fn folders_of(name: &str, out: &Path) -> Vec<PathBuf> {
    let workers = fs::read_dir(out.join(WORK)).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = workers.map(|worker| worker.path().join(name)).collect();
    folders.push(out.join(name));
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    folders
}

/// Copies a folder in which another process may still write: what is gone meanwhile is left out.
pub(super) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let failed = |path: &Path, error: &io::Error| Error::file("copy", path, error);
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(from, &error)),
    };
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let is_result = [record::RESULT, ADAPTER].iter().any(|result| name == *result);
        if is_result || files::is_temporary(&name) {
            continue;
        }
        let target = to.join(&name);
        let copied = if path.is_dir() {
            files::create_folder(&target)?;
            copy_folder(&path, &target)?;
            continue;
        } else {
            fs::copy(&path, &target)
        };
        match copied {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path, &error)),
        }
    }
    Ok(())
}
