//! The folder of a training loop that a script writes itself: its lock, its record and log, its checkpoints, and where it
//! goes on.

use super::checkpoint::interval::{Position, SaveInterval, SinceLast};
use super::checkpoint::loop_state::LoopState;
use super::checkpoint::resume::{self, Resumable};
use super::checkpoint::{folder, Resume};
use super::folder::{RunKind, RunRecord, METRICS, RUN};
use super::loop_progress::LoopProgress;
use super::metrics::{read_metrics, MetricsRow};
use super::origin::Origin;
use super::progress::Progress;
use super::recorder::{LogState, Recorder};
use super::tensorboard::remove_events;
use crate::bail;
use crate::data::Pace;
use crate::error::{Error, Kind, Result};
use crate::files::{self, FolderLock};
use crate::options;
use crate::options::{OptionType, Refusal};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

options! {
    /// When the checkpoints of a loop are written, how many are kept, and whether it goes on from one.
    #[derive(Debug, Clone)]
    pub struct LoopRunOptions {
        /// The steps of the whole loop: `run.log` then moves a progress bar on.
        pub steps: Option<u64> = None, range at_least(1.0);
        /// What the run is called beside its bar and in its record.
        pub name: Option<String> = None;
        /// Settings for the record, which `lorhai show` and `compare` list. A loop goes on under the same ones.
        pub settings: Map<String, Value> = Map::new();
        /// Optimizer steps between checkpoints, or a time such as "5m". By default every call of `checkpoint` writes one.
        pub save_every: Option<SaveInterval> = None, alias ["save_steps"], words "every call";
        /// Checkpoints that are kept.
        pub keep_last: usize = 2, alias ["save_total_limit"], range at_least(1.0);
        /// Whether the loop goes on, as in `train`: by default it does where nothing changed; `true` goes on under changed
        /// settings, `false` begins anew, and a path names the checkpoint to go on from.
        pub resume: Option<Resume> = None, alias ["resume_from_checkpoint"], words "as described";
    }
    rule LoopRunOptions::rule;
}

impl LoopRunOptions {
    fn rule(&self) -> Option<Refusal> {
        let is_known = |every: &SaveInterval| match every {
            SaveInterval::Fraction(_) => self.steps.is_some(),
            SaveInterval::Epoch | SaveInterval::Best => false,
            _ => true,
        };
        let every = self.save_every.filter(|every| !is_known(every))?;
        let refusal =
            Refusal::new("save_every", "a number of steps or a time such as \"5m\"", every.to_value().literal());
        Some(refusal.with_hint("a loop of the script's own has no known number of steps; `steps` gives it"))
    }

    /// The settings for the record.
    fn recorded(&self) -> Value {
        let name = self.name.iter().map(|name| ("name".to_owned(), name.as_str().into()));
        Value::Object(name.chain(self.settings.clone()).collect())
    }
}

/// A loop that has begun in a folder.
pub struct LoopRun {
    folder: PathBuf,
    options: LoopRunOptions,
    /// `None` for a trial, whose sweep holds the lock and keeps the record.
    lock: Option<Arc<FolderLock>>,
    /// Written beside the record.
    origin: Option<Origin>,
    record: Option<RunRecord>,
    /// Begins with the first row.
    recorder: Option<Recorder>,
    progress: LoopProgress,
    is_finished: bool,
    /// What must be the same for the loop to go on.
    conditions: Option<Value>,
    /// Is the folder marked as this loop's?
    is_begun: bool,
    /// The optimizer's step and the time of the last checkpoint, and what that took to write.
    last_step: u64,
    last: Instant,
    cost: Duration,
}

/// The folders that this process has locked: at a prompt a loop is begun again while its last run is still a variable.
static LOCKED: Mutex<Vec<(PathBuf, Weak<FolderLock>)>> = Mutex::new(Vec::new());

fn lock(folder: &Path) -> Result<Arc<FolderLock>> {
    files::create_folder(folder)?;
    let path = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mut locked = LOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    locked.retain(|(_, lock)| lock.strong_count() > 0);
    if let Some(lock) = locked.iter().find(|(known, _)| *known == path).and_then(|(_, lock)| lock.upgrade()) {
        return Ok(lock);
    }
    let lock = Arc::new(FolderLock::take(folder, "a loop")?);
    locked.push((path, Arc::downgrade(&lock)));
    Ok(lock)
}

/// Fails where a loop could not begin in `folder`. Changes nothing.
///
/// # Errors
/// Another process works there, or it is the folder of a run of `train`.
pub fn ensure_usable(folder: &Path) -> Result<()> {
    let path = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let is_of_train = folder.join(RUN).is_file() && RunRecord::read(folder)?.kind == RunKind::Train;
    if is_of_train {
        bail!(Kind::Input, "`{}` holds a run of train: expected a folder for this loop alone", folder.display();
            hint: "choose another folder");
    }
    let locked = LOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    if locked.iter().any(|(known, lock)| *known == path && lock.strong_count() > 0) {
        return Ok(());
    }
    FolderLock::ensure_free(folder)
}

