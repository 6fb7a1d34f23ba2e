//! The layout of a chart: the panel, its axes with their ticks, and the texts around it.
//!
//! Texts are measured first and the panel takes the remaining space, so labels neither overlap
//! nor leave the picture, however long they are.

use super::clean::CleanData;
use super::names::{self, Names};
use super::palette::{GREY, INK};
use super::range::AxisRange;
use super::scene::{Anchor, Label, Rect};
use super::{font, number, ticks};
use crate::error::{Error, Result};
use crate::plot::charts::chart::{Axis, Chart, Line, Mark, Ticks};
use crate::plot::charts::scale::Scale;

pub const TITLE: f64 = 17.0;
pub const TEXT: f64 = 12.5;
pub const TICK: f64 = 11.5;
pub const NOTE: f64 = 10.5;
/// The margin of the picture.
const EDGE: f64 = 14.0;
/// Between axis and tick labels, and between neighbouring tick labels.
const TICK_GAP: f64 = 8.0;
const LABEL_GAP: f64 = 9.0;
/// The smallest width and height of a panel that shows anything.
const LEAST: f64 = 60.0;

#[derive(Debug)]
pub struct Layout {
    pub width: f64,
    pub height: f64,
    pub panel: Rect,
    pub x: AxisTicks,
    pub y: AxisTicks,
    /// Title, subtitle, axis titles, notes.
    pub texts: Vec<Label>,
    pub names: Names,
}

/// An axis with its ticks; a tick whose label does not fit has an empty one.
#[derive(Debug)]
pub struct AxisTicks {
    pub range: AxisRange,
    pub ticks: Vec<(f64, String)>,
    pub minor: Vec<f64>,
}

/// # Errors
/// The texts leave no room for the panel.
pub fn lay_out(chart: &Chart, data: &CleanData, width: f64, height: f64) -> Result<Layout> {
    let (x_range, y_range) = ranges(chart, data)?;
    let mut texts = vec![];
    let top = header(chart, width, &mut texts);
    let bottom = footer(chart, data, width, height, &mut texts);
    let y_title = if chart.y.title.is_empty() { 0.0 } else { TEXT * 1.5 };
    let y = y_axis(&chart.y, y_range, bottom - top);
    let label_room = y.ticks.iter().map(|(_, label)| font::room(label, TICK)).fold(0.0, f64::max);
    let style = names::choose(chart, data, &x_range);
    let mut panel = Rect {
        left: EDGE + y_title + label_room + TICK_GAP,
        top,
        right: width - EDGE - names::room(chart, style, width),
        bottom,
    };
    check_room(&panel, width, height)?;
    let mut x = x_axis(chart, data, x_range, &panel);
    panel.right -= overhang(&x, &panel, width);
    check_room(&panel, width, height)?;
    x = x_axis(chart, data, x_range, &panel);
    axis_titles(chart, &panel, &mut texts);
    let names = names::place(chart, data, style, &panel, (&x.range, &y.range), (width, height));
    Ok(Layout { width, height, panel, x, y, texts, names })
}

impl Layout {
    /// The position in the picture of a point of the data.
    pub fn spot(&self, x: f64, y: f64) -> (f64, f64) {
        let Rect { left, bottom, .. } = self.panel;
        (left + self.x.range.position(x) * self.panel.width(), bottom - self.y.range.position(y) * self.panel.height())
    }
}

/// The ranges of both axes, which contain everything that is drawn on them.
fn ranges(chart: &Chart, data: &CleanData) -> Result<(AxisRange, AxisRange)> {
    let (mut xs, mut ys): (Vec<f64>, Vec<f64>) = (vec![], vec![]);
    for series in &data.series {
        for point in &series.points {
            xs.push(point.x);
            ys.extend([point.y]);
            ys.extend(point.spread.iter().flat_map(|(low, high)| [*low, *high]));
        }
        for (x, y) in series.runs.iter().map(|run| (run.x, run.y)).chain(series.raw.iter().copied()) {
            xs.push(x);
            ys.push(y);
        }
    }
    for line in &chart.lines {
        match line {
            Line::Horizontal { y, .. } => ys.push(*y),
            Line::Vertical { x, .. } => xs.push(*x),
        }
    }
    xs.extend(chart.annotations.iter().map(|note| note.x));
    ys.extend(chart.annotations.iter().map(|note| note.y));
    let only_lines = chart.series.iter().all(|series| series.mark == Mark::Line);
    let x = range(&chart.x, &xs, if only_lines { 0.02 } else { 0.05 })?;
    let y = range(&chart.y, &ys, 0.06)?;
    Ok((x, y))
}

fn range(axis: &Axis, values: &[f64], padding: f64) -> Result<AxisRange> {
    let shown = values.iter().copied().filter(|value| axis.scale.shows(*value));
    let Some(mut range) = AxisRange::around(axis.scale, shown, padding) else {
        return Err(Error::bug("a chart without values reached the layout"));
    };
    if let Ticks::Named(names) = &axis.ticks {
        let positions = names.iter().map(|(at, _)| *at).filter(|at| axis.scale.shows(*at));
        let (low, high) = positions.fold((range.low, range.high), |(low, high), at| (low.min(at), high.max(at)));
        range = AxisRange { low: low - 0.4, high: high + 0.4, ..range };
    }
    let usable = |end: Option<f64>| end.filter(|value| axis.scale.shows(*value));
    Ok(range.fixed(usable(axis.low), usable(axis.high)))
}

