//! Prefixes of nested runs and truncations of one high rank beside trained ranks.

use super::chart::{Axis, Chart, Mark, Point, Series, Ticks};
use super::scale::Scale;
use crate::sweep::referee::{RankLosses, Referee, SeedLoss, Shortcut};
use crate::sweep::summary::Summary;

/// Held-out losses against the rank: trained ranks, prefixes and truncations, each with the mean over seeds, its 95 %
/// interval and the single runs.
pub fn rank_chart(referee: &Referee) -> Chart {
    let mut series = vec![curve("trained at this rank", referee, |rank| &rank.trained)];
    for shortcut in referee.shortcuts() {
        let name = match shortcut {
            Shortcut::Nested => "prefix of a nested run",
            Shortcut::Truncated => "highest rank, cut by SVD",
        };
        series.push(curve(name, referee, |rank| rank.of(shortcut)));
    }
    let ranks: Vec<f64> = referee.ranks.iter().map(|rank| rank.rank as f64).collect();
    let seeds = referee.ranks.iter().map(|rank| rank.trained.len()).min().unwrap_or(0);
    let sentence = referee.to_string();
    let mut notes: Vec<String> = sentence.split("; ").map(str::to_owned).collect();
    if seeds > 1 {
        notes.push(format!(
            "Error bars: 95 % interval of the mean over {seeds} seeds, by Student's t; faint: single runs."
        ));
    }
    Chart {
        title: "Were the ranks worth training one by one?".into(),
        subtitle: format!("Held-out loss of each rank, mean over {} labels", referee.labels),
        x: Axis { ticks: Ticks::At(ranks), ..Axis::new("rank", Scale::Log2) },
        y: Axis::new("held-out loss (nats per token)", Scale::Linear),
        series,
        notes,
        ..Chart::default()
    }
}

fn curve(name: &str, referee: &Referee, losses: impl Fn(&RankLosses) -> &[SeedLoss]) -> Series {
    let (mut points, mut runs) = (Vec::new(), Vec::new());
    for rank in &referee.ranks {
        let x = rank.rank as f64;
        let values = || losses(rank).iter().map(|one| one.loss);
        let Some(summary) = Summary::of(values()) else { continue };
        let spread = summary.half_width().map(|half| (summary.mean - half, summary.mean + half));
        points.push(Point { spread, ..Point::new(x, summary.mean) });
        if summary.n > 1 {
            runs.extend(values().map(|y| Point::new(x, y)));
        }
    }
    Series { name: name.to_owned(), points, runs, mark: Mark::LineAndPoints, ..Series::default() }
}
