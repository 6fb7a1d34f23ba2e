//! How much of its work a workflow does: all of it, or tiny pieces in a rehearsal. Whoever is given a [`Pace`] asks it
//! for counts, and does not ask whether this is a rehearsal.

use super::tokenized::TokenizedDataset;

/// Rows that a tiny run trains on, or is measured on; items of an evaluation; prompts and new tokens of each.
pub const FEW: usize = 2;
/// Rows that are tokenised of larger data sets.
pub const TOKENIZED_ROWS: usize = 4096;
/// The largest model, in bytes, that a rehearsal saves.
pub const MAX_SAVED_MODEL: u64 = 256 << 20;

/// How much of its work a workflow does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// All of it.
    Full,
    /// Tiny pieces of it, to find mistakes and to plan what all of it would take.
    Rehearsal,
}

impl Pace {
    pub fn is_full(self) -> bool {
        self == Pace::Full
    }

    /// The most items, where not all are worked on.
    pub fn cap(self) -> Option<usize> {
        (!self.is_full()).then_some(FEW)
    }

    /// How many of `count` items are worked on.
    pub fn count(self, count: usize) -> usize {
        self.cap().map_or(count, |cap| count.min(cap))
    }

    /// The rows that are trained on, or measured.
    pub fn rows(self, data: &TokenizedDataset) -> TokenizedDataset {
        match self {
            Pace::Full => data.clone(),
            Pace::Rehearsal => data.shortest(FEW),
        }
    }

    /// Whether a model of this many bytes is written.
    pub fn saves_model(self, bytes: u64) -> bool {
        self.is_full() || bytes <= MAX_SAVED_MODEL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_does_little_of_much_and_all_of_little() {
        assert_eq!((Pace::Full.count(100), Pace::Full.cap()), (100, None));
        assert_eq!((Pace::Rehearsal.count(100), Pace::Rehearsal.count(1)), (FEW, 1));
        assert!(Pace::Rehearsal.saves_model(1) && !Pace::Rehearsal.saves_model(MAX_SAVED_MODEL + 1));
        assert!(Pace::Full.saves_model(u64::MAX));
    }
}
