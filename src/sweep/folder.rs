//! The folder of a sweep, claimed by one process at a time, and the states of the trials' folders in it.
//!
//! Nothing is removed before all trials' folders are known to be the sweep's.

use super::grid::{axes_from_json, Grid, Point};
use super::groups;
use super::place::Place;
use super::record::{self, Failure, Measurements, PrunedTrial, Record, TrialResult};
use super::settings_diff::{self, Change};
use super::shared::WORK;
use super::throughput::THROUGHPUT;
use super::trial::{Plan, Trial};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::files::{self, FolderLock};
use crate::train::checkpoint;
use crate::train::folder::METRICS;
use serde_json::{json, Map, Value};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The file that marks the folder of a sweep, with its identity and grid.
pub const SWEEP: &str = "sweep.json";
const FORMAT: &str = "lorhai sweep 1";
/// The prefix of a folder that is being removed: renamed first, so that a partly removed folder is no trial's.
const CLEARING: &str = ".clearing-";
const SHARE_HINT: &str =
    "wait for it to end, or choose another out; with `lorhai run --shared`, for each of them, several share one";

/// The claimed `out`, released when dropped.
pub struct SweepFolder {
    path: PathBuf,
    lock: FolderLock,
    place: Option<Place>,
}

/// The state of a trial, by its folder.
#[derive(Debug, Clone, PartialEq)]
pub enum TrialState {
    New,
    Finished(Measurements),
    Failed(Failure),
    /// It was stopped early.
    Pruned(PrunedTrial),
    /// It has begun and not ended.
    Unfinished,
    /// It ended with other settings.
    Changed(Vec<Change>),
}

/// The keys in `sweep.json` of the axes with their values, and of the points, each a list of values in the order of the
/// axes, where these are not the whole product.
pub const GRID: &str = "grid";
pub const POINTS: &str = "points";

/// The folder of the sweep that tuned an option of each setting.
pub const TUNING: &str = "tuning";

/// The folder of the job arrays that were submitted for the sweep, which may be there before it.
pub const SLURM: &str = "slurm";

/// The key in `sweep.json` of what the sweep decides.
pub const DECIDE: &str = "decide";

/// The key in `sweep.json` of the option that each setting was tuned by.
pub const TUNED: &str = "tuned";

/// The key in `sweep.json` of the fingerprints of the trials' settings, by folder name. A folder with another
/// fingerprint was trained with other settings.
pub const TRIALS: &str = "trials";

fn fingerprints(plan: &Plan) -> Value {
    plan.trials.iter().map(|trial| (trial.point.folder_name(), Value::from(trial.fingerprint()))).collect()
}

impl SweepFolder {
    /// Claims `out` for this plan. Fails for a folder that no sweep made, a sweep of another identity, and one in
    /// which another process works. The workers of a shared sweep claim it together.
    pub fn claim(plan: &Plan) -> Result<Self> {
        let path = plan.out.clone();
        files::create_folder(&path)?;
        ensure_sweep_or_empty(&path)?;
        let is_shared = plan.shared.is_some();
        let lock =
            if is_shared { FolderLock::share(&path, "a shared sweep") } else { FolderLock::take(&path, "a sweep") };
        let lock = lock.map_err(|error| match error.kind {
            Kind::Input => error.with_hint(SHARE_HINT),
            _ => error,
        })?;
        mark(plan)?;
        let folder = SweepFolder { path, lock, place: plan.place.clone() };
        if !is_shared {
            folder.remove_leftovers()?;
        }
        Ok(folder)
    }

