//! All axes in which settings differ, and the metric, as parallel coordinates.

use super::study::{chart_axis, position, Study};
use crate::bail;
use crate::error::{Kind, Result};
use crate::plot::charts::chart::Axis;
use crate::plot::charts::parallel::{Parallel, ParallelLine};
use crate::plot::charts::scale::Scale;
use crate::sweep::columns::larger_is_better;

/// More lines would be one surface.
const MOST_LINES: usize = 400;

/// # Errors
/// A sweep whose settings do not differ.
pub fn coordinates(study: &Study) -> Result<Parallel> {
    if study.axes.is_empty() {
        bail!(Kind::Input, "chart: expected an axis in which settings differ, found none";
            hint: "parallel coordinates compare settings, not seeds")
    }
    let mut axes: Vec<Axis> = study.axes.iter().map(|axis| chart_axis(axis)).collect();
    axes.push(Axis::new(study.metric, Scale::Linear));
    let shown: Vec<_> = study.in_order().into_iter().take(MOST_LINES).collect();
    let line = |setting: &&super::study::Setting| {
        let place =
            |axis: &&crate::sweep::Axis| setting.point.get(&axis.key).map_or(f64::NAN, |value| position(axis, value));
        let values = study.axes.iter().map(place).chain([setting.summary.mean]);
        ParallelLine { values: values.collect(), label: String::new() }
    };
    let lines: Vec<ParallelLine> = shown.iter().map(line).collect();
    let best = study.in_order().first().map(|setting| study.name(&setting.point)).unwrap_or_default();
    let mut notes = vec![format!("Orange: the best mean, {best}. Blue to grey: the others, in their order.")];
    notes.extend(study.left_out(lines.len()));
    Ok(Parallel {
        title: format!("Settings and their {}", study.metric_title()),
        subtitle: study.subject.clone(),
        axes,
        lines,
        smaller_is_better: !larger_is_better(study.metric),
        notes,
        style: Default::default(),
    })
}
