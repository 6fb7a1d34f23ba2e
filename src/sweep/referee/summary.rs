//! What a comparison of ranks says: whether the sweep was needed, in a sentence, and the losses as a table.

use super::comparison::{RankLosses, Referee, Shortcut};
use super::distance::{Closeness, Distance, SeedLoss};
use crate::sweep::number::{fixed, significant};
use crate::sweep::summary::Summary;
use crate::table::{table, Align};
use serde_json::{json, Map, Value};
use std::collections::BTreeMap;
use std::fmt;

impl Shortcut {
    /// The adapter of one rank.
    fn one(self) -> &'static str {
        match self {
            Shortcut::Nested => "the prefix of rank",
            Shortcut::Truncated => "the truncation to rank",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Shortcut::Nested => "nested prefixes",
            Shortcut::Truncated => "truncations",
        }
    }
}

fn mean(losses: &[SeedLoss]) -> Option<f64> {
    Summary::of(losses.iter().map(|one| one.loss)).map(|summary| summary.mean)
}

impl Referee {
    /// Was the sweep needed? Prefixes decide, or truncations where there are none; `None` if the seeds do not tell.
    pub fn needed(&self) -> Option<bool> {
        let distances = self.distances(*self.shortcuts().first()?);
        let has = |closeness: Closeness| distances.iter().any(|(_, distance)| distance.closeness == closeness);
        match (has(Closeness::Worse), has(Closeness::Open)) {
            (true, _) => Some(true),
            (false, false) => Some(false),
            (false, true) => None,
        }
    }

    /// The lowest rank whose mean is within the margin of the best mean.
    pub fn enough(&self, losses: impl Fn(&RankLosses) -> &[SeedLoss]) -> Option<i64> {
        let means: Vec<(i64, f64)> =
            self.ranks.iter().filter_map(|rank| Some((rank.rank, mean(losses(rank))?))).collect();
        let best = means.iter().map(|(_, mean)| *mean).fold(f64::INFINITY, f64::min);
        means.into_iter().find(|(_, mean)| *mean <= best + self.margin).map(|(rank, _)| rank)
    }