impl LoopRun {
    /// Takes the folder for this loop. `origin` is written there.
    ///
    /// # Errors
    /// As [`ensure_usable`], and a folder that cannot be made or written.
    pub fn begin(
        folder: &Path,
        options: LoopRunOptions,
        origin: Option<Origin>,
        progress: Progress,
        note: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        ensure_usable(folder)?;
        let mut run = Self::new(folder, options, Some(lock(folder)?), origin, progress);
        // A loop that may go on keeps its record until it does.
        if folder::list(folder).is_empty() || !resume::is_unfinished(folder) {
            run.begin_anew(note)?;
        }
        Ok(run)
    }

    /// A loop in the folder of a trial.
    pub fn in_trial(folder: &Path, options: LoopRunOptions, progress: Progress) -> Self {
        Self::new(folder, options, None, None, progress)
    }

    fn new(
        folder: &Path,
        options: LoopRunOptions,
        lock: Option<Arc<FolderLock>>,
        origin: Option<Origin>,
        progress: Progress,
    ) -> Self {
        // Without a number of steps there is no end to move towards.
        let progress = if options.steps.is_some() { progress } else { Progress::Quiet };
        LoopRun {
            progress: LoopProgress::new(progress, options.name.clone(), options.steps.unwrap_or(0)),
            folder: folder.to_owned(),
            options,
            lock,
            origin,
            record: None,
            recorder: None,
            is_finished: false,
            conditions: None,
            is_begun: false,
            last_step: 0,
            last: Instant::now(),
            cost: Duration::ZERO,
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Has it neither finished nor failed yet?
    pub fn is_going(&self) -> bool {
        !self.is_finished
    }

    /// Says where the run comes from, now that more is known of it.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn set_origin(&mut self, origin: Origin) -> Result<()> {
        if self.is_begun && self.lock.is_some() {
            origin.write(&self.folder)?;
        }
        self.origin = Some(origin);
        Ok(())
    }

    /// Marks the folder as that of a loop under way.
    fn write_record(&mut self) -> Result<()> {
        self.is_begun = true;
        if self.lock.is_none() {
            return Ok(());
        }
        self.origin.as_ref().map_or(Ok(()), |origin| origin.write(&self.folder))?;
        self.record = Some(RunRecord::begin(&self.folder, RunKind::Loop, self.options.recorded())?);
        Ok(())
    }

    /// Moves aside or removes what an earlier loop left in the folder.
    fn begin_anew(&mut self, note: &mut dyn FnMut(&str)) -> Result<()> {
        if let Some(old) = resume::clear(&self.folder, true)? {
            note(&format!("the earlier loop is kept in `{}`", old.display()));
        }
        self.drop_log()?;
        self.write_record()
    }

    fn drop_log(&mut self) -> Result<()> {
        self.recorder = None;
        remove_events(&self.folder)?;
        let log = self.folder.join(METRICS);
        if !log.is_file() {
            return Ok(());
        }
        std::fs::remove_file(&log).map_err(|error| Error::file("remove", &log, &error))
    }

    /// Goes on with the log where it was at the checkpoint.
    fn resume_log(&mut self, log: Option<LogState>, note: &mut dyn FnMut(&str)) -> Result<()> {
        let Some(log) = log else { return self.drop_log() };
        match Recorder::resume(&self.folder, 1, log) {
            Ok(recorder) => self.recorder = Some(recorder),
            Err(error) => {
                note(&format!("the log begins anew: {error}"));
                self.drop_log()?;
            }
        }
        Ok(())
    }

    /// Adds a row to `metrics.jsonl` and the TensorBoard events, and moves the progress bar on.
    ///
    /// # Errors
    /// A run that is finished, or files that cannot be made.
    pub fn log(&mut self, row: &MetricsRow, note: &mut dyn FnMut(&str)) -> Result<()> {
        self.ensure_going("log")?;
        if !self.is_begun {
            self.begin_anew(note)?;
        }
        let recorder = match &mut self.recorder {
            Some(recorder) => recorder,
            none => none.insert(Recorder::create(&self.folder, 1, &self.options.recorded())?),
        };
        recorder.write(row)?;
        self.progress.on_row(row);
        Ok(())
    }

    fn ensure_going(&self, function: &str) -> Result<()> {
        if self.is_going() {
            return Ok(());
        }
        bail!(Kind::Input, "run.{function}: this run is finished"; hint: "call it before run.finish, or begin another run with start_run")
    }

    /// The conditions of this loop, by `read` where they are not known yet.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn conditions(&mut self, read: impl FnOnce() -> Result<Value>) -> Result<Value> {
        if self.conditions.is_none() {
            let mut conditions = read()?;
            // Where there are none, the conditions are those of loops from before there were any.
            if !self.options.settings.is_empty() {
                conditions["settings"]["start_run"] = self.options.settings.clone().into();
            }
            self.conditions = Some(conditions);
        }
        Ok(self.conditions.clone().unwrap_or_default())
    }