    /// False where the file system has no locks: two sweeps would then not notice each other.
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked
    }

    /// The state of the trial's folder. Fails if the folder is not a trial's.
    pub fn state(trial: &Trial) -> Result<TrialState> {
        Self::state_in(trial, &trial.dir)
    }

    /// As [`SweepFolder::state`], with the trial's folder elsewhere.
    pub fn state_in(trial: &Trial, dir: &Path) -> Result<TrialState> {
        let names = match fs::read_dir(dir) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TrialState::New),
            Err(error) => Err(error),
        };
        let names = names.map_err(|error| Error::file("list the folder", dir, &error))?;
        let Some(old) = record::read_settings(dir) else {
            let foreign = names.iter().find(|entry| !files::is_temporary(&entry.file_name()));
            if let Some(entry) = foreign {
                bail!(Kind::File, "`{}` is not a trial's folder: expected `{}` in it, found `{}`",
                    dir.display(), record::CONFIG, entry.file_name().display();
                    hint: "move that folder away, or choose another out");
            }
            return Ok(TrialState::Unfinished);
        };
        Ok(match Record::read(dir) {
            Some(record) if record.fingerprint == trial.fingerprint() => match record.result {
                TrialResult::Finished(outcome) => TrialState::Finished(outcome),
                TrialResult::Failed(failure) => TrialState::Failed(failure),
                TrialResult::Pruned(pruned) => TrialState::Pruned(pruned),
            },
            Some(_) => TrialState::Changed(settings_diff::between(&old, &trial.settings)),
            None => TrialState::Unfinished,
        })
    }

    /// Makes a new folder for the trial, with `config.json` and, if known, `origin.json`. The folder of a trial that goes
    /// on from a checkpoint stays as it is.
    pub fn prepare(&self, trial: &Trial, plan: &Plan) -> Result<()> {
        let goes_on = plan.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.step(&trial.name).is_some());
        let goes_on = goes_on || (plan.goes_on_in_place && step_in_place(trial).is_some());
        match Self::state(trial)? {
            TrialState::Unfinished if goes_on => return Ok(()),
            // Without its record it is one that was cut off.
            TrialState::Pruned(_) if goes_on => return remove(&trial.dir.join(record::RESULT)),
            _ => {}
        }
        let aside = self.path.join(format!("{CLEARING}{}", trial.name));
        match fs::rename(&trial.dir, &aside) {
            Ok(()) => remove(&aside)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("move aside the old folder", &trial.dir, &error)),
        }
        files::create_folder(&trial.dir)?;
        record::write_config(trial)?;
        trial.origin.as_ref().map_or(Ok(()), |origin| origin.write(&trial.dir))
    }

    /// Records the result, after everything else in the trial's folder is on disk.
    pub fn conclude(&self, trial: &Trial, result: TrialResult) -> Result<TrialResult> {
        // A failed trial may have no folder any more; its record is written all the same.
        files::create_folder(&trial.dir)?;
        sync_folder_tree(&trial.dir)?;
        sync(&self.path)?;
        let record = Record { fingerprint: trial.fingerprint(), result, place: self.place.clone() };
        Ok(record.write(&trial.dir)?.result)
    }

    /// Removes what only an unfinished sweep needs: groups and checkpoints.
    pub fn forget_progress(&self, plan: &Plan) -> Result<()> {
        // Of workers that shared the sweep: where there are locks, none of them works now.
        if self.is_locked() {
            let _ = fs::remove_dir_all(self.path.join(WORK));
        }
        let Some(checkpoints) = &plan.checkpoints else { return Ok(()) };
        groups::remove(&self.path);
        checkpoints.remove_all()
    }

    /// Folders of trials that are not in the plan, such as those of an earlier, larger grid.
    pub fn others(&self, plan: &Plan) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let mut others: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().join(record::CONFIG).is_file())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| !plan.trials.iter().any(|trial| trial.name == *name))
            .collect();
        others.sort();
        others
    }

    fn remove_leftovers(&self) -> Result<()> {
        files::remove_leftovers(&self.path);
        let entries = fs::read_dir(&self.path).map_err(|error| Error::file("list the folder", &self.path, &error))?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(CLEARING) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Writes `sweep.json`, the mark of the folder, where it is not there yet or says something else. Workers of a shared sweep
/// that come later leave it to those that are ahead.
pub fn mark(plan: &Plan) -> Result<()> {
    let path = &plan.out;
    files::create_folder(path)?;
    ensure_sweep_or_empty(path)?;
    let mut marker = Map::new();
    marker.insert("format".into(), FORMAT.into());
    marker.insert("identity".into(), plan.identity.clone());
    marker.insert(GRID.into(), plan.grid.to_json().into());
    if let Some(points) = plan.grid.chosen() {
        let values = |point: &Point| point.values.values().cloned().collect::<Vec<_>>();
        marker.insert(POINTS.into(), points.iter().map(values).collect());
    }
    if let Some(decide) = &plan.decide {
        marker.insert(DECIDE.into(), json!(decide));
    }
    if let Some(tuned) = &plan.tuned {
        marker.insert(TUNED.into(), json!(tuned));
    }
    marker.insert(TRIALS.into(), fingerprints(plan));
    let marker = Value::Object(marker);
    match read_marker(path)? {
        Some(old) => {
            ensure_identity(path, &old, &plan.identity)?;
            let is_same = settings_diff::between(&old, &marker).is_empty();
            // Another worker is in a later round.
            let is_behind = plan.shared.is_some() && is_ahead(&old, &marker);
            if !is_same && !is_behind {
                files::write_json(&path.join(SWEEP), &marker)?;
            }
        }
        None => files::write_json(&path.join(SWEEP), &marker)?,
    }
    Ok(())
}

/// Has the sweep that `old` describes all trials of `new`, and more: is it in a later round?
fn is_ahead(old: &Value, new: &Value) -> bool {
    let trials = |marker: &Value| marker.get(TRIALS).and_then(Value::as_object).cloned().unwrap_or_default();
    let (old, new) = (trials(old), trials(new));
    old.len() > new.len() && new.iter().all(|(name, fingerprint)| old.get(name) == Some(fingerprint))
}

/// The step of the newest checkpoint in a trial's own folder, where its settings are the same.
pub fn step_in_place(trial: &Trial) -> Option<u64> {
    step_in(&trial.dir, &trial.settings)
}

/// As [`step_in_place`], of a trial with these settings in `folder`.
pub fn step_in(folder: &Path, settings: &Value) -> Option<u64> {
    let is_same = record::read_settings(folder).is_some_and(|known| known == *settings);
    checkpoint::folder::list(folder).first().map(|(step, _)| *step).filter(|_| is_same)
}

/// Fails where [`SweepFolder::claim`] would fail now. Changes nothing.
pub fn ensure_claimable(plan: &Plan) -> Result<()> {
    let out = &plan.out;
    files::could_fill(out)?;
    if !out.is_dir() {
        return Ok(());
    }
    ensure_sweep_or_empty(out)?;
    if let Some(marker) = read_marker(out)? {
        ensure_identity(out, &marker, &plan.identity)?;
    }
    FolderLock::ensure_free(out)?;
    plan.trials.iter().try_for_each(|trial| SweepFolder::state(trial).map(drop))
}

/// Copies the records of the sweep and its trials to the folders of `copy`, the same plan with another `out`; of trials that
/// go on without their results.
pub fn copy_records(plan: &Plan, copy: &Plan, goes_on: &dyn Fn(&Trial) -> bool) -> Result<()> {
    copy_file(&plan.out, &copy.out, SWEEP)?;
    copy_file(&plan.out, &copy.out, THROUGHPUT)?;
    for (trial, copy) in plan.trials.iter().zip(&copy.trials) {
        copy_file(&trial.dir, &copy.dir, record::CONFIG)?;
        copy_file(&trial.dir, &copy.dir, METRICS)?;
        if !goes_on(trial) {
            copy_file(&trial.dir, &copy.dir, record::RESULT)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, name: &str) -> Result<()> {
    let path = from.join(name);
    if path.is_file() {
        files::write_atomic(&to.join(name), &files::read(&path)?)?;
    }
    Ok(())
}

/// The grid in `sweep.json`.
pub fn grid_of(marker: &Value) -> Result<Grid> {
    let Some(Value::Object(axes)) = marker.get(GRID) else { bail!(Kind::File, "expected a grid, found none") };
    let keys: Vec<&str> = axes.keys().map(String::as_str).collect();
    let Some(points) = marker.get(POINTS) else { return Grid::from_json(axes, &keys) };
    let point = |values: &Value| {
        let values = values.as_array().filter(|values| values.len() == keys.len())?;
        Some(Point { values: axes.keys().cloned().zip(values.iter().cloned()).collect() })
    };
    let points: Option<Vec<Point>> = points.as_array().and_then(|points| points.iter().map(point).collect());
    let Some(points) = points else { bail!(Kind::File, "{POINTS}: expected lists with a value of each axis") };
    Grid::with_points(axes_from_json(axes, &keys)?, points)
}

/// Reads `sweep.json`; `None` if there is no such file.
pub fn read_marker(out: &Path) -> Result<Option<Value>> {
    let path = out.join(SWEEP);
    if !path.exists() {
        return Ok(None);
    }
    let marker = files::read_json(&path)?;
    match marker.get("format").and_then(Value::as_str) {
        Some(FORMAT) => Ok(Some(marker)),
        other => {
            let other = other.map_or("no format".to_string(), |text| format!("`{text}`"));
            bail!(Kind::File, "`{}`: expected the format `{FORMAT}`, found {other}", path.display();
                hint: "another version of lorhai made it: use that one, or choose another out")
        }
    }
}

/// Fails for a folder with files that no sweep made.
pub fn ensure_sweep_or_empty(out: &Path) -> Result<()> {
    if out.join(SWEEP).exists() || !out.is_dir() {
        return Ok(());
    }
    let entries = fs::read_dir(out).map_err(|error| Error::file("list the folder", out, &error))?;
    let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let is_tuning = |name: &str| name == TUNING && out.join(name).join(SWEEP).is_file();
    names.retain(|name| !name.starts_with('.') && name != SLURM && !is_tuning(name));
    names.sort();
    if names.is_empty() {
        return Ok(());
    }
    let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
    names.truncate(3);
    bail!(Kind::Input, "out: `{}` holds files that do not belong to a sweep: {}{more}", out.display(), names.join(", ");
        hint: "choose a new or empty folder")
}

fn ensure_identity(out: &Path, marker: &Value, identity: &Value) -> Result<()> {
    let old = marker.get("identity").unwrap_or(&Value::Null);
    let differences = settings_diff::between(&json!({ "sweep": old }), &json!({ "sweep": identity }));
    if differences.is_empty() {
        return Ok(());
    }
    let text: Vec<String> =
        differences.iter().map(|change| change.to_string().trim_start_matches("sweep.").to_string()).collect();
    bail!(Kind::Input, "out: `{}` holds another sweep ({})", out.display(), text.join("; ");
        hint: "choose another out, or remove that folder if its results are not needed")
}

/// Removes a file or folder. Of a link it removes the link, not its target.
pub(super) fn remove(path: &Path) -> Result<()> {
    let folder = fs::symlink_metadata(path).map(|data| data.is_dir()).unwrap_or(false);
    let removed = if folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|error| Error::file("remove", path, &error))
}

/// Makes all files of a folder durable.
pub(super) fn sync_folder_tree(folder: &Path) -> Result<()> {
    let failed = |error: io::Error| Error::file("list the folder", folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.file_type().map_err(failed)? {
            kind if kind.is_dir() => sync_folder_tree(&entry.path())?,
            kind if kind.is_file() => sync(&entry.path())?,
            _ => {}
        }
    }
    sync(folder)
}

/// Some file systems cannot sync a folder; that is not an error.
fn sync(path: &Path) -> Result<()> {
    let handle = File::open(path).map_err(|error| Error::file("open", path, &error))?;
    match handle.sync_all() {
        Err(error) if path.is_file() => Err(Error::file("write", path, &error)),
        _ => Ok(()),
    }
}