    /// As an object: the ranks with their losses and distances, and a sentence in `summary`.
    pub fn fields(&self) -> Map<String, Value> {
        let losses = |losses: &[SeedLoss]| losses.iter().map(|one| one.loss).collect::<Vec<f64>>();
        let distances = |shortcut: Shortcut| self.distances(shortcut).into_iter().collect::<BTreeMap<i64, Distance>>();
        let (nested, truncated) = (distances(Shortcut::Nested), distances(Shortcut::Truncated));
        let ranks: Vec<Value> = self
            .ranks
            .iter()
            .map(|one| {
                json!({
                    "rank": one.rank, "trained": losses(&one.trained), "nested": losses(&one.nested),
                    "truncated": losses(&one.truncated),
                    "nested_distance": nested.get(&one.rank).map(Distance::fields),
                    "truncated_distance": truncated.get(&one.rank).map(Distance::fields),
                })
            })
            .collect();
        let fields = [
            ("ranks", json!(ranks)),
            ("margin", json!(self.margin)),
            ("confidence", json!(self.confidence)),
            ("labels", json!(self.labels)),
            ("needed", self.needed().map_or(Value::Null, Value::from)),
            ("summary", json!(self.to_string())),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The means of all ranks, one line each, with the distances to the trained ones.
    pub fn table(&self) -> String {
        let shortcuts = self.shortcuts();
        let mut header = vec!["rank".to_owned(), "trained".to_owned()];
        for shortcut in &shortcuts {
            header.extend([shortcut.name().to_owned(), "Δ to trained".to_owned()]);
        }
        let row = |rank: &RankLosses| {
            let mut cells = vec![rank.rank.to_string(), self.loss(&rank.trained)];
            for shortcut in &shortcuts {
                let distance = self.distances(*shortcut).into_iter().find(|(known, _)| *known == rank.rank);
                cells.push(self.loss(rank.of(*shortcut)));
                cells.push(distance.map_or(String::new(), |(_, distance)| self.with_interval(&distance)));
            }
            cells
        };
        let align = vec![Align::Right; header.len()];
        table(header, self.ranks.iter().map(row).collect(), &align)
    }

    fn loss(&self, losses: &[SeedLoss]) -> String {
        mean(losses).map_or(String::new(), |mean| fixed(mean, 4))
    }

    fn margin(&self) -> String {
        significant(self.margin, 6)
    }

    /// "0.0040 ± 0.0030", with the decimals of the margin and two more.
    fn with_interval(&self, distance: &Distance) -> String {
        let decimals = (2.0 - self.margin.log10().floor()).clamp(0.0, 9.0) as usize;
        let half = distance.half_width.map_or(String::new(), |half| format!(" ± {}", fixed(half, decimals)));
        format!("{}{half}", fixed(distance.difference, decimals))
    }

    fn verdict(&self, shortcut: Shortcut) -> String {
        let distances = self.distances(shortcut);
        let farthest = |closeness: Closeness| {
            let of_kind = distances.iter().filter(move |(_, distance)| distance.closeness == closeness);
            of_kind.max_by(|(_, one), (_, other)| one.difference.total_cmp(&other.difference))
        };
        let margin = self.margin();
        if let Some((rank, distance)) = farthest(Closeness::Worse) {
            let text = self.with_interval(distance);
            return format!("the sweep was needed: {} {rank} is worse than a trained one by {text}, more than the margin of {margin}", shortcut.one());
        }
        if let Some((rank, distance)) = farthest(Closeness::Open) {
            let text = self.with_interval(distance);
            let more = if distance.half_width.is_some() {
                "more seeds would tell"
            } else {
                "seeds would tell: add `seed: 5` to both sweeps"
            };
            return format!("not decided whether the sweep was needed: the loss of {} {rank} less that of a trained one is {text}, and the margin is {margin}; {more}", shortcut.one());
        }
        let most = farthest(Closeness::Close).map_or(String::new(), |(rank, distance)| {
            format!(" (at most at rank {rank}, by {})", self.with_interval(distance))
        });
        format!("the sweep was not needed: the {} are within {margin} of the trained ranks{most}", shortcut.name())
    }

    /// From which rank on the truncations are close.
    fn truncation(&self) -> String {
        let distances = self.distances(Shortcut::Truncated);
        let close = distances.iter().rev().take_while(|(_, distance)| distance.closeness == Closeness::Close);
        let highest = self.ranks.last().map_or(0, |rank| rank.rank);
        match close.last() {
            Some((rank, _)) => {
                format!("rank {highest} cut by its singular values is within the margin down to rank {rank}")
            }
            None => format!(
                "rank {highest} cut by its singular values is not shown to be within the margin at any lower rank"
            ),
        }
    }
}

/// `the sweep was not needed: the nested prefixes are within 0.01 of the trained ranks (at most at rank 1, by 0.0040 ± 0.0030); rank 4 is enough by both; …`
impl fmt::Display for Referee {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shortcuts = self.shortcuts();
        let Some(first) = shortcuts.first().copied() else { return write!(out, "nothing was compared") };
        write!(out, "{}", self.verdict(first))?;
        // The whole rank is the same adapter in both, so a truncation has its trained loss there.
        let whole = self.ranks.last().map(|rank| rank.rank);
        let trained = self.enough(|rank| &rank.trained);
        let other = self.enough(|rank| match first {
            Shortcut::Truncated if Some(rank.rank) == whole => &rank.trained,
            _ => rank.of(first),
        });
        match (trained, other) {
            (Some(trained), Some(other)) if trained == other => {
                write!(out, "; by the means rank {trained} is enough, by the {} too", first.name())?;
            }
            (Some(trained), Some(other)) => {
                write!(out, "; by the means rank {trained} is enough, by the {} rank {other}", first.name())?;
            }
            _ => {}
        }
        if shortcuts.len() > 1 {
            write!(out, "; {}", self.truncation())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(rank: i64, trained: [f64; 3], nested: [f64; 3], truncated: &[f64]) -> RankLosses {
        let losses = |losses: &[f64]| {
            losses.iter().enumerate().map(|(seed, loss)| SeedLoss { seed: Some(seed as u64), loss: *loss }).collect()
        };
        RankLosses { rank, trained: losses(&trained), nested: losses(&nested), truncated: losses(truncated) }
    }

    fn of(ranks: Vec<RankLosses>) -> Referee {
        Referee { ranks, margin: 0.01, confidence: 0.95, labels: 100 }
    }

    #[test]
    fn prefixes_that_are_close_make_the_sweep_unnecessary() {
        let referee = of(vec![
            rank(1, [1.2, 1.3, 1.4], [1.201, 1.302, 1.401], &[1.5, 1.6, 1.701]),
            rank(2, [1.0, 1.1, 1.2], [1.0, 1.101, 1.2], &[1.0, 1.101, 1.2]),
            rank(4, [1.0, 1.1, 1.2], [1.0, 1.1, 1.201], &[]),
        ]);
        assert_eq!(referee.needed(), Some(false));
        let text = referee.to_string();
        assert!(text.starts_with("the sweep was not needed: the nested prefixes are within 0.01 of the trained ranks (at most at rank 1, by 0.0013 ± 0.0014)"), "{text}");
        assert!(text.contains("; by the means rank 2 is enough, by the nested prefixes too; rank 4 cut by its singular values is within the margin down to rank 2"), "{text}");
        assert!(referee.table().lines().count() > 3, "{}", referee.table());
    }

    #[test]
    fn a_prefix_that_is_worse_or_open_is_named() {
        let worse = rank(1, [1.2, 1.3, 1.4], [1.5, 1.6, 1.701], &[]);
        let open = rank(2, [1.0, 1.1, 1.2], [1.0, 1.13, 1.2], &[]);
        let close = || rank(4, [1.0, 1.1, 1.2], [1.0, 1.101, 1.2], &[]);
        let text = of(vec![worse, open.clone(), close()]).to_string();
        assert!(text.starts_with("the sweep was needed: the prefix of rank 1 is worse than a trained one by 0.3003 ± 0.0014, more than the margin of 0.01"), "{text}");
        let referee = of(vec![open, close()]);
        assert_eq!(referee.needed(), None);
        assert!(
            referee
                .to_string()
                .starts_with("not decided whether the sweep was needed: the loss of the prefix of rank 2 less"),
            "{referee}"
        );
    }
}