    /// Finds the state that the loop goes on from; `None` for one that begins. What it does not go on from is moved to a
    /// folder `old-N`.
    ///
    /// A rehearsal looks at `out`, the folder of the real loop, and begins: its few tiny steps are the first.
    ///
    /// # Errors
    /// A loop that cannot go on: see [`resume::find`].
    pub fn resume(
        &mut self,
        pace: Pace,
        out: &Path,
        conditions: &Value,
        note: &mut dyn FnMut(&str),
    ) -> Result<Option<LoopState>> {
        if pace == Pace::Rehearsal {
            return self.find(out, conditions, note).map(|_| None);
        }
        let state = self.find(&self.folder, conditions, note)?;
        match &state {
            Some(state) => {
                resume::drop_newer(&self.folder, state.step)?;
                self.last_step = state.optimizer_steps().unwrap_or(0);
                self.resume_log(state.log.clone(), note)?;
                self.write_record()?;
            }
            None if self.is_begun && folder::list(&self.folder).is_empty() => {}
            None => self.begin_anew(note)?,
        }
        self.last = Instant::now();
        Ok(state)
    }

    fn find(&self, folder: &Path, conditions: &Value, note: &mut dyn FnMut(&str)) -> Result<Option<LoopState>> {
        let checkpoint = resume::find::<LoopState>(folder, conditions, self.options.resume.as_ref(), note)?;
        if let Some(checkpoint) = &checkpoint {
            note(&format!("going on from step {}, saved in `{}`", checkpoint.run.step(), checkpoint.path.display()));
        }
        Ok(checkpoint.map(|checkpoint| checkpoint.run))
    }

    /// Is a checkpoint to be written when the optimizer has taken `step` steps?
    pub fn is_due(&self, step: u64) -> bool {
        match self.options.save_every {
            None => true,
            Some(SaveInterval::Steps(every)) => every > 0 && step >= self.last_step + every,
            Some(interval) => {
                let total = self.options.steps.unwrap_or(u64::MAX);
                let position = Position { step, total, steps_per_epoch: 1, is_at_best: false };
                interval.is_due(position, SinceLast { time: self.last.elapsed(), cost: self.cost })
            }
        }
    }

    /// Writes a checkpoint and removes what is older than those to keep. Its number is that of the optimizer's step, or,
    /// where there is a newer one already, the next.
    ///
    /// # Errors
    /// A folder that cannot be written; earlier checkpoints stay.
    pub fn checkpoint(&mut self, mut state: LoopState, note: &mut dyn FnMut(&str)) -> Result<()> {
        if !self.is_begun {
            self.begin_anew(note)?;
        }
        state.log = self.recorder.as_mut().map(Recorder::state).transpose()?;
        let newest = folder::list(&self.folder).first().map_or(0, |(step, _)| *step);
        self.last_step = state.optimizer_steps().unwrap_or(0);
        state.step = match state.optimizer_steps() {
            Some(steps) if steps >= newest => steps,
            _ => newest + 1,
        };
        let started = Instant::now();
        let written = state.write(&self.folder);
        (self.last, self.cost) = (Instant::now(), started.elapsed());
        written?;
        folder::prune(&self.folder, self.options.keep_last)
    }

    /// Records the results of a loop that has ended, and removes its checkpoints: run again, it begins anew. Without
    /// `results` they are the last numbers of the log.
    ///
    /// # Errors
    /// Files that cannot be written or removed.
    pub fn finish(&mut self, results: Option<BTreeMap<String, f64>>, note: &mut dyn FnMut(&str)) -> Result<()> {
        if self.is_finished && results.is_none() {
            return Ok(());
        }
        self.ensure_going("finish")?;
        if !self.is_begun && self.lock.is_none() {
            // The trial logged nothing: its folder is the sweep's.
            self.is_finished = true;
            return folder::prune(&self.folder, 0);
        }
        if !self.is_begun {
            self.begin_anew(note)?;
        }
        let is_logged = self.recorder.is_some();
        self.recorder.take().map_or(Ok(()), Recorder::finish)?;
        let results = match results {
            Some(results) => results,
            None if is_logged => last_numbers(&read_metrics(&self.folder.join(METRICS))?),
            None => BTreeMap::new(),
        };
        self.end(|record, folder| record.finish(folder, results))?;
        folder::prune(&self.folder, 0)
    }

    /// Records the error that ended the script.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn fail(&mut self, error: &Error) -> Result<()> {
        if self.is_finished {
            return Ok(());
        }
        let logged = self.recorder.take().map_or(Ok(()), Recorder::finish);
        self.end(|record, folder| record.fail(folder, error))?;
        logged
    }

    fn end(&mut self, conclude: impl FnOnce(RunRecord, &Path) -> Result<()>) -> Result<()> {
        self.is_finished = true;
        // Removes the bar.
        self.progress = LoopProgress::new(Progress::Quiet, None, 0);
        self.record.take().map_or(Ok(()), |record| conclude(record, &self.folder))
    }
}

/// The last number of each name, and the last step.
fn last_numbers(rows: &[MetricsRow]) -> BTreeMap<String, f64> {
    let steps = rows.last().map(|row| ("steps".to_owned(), row.step as f64));
    let numbers = rows.iter().flat_map(MetricsRow::numbers).map(|(name, value)| (name.to_owned(), value));
    steps.into_iter().chain(numbers).collect()
}
