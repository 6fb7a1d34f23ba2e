//! Past runs, read from their folders: sweeps, trials of a sweep, and single runs.

use super::folder::{read_marker, SWEEP};
use super::number;
use super::record::{self, Record, TrialResult};
use super::results::SweepResult;
use super::settings_diff::{self, Change};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::train::folder::{RunRecord, RunStatus, METRICS, RUN};
use crate::{files, interrupt, suggest};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A run with its folder.
#[derive(Debug)]
pub struct PastRun {
    pub folder: PathBuf,
    pub kind: PastKind,
    /// The steps of a trial that was stopped early, and those that it would have taken.
    pub pruned: Option<(u64, u64)>,
}

#[derive(Debug)]
pub enum PastKind {
    Sweep(SweepResult),
    /// A trial of a sweep, or a single run.
    Run(RunRecord),
}

/// A folder with the marker of a run, and the run in it.
#[derive(Debug)]
pub struct RunFolder {
    pub folder: PathBuf,
    pub past: Result<PastRun>,
}

/// The metric by which runs are compared, and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    pub metric: String,
    pub value: f64,
    /// The number of trials of which `value` is the mean; 1 for a single run.
    pub trials: usize,
}

impl PastRun {
    /// Reads the run in `folder`.
    ///
    /// # Errors
    /// A folder that is missing or holds no run; files of a run that cannot be read.
    pub fn open(folder: &Path) -> Result<PastRun> {
        ensure_folder(folder)?;
        let kind = match FolderKind::of(folder) {
            Some(FolderKind::Sweep) => PastKind::Sweep(SweepResult::open(folder)?),
            Some(FolderKind::Trial) => return read_trial(folder),
            Some(FolderKind::Run) => PastKind::Run(RunRecord::read(folder)?),
            None => bail!(Kind::File, "`{}` is not a run's folder: expected `{SWEEP}`, `{RUN}` or `{METRICS}` in it",
                folder.display(); hint: "`lorhai runs FOLDER` lists the runs below a folder"),
        };
        Ok(PastRun { folder: folder.to_path_buf(), kind, pruned: None })
    }

    /// "finished", "failed", "unfinished", or that a trial was stopped early; for a sweep with the number of its trials.
    pub fn status(&self) -> String {
        match (&self.kind, self.pruned) {
            (PastKind::Run(_), Some((step, steps))) => format!("stopped early (pruned at step {step} of {steps})"),
            (PastKind::Run(record), None) => status(&record.status).to_string(),
            (PastKind::Sweep(result), _) => sweep_status(result),
        }
    }

    /// The metric of the run, or of a sweep's best setting; `None` if nothing was measured.
    pub fn best(&self) -> Option<Best> {
        match &self.kind {
            PastKind::Run(record) => best_metric(&metrics(record)),
            PastKind::Sweep(result) => {
                let metric = result.default_metric();
                let summary = result.best(metric).ok()?.summary;
                Some(Best { metric: metric.to_string(), value: summary.mean, trials: summary.n })
            }
        }
    }

    /// The time when the run's files were last written.
    pub fn when(&self) -> Option<SystemTime> {
        let written = |name: &str| fs::metadata(self.folder.join(name)).and_then(|data| data.modified()).ok();
        let names = [SWEEP, super::results::JSON, record::RESULT, record::CONFIG, RUN, METRICS];
        names.into_iter().filter_map(written).max()
    }

    /// The sorted names in the folder, without the folders of trials; folders end in `/`.
    pub fn files(&self) -> Result<Vec<String>> {
        let entries =
            fs::read_dir(&self.folder).map_err(|error| Error::file("list the folder", &self.folder, &error))?;
        let named =
            entries.flatten().filter(|entry| !entry.path().join(record::CONFIG).is_file() || is_model(&entry.path()));
        let shown = named.map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        });
        let mut names: Vec<String> = shown.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        Ok(names)
    }
}

/// A saved model has a `config.json`, too.
fn is_model(folder: &Path) -> bool {
    record::read_settings(folder).is_none()
}

