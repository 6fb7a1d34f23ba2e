//! The folder of a sweep: taken for one process at a time, never anyone else's, and what
//! each trial's folder in it stands at.
//!
//! Nothing is removed here before every trial's folder was found to be ours.

use super::groups;
use super::record::{self, Failure, Measurements, Record, TrialResult};
use super::settings_diff::{self, Change};
use super::trial::{Plan, Trial};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::train::folder::METRICS;
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;
use serde_json::{json, Map, Value};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Marks a folder as a sweep's: its identity and grid.
pub const SWEEP: &str = "sweep.json";
const FORMAT: &str = "lorhai sweep 1";
const LOCK: &str = ".sweep.lock";
/// A folder on its way out: renamed first, so that a half-removed one is no trial's.
const CLEARING: &str = ".clearing-";
/// What [`files`] leaves behind when it is killed.
const PART: &str = ".part-";

/// `out`, held until dropped.
pub struct SweepFolder {
    path: PathBuf,
    _lock: File,
    /// False where the file system knows no locks: two sweeps would then not notice each other.
    pub locked: bool,
}

/// What a trial's folder holds.
#[derive(Debug, Clone, PartialEq)]
pub enum TrialState {
    New,
    Finished(Measurements),
    Failed(Failure),
    /// Begun and not ended.
    Unfinished,
    /// Ended under other settings.
    Changed(Vec<Change>),
}

/// The key in `sweep.json` of what each trial's settings come to by its folder's name, so that one that
/// was trained under other settings is known as such.
pub const TRIALS: &str = "trials";

fn fingerprints(plan: &Plan) -> Value {
    plan.trials.iter().map(|trial| (trial.point.folder_name(), Value::from(trial.fingerprint()))).collect()
}

impl SweepFolder {
    /// Takes `out` for this plan. Refuses a folder that no sweep made, a sweep of another
    /// identity, and one that another process is working in.
    pub fn claim(plan: &Plan) -> Result<Self> {
        let path = plan.out.clone();
        files::create_folder(&path)?;
        refuse_foreign(&path)?;
        let (lock, locked) = take_lock(&path)?;
        let mut marker = Map::new();
        marker.insert("format".into(), FORMAT.into());
        marker.insert("identity".into(), plan.identity.clone());
        marker.insert("grid".into(), plan.grid.to_json().into());
        marker.insert(TRIALS.into(), fingerprints(plan));
        let marker = Value::Object(marker);
        match read_marker(&path)? {
            Some(old) => {
                refuse_other_identity(&path, &old, &plan.identity)?;
                if !settings_diff::between(&old, &marker).is_empty() {
                    files::write_json(&path.join(SWEEP), &marker)?;
                }
            }
            None => files::write_json(&path.join(SWEEP), &marker)?,
        }
        let folder = SweepFolder { path, _lock: lock, locked };
        folder.remove_leftovers()?;
        Ok(folder)
    }

    /// What the trial's folder holds; fails if that is not ours to replace.
    pub fn state(trial: &Trial) -> Result<TrialState> {
        let names = match fs::read_dir(&trial.dir) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TrialState::New),
            Err(error) => Err(error),
        };
        let names = names.map_err(|error| Error::file("list the folder", &trial.dir, &error))?;
        let Some(old) = record::read_settings(&trial.dir) else {
            let foreign = names.iter().find(|entry| !entry.file_name().to_string_lossy().starts_with(PART));
            if let Some(entry) = foreign {
                bail!(Kind::File, "`{}` is not a trial's folder: expected `{}` in it, found `{}`",
                    trial.dir.display(), record::CONFIG, entry.file_name().display();
                    hint: "move that folder away, or choose another out");
            }
            return Ok(TrialState::Unfinished);
        };
        Ok(match Record::read(&trial.dir) {
            Some(record) if record.fingerprint == trial.fingerprint() => match record.verdict {
                TrialResult::Finished(outcome) => TrialState::Finished(outcome),
                TrialResult::Failed(failure) => TrialState::Failed(failure),
            },
            Some(_) => TrialState::Changed(settings_diff::between(&old, &trial.settings)),
            None => TrialState::Unfinished,
        })
    }

    /// Gives the trial a folder that holds nothing but what it was begun with: its `config.json` and,
    /// where one is known, its origin. The folder of a trial that goes on from a checkpoint stays as it is.
    pub fn prepare(&self, trial: &Trial, plan: &Plan) -> Result<()> {
        let goes_on = plan.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.step(&trial.name).is_some());
        if goes_on && Self::state(trial)? == TrialState::Unfinished {
            return Ok(());
        }
        let aside = self.path.join(format!("{CLEARING}{}", trial.name));
        match fs::rename(&trial.dir, &aside) {
            Ok(()) => remove(&aside)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("move aside the old folder", &trial.dir, &error)),
        }
        files::create_folder(&trial.dir)?;
        record::write_config(trial)?;
        plan.origin.as_ref().map_or(Ok(()), |origin| origin.write(&trial.dir))
    }

    /// Records the verdict, after everything else in the trial's folder is on disk.
    pub fn conclude(&self, trial: &Trial, verdict: TrialResult) -> Result<TrialResult> {
        // A failed trial may have lost its folder; its record is still wanted.
        files::create_folder(&trial.dir)?;
        sync_tree(&trial.dir)?;
        sync(&self.path)?;
        let record = Record { fingerprint: trial.fingerprint(), verdict };
        Ok(record.write(&trial.dir)?.verdict)
    }

    /// Removes what only an unfinished sweep needs: groups and checkpoints.
    pub fn forget_progress(&self, plan: &Plan) -> Result<()> {
        let Some(checkpoints) = &plan.checkpoints else { return Ok(()) };
        groups::remove(&self.path);
        checkpoints.remove_all()
    }

    /// Folders of trials that the plan does not have, such as those of a larger grid before.
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
        let entries = fs::read_dir(&self.path).map_err(|error| Error::file("list the folder", &self.path, &error))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(CLEARING) || name.starts_with(PART) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Fails where [`SweepFolder::claim`] would, and changes nothing: `out` may be taken afterwards all the same.