/// Adds title and subtitle; returns the top of the panel.
fn header(chart: &Chart, width: f64, texts: &mut Vec<Label>) -> f64 {
    let mut top = EDGE - 2.0;
    for (text, size, colour, lines) in [(&chart.title, TITLE, INK, 2), (&chart.subtitle, TEXT, GREY, 2)] {
        for line in font::wrap(&font::one_line(text), size, width - 2.0 * EDGE, lines) {
            texts.push(Label::new(line, (EDGE, top + size), size, colour, Anchor::Start));
            top += size * 1.35;
        }
    }
    top + 12.0
}

/// Adds the notes; returns the bottom of the panel.
fn footer(chart: &Chart, data: &CleanData, width: f64, height: f64, texts: &mut Vec<Label>) -> f64 {
    let notes = data.notes.iter().flat_map(|note| font::wrap(&font::one_line(note), NOTE, width - 2.0 * EDGE, 2));
    let notes: Vec<String> = notes.collect();
    let mut bottom = height - EDGE;
    for note in notes.iter().rev() {
        texts.push(Label::new(note, (EDGE, bottom - 2.0), NOTE, GREY, Anchor::Start));
        bottom -= NOTE * 1.4;
    }
    if !notes.is_empty() {
        bottom -= 4.0;
    }
    let title = if chart.x.title.is_empty() { 0.0 } else { TEXT * 1.6 };
    bottom - title - TICK - TICK_GAP
}

fn axis_titles(chart: &Chart, panel: &Rect, texts: &mut Vec<Label>) {
    let title = |axis: &Axis, limit: f64| font::elide_end(&font::one_line(&axis.title), TEXT, limit);
    if !chart.x.title.is_empty() {
        let at = ((panel.left + panel.right) / 2.0, panel.bottom + TICK_GAP + TICK + TEXT * 1.4);
        texts.push(Label::new(title(&chart.x, panel.width()), at, TEXT, INK, Anchor::Middle));
    }
    if !chart.y.title.is_empty() {
        let at = (EDGE + TEXT * 0.8, (panel.top + panel.bottom) / 2.0);
        let label = Label::new(title(&chart.y, panel.height()), at, TEXT, INK, Anchor::Middle);
        texts.push(Label { upright: true, ..label });
    }
}

fn y_axis(axis: &Axis, range: AxisRange, height: f64) -> AxisTicks {
    let wanted = ((height / 46.0) as usize).clamp(2, 9);
    let values = tick_values(axis, &range, wanted, false);
    let rooms = |_: &str| TICK * 1.3;
    let ticks = without_overlap(labelled(axis, &range, &values), &range, height, rooms);
    let minor = minor_ticks(axis, &range);
    AxisTicks { range, ticks, minor }
}

fn x_axis(chart: &Chart, data: &CleanData, range: AxisRange, panel: &Rect) -> AxisTicks {
    let axis = &chart.x;
    let is_integer = data.series.iter().flat_map(|series| &series.points).all(|point| point.x.fract() == 0.0);
    let (width, minor) = (panel.width(), minor_ticks(axis, &range));
    let room = |label: &str| font::room(label, TICK) + LABEL_GAP;
    let most = ((width / 56.0) as usize).clamp(2, 12);
    for wanted in (2..=most).rev() {
        let mut ticks = labelled(axis, &range, &tick_values(axis, &range, wanted, is_integer));
        if matches!(axis.ticks, Ticks::Named(_)) {
            let limit = (least_distance(&ticks, &range) * width - LABEL_GAP) / font::SUBSTITUTE;
            ticks.iter_mut().for_each(|(_, label)| *label = font::elide_middle(label, TICK, limit.max(TICK)));
        }
        let fits = without_overlap(ticks.clone(), &range, width, room);
        if fits == ticks || wanted == 2 || !matches!(axis.ticks, Ticks::Round) {
            return AxisTicks { range, ticks: fits, minor };
        }
    }
    AxisTicks { range, ticks: vec![], minor }
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
        let hides_last = index < last && *to > spans[last].0;
        if *from < end || hides_last {
            ticks[index].1.clear();
        } else {
            end = *to;
        }
    }
    ticks
}

/// How far the rightmost label of the x axis would extend beyond the picture.
fn overhang(x: &AxisTicks, panel: &Rect, width: f64) -> f64 {
    let right_ends = x
        .ticks
        .iter()
        .map(|(at, label)| panel.left + x.range.position(*at) * panel.width() + font::room(label, TICK) / 2.0);
    (right_ends.fold(0.0, f64::max) - (width - 4.0)).max(0.0)
}

fn check_room(panel: &Rect, width: f64, height: f64) -> Result<()> {
    if panel.width() >= LEAST && panel.height() >= LEAST {
        return Ok(());
    }
    let message = format!(
        "a chart of {width} x {height} pixels leaves {:.0} x {:.0} for its panel",
        panel.width(),
        panel.height()
    );
    Err(Error::input(format!("{message}, expected at least {LEAST} x {LEAST}"))
        .with_hint("make it larger, or shorten its titles and notes"))
}
