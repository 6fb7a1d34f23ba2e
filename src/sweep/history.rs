//! PastRun runs, read from their folders: sweeps, single trials of a sweep, and single runs.

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
    pub what: PastKind,
}

#[derive(Debug)]
pub enum PastKind {
    Sweep(SweepResult),
    /// A trial of a sweep, or a run of its own.
    Run(RunRecord),
}

/// A folder that bears the mark of a run, and what it came to.
#[derive(Debug)]
pub struct RunFolder {
    pub folder: PathBuf,
    pub past: Result<PastRun>,
}

/// The metric that runs are judged by, and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    pub metric: String,
    pub value: f64,
    /// Of so many trials of a sweep's best setting `value` is the mean; 1 for a single run.
    pub trials: usize,
}

impl PastRun {
    /// Reads the run in `folder`.
    ///
    /// # Errors
    /// A folder that is missing or no run's; files of a run that cannot be read.
    pub fn open(folder: &Path) -> Result<PastRun> {
        must_be_folder(folder)?;
        let what = match Mark::of(folder) {
            Some(Mark::Sweep) => PastKind::Sweep(SweepResult::open(folder)?),
            Some(Mark::Trial) => PastKind::Run(read_trial(folder)?),
            Some(Mark::Run) => PastKind::Run(RunRecord::read(folder)?),
            None => bail!(Kind::File, "`{}` is not a run's folder: expected `{SWEEP}`, `{RUN}` or `{METRICS}` in it",
                folder.display(); hint: "`lorhai runs FOLDER` lists the runs below a folder"),
        };
        Ok(PastRun { folder: folder.to_path_buf(), what })
    }

    /// "finished", "failed", "unfinished"; of a sweep with how many of its trials.
    pub fn status(&self) -> String {
        match &self.what {
            PastKind::Run(record) => status(&record.standing).to_string(),
            PastKind::Sweep(result) => sweep_status(result),
        }
    }

    /// That of a sweep's best setting, or the run's own; `None` where nothing was measured.
    pub fn best(&self) -> Option<Best> {
        match &self.what {
            PastKind::Run(record) => judged(&metrics(record)),
            PastKind::Sweep(result) => {
                let metric = result.default_metric();
                let summary = result.best(metric).ok()?.summary;
                Some(Best { metric: metric.to_string(), value: summary.mean, trials: summary.n })
            }
        }
    }

    /// When its folder's files were last written.
    pub fn when(&self) -> Option<SystemTime> {
        let written = |name: &str| fs::metadata(self.folder.join(name)).and_then(|data| data.modified()).ok();
        let names = [SWEEP, super::results::JSON, record::RESULT, record::CONFIG, RUN, METRICS];
        names.into_iter().filter_map(written).max()
    }

    /// The files of the folder, without those of its trials, sorted; folders end in `/`.
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

/// The runs below `folder`, by their paths: not what lies inside another run.
///
/// # Errors
/// A folder that is missing or cannot be listed. PastKind is wrong with a single run is in its place.
pub fn below(folder: &Path) -> Result<Vec<RunFolder>> {
    must_be_folder(folder)?;
    let mut found = Vec::new();
    collect(folder, 0, &mut found)?;
    Ok(found)
}

/// Deep enough for folders of folders; nobody's whole disk is searched.
const DEEPEST: usize = 4;

fn collect(folder: &Path, depth: usize, found: &mut Vec<RunFolder>) -> Result<()> {
    interrupt::check()?;
    if Mark::of(folder).is_some() {
        found.push(RunFolder { folder: folder.to_path_buf(), past: PastRun::open(folder) });
        return Ok(());
    }
    let entries = match fs::read_dir(folder) {
        Err(error) if depth == 0 => return Err(Error::file("list the folder", folder, &error)),
        // A folder of someone else's says nothing of runs.
        Err(_) => return Ok(()),
        Ok(entries) => entries,
    };
    let is_visible = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut inner: Vec<PathBuf> =
        entries.flatten().filter(|entry| is_visible(entry) && is_folder(entry)).map(|entry| entry.path()).collect();
    inner.sort();
    match depth < DEEPEST {
        true => inner.iter().try_for_each(|one| collect(one, depth + 1, found)),
        false => Ok(()),
    }
}

fn must_be_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let error = match folder.exists() {
        true => Error::new(Kind::File, format!("`{}` is a file, not a run's folder", folder.display())),
        false => Error::new(Kind::File, format!("there is no folder `{}`", folder.display())),
    };
    Err(match suggest::nearest_path(folder, Path::is_dir) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error.with_hint("give the `out` of an earlier run or sweep"),
    })
}

/// PastKind the files of a folder say it is.
enum Mark {
    Sweep,
    Trial,
    Run,
}

impl Mark {
    fn of(folder: &Path) -> Option<Mark> {
        let has = |name: &str| folder.join(name).is_file();
        match () {
            _ if has(SWEEP) => Some(Mark::Sweep),
            _ if has(RUN) => Some(Mark::Run),
            _ if has(record::RESULT) && has(record::CONFIG) => Some(Mark::Trial),
            _ if record::read_settings(folder).is_some() => Some(Mark::Trial),
            _ if has(METRICS) => Some(Mark::Run),
            _ => None,
        }
    }
}