pub fn refuse(plan: &Plan) -> Result<()> {
    let out = &plan.out;
    files::could_fill(out)?;
    if !out.is_dir() {
        return Ok(());
    }
    refuse_foreign(out)?;
    if let Some(marker) = read_marker(out)? {
        refuse_other_identity(out, &marker, &plan.identity)?;
    }
    if let Ok(file) = File::open(out.join(LOCK)) {
        // Given back at once.
        lock(out, file).map(drop)?;
    }
    plan.trials.iter().try_for_each(|trial| SweepFolder::state(trial).map(drop))
}

/// Copies what says how far a sweep has come from its `out` to that of `place`, the same plan elsewhere.
pub fn copy_standing(plan: &Plan, place: &Plan) -> Result<()> {
    copy_file(&plan.out, &place.out, SWEEP)?;
    for (trial, copy) in plan.trials.iter().zip(&place.trials) {
        for name in [record::CONFIG, record::RESULT, METRICS] {
            copy_file(&trial.dir, &copy.dir, name)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, name: &str) -> Result<()> {
    let path = from.join(name);
    match path.is_file() {
        true => files::write_whole(&to.join(name), &files::read(&path)?),
        false => Ok(()),
    }
}

/// The identity and the grid in `sweep.json`; `None` where there is no such file.
pub fn read_marker(out: &Path) -> Result<Option<Value>> {
    let path = out.join(SWEEP);
    if !path.exists() {
        return Ok(None);
    }
    let marker = files::read_json(&path)?;
    match marker.get("format").and_then(Value::as_str) {
        Some(FORMAT) => Ok(Some(marker)),
        found => {
            let found = found.map_or("no format".to_string(), |text| format!("`{text}`"));
            bail!(Kind::File, "`{}`: expected the format `{FORMAT}`, found {found}", path.display();
                hint: "another version of lorhai made it: use that one, or choose another out")
        }
    }
}

fn refuse_foreign(out: &Path) -> Result<()> {
    if out.join(SWEEP).exists() {
        return Ok(());
    }
    let entries = fs::read_dir(out).map_err(|error| Error::file("list the folder", out, &error))?;
    let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    if names.is_empty() {
        return Ok(());
    }
    let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
    names.truncate(3);
    bail!(Kind::Input, "out: `{}` holds files that are no sweep's: {}{more}", out.display(), names.join(", ");
        hint: "choose a new or empty folder")
}

fn refuse_other_identity(out: &Path, marker: &Value, identity: &Value) -> Result<()> {
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

/// The lock ends with the process that holds it, however it ends.
fn take_lock(out: &Path) -> Result<(File, bool)> {
    let path = out.join(LOCK);
    let failed = |error: &io::Error| Error::file("make the lock file", &path, error);
    let options = File::options().read(true).write(true).create(true).truncate(false).clone();
    let file = options.open(&path).map_err(|error| failed(&error))?;
    let (mut file, locked) = lock(out, file)?;
    if locked {
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(|error| failed(&error))?;
    }
    Ok((file, locked))
}

/// Locks the lock file of `out`; false where the file system has no locks.
fn lock(out: &Path, mut file: File) -> Result<(File, bool)> {
    match try_lock(&file) {
        Ok(()) => Ok((file, true)),
        Err(Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            bail!(Kind::Input, "out: a sweep is already running in `{}` (process {})", out.display(), holder.trim();
                hint: "wait for it to end, or choose another out")
        }
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => Ok((file, false)),
        Err(error) => Err(Error::file("make the lock file", &out.join(LOCK), &error.into())),
    }
}

/// Tries for a moment: a process that this one is just starting holds copies of all open
/// files until it has begun, and with them a lock that was given back.
fn try_lock(file: &File) -> rustix::io::Result<()> {
    const TRIES: u32 = 20;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(25);
    for _ in 1..TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// A link is removed, not what it points to.
fn remove(path: &Path) -> Result<()> {
    let folder = fs::symlink_metadata(path).map(|data| data.is_dir()).unwrap_or(false);
    let removed = if folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|error| Error::file("remove", path, &error))
}

fn sync_tree(folder: &Path) -> Result<()> {
    let failed = |error: io::Error| Error::file("list the folder", folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.file_type().map_err(failed)? {
            kind if kind.is_dir() => sync_tree(&entry.path())?,
            kind if kind.is_file() => sync(&entry.path())?,
            _ => {}
        }
    }
    sync(folder)
}

/// Some file systems refuse to sync a folder: that is no failure.
fn sync(path: &Path) -> Result<()> {
    let handle = File::open(path).map_err(|error| Error::file("open", path, &error))?;
    match handle.sync_all() {
        Err(error) if path.is_file() => Err(Error::file("write", path, &error)),
        _ => Ok(()),
    }
}
