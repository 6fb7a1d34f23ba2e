//! The ticks of a chart's axes and their labels, as many as fit.

use super::clean::CleanData;
use super::range::AxisRange;
use super::scene::Rect;
use super::sizes::{LABEL_GAP, TICK};
use super::{font, number, ticks};
use crate::plot::charts::chart::{Axis, Chart, Ticks};
use crate::plot::charts::scale::Scale;

/// Names on the y axis take at most this part of the picture's width.
const MOST_NAMES: f64 = 0.36;
/// Names on the x axis are not cut below so many pixels.
const LEAST_NAME: f64 = 54.0;

/// An axis with its ticks; a tick whose label does not fit has an empty one.
#[derive(Debug)]
pub struct AxisTicks {
    pub range: AxisRange,
    pub ticks: Vec<(f64, String)>,
    pub minor: Vec<f64>,
}

impl AxisTicks {
    /// The width of the widest label.
    pub fn room(&self) -> f64 {
        self.ticks.iter().map(|(_, label)| font::room(label, TICK)).fold(0.0, f64::max)
    }

    pub fn clear_labels(&mut self) {
        self.ticks.iter_mut().for_each(|(_, label)| label.clear());
    }

    /// Clears labels that would reach further than `limit` beyond the ends of an axis `length` long.
    pub fn clear_beyond(&mut self, length: f64, limit: f64) {
        for (at, label) in &mut self.ticks {
            let (middle, half) = (self.range.position(*at) * length, font::room(label, TICK) / 2.0);
            if middle - half < -limit || middle + half > length + limit {
                label.clear();
            }
        }
    }
}

/// `height` is the panel's, `width` the picture's.
pub fn y_axis(axis: &Axis, range: AxisRange, height: f64, width: f64) -> AxisTicks {
    let wanted = ((height / 46.0) as usize).clamp(2, 9);
    // A panel that is low may have one round value of the usual step, which says nothing of the scale.
    let most = (height / (TICK * 1.8)) as usize;
    let steps = (wanted..=most.max(wanted)).map(|wanted| tick_values(axis, &range, wanted, false));
    let values = steps.into_iter().find(|values| values.len() > 1);
    let values = values.unwrap_or_else(|| tick_values(axis, &range, wanted, false));
    let rooms = |_: &str| TICK * 1.3;
    let mut ticks = without_overlap(labelled(axis, &range, &values), &range, height, rooms);
    if matches!(axis.ticks, Ticks::Named(_)) {
        ticks.iter_mut().for_each(|(_, label)| *label = font::elide_middle(label, TICK, width * MOST_NAMES));
    }
    let minor = minor_ticks(axis, &range);
    AxisTicks { range, ticks, minor }
}

pub fn x_axis(chart: &Chart, data: &CleanData, range: AxisRange, panel: &Rect) -> AxisTicks {
    let axis = &chart.x;
    let is_integer = data.series.iter().flat_map(|series| &series.points).all(|point| point.x.fract() == 0.0);
    let (width, minor) = (panel.width(), minor_ticks(axis, &range));
    let room = |label: &str| font::room(label, TICK) + LABEL_GAP;
    let most = ((width / 56.0) as usize).clamp(2, 12);
    for wanted in (2..=most).rev() {
        let mut ticks = labelled(axis, &range, &tick_values(axis, &range, wanted, is_integer));
        if matches!(axis.ticks, Ticks::Named(_)) {
            let limit = (least_distance(&ticks, &range) * width - LABEL_GAP) / font::SUBSTITUTE;
            // Of many names some whole ones say more than the beginnings of all.
            ticks.iter_mut().for_each(|(_, label)| *label = font::elide_middle(label, TICK, limit.max(LEAST_NAME)));
        }
        if matches!(axis.ticks, Ticks::Named(_)) {
            let distance = least_distance(&ticks, &range) * width;
            thin_names(&mut ticks, distance, room);
        }
        let fits = without_overlap(ticks.clone(), &range, width, room);
        if fits == ticks || wanted == 2 || !matches!(axis.ticks, Ticks::Round) {
            return AxisTicks { range, ticks: fits, minor };
        }
    }
    AxisTicks { range, ticks: vec![], minor }
}

/// Keeps every second name, or third, and so on, where not all fit.
fn thin_names(ticks: &mut [(f64, String)], distance: f64, room: impl Fn(&str) -> f64) {
    let widest = ticks.iter().map(|(_, label)| room(label)).fold(0.0, f64::max);
    let stride = (widest / distance.max(1e-9) - 1e-6).ceil().max(1.0) as usize;
    ticks.iter_mut().enumerate().filter(|(at, _)| at % stride != 0).for_each(|(_, (_, label))| label.clear());
}

/// The least distance between two ticks, as a fraction of the axis.
fn least_distance(ticks: &[(f64, String)], range: &AxisRange) -> f64 {
    let distances = ticks.windows(2).map(|pair| (range.position(pair[1].0) - range.position(pair[0].0)).abs());
    distances.fold(1.0, f64::min)
}

fn tick_values(axis: &Axis, range: &AxisRange, wanted: usize, is_integer: bool) -> Vec<f64> {
    let mut values = match &axis.ticks {
        Ticks::At(values) => values.clone(),
        Ticks::Named(names) => names.iter().map(|(at, _)| *at).collect(),
        Ticks::Round if axis.scale == Scale::Linear => ticks::linear(range, wanted, is_integer),
        Ticks::Round => ticks::logarithmic(range, wanted),
    };
    values.retain(|value| range.holds(*value));
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

fn minor_ticks(axis: &Axis, range: &AxisRange) -> Vec<f64> {
    if matches!(axis.ticks, Ticks::Round) {
        ticks::minor(range)
    } else {
        vec![]
    }
}

fn labelled(axis: &Axis, range: &AxisRange, values: &[f64]) -> Vec<(f64, String)> {
    if let Ticks::Named(names) = &axis.ticks {
        let name = |at: &f64| names.iter().find(|(value, _)| value == at).map_or("", |(_, name)| name);
        return values.iter().map(|at| (*at, font::one_line(name(at)))).collect();
    }
    let each = range.scale.is_log() || matches!(axis.ticks, Ticks::At(_));
    values.iter().copied().zip(number::labels(values, axis.numbers, each)).collect()
}

/// Empties labels that would overlap the one before them; the last label has priority.
fn without_overlap(
    mut ticks: Vec<(f64, String)>,
    range: &AxisRange,
    length: f64,
    room: impl Fn(&str) -> f64,
) -> Vec<(f64, String)> {
    let spans: Vec<(f64, f64)> = ticks
        .iter()
        .map(|(at, label)| (range.position(*at) * length, room(label) / 2.0))
        .map(|(middle, half)| (middle - half, middle + half))
        .collect();
    let last = spans.len().saturating_sub(1);
    let mut end = f64::NEG_INFINITY;
    for (index, (from, to)) in spans.iter().enumerate() {
        if ticks[index].1.is_empty() {
            continue;
        }
        let hides_last = index < last && !ticks[last].1.is_empty() && *to > spans[last].0;
        if *from < end || hides_last {
            ticks[index].1.clear();
        } else {
            end = *to;
        }
    }
    ticks
}
