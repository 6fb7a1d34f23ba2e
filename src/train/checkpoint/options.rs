//! The options of checkpoints, by lorhai's names and by those of transformers.

use super::interval::SaveInterval;
use crate::options;
use crate::options::{Mismatch, OptionType, Refusal, Value};
use std::path::PathBuf;

/// Kept while a run goes on: one more than is needed, should the newest be damaged.
const KEPT: usize = 2;

options! {
    /// When checkpoints are written, how many are kept, and whether a run goes on from one.
    #[derive(Debug, Clone, PartialEq)]
    pub struct CheckpointOptions {
        /// Steps between checkpoints, below 1 a fraction of all steps, or a time such as "10m"; 0 saves on a stop
        /// only. Checkpoints lie in `out`.
        pub save_every: Option<SaveInterval> = None, alias ["save_steps"], words "\"5m\"";
        /// When to save: "steps" with `save_every`, "epoch", "best" at evaluations better than all before, or "no" for
        /// stops only.
        pub save_strategy: Option<SaveStrategy> = None, words "by time";
        /// Checkpoints that stay when the run has ended. By default none do, and two are kept until then.
        pub keep_last: Option<usize> = None, alias ["save_total_limit"], range at_least(1.0);
        /// Whether an unfinished run in `out` goes on. By default it does, if settings, data and model are the same, and
        /// is refused if not. `true` goes on under changed training settings, `false` begins anew, and a path names
        /// the checkpoint to go on from.
        pub resume: Option<Resume> = None, alias ["resume_from_checkpoint"], words "as described";
    }
    rule CheckpointOptions::rule;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveStrategy {
    No,
    Steps,
    Epoch,
    Best,
}

crate::choices!(
    SaveStrategy,
    [
        ("no", SaveStrategy::No),
        ("steps", SaveStrategy::Steps),
        ("epoch", SaveStrategy::Epoch),
        ("best", SaveStrategy::Best),
    ]
);

/// Whether a run goes on from a checkpoint, where the user said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Begins anew.
    No,
    /// Must go on, also under changed training settings.
    Yes,
    /// From this checkpoint, or the newest in this folder.
    From(PathBuf),
}

impl OptionType for Resume {
    fn type_name() -> String {
        "bool or string (a path)".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Bool(true) => Ok(Resume::Yes),
            Value::Bool(false) => Ok(Resume::No),
            Value::Text(path) => Ok(Resume::From(path.into())),
            other => Err(Mismatch::of::<Self>(other)),
        }
    }
    fn to_value(&self) -> Value {
        match self {
            Resume::No => Value::Bool(false),
            Resume::Yes => Value::Bool(true),
            Resume::From(path) => Value::Text(path.display().to_string()),
        }
    }
}

impl CheckpointOptions {
    fn rule(&self) -> Option<Refusal> {
        let is_by_steps = matches!(self.save_strategy, None | Some(SaveStrategy::Steps));
        let every = self.save_every.filter(|_| !is_by_steps)?;
        let refusal = Refusal::new("save_strategy", "\"steps\", or no `save_every`", every.to_value().literal());
        Some(refusal.with_hint("leave one of them out"))
    }

    pub fn interval(&self) -> SaveInterval {
        match (self.save_every, self.save_strategy) {
            (Some(every), _) => every,
            (None, Some(SaveStrategy::No)) => SaveInterval::Steps(0),
            (None, Some(SaveStrategy::Epoch)) => SaveInterval::Epoch,
            (None, Some(SaveStrategy::Best)) => SaveInterval::Best,
            (None, Some(SaveStrategy::Steps) | None) => SaveInterval::default(),
        }
    }

    /// How many checkpoints are kept while the run goes on.
    pub fn kept(&self) -> usize {
        self.keep_last.unwrap_or(KEPT)
    }
}
