//! The ranges of a chart's axes, panel by panel: they contain everything that is drawn.

use super::clean::CleanData;
use super::range::AxisRange;
use crate::error::{Error, Result};
use crate::plot::charts::chart::{Axis, Band, Chart, Line, Mark, Point, Ticks};
use crate::plot::charts::scale::Scale;

/// Half the width and height of a heatmap's cell, in units of its axes.
pub const HALF_CELL: f64 = 0.5;

#[derive(Debug, Clone, Copy)]
pub struct Ranges {
    pub x: AxisRange,
    pub y: AxisRange,
}

/// The ranges of each panel. Axes that panels share have the range of all.
///
/// # Errors
/// Nothing to draw.
pub fn of_panels(chart: &Chart, data: &CleanData) -> Result<Vec<Ranges>> {
    let panels = chart.panels.names.len().max(1);
    let Some(all) = Extents::of(chart, data, None).ranges(chart) else {
        return Err(Error::bug("a chart without values reached the layout"));
    };
    let of_panel = |panel: usize| {
        let alone = Extents::of(chart, data, Some(panel)).ranges(chart).unwrap_or(all);
        Ranges {
            x: if chart.panels.shares_x { all.x } else { alone.x },
            y: if chart.panels.shares_y { all.y } else { alone.y },
        }
    };
    Ok(if panels == 1 { vec![all] } else { (0..panels).map(of_panel).collect() })
}

/// The values that lie on each axis, and the axes whose bars stand on 0.
#[derive(Default)]
struct Extents {
    xs: Vec<f64>,
    ys: Vec<f64>,
    x_has_bars: bool,
    y_has_bars: bool,
    only_cells: bool,
    only_lines: bool,
}

impl Extents {
    /// Of one panel, or of all.
    fn of(chart: &Chart, data: &CleanData, panel: Option<usize>) -> Self {
        let mut extents = Extents { only_cells: true, only_lines: true, ..Extents::default() };
        for (series, clean) in chart.series.iter().zip(&data.series) {
            if panel.is_some_and(|panel| panel != series.panel) {
                continue;
            }
            let (mut along, mut values) = (vec![], vec![]);
            for point in &clean.points {
                along.extend(ends_along(series.mark, point));
                values.extend(point.extent());
            }
            for (x, y) in clean.runs.iter().map(|run| (run.x, run.y)).chain(clean.raw.iter().copied()) {
                along.push(x);
                values.push(y);
            }
            if series.mark == Mark::Cells {
                values = values.iter().flat_map(|y| [y - HALF_CELL, y + HALF_CELL]).collect();
            }
            let has_bars = series.mark == Mark::Bars && !along.is_empty();
            if series.is_horizontal {
                extents.xs.extend(values);
                extents.ys.extend(along);
                extents.x_has_bars |= has_bars;
            } else {
                extents.xs.extend(along);
                extents.ys.extend(values);
                extents.y_has_bars |= has_bars;
            }
            extents.only_cells &= series.mark == Mark::Cells;
            extents.only_lines &= series.mark == Mark::Line;
        }
        extents.add_references(chart);
        extents
    }

    fn add_references(&mut self, chart: &Chart) {
        for line in &chart.lines {
            match line {
                Line::Horizontal { y, .. } => self.ys.push(*y),
                Line::Vertical { x, .. } => self.xs.push(*x),
            }
        }
        for band in &chart.bands {
            match band {
                Band::Horizontal { low, high, .. } => self.ys.extend([*low, *high]),
                Band::Vertical { low, high, .. } => self.xs.extend([*low, *high]),
            }
        }
        self.xs.extend(chart.annotations.iter().map(|note| note.x));
        self.ys.extend(chart.annotations.iter().map(|note| note.y));
    }

    fn ranges(&self, chart: &Chart) -> Option<Ranges> {
        let (x_padding, y_padding) = match (self.only_cells, self.only_lines) {
            (true, _) => (0.0, 0.0),
            (_, true) => (0.02, 0.06),
            _ => (0.05, 0.06),
        };
        let x = range(&chart.x, &self.xs, x_padding, self.x_has_bars)?;
        let y = range(&chart.y, &self.ys, y_padding, self.y_has_bars)?;
        Some(Ranges { x, y })
    }
}

/// The ends of what is drawn at a point, along the axis of its x.
fn ends_along(mark: Mark, point: &Point) -> [f64; 2] {
    match (mark, point.edges) {
        (Mark::Cells, _) => [point.x - HALF_CELL, point.x + HALF_CELL],
        (_, Some((low, high))) => [low, high],
        (_, None) => [point.x, point.x],
    }
}

fn range(axis: &Axis, values: &[f64], padding: f64, has_bars: bool) -> Option<AxisRange> {
    let on_zero = has_bars && axis.scale == Scale::Linear;
    let zero = on_zero.then_some(0.0);
    let shown: Vec<f64> = values.iter().copied().chain(zero).filter(|value| axis.scale.shows(*value)).collect();
    let mut range = AxisRange::around(axis.scale, shown.iter().copied(), padding)?;
    if on_zero {
        // Bars stand on the axis, without a gap below.
        range.low = if shown.iter().all(|value| *value >= 0.0) { 0.0 } else { range.low };
        range.high = if shown.iter().all(|value| *value <= 0.0) { 0.0 } else { range.high };
        if range.low >= range.high {
            range.high = range.low + 1.0;
        }
    }
    if let Ticks::Named(names) = &axis.ticks {
        let positions = names.iter().map(|(at, _)| *at).filter(|at| axis.scale.shows(*at));
        let (low, high) = positions.fold((range.low, range.high), |(low, high), at| (low.min(at), high.max(at)));
        range = AxisRange { low: low - 0.4, high: high + 0.4, ..range };
    }
    let usable = |end: Option<f64>| end.filter(|value| axis.scale.shows(*value));
    Some(range.fixed(usable(axis.low), usable(axis.high)))
}
