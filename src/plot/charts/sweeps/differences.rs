//! The settings against the best one, in pairs of the same seed: with the verdicts, where the sweep decides.

use super::study::{Setting, Study};
use crate::bail;
use crate::error::{Kind, Result};
use crate::plot::charts::chart::Axis;
use crate::plot::charts::rows::{Emphasis, Row, RowChart};
use crate::plot::charts::scale::Scale;
use crate::sweep::columns::larger_is_better;
use crate::sweep::decide::sequential::{Comparison, Judged};
use crate::sweep::decide::{Decision, Verdict};
use crate::sweep::number::{decimals_for, fixed, significant};
use crate::sweep::summary::Paired;
use crate::sweep::{Point, TrialRow};

/// # Errors
/// A sweep without two trials of a setting.
pub fn differences(study: &Study, most: usize) -> Result<RowChart> {
    if let Some(decision) = &study.decision {
        return Ok(verdicts(study, decision, most));
    }
    let Some(best) = study.best().filter(|_| study.is_repeated()) else {
        bail!(Kind::Input, "chart: expected several trials of each setting, found one: there are no pairs";
            hint: "add `seed: 3` to the grid")
    };
    let mut rivals: Vec<(&Setting, Paired)> =
        study.settings.iter().filter_map(|setting| Some((setting, paired(study, setting, best)?))).collect();
    if rivals.len() > most {
        rivals.sort_by(|one, other| one.1.mean.abs().total_cmp(&other.1.mean.abs()));
        rivals.truncate(most);
    }
    let decimals = decimals_for(study.settings.iter().map(|setting| setting.summary.mean));
    let row = |(setting, difference): &(&Setting, Paired)| {
        let is_best = setting.point == best.point;
        let half = difference.half_width().filter(|_| difference.n > 2 && !is_best);
        let error = half.map_or(String::new(), |half| format!(" ± {}", fixed(half, decimals)));
        let is_near = half.is_some_and(|half| difference.mean.abs() <= half);
        Row {
            name: study.name(&setting.point),
            value: difference.mean,
            interval: half.map(|half| (difference.mean - half, difference.mean + half)),
            singles: if is_best {
                Vec::new()
            } else {
                pairs(study, setting, best).iter().map(|(x, y)| x - y).collect()
            },
            label: if is_best {
                "best mean".to_owned()
            } else {
                format!("{}{error}", signed(difference.mean, decimals))
            },
            emphasis: match (is_best, is_near) {
                (true, _) => Emphasis::Strong,
                (false, true) => Emphasis::Usual,
                (false, false) => Emphasis::Faint,
            },
        }
    };
    let rows: Vec<Row> = rivals.iter().map(row).collect();
    let worse = if larger_is_better(study.metric) { "below 0" } else { "above 0" };
    let mut notes = vec![format!("Differences within the same {}; {worse} is worse.", study.over)];
    if study.seeds() > 2 {
        notes.push("Intervals: 95 % each, not for all together. Blue: within noise of the best.".to_owned());
    } else {
        notes.push(format!("Two {}s give no useful interval.", study.over));
    }
    notes.extend(study.left_out(rows.len()));
    let name = study.name(&best.point);
    let whose = if study.axes.len() == 1 { format!("{} {name}", study.heading()) } else { name };
    let title = format!("{} less that of {whose}", study.metric);
    let axis = Axis::new(format!("difference of {}", study.metric_title()), Scale::Linear);
    Ok(RowChart {
        subtitle: study.subject.clone(),
        heading: study.heading(),
        rows,
        line: Some((0.0, String::new())),
        notes,
        ..RowChart::of(title, axis)
    })
}

fn verdicts(study: &Study, decision: &Decision, most: usize) -> RowChart {
    let margin = decision.rules.margin;
    let decimals = ((-margin.log10().floor()).clamp(0.0, 8.0) + 1.0) as usize;
    let compared = decision.settings.iter().enumerate();
    let compared = compared.filter_map(|(at, (point, judged))| Some((at, point, judged, judged.comparison?)));
    let mut compared: Vec<(usize, &Point, &Judged, Comparison)> = compared.collect();
    if compared.len() > most {
        compared.sort_by(|one, other| one.3.difference.total_cmp(&other.3.difference));
        compared.truncate(most);
    }
    let row = |&(at, point, judged, comparison): &(usize, &Point, &Judged, Comparison)| {
        let is_leader = comparison.leader == at;
        let Comparison { difference, half_width: half, .. } = comparison;
        let verdict = match judged.verdict {
            Verdict::Enough => "enough",
            Verdict::Worse => "worse",
            Verdict::Open => "open",
        };
        let number = if is_leader {
            "best mean".to_owned()
        } else {
            format!("{} ± {}", fixed(difference, decimals), fixed(half, decimals))
        };
        Row {
            name: study.name(point),
            value: difference,
            interval: (!is_leader).then_some((difference - half, difference + half)),
            singles: Vec::new(),
            label: format!("{number}, {verdict}"),
            emphasis: match (decision.answer == Some(at), judged.verdict) {
                (true, _) => Emphasis::Strong,
                (false, Verdict::Worse) => Emphasis::Faint,
                (false, _) => Emphasis::Usual,
            },
        }
    };
    let rows: Vec<Row> = compared.iter().map(row).collect();
    let title = match decision.answer {
        Some(at) => format!("{} is enough", decision.full_name(at)),
        None => "Not decided yet".to_owned(),
    };
    let worse = if larger_is_better(study.metric) { "lower" } else { "higher" };
    let seeds = decision.settings.iter().map(|(_, judged)| judged.seeds).max().unwrap_or(0);
    let answer = if decision.answer.is_some() { "Orange: the first setting that is enough. " } else { "" };
    let mut notes = vec![
        format!("How much {worse} than the best mean, within the same {}. Intervals hold together with {} %, whenever one looks; up to {seeds} {}s.",
            study.over, significant(100.0 * decision.rules.confidence, 4), study.over),
        format!("Shaded: differences below the margin. {answer}Grey: worse by more."),
    ];
    notes.extend(study.left_out(rows.len() + decision.settings.len() - compared.len()));
    let axis = Axis::new(format!("difference of {}", study.metric_title()), Scale::Linear);
    RowChart {
        subtitle: study.subject.clone(),
        heading: study.heading(),
        rows,
        line: Some((margin, format!("margin {}", significant(margin, 6)))),
        band: Some((0.0, margin)),
        notes,
        ..RowChart::of(title, axis)
    }
}

/// The values of two settings in pairs of the same seed.
fn pairs(study: &Study, setting: &Setting, best: &Setting) -> Vec<(f64, f64)> {
    let partner = |row: &TrialRow| {
        let seed = row.point.get(study.over);
        let other = best.rows.iter().find(|other| other.point.get(study.over) == seed)?;
        Some((row.number(study.metric)?, other.number(study.metric)?))
    };
    setting.rows.iter().filter_map(|row| partner(row)).collect()
}

fn paired(study: &Study, setting: &Setting, best: &Setting) -> Option<Paired> {
    Paired::of(pairs(study, setting, best))
}

fn signed(x: f64, decimals: usize) -> String {
    format!("{}{}", if x > 0.0 { "+" } else { "" }, fixed(x, decimals))
}
