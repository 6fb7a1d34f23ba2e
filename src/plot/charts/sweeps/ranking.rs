//! The settings in the order of their means, each with its trials and the interval of the mean.

use super::study::Study;
use crate::plot::charts::chart::Axis;
use crate::plot::charts::rows::{Emphasis, Row, RowChart};
use crate::plot::charts::scale::Scale;
use crate::sweep::columns::larger_is_better;

/// The best `most` settings, the best one first.
pub fn ranking(study: &Study, most: usize) -> RowChart {
    let best = study.result.best_over(study.metric, study.over).ok();
    let near: Vec<_> = best.iter().flat_map(|best| best.within_noise.iter().map(|rival| &rival.point)).collect();
    let row = |setting: &&super::study::Setting| {
        let summary = setting.summary;
        let is_best = best.as_ref().is_some_and(|best| best.point == setting.point);
        let emphasis = match (is_best, near.contains(&&setting.point) || summary.n == 1 && study.seeds() == 1) {
            (true, _) => Emphasis::Strong,
            (false, true) => Emphasis::Usual,
            (false, false) => Emphasis::Faint,
        };
        let fewer =
            if summary.n < study.seeds() { format!(" ({} of {})", summary.n, study.seeds()) } else { String::new() };
        let spread = summary.spread.map_or(String::new(), |spread| format!(" ± {}", study.text(spread)));
        Row {
            name: study.name(&setting.point),
            value: summary.mean,
            interval: setting.half_width().map(|half| (summary.mean - half, summary.mean + half)),
            singles: if summary.n > 1 { setting.values.clone() } else { Vec::new() },
            label: format!("{}{spread}{fewer}", study.text(summary.mean)),
            emphasis,
        }
    };
    let rows: Vec<Row> = study.in_order().iter().take(most).map(row).collect();
    let mut notes = Vec::new();
    if study.is_repeated() {
        let has_intervals = rows.iter().any(|row| row.interval.is_some());
        let intervals = if has_intervals { " Intervals: 95 % of the mean (Student's t)." } else { "" };
        notes.push(format!("Mean over {} {}s, ± their standard deviation.{intervals}", study.seeds(), study.over));
        if near.is_empty() {
            notes.push("Orange: the best. No other setting is within noise of it.".to_owned());
        } else {
            notes
                .push("Orange: the best. Blue: within noise of it, in pairs of the same seed. Grey: worse.".to_owned());
        }
    } else if study.settings.len() > 1 {
        notes.push("One trial each: says nothing of spread.".to_owned());
    }
    notes.extend(study.left_out(rows.len()));
    let direction = if larger_is_better(study.metric) { "highest" } else { "lowest" };
    let title = format!("Settings by {}, {direction} first", study.metric);
    let axis = Axis::new(study.metric_title(), Scale::Linear);
    RowChart { subtitle: study.subject.clone(), heading: study.heading(), rows, notes, ..RowChart::of(title, axis) }
}
