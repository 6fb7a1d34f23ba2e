//! The series of a chart from the groups of a mark.

use super::super::chart::{Mark as Drawn, Point, Series, Spread};
use super::super::scale::Scale;
use super::axes::Positions;
use super::choices::{ErrorBar, Estimator, Stat};
use super::estimate::estimate;
use super::groups::Group;
use super::marks::{Mark, MarkOptions};
use super::options::{HistogramOptions, LineOptions};
use super::statistics::{bin_edges, box_summary, counts};
use crate::bail;
use crate::error::{Kind, Result};
use std::collections::HashMap;

/// Half the width of a bar, box or strip, in units of its axis.
const HALF_WIDTH: f64 = 0.4;
/// The narrower box, which leaves room beside it.
const HALF_BOX: f64 = 0.32;
/// Lines with more points have no markers.
const MOST_MARKERS: usize = 30;
/// More cells than this are smaller than a pixel.
const MOST_CELLS: usize = 250_000;
/// Opacity of histograms that overlap, and of strips.
const OVERLAID: f64 = 0.55;
const STRIP: f64 = 0.75;

/// What the groups of all marks have in common.
#[derive(Debug)]
pub struct Context<'a> {
    pub x: &'a Positions,
    pub y: &'a Positions,
    /// Of the axis of the values.
    pub x_scale: Scale,
    pub y_scale: Scale,
}

impl Context<'_> {
    /// The positions along the axis of names or x.
    fn along(&self, mark: &Mark) -> Vec<f64> {
        let positions = if mark.options.is_horizontal() { self.y } else { self.x };
        mark.along.iter().map(|cell| positions.at(cell)).collect()
    }

    fn value_scale(&self, mark: &Mark) -> Scale {
        if mark.options.is_horizontal() {
            self.x_scale
        } else {
            self.y_scale
        }
    }
}

/// The series of a mark, one for each group.
///
/// # Errors
/// Values that are names, or several rows for one bar or cell.
pub fn series(mark: &Mark, groups: &[Group], context: &Context) -> Result<Vec<Series>> {
    let base = |group: &Group| Series {
        name: group.name.clone(),
        slot: Some(group.slot),
        panel: group.panel,
        is_horizontal: mark.options.is_horizontal(),
        alpha: mark.options.common().alpha,
        ..Series::default()
    };
    match &mark.options {
        MarkOptions::Histogram(options) => histograms(mark, options, groups, base, context.x_scale),
        MarkOptions::Line(options) => {
            let points = positions(mark, context, (options.estimator, options.errorbar))?;
            let line = |group: &Group| line(base(group), points.of(group, false)?, options);
            groups.iter().map(line).collect()
        }
        MarkOptions::Points(options) => {
            let points = positions(mark, context, (Estimator::None, ErrorBar::None))?;
            let scatter = |group: &Group| {
                let radius = options.size.map(|size| size / 2.0);
                Ok(Series { points: points.of(group, false)?, mark: Drawn::Points, radius, ..base(group) })
            };
            groups.iter().map(scatter).collect()
        }
        MarkOptions::Bars(options) => {
            let points = positions(mark, context, (options.estimator, options.errorbar))?;
            let bars = |group: &Group| {
                let mut all = points.of(group, true)?;
                all.iter_mut().for_each(|point| {
                    point.edges = Some(edges(point.x, HALF_WIDTH, group, mark.options.is_horizontal()))
                });
                // Error bars stand in the middle of their bar.
                all.iter_mut()
                    .for_each(|point| point.x = point.edges.map_or(point.x, |(low, high)| (low + high) / 2.0));
                Ok(Series { points: all, mark: Drawn::Bars, ..base(group) })
            };
            groups.iter().map(bars).collect()
        }
        MarkOptions::Box(options) => {
            let (along, values) = (context.along(mark), mark.numbers()?);
            let scale = context.value_scale(mark);
            Ok(groups.iter().map(|group| boxes(base(group), group, (&along, &values), scale, options.whis)).collect())
        }
        MarkOptions::Strip(options) => {
            let (along, values) = (context.along(mark), mark.numbers()?);
            let strip = |group: &Group| {
                let point = |row: &usize| {
                    let (low, high) = edges(along[*row], HALF_WIDTH, group, mark.options.is_horizontal());
                    let spread = options.jitter * (high - low) * jitter(*row);
                    Point::new((low + high) / 2.0 + spread, values[*row])
                };
                let alpha = options.common.alpha.or(Some(STRIP));
                let points = group.rows.iter().map(point).collect();
                Series { points, mark: Drawn::Points, radius: Some(options.size / 2.0), alpha, ..base(group) }
            };
            Ok(groups.iter().map(strip).collect())
        }
        MarkOptions::Heatmap(_) => {
            let by_panel = groups.iter().map(|group| cells(mark, group, context, base(group)));
            by_panel.collect()
        }
    }
}