/// Returns the runs below `folder`, in the order of their paths, without runs inside of runs.
///
/// # Errors
/// A folder that is missing or cannot be listed. A run that cannot be read is an error in its [`RunFolder`].
pub fn below(folder: &Path) -> Result<Vec<RunFolder>> {
    ensure_folder(folder)?;
    let mut runs = Vec::new();
    collect(folder, 0, &mut runs)?;
    Ok(runs)
}

/// Limited, so that nobody searches an entire disk by mistake.
const DEEPEST: usize = 4;

fn collect(folder: &Path, depth: usize, runs: &mut Vec<RunFolder>) -> Result<()> {
    interrupt::check()?;
    if FolderKind::of(folder).is_some() {
        runs.push(RunFolder { folder: folder.to_path_buf(), past: PastRun::open(folder) });
        return Ok(());
    }
    let entries = match fs::read_dir(folder) {
        Err(error) if depth == 0 => return Err(Error::file("list the folder", folder, &error)),
        // Folders of other users are skipped.
        Err(_) => return Ok(()),
        Ok(entries) => entries,
    };
    let is_visible = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut inner: Vec<PathBuf> =
        entries.flatten().filter(|entry| is_visible(entry) && is_folder(entry)).map(|entry| entry.path()).collect();
    inner.sort();
    if depth == DEEPEST {
        return Ok(());
    }
    inner.iter().try_for_each(|folder| collect(folder, depth + 1, runs))
}

fn ensure_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let text = if folder.exists() {
        format!("`{}` is a file, not a run's folder", folder.display())
    } else {
        format!("there is no folder `{}`", folder.display())
    };
    let error = Error::new(Kind::File, text);
    Err(match suggest::nearest_path(folder, Path::is_dir) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error.with_hint("give the `out` of an earlier run or sweep"),
    })
}

/// The kind of a folder, by its files.
enum FolderKind {
    Sweep,
    Trial,
    Run,
}

impl FolderKind {
    fn of(folder: &Path) -> Option<FolderKind> {
        let has = |name: &str| folder.join(name).is_file();
        match () {
            _ if has(SWEEP) => Some(FolderKind::Sweep),
            _ if has(RUN) => Some(FolderKind::Run),
            _ if has(record::RESULT) && has(record::CONFIG) => Some(FolderKind::Trial),
            _ if record::read_settings(folder).is_some() => Some(FolderKind::Trial),
            _ if has(METRICS) => Some(FolderKind::Run),
            _ => None,
        }
    }
}

fn read_trial(folder: &Path) -> Result<PastRun> {
    let path = folder.join(record::CONFIG);
    let settings = files::read_json(&path)?.get("settings").cloned();
    let Some(settings) = settings else {
        bail!(Kind::File, "`{}`: expected `settings`, found none", path.display();
            hint: "the file was changed by hand, or written by another version of lorhai")
    };
    if !folder.join(record::RESULT).exists() {
        let kind = PastKind::Run(RunRecord::new(settings, RunStatus::Unfinished));
        return Ok(PastRun { folder: folder.to_path_buf(), kind, pruned: None });
    }
    let Some(record) = Record::read(folder) else {
        files::read_json(&folder.join(record::RESULT))?;
        bail!(Kind::File, "`{}` is not a trial's result", folder.join(record::RESULT).display();
            hint: "remove it: the sweep then runs this trial again")
    };
    let pruned = match &record.result {
        TrialResult::Pruned(pruned) => Some((pruned.step, pruned.steps)),
        _ => None,
    };
    let status = match record.result {
        TrialResult::Failed(failure) => RunStatus::Failed { error: failure.message },
        TrialResult::Pruned(_) => RunStatus::Unfinished,
        TrialResult::Finished(outcome) => {
            let named = [
                ("trainable_params", Some(outcome.trainable_params as f64).filter(|count| *count > 0.0)),
                ("train_loss", outcome.train_loss),
                ("eval_loss", outcome.eval_loss),
                ("eval_perplexity", outcome.eval_perplexity()),
                ("tokens", Some(outcome.tokens as f64).filter(|count| *count > 0.0)),
                ("seconds", Some(outcome.seconds)),
            ];
            let present = named.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
            RunStatus::Finished { metrics: present.chain(outcome.metrics).collect() }
        }
    };
    Ok(PastRun { folder: folder.to_path_buf(), kind: PastKind::Run(RunRecord::new(settings, status)), pruned })
}

