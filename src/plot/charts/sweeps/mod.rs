//! Charts of a sweep beside those of one metric against one axis: each has a name, and a condition under which every
//! report shows it.
//!
//! | file | shows |
//! |---|---|
//! | `options.rs` | the names of the charts and their options |
//! | `study.rs` | the settings with their means, names and units: the input of all others |
//! | `ranking.rs` | settings in order of their means, with intervals |
//! | `differences.rs` | settings against the best one within the same seeds, and the decision |
//! | `heat.rs` | the mean at each pair of values of two axes |
//! | `coordinates.rs` | all axes and the metric as parallel coordinates |
//! | `importance.rs` | the share of the variance that each axis explains |
//! | `curves.rs` | the loss against tokens and seconds, gradient norm, learning rate |
//! | `pareto.rs` | the metric against a cost, and the settings that nothing beats in both |

mod coordinates;
mod curves;
mod differences;
mod heat;
mod importance;
pub mod options;
mod pareto;
mod ranking;
mod study;

use super::picture::Picture;
use crate::error::Result;
use crate::sweep::{SweepResult, TrialRow};
pub use options::{SweepChart, SweepChartOptions};
use std::collections::HashSet;
use study::Study;
pub use study::{subject, unit_of};

/// A chart of the sweep by its name.
///
/// # Errors
/// An unknown metric or axis; a sweep that lacks what the chart shows, with what that is.
pub fn sweep_chart(result: &SweepResult, kind: SweepChart, options: &SweepChartOptions) -> Result<Picture> {
    let mut picture = drawn(&Study::new(result, options)?, kind, options)?;
    if !options.title.is_empty() {
        picture.title_mut().clone_from(&options.title);
    }
    picture.style_mut().theme = options.theme;
    Ok(picture)
}

fn drawn(study: &Study, kind: SweepChart, options: &SweepChartOptions) -> Result<Picture> {
    let (x, y) = (options.x.as_deref(), options.y.as_deref());
    let rows = options.most.unwrap_or(MOST_ROWS);
    let lines = options.most.unwrap_or(MOST_CURVES);
    Ok(match kind {
        SweepChart::Settings => ranking::ranking(study, rows).into(),
        SweepChart::Differences => differences::differences(study, rows)?.into(),
        SweepChart::Heat => heat::heat(study, x, y)?.into(),
        SweepChart::Parallel => coordinates::coordinates(study)?.into(),
        SweepChart::Importance => importance::importance(study)?.into(),
        SweepChart::Tokens => curves::loss_against(study, curves::Progress::Tokens, lines)?.into(),
        SweepChart::Seconds => curves::loss_against(study, curves::Progress::Seconds, lines)?.into(),
        SweepChart::GradNorm => curves::logged(study, "grad_norm", lines)?.into(),
        SweepChart::LearningRate => curves::logged(study, "learning_rate", lines)?.into(),
        SweepChart::Pareto => pareto::pareto(study, x)?.into(),
    })
}

/// The trials of the settings whose curves are drawn, with a note, where there are more than can be told apart.
pub fn best_trials(result: &SweepResult) -> Option<(HashSet<usize>, String)> {
    let options = SweepChartOptions::default();
    let study = Study::new(result, &options).ok().filter(|study| study.settings.len() > MOST_BEFORE_CHOICE)?;
    let best = study.in_order().into_iter().take(MOST_CURVES);
    let trials = best.flat_map(|setting| setting.rows.iter().map(|row| row.index)).collect();
    Some((trials, study.left_out(MOST_CURVES).swap_remove(0)))
}

/// The settings whose curves are drawn beside those of other runs, by their short names, in the order of the grid: their
/// finished trials, and a note on the settings that are left out.
pub fn best_settings(result: &SweepResult) -> (Vec<(String, Vec<&TrialRow>)>, Option<String>) {
    let options = SweepChartOptions::default();
    let Ok(study) = Study::new(result, &options) else { return (Vec::new(), None) };
    let best: Vec<_> = study.in_order().into_iter().take(MOST_CURVES).map(|setting| &setting.point).collect();
    let shown = study.settings.iter().filter(|setting| best.contains(&&setting.point));
    let heading = study.heading();
    let named = |setting: &study::Setting<'_>| match study.axes.len() {
        1 => format!("{heading} {}", study.name(&setting.point)),
        _ => study.name(&setting.point),
    };
    let settings = shown.map(|setting| (named(setting), setting.rows.iter().map(|row| row.index).collect::<Vec<_>>()));
    let rows = |numbers: Vec<usize>| result.rows().iter().filter(|row| numbers.contains(&row.index)).collect();
    let settings = settings.map(|(name, numbers)| (name, rows(numbers))).collect();
    (settings, study.left_out(best.len()).into_iter().next().filter(|_| best.len() < study.settings.len()))
}

