//! Draws parallel coordinates: upright axes with their ticks, and a line across them for each setting, coloured by the
//! metric on the last axis.

use super::palette::{self, Palette};
use super::picture::{self, EDGE};
use super::range::AxisRange;
use super::scene::{Anchor, Label, Rect, Scene, Shape, Spot};
use super::sizes::{TEXT, TICK};
use super::{font, marks, number, ticks};
use crate::error::{Error, Result};
use crate::plot::charts::chart::{Axis, Ticks};
use crate::plot::charts::parallel::{Parallel, ParallelLine};
use crate::plot::charts::scale::Scale;
use std::path::Path;

const WIDTH: f64 = 720.0;
const PANEL: f64 = 300.0;
/// The most room for the labels of ticks.
const LABEL: f64 = 110.0;

/// An axis with its position and range.
struct UprightAxis<'a> {
    axis: &'a Axis,
    x: f64,
    range: AxisRange,
    is_first: bool,
}

impl Parallel {
    fn palette(&self) -> &'static Palette {
        palette::of(self.style.theme)
    }

    /// Writes the picture atomically; see [`Chart::save`](crate::plot::Chart::save).
    ///
    /// # Errors
    /// Fewer than two axes, or no line with a finite metric; a file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        picture::save(&self.scene()?, &self.title, path)
    }

    pub(super) fn scene(&self) -> Result<Scene> {
        let is_shown = |line: &&ParallelLine| {
            line.values.len() == self.axes.len()
                && line.values.iter().zip(&self.axes).all(|(value, axis)| axis.scale.shows(*value))
        };
        let mut lines: Vec<&ParallelLine> = self.lines.iter().filter(is_shown).collect();
        if lines.is_empty() || self.axes.len() < 2 {
            return Err(Error::input(format!("the chart \"{}\" has no line to show", font::one_line(&self.title)))
                .with_hint("it needs two axes, and settings with a finite metric on them"));
        }
        // The worst first, so that the best are drawn over them.
        let metric = |line: &ParallelLine| line.values.last().copied().unwrap_or(0.0);
        lines.sort_by(|one, other| metric(other).total_cmp(&metric(one)));
        if !self.smaller_is_better {
            lines.reverse();
        }
        let mut shapes = vec![];
        let top = picture::header(&self.title, &self.subtitle, WIDTH, self.palette(), &mut shapes) + TEXT * 1.4;
        let panel = Rect { left: EDGE, top, right: WIDTH - EDGE, bottom: top + PANEL };
        let axes = self.placed(&lines, &panel);
        let last = lines.len().saturating_sub(1);
        let palette = self.palette();
        let (strong, best, worst) = (palette.look(1), palette.look(0).colour, palette.axis.mix(palette.page, 0.65));
        for (at, line) in lines.iter().enumerate() {
            let place = |(axis, value): (&UprightAxis, &f64)| (axis.x, axis.y(*value, &panel));
            let spots: Vec<Spot> = axes.iter().zip(&line.values).map(place).collect();
            let is_best = at == last;
            let share = at as f64 / last.max(1) as f64;
            // The ranks of the metric, not its size: one diverged setting would make all others alike.
            let colour = if is_best { strong.colour } else { worst.mix(best, share * share) };
            let width = if is_best { 2.6 } else { 1.3 };
            shapes.push(Shape::Polyline { spots: spots.clone(), colour, width, dash: &[] });
            if is_best {
                let colours = (colour, Some(palette.page));
                spots.iter().for_each(|spot| marks::marker(strong.marker, *spot, 3.2, colours, &mut shapes));
            }
        }
        axes.iter().for_each(|axis| axis.draw(&panel, palette, &mut shapes));
        let missing = self.lines.len() - lines.len();
        let left_out = (missing > 0).then(|| format!("Not drawn: {missing} settings without a value on every axis."));
        let notes: Vec<String> = self.notes.iter().cloned().chain(left_out).collect();
        let height = picture::footer(&notes, WIDTH, panel.bottom + TEXT, self.palette(), &mut shapes);
        Ok(Scene { style: self.style.clone(), ..Scene::new(WIDTH, height, shapes) })
    }

    fn placed(&self, lines: &[&ParallelLine], panel: &Rect) -> Vec<UprightAxis<'_>> {
        let ranges = self.axes.iter().enumerate().map(|(at, axis)| {
            let values = lines.iter().map(|line| line.values[at]);
            let range = AxisRange::around(axis.scale, values, 0.04);
            range.unwrap_or(AxisRange { scale: Scale::Linear, low: 0.0, high: 1.0 })
        });
        let ranges: Vec<AxisRange> = ranges.collect();
        let mut axes: Vec<UprightAxis> = self
            .axes
            .iter()
            .zip(ranges)
            .map(|(axis, range)| UprightAxis { axis, range, x: 0.0, is_first: false })
            .collect();
        // The labels of an axis stand on its right side, those of the first on its left; the title is centred above it.
        let room = |axis: &UprightAxis| {
            let labels =
                axis.ticks().iter().map(|(_, label)| font::room(label, TICK).min(LABEL) + 9.0).fold(0.0, f64::max);
            labels.max(font::room(&font::one_line(&axis.axis.title), TEXT).min(2.0 * LABEL) / 2.0)
        };
        let left = panel.left + axes.first().map_or(0.0, room);
        let right = panel.right - axes.last().map_or(0.0, room);
        let step = (right - left) / (axes.len() - 1).max(1) as f64;
        for (at, axis) in axes.iter_mut().enumerate() {
            (axis.x, axis.is_first) = (left + step * at as f64, at == 0);
        }
        axes
    }
}