fn read_trial(folder: &Path) -> Result<RunRecord> {
    let path = folder.join(record::CONFIG);
    let settings = files::read_json(&path)?.get("settings").cloned();
    let Some(settings) = settings else {
        bail!(Kind::File, "`{}`: expected `settings`, found none", path.display();
            hint: "the file was changed by hand, or written by another version of lorhai")
    };
    if !folder.join(record::RESULT).exists() {
        return Ok(RunRecord { settings, standing: RunStatus::Unfinished });
    }
    let Some(record) = Record::read(folder) else {
        files::read_json(&folder.join(record::RESULT))?;
        bail!(Kind::File, "`{}` is not a trial's result", folder.join(record::RESULT).display();
            hint: "remove it: the sweep then runs this trial again")
    };
    let standing = match record.verdict {
        TrialResult::Failed(failure) => RunStatus::Failed { error: failure.message },
        TrialResult::Finished(outcome) => {
            let named = [
                ("trainable_params", Some(outcome.trainable_params as f64)),
                ("train_loss", Some(outcome.train_loss)),
                ("eval_loss", outcome.eval_loss),
                ("eval_perplexity", outcome.eval_perplexity()),
                ("tokens", Some(outcome.tokens as f64)),
                ("seconds", Some(outcome.seconds)),
            ];
            let own = named.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
            RunStatus::Finished { metrics: own.chain(outcome.metrics).collect() }
        }
    };
    Ok(RunRecord { settings, standing })
}

fn status(standing: &RunStatus) -> &'static str {
    match standing {
        RunStatus::Unfinished => "unfinished",
        RunStatus::Finished { .. } => "finished",
        RunStatus::Failed { .. } => "failed",
    }
}

fn sweep_status(result: &SweepResult) -> String {
    let planned: usize = result.axes().iter().map(|axis| axis.values.len()).product();
    let (ended, failed) = (result.rows().len(), result.failed().count());
    let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    match ended < planned {
        true => format!("unfinished ({ended} of {planned} trials{failures})"),
        false if failed == planned => format!("failed (all {planned} trials)"),
        false => format!("finished ({planned} trials{failures})"),
    }
}

/// The final numbers of a run; none where it did not finish.
pub fn metrics(record: &RunRecord) -> BTreeMap<String, f64> {
    match &record.standing {
        RunStatus::Finished { metrics } => metrics.clone(),
        _ => BTreeMap::new(),
    }
}

fn judged(metrics: &BTreeMap<String, f64>) -> Option<Best> {
    let named = ["eval_loss", "train_loss"].into_iter();
    let (metric, value) = named.filter_map(|name| Some((name, *metrics.get(name)?))).next()?;
    Some(Best { metric: metric.to_string(), value, trials: 1 })
}

/// Two runs side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Settings that differ, by name.
    pub settings: Vec<Change>,
    /// Final metrics that either has: name, of the first, of the second.
    pub metrics: Vec<(String, Option<f64>, Option<f64>)>,
}

/// PastKind differs between two runs.
///
/// # Errors
/// A sweep among them: it has no settings of its own, its trials have.
pub fn compare(first: &PastRun, second: &PastRun) -> Result<Comparison> {
    let (one, other) = (single(first)?, single(second)?);
    let (ours, theirs) = (metrics(one), metrics(other));
    let names: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let found = names.into_iter().map(|name| (name.clone(), ours.get(name).copied(), theirs.get(name).copied()));
    Ok(Comparison { settings: settings_diff::between(&one.settings, &other.settings), metrics: found.collect() })
}

fn single(past: &PastRun) -> Result<&RunRecord> {
    match &past.what {
        PastKind::Run(record) => Ok(record),
        PastKind::Sweep(result) => {
            let trial = result.rows().first().map_or("TRIAL".to_string(), |row| row.dir.clone());
            bail!(Kind::Input, "`{}` is a sweep: expected a single run or trial", past.folder.display();
                hint: "compare its trials, such as `{}`; `lorhai show` prints its table", past.folder.join(trial).display())
        }
    }
}

/// Settings as `name`, `value`: nested ones by their path, as the record has them.
pub fn settings(record: &RunRecord) -> Vec<(String, String)> {
    let all = settings_diff::between(&Value::Null, &record.settings);
    let present = all.into_iter().filter_map(|change| Some((change.key, number::value(&change.new?))));
    present.filter(|(key, _)| !key.is_empty()).collect()
}

/// Fails where `out` is not a sweep's folder; a sweep of another version is refused by name.
pub fn must_be_sweep(out: &Path) -> Result<()> {
    match read_marker(out)? {
        Some(_) => Ok(()),
        None if Mark::of(out).is_some() => bail!(Kind::Input, "`{}` is a single run: expected a sweep", out.display();
            hint: "charts of single runs: `lorhai compare A B --chart FILE`"),
        None if out.is_dir() => {
            bail!(Kind::File, "`{}` is not a sweep's folder: expected `{SWEEP}` in it", out.display();
            hint: "`lorhai runs FOLDER` lists the runs and sweeps below a folder")
        }
        None => must_be_folder(out),
    }
}