fn status(status: &RunStatus) -> &'static str {
    match status {
        RunStatus::Unfinished => "unfinished",
        RunStatus::Finished { .. } => "finished",
        RunStatus::Failed { .. } => "failed",
    }
}

fn sweep_status(result: &SweepResult) -> String {
    let planned = result.planned;
    let (ended, failed, pruned) = (result.rows().len(), result.failed().count(), result.pruned().count());
    let named = |count: usize, what: &str| if count > 0 { format!(", {count} {what}") } else { String::new() };
    let failures = format!("{}{}", named(failed, "failed"), named(pruned, "pruned"));
    if ended < planned {
        format!("unfinished ({ended} of {planned} trials{failures})")
    } else if failed == planned {
        format!("failed (all {planned} trials)")
    } else {
        format!("finished ({planned} trials{failures})")
    }
}

/// The final metrics of a run; none if it did not finish.
pub fn metrics(record: &RunRecord) -> BTreeMap<String, f64> {
    match &record.status {
        RunStatus::Finished { metrics } => metrics.clone(),
        _ => BTreeMap::new(),
    }
}

fn best_metric(metrics: &BTreeMap<String, f64>) -> Option<Best> {
    let named = ["eval_loss", "train_loss"].into_iter();
    let (metric, value) = named.filter_map(|name| Some((name, *metrics.get(name)?))).next()?;
    Some(Best { metric: metric.to_string(), value, trials: 1 })
}

/// The differences between two runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Settings that differ, by name.
    pub settings: Vec<Change>,
    /// The final metrics of both runs: name, value of the first, value of the second.
    pub metrics: Vec<(String, Option<f64>, Option<f64>)>,
}

/// Compares two runs. Two sweeps are compared by [`compare_sweeps`](super::comparison::compare_sweeps).
///
/// # Errors
/// If one of them is a sweep: only its trials have settings.
pub fn compare(first: &PastRun, second: &PastRun) -> Result<Comparison> {
    let (one, other) = (single(first)?, single(second)?);
    let (ours, theirs) = (metrics(one), metrics(other));
    let names: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let metrics = names.into_iter().map(|name| (name.clone(), ours.get(name).copied(), theirs.get(name).copied()));
    Ok(Comparison { settings: settings_diff::between(&one.settings, &other.settings), metrics: metrics.collect() })
}

fn single(past: &PastRun) -> Result<&RunRecord> {
    match &past.kind {
        PastKind::Run(record) => Ok(record),
        PastKind::Sweep(result) => {
            let trial = result.rows().first().map_or("TRIAL".to_string(), |row| row.dir.clone());
            bail!(Kind::Input, "`{}` is a sweep, and the other is none: expected two runs or trials, or two sweeps", past.folder.display();
                hint: "compare its trials, such as `{}`; `lorhai show` prints its table", past.folder.join(trial).display())
        }
    }
}

/// The settings of a record as names and values; the name of a nested setting is its path.
pub fn settings(record: &RunRecord) -> Vec<(String, String)> {
    let all = settings_diff::between(&Value::Null, &record.settings);
    let present = all.into_iter().filter_map(|change| Some((change.key, number::value(&change.new?))));
    present.filter(|(key, _)| !key.is_empty()).collect()
}

/// Fails if `out` is not the folder of a sweep.
pub fn ensure_sweep(out: &Path) -> Result<()> {
    match read_marker(out)? {
        Some(_) => Ok(()),
        None if FolderKind::of(out).is_some() => {
            bail!(Kind::Input, "`{}` is a single run: expected a sweep", out.display();
            hint: "charts of single runs: `lorhai compare A B --chart FILE`")
        }
        None if out.is_dir() => {
            bail!(Kind::File, "`{}` is not a sweep's folder: expected `{SWEEP}` in it", out.display();
            hint: "`lorhai runs FOLDER` lists the runs and sweeps below a folder")
        }
        None => ensure_folder(out),
    }
}