/// Up to this many settings all have a curve, over steps.
const MOST_BEFORE_CHOICE: usize = 12;
const MOST_ROWS: usize = 30;
/// More curves would be indistinguishable.
pub const MOST_CURVES: usize = 8;

/// A chart for every report that has what it shows.
pub struct ReportChart {
    /// Its name as a file.
    pub name: String,
    pub caption: String,
    pub picture: Picture,
}

/// The charts that show what the sweep concludes, and the others, in the order of a report.
pub fn report_charts(result: &SweepResult) -> Result<(Vec<ReportChart>, Vec<ReportChart>)> {
    let options = SweepChartOptions::default();
    let Ok(study) = Study::new(result, &options) else { return Ok((vec![], vec![])) };
    let (mut first, mut others) = (Vec::new(), Vec::new());
    let add = |charts: &mut Vec<ReportChart>, kind: SweepChart, name: &str, caption: String| -> Result<()> {
        let picture = drawn(&study, kind, &options)?;
        charts.push(ReportChart { name: name.to_owned(), caption, picture });
        Ok(())
    };
    let metric = study.metric;
    if study.is_repeated() && study.settings.len() > 1 {
        let caption = match study.decision {
            Some(_) => format!(
                "{metric} of each setting less that of the best one, within the same {}, and the margin.",
                study.over
            ),
            None => format!("{metric} of each setting less that of the best one, within the same {}.", study.over),
        };
        add(&mut first, SweepChart::Differences, "differences", caption)?;
    }
    if study.settings.len() > 1 {
        let caption = format!("Settings in the order of their {metric}.");
        add(
            if first.is_empty() && study.axes.len() > 1 { &mut first } else { &mut others },
            SweepChart::Settings,
            "settings",
            caption,
        )?;
    }
    if heat::has_room(&study) {
        add(&mut others, SweepChart::Heat, "heat", format!("{metric} at each pair of values."))?;
    }
    if study.axes.len() > 1 && study.settings.len() > 4 {
        let caption = format!("A line for each setting, coloured by {metric}; the best one stands out.");
        add(&mut others, SweepChart::Parallel, "parallel", caption)?;
    }
    if study.axes.len() > 1 {
        if let Ok(rows) = importance::importance(&study) {
            let caption = format!("How much of the variance of {metric} each axis explains.");
            others.push(ReportChart { name: "importance".into(), caption, picture: rows.into() });
        }
    }
    for (name, caption, chart) in curves::all(&study, MOST_CURVES)? {
        others.push(ReportChart { name: name.into(), caption: caption.into(), picture: chart.into() });
    }
    for cost in ["seconds", "peak_memory"].into_iter().filter(|cost| pareto::is_worth_it(&study, cost)) {
        let picture = pareto::pareto(&study, Some(cost))?.into();
        let caption = format!(
            "{metric} against {}; the line joins the settings that no other beats in both.",
            pareto::words(cost)
        );
        others.push(ReportChart { name: format!("pareto_{cost}"), caption, picture });
    }
    Ok((first, others))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{Grid, Measurements, Point, TrialResult, TrialRow};
    use serde_json::Value;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    /// A sweep without a folder, of loss and seconds by the point; a trial without them has failed.
    pub fn sweep(grid: Value, numbers: impl Fn(&Point) -> Option<(f64, f64)>) -> SweepResult {
        let grid = grid.as_object().unwrap();
        let keys: Vec<&str> = grid.keys().map(String::as_str).collect();
        let grid = Grid::from_json(grid, &keys).unwrap();
        let mut result = SweepResult::new(Path::new("/no/such/sweep"), &grid);
        for (index, point) in grid.points().into_iter().enumerate() {
            let Some((loss, seconds)) = numbers(&point) else { continue };
            let measurements = Measurements {
                trainable_params: 64,
                train_loss: None,
                eval_loss: Some(loss),
                tokens: 100,
                seconds,
                metrics: BTreeMap::new(),
                measured: BTreeSet::new(),
            };
            let result_of = TrialResult::Finished(measurements);
            result.insert(TrialRow { index, dir: point.folder_name(), point, result: result_of, place: None });
        }
        result
    }

    pub fn study_of(result: &SweepResult) -> Study<'_> {
        static OPTIONS: std::sync::LazyLock<SweepChartOptions> = std::sync::LazyLock::new(SweepChartOptions::default);
        Study::new(result, &OPTIONS).unwrap()
    }
}