/// The ends of the bar of a group, beside those of the other groups at the same name.
fn edges(x: f64, half: f64, group: &Group, is_horizontal: bool) -> (f64, f64) {
    let width = 2.0 * half / group.count as f64;
    // On the y axis the first is at the top, as in the legend.
    let place = if is_horizontal { group.count - 1 - group.place } else { group.place };
    let low = x - half + width * place as f64;
    (low, low + width)
}

/// Evenly spread over (-0.5, 0.5), close rows far apart: multiples of the golden ratio.
fn jitter(row: usize) -> f64 {
    (row as f64 * 0.618_033_988_749_895 + 0.5).fract() - 0.5
}

/// The points of all rows of a mark.
struct Positioned<'a> {
    mark: &'a Mark,
    along: Vec<f64>,
    values: Vec<f64>,
    estimates: (Estimator, ErrorBar),
}

fn positions<'a>(mark: &'a Mark, context: &Context, estimates: (Estimator, ErrorBar)) -> Result<Positioned<'a>> {
    if estimates.0 != Estimator::None && mark.spreads.is_some() {
        let title = &mark.title;
        bail!(Kind::Input, "{title}: expected either `estimator` or intervals in the data, found both"; hint: "leave one of them out")
    }
    let is_named = context.y.has_names() && !mark.options.is_categorical();
    let values = if is_named { mark.values.iter().map(|cell| context.y.at(cell)).collect() } else { mark.numbers()? };
    Ok(Positioned { mark, along: context.along(mark), values, estimates })
}

impl Positioned<'_> {
    /// The points of a group; with `is_single`, at most one at a place.
    fn of(&self, group: &Group, is_single: bool) -> Result<Vec<Point>> {
        if self.estimates.0 != Estimator::None {
            return Ok(self.estimated(group));
        }
        if is_single {
            self.ensure_single(group)?;
        }
        Ok(group.rows.iter().map(|row| self.point(*row)).collect())
    }

    fn point(&self, row: usize) -> Point {
        let Mark { spreads, shades, texts, .. } = self.mark;
        Point {
            spread: spreads.as_ref().map(|spreads| spreads[row]),
            label: texts.as_ref().map_or(String::new(), |texts| texts[row].clone()),
            value: shades.as_ref().map(|shades| shades[row]),
            ..Point::new(self.along[row], self.values[row])
        }
    }

    fn estimated(&self, group: &Group) -> Vec<Point> {
        let mut places: Vec<(f64, Vec<f64>)> = vec![];
        let mut known: HashMap<u64, usize> = HashMap::new();
        for row in &group.rows {
            let place = *known.entry(self.along[*row].to_bits()).or_insert(places.len());
            if place == places.len() {
                places.push((self.along[*row], vec![]));
            }
            places[place].1.push(self.values[*row]);
        }
        let (estimator, errorbar) = self.estimates;
        let point = |(x, values): &(f64, Vec<f64>)| {
            let (y, spread) = estimate(values, estimator, errorbar);
            Point { spread, ..Point::new(*x, y) }
        };
        places.iter().map(point).collect()
    }

    fn ensure_single(&self, group: &Group) -> Result<()> {
        let mut known: HashMap<u64, usize> = HashMap::new();
        for row in &group.rows {
            if let Some(first) = known.insert(self.along[*row].to_bits(), *row) {
                let (title, name) = (&self.mark.title, self.mark.along[*row].name());
                let series = if group.name.is_empty() { String::new() } else { format!(" of `{}`", group.name) };
                bail!(Kind::Input, "{title}: expected one row for each bar, found rows {first} and {row} for `{name}`{series}";
                    hint: "estimator: \"mean\" draws their mean with an interval; by: \"column\" draws bars side by side")
            }
        }
        Ok(())
    }
}