impl UprightAxis<'_> {
    fn y(&self, value: f64, panel: &Rect) -> f64 {
        panel.bottom - self.range.position(value).clamp(0.0, 1.0) * panel.height()
    }

    fn draw(&self, panel: &Rect, palette: &Palette, shapes: &mut Vec<Shape>) {
        let stroke = |from: Spot, to: Spot| Shape::Polyline {
            spots: vec![from, to],
            colour: palette.axis,
            width: 1.2,
            dash: &[],
        };
        shapes.push(stroke((self.x, panel.top), (self.x, panel.bottom)));
        let title = font::elide_end(&font::one_line(&self.axis.title), TEXT, 2.0 * LABEL);
        shapes.push(Shape::Text(Label::new(
            title,
            (self.x, panel.top - TEXT * 0.7),
            TEXT,
            palette.ink,
            Anchor::Middle,
        )));
        let mut free = f64::INFINITY;
        let mut ticks = self.ticks();
        ticks.sort_by(|one, other| self.range.position(one.0).total_cmp(&self.range.position(other.0)));
        for (value, label) in ticks {
            let y = self.y(value, panel);
            shapes.push(stroke((self.x - 3.0, y), (self.x + 3.0, y)));
            let text = font::elide_middle(&label, TICK, LABEL);
            let (anchor, dx) = if self.is_first { (Anchor::End, -7.0) } else { (Anchor::Start, 7.0) };
            let label = Label::new(text, (self.x + dx, y + TICK * 0.35), TICK, palette.grey, anchor);
            let bounds = label.bounds();
            if bounds.bottom <= free {
                free = bounds.top;
                // Lines run behind the labels.
                shapes.push(picture::filled(&bounds, palette.page.with_alpha(0.75)));
                shapes.push(Shape::Text(label));
            }
        }
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        let values = match &self.axis.ticks {
            Ticks::Named(names) => return names.iter().map(|(at, name)| (*at, font::one_line(name))).collect(),
            Ticks::At(values) => values.clone(),
            Ticks::Round if self.range.scale == Scale::Linear => ticks::linear(&self.range, 6, false),
            Ticks::Round => ticks::logarithmic(&self.range, 7),
        };
        let each = self.range.scale.is_log() || matches!(self.axis.ticks, Ticks::At(_));
        let labels = number::labels(&values, self.axis.numbers, each);
        values.into_iter().zip(labels).filter(|(value, _)| self.range.holds(*value)).collect()
    }
}
