//! Trained ranks and what is compared with them.

use super::distance::{Distance, SeedLoss};

/// One rank: as it was trained, and made in other ways.
#[derive(Debug, Clone, PartialEq)]
pub struct RankLosses {
    pub rank: i64,
    pub trained: Vec<SeedLoss>,
    /// The prefix of each nested run.
    pub nested: Vec<SeedLoss>,
    /// The highest rank, cut by its singular values; empty at that rank itself.
    pub truncated: Vec<SeedLoss>,
}

/// Trained ranks and what was compared with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Referee {
    /// From low to high.
    pub ranks: Vec<RankLosses>,
    pub margin: f64,
    pub confidence: f64,
    /// The labels that the losses are means over.
    pub labels: usize,
}

/// How adapters of lower ranks are had without training each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortcut {
    /// Prefixes of nested runs.
    Nested,
    /// The highest trained rank, cut by its singular values.
    Truncated,
}

impl RankLosses {
    pub fn of(&self, shortcut: Shortcut) -> &[SeedLoss] {
        match shortcut {
            Shortcut::Nested => &self.nested,
            Shortcut::Truncated => &self.truncated,
        }
    }
}

impl Referee {
    /// What the trained ranks are compared with: prefixes first.
    pub fn shortcuts(&self) -> Vec<Shortcut> {
        let is_measured = |shortcut: &Shortcut| self.ranks.iter().any(|losses| !losses.of(*shortcut).is_empty());
        [Shortcut::Nested, Shortcut::Truncated].into_iter().filter(is_measured).collect()
    }

    /// How far the adapters had by `shortcut` lie from the trained ones, by rank.
    pub fn distances(&self, shortcut: Shortcut) -> Vec<(i64, Distance)> {
        let compared: Vec<&RankLosses> = self.ranks.iter().filter(|losses| !losses.of(shortcut).is_empty()).collect();
        let count = compared.len();
        let distance = |losses: &&RankLosses| {
            let distance = Distance::of(losses.of(shortcut), &losses.trained, self.margin, self.confidence, count);
            (losses.rank, distance)
        };
        compared.iter().map(distance).collect()
    }
}
