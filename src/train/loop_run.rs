//! The folder of a training loop that a script writes itself: its lock, its checkpoints, and where it goes on.

use super::checkpoint::interval::{Position, SaveInterval};
use super::checkpoint::loop_state::LoopState;
use super::checkpoint::resume::{self, Resumable};
use super::checkpoint::{folder, Resume};
use super::folder::RUN;
use crate::bail;
use crate::data::Pace;
use crate::error::{Kind, Result};
use crate::files::{self, FolderLock};
use crate::options;
use crate::options::{OptionType, Refusal};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

options! {
    /// When the checkpoints of a loop are written, how many are kept, and whether it goes on from one.
    #[derive(Debug, Clone)]
    pub struct LoopRunOptions {
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
    /// The steps of the whole loop are not known.
    fn rule(&self) -> Option<Refusal> {
        let every = self.save_every.filter(|every| matches!(every, SaveInterval::Fraction(_) | SaveInterval::Epoch))?;
        let refusal =
            Refusal::new("save_every", "a number of steps or a time such as \"5m\"", every.to_value().literal());
        Some(refusal.with_hint("a loop of the script's own has no known number of steps"))
    }
}

/// A loop that has begun in a folder.
#[derive(Debug)]
pub struct LoopRun {
    folder: PathBuf,
    options: LoopRunOptions,
    _lock: Arc<FolderLock>,
    /// What must be the same for the loop to go on.
    conditions: Option<Value>,
    /// Has it looked for what it goes on from?
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
    if folder.join(RUN).is_file() {
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
    /// Takes the folder for this loop.
    ///
    /// # Errors
    /// As [`ensure_usable`], and a folder that cannot be made.
    pub fn begin(folder: &Path, options: LoopRunOptions) -> Result<Self> {
        ensure_usable(folder)?;
        let lock = lock(folder)?;
        let (folder, last, cost) = (folder.to_owned(), Instant::now(), Duration::ZERO);
        Ok(LoopRun { folder, options, _lock: lock, conditions: None, is_begun: false, last_step: 0, last, cost })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The conditions of this loop, by `read` where they are not known yet.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn conditions(&mut self, read: impl FnOnce() -> Result<Value>) -> Result<Value> {
        if self.conditions.is_none() {
            self.conditions = Some(read()?);
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
            }
            None => self.clear(note)?,
        }
        (self.is_begun, self.last) = (true, Instant::now());
        Ok(state)
    }

    fn find(&self, folder: &Path, conditions: &Value, note: &mut dyn FnMut(&str)) -> Result<Option<LoopState>> {
        let checkpoint = resume::find::<LoopState>(folder, conditions, self.options.resume.as_ref(), note)?;
        if let Some(checkpoint) = &checkpoint {
            note(&format!("going on from step {}, saved in `{}`", checkpoint.run.step(), checkpoint.path.display()));
        }
        Ok(checkpoint.map(|checkpoint| checkpoint.run))
    }

    fn clear(&self, note: &mut dyn FnMut(&str)) -> Result<()> {
        if let Some(old) = resume::clear(&self.folder, true)? {
            note(&format!("the earlier loop is kept in `{}`", old.display()));
        }
        Ok(())
    }

    /// Is a checkpoint to be written when the optimizer has taken `step` steps?
    pub fn is_due(&self, step: u64) -> bool {
        let (since, cost) = (self.last.elapsed(), self.cost);
        match self.options.save_every {
            None => true,
            Some(SaveInterval::Steps(every)) => every > 0 && step >= self.last_step + every,
            Some(interval) => interval.is_due(Position { step, total: u64::MAX, steps_per_epoch: 1, since, cost }),
        }
    }

    /// Writes a checkpoint and removes what is older than those to keep. Its number is that of the optimizer's step, or,
    /// where there is a newer one already, the next.
    ///
    /// # Errors
    /// A folder that cannot be written; earlier checkpoints stay.
    pub fn checkpoint(&mut self, mut state: LoopState, note: &mut dyn FnMut(&str)) -> Result<()> {
        if !self.is_begun {
            self.clear(note)?;
            self.is_begun = true;
        }
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

    /// Removes the checkpoints of a loop that has ended: run again, it begins anew.
    ///
    /// # Errors
    /// Files that cannot be removed.
    pub fn finish(&mut self) -> Result<()> {
        folder::prune(&self.folder, 0)
    }
}