fn line(base: Series, points: Vec<Point>, options: &LineOptions) -> Result<Series> {
    let has_markers = options.markers.unwrap_or(points.len() <= MOST_MARKERS);
    let mark = if has_markers { Drawn::LineAndPoints } else { Drawn::Line };
    Ok(Series { points, mark, spread: options.interval_style, ..base })
}

/// Histograms of one mark have the same bins, so that they compare.
fn histograms(
    mark: &Mark,
    options: &HistogramOptions,
    groups: &[Group],
    base: impl Fn(&Group) -> Series,
    scale: Scale,
) -> Result<Vec<Series>> {
    let values = mark.numbers()?;
    let edges = bin_edges(&values, &options.bins, scale);
    let is_overlaid = groups.iter().any(|group| group.count > 1);
    let histogram = |group: &Group| {
        let own: Vec<f64> = group.rows.iter().map(|row| values[*row]).collect();
        let counted = counts(&own, &edges);
        let total = counted.iter().sum::<usize>().max(1) as f64;
        let bar = |(bin, count): (usize, &usize)| {
            let (low, high) = (edges[bin], edges[bin + 1]);
            let height = match options.stat {
                Stat::Count => *count as f64,
                Stat::Probability => *count as f64 / total,
                Stat::Density => *count as f64 / total / (high - low),
            };
            let middle = scale.back((scale.forward(low) + scale.forward(high)) / 2.0);
            Point { edges: Some((low, high)), ..Point::new(middle, height) }
        };
        let points = counted.iter().enumerate().filter(|(_, count)| **count > 0).map(bar).collect();
        let base = base(group);
        let alpha = base.alpha.or(is_overlaid.then_some(OVERLAID));
        Series { points, mark: Drawn::Bars, alpha, spread: Spread::Bars, ..base }
    };
    Ok(groups.iter().map(histogram).collect())
}

fn boxes(base: Series, group: &Group, (along, values): (&[f64], &[f64]), scale: Scale, whis: f64) -> Series {
    let mut places: Vec<(f64, Vec<f64>)> = vec![];
    for row in &group.rows {
        let value = values[*row];
        if !scale.shows(value) || !along[*row].is_finite() {
            continue;
        }
        match places.iter_mut().find(|(x, _)| *x == along[*row]) {
            Some((_, values)) => values.push(value),
            None => places.push((along[*row], vec![value])),
        }
    }
    let (mut points, mut runs) = (vec![], vec![]);
    for (x, values) in places {
        let Some(summary) = box_summary(&values, whis) else { continue };
        let edges = edges(x, HALF_BOX, group, base.is_horizontal);
        let middle = (edges.0 + edges.1) / 2.0;
        runs.extend(summary.outliers.iter().map(|value| Point::new(middle, *value)));
        points.push(Point {
            edges: Some(edges),
            quartiles: Some(summary.quartiles),
            ..Point::new(middle, summary.median)
        });
    }
    Series { points, runs, mark: Drawn::Boxes, ..base }
}

/// A cell for each pair of names; pairs without a row are there without a value.
fn cells(mark: &Mark, group: &Group, context: &Context, base: Series) -> Result<Series> {
    let (along, values) = (context.along(mark), &mark.values);
    let cells = context.x.all().len() * context.y.all().len();
    if cells > MOST_CELLS {
        bail!(Kind::Input, "{}: expected at most {MOST_CELLS} cells, found {cells}", mark.title; hint: "average neighbouring cells first")
    }
    let mut rows: HashMap<(u64, u64), usize> = HashMap::new();
    for row in &group.rows {
        let (x, y) = (along[*row], context.y.at(&values[*row]));
        if let Some(first) = rows.insert((x.to_bits(), y.to_bits()), *row) {
            let (title, x, y) = (&mark.title, mark.along[*row].name(), values[*row].name());
            bail!(Kind::Input, "{title}: expected one row for each cell, found rows {first} and {row} for x `{x}` and y `{y}`";
                hint: "average them first, or facet: \"column\" draws a heatmap for each")
        }
    }
    let mut points = vec![];
    for y in context.y.all() {
        for x in context.x.all() {
            let row = rows.get(&(x.to_bits(), y.to_bits()));
            let value = row.and_then(|row| Some(mark.shades.as_ref()?[*row])).unwrap_or(f64::NAN);
            points.push(Point { value: Some(value), ..Point::new(x, y) });
        }
    }
    Ok(Series { points, mark: Drawn::Cells, name: String::new(), ..base })
}
