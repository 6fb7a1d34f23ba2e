//! Draws named rows with their values: the names on the left, dots with intervals or bars on one axis, and a text on the
//! right.

use super::marks::{self, RADIUS};
use super::palette::{self, Colour, Marker, Palette};
use super::picture::{self, filled, EDGE};
use super::range::AxisRange;
use super::scene::{Anchor, Label, Rect, Scene, Shape, Spot};
use super::sizes::{TEXT, TICK};
use super::{font, number, ticks};
use crate::error::{Error, Result};
use crate::plot::charts::rows::{Emphasis, Row, RowChart, RowMark};
use crate::plot::charts::scale::Scale;
use std::path::Path;

const WIDTH: f64 = 720.0;
/// The most room for the names, and for the texts on the right.
const NAMES: f64 = 250.0;
const LABELS: f64 = 170.0;
const ROW: f64 = 23.0;
/// The height of a row where there are many.
const DENSE_ROW: f64 = 17.0;
const MANY: usize = 24;
const BAR: f64 = 0.62;

impl RowChart {
    fn palette(&self) -> &'static Palette {
        palette::of(self.style.theme)
    }

    /// Writes the picture atomically; see [`Chart::save`](crate::plot::Chart::save).
    ///
    /// # Errors
    /// No row with a value; a file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        picture::save(&self.scene()?, &self.title, path)
    }

    pub(super) fn scene(&self) -> Result<Scene> {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| self.x.scale.shows(row.value)).collect();
        let range = self.range(&rows)?;
        let mut shapes = vec![];
        let mut top = picture::header(&self.title, &self.subtitle, WIDTH, self.palette(), &mut shapes);
        // The heading and the text of the line stand above the rows.
        top += if self.heading.is_empty() && self.line.is_none() { 0.0 } else { TICK * 1.5 };
        let height = if rows.len() > MANY { DENSE_ROW } else { ROW };
        let panel = self.panel(&rows, top, height);
        self.frame(&range, &panel, &mut shapes);
        for (at, row) in rows.iter().enumerate() {
            self.row(row, &range, &panel, (panel.top + (at as f64 + 0.5) * height, height), &mut shapes);
        }
        let below = panel.bottom + TICK + TEXT * if self.x.title.is_empty() { 1.0 } else { 2.4 };
        let notes = self.notes.iter().cloned().chain(self.left_out(rows.len())).collect::<Vec<_>>();
        let height = picture::footer(&notes, WIDTH, below, self.palette(), &mut shapes);
        Ok(Scene { style: self.style.clone(), ..Scene::new(WIDTH, height, shapes) })
    }

    fn left_out(&self, drawn: usize) -> Option<String> {
        let missing = self.rows.len() - drawn;
        (missing > 0).then(|| format!("Not drawn: {missing} rows without a finite value that the axis can show."))
    }

    /// Contains everything that is drawn.
    fn range(&self, rows: &[&Row]) -> Result<AxisRange> {
        let of_row = |row: &&Row| {
            let ends = row.interval.into_iter().flat_map(|(low, high)| [low, high]);
            ends.chain(row.singles.iter().copied()).chain([row.value]).collect::<Vec<_>>()
        };
        let mut values: Vec<f64> = rows.iter().flat_map(of_row).collect();
        if rows.is_empty() {
            return Err(Error::input(format!("the chart \"{}\" has no value to show", font::one_line(&self.title)))
                .with_hint("draw it after at least one trial has finished"));
        }
        values.extend(self.line.iter().map(|(x, _)| *x));
        values.extend(self.band.iter().flat_map(|(low, high)| [*low, *high]));
        if self.mark == RowMark::Bars {
            values.push(0.0);
        }
        let shown = values.into_iter().filter(|value| self.x.scale.shows(*value));
        let range = AxisRange::around(self.x.scale, shown, 0.04);
        let range = range.ok_or_else(|| Error::bug("rows without values reached the layout"))?;
        // Bars stand on the axis, as far as there are none below 0.
        let low = if self.mark == RowMark::Bars && rows.iter().all(|row| row.value >= 0.0) { Some(0.0) } else { None };
        Ok(range.fixed(self.x.low.or(low), self.x.high))
    }

    fn panel(&self, rows: &[&Row], top: f64, height: f64) -> Rect {
        let room = |text: &str, limit: f64| font::room(&font::one_line(text), TICK).min(limit);
        let names = rows.iter().map(|row| room(&row.name, NAMES)).chain([room(&self.heading, NAMES)]);
        let labels = rows.iter().map(|row| room(&row.label, LABELS)).fold(0.0, f64::max);
        let left = EDGE + names.fold(0.0, f64::max) + 12.0;
        let right = WIDTH - EDGE - if labels > 0.0 { labels + 12.0 } else { 6.0 };
        Rect { left, top, right, bottom: top + height * rows.len() as f64 }
    }

    fn frame(&self, range: &AxisRange, panel: &Rect, shapes: &mut Vec<Shape>) {
        let at = |value: f64| panel.left + range.position(value).clamp(0.0, 1.0) * panel.width();
        if let Some((low, high)) = self.band {
            let band = Rect { left: at(low), right: at(high), ..*panel };
            shapes.push(filled(&band, self.palette().look(0).colour.with_alpha(0.1)));
        }
        let values = if range.scale == Scale::Linear {
            ticks::linear(range, (panel.width() / 75.0) as usize, false)
        } else {
            ticks::logarithmic(range, (panel.width() / 75.0) as usize)
        };
        let labels = number::labels(&values, self.x.numbers, range.scale.is_log());
        for (value, label) in values.iter().zip(labels) {
            let x = at(*value);
            shapes.push(stroke((x, panel.top), (x, panel.bottom), self.palette().faint));
            let spot = (x, panel.bottom + 7.0 + TICK * 0.9);
            shapes.push(Shape::Text(Label::new(label, spot, TICK, self.palette().grey, Anchor::Middle)));
        }
        shapes.push(stroke((panel.left, panel.bottom), (panel.right, panel.bottom), self.palette().axis));
        if let Some((value, text)) = self.line.as_ref().filter(|(value, _)| range.holds(*value)) {
            let x = at(*value);
            let spots = vec![(x, panel.top - 3.0), (x, panel.bottom)];
            shapes.push(Shape::Polyline { spots, colour: self.palette().grey, width: 1.3, dash: &[5.0, 4.0] });
            // On the side with more room.
            let (anchor, dx, limit) = match x - panel.left > panel.width() / 2.0 {
                true => (Anchor::End, -2.0, x - panel.left),
                false => (Anchor::Start, 2.0, panel.right - x),
            };
            let text = font::elide_end(&font::one_line(text), TICK, limit);
            write(text, (x + dx, panel.top - 6.0), self.palette().grey, anchor, shapes);
        }
        let heading = font::elide_end(&font::one_line(&self.heading), TICK, panel.left - EDGE - 12.0);
        write(heading, (panel.left - 12.0, panel.top - 6.0), self.palette().grey, Anchor::End, shapes);
        let middle = ((panel.left + panel.right) / 2.0, panel.bottom + 8.0 + TICK + TEXT * 1.4);
        let title = font::elide_end(&font::one_line(&self.x.title), TEXT, WIDTH - 2.0 * EDGE);
        if !title.is_empty() {
            shapes.push(Shape::Text(Label::new(
                title,
                centred(middle, &self.x.title),
                TEXT,
                self.palette().ink,
                Anchor::Middle,
            )));
        }
    }

    fn row(&self, row: &Row, range: &AxisRange, panel: &Rect, (y, height): (f64, f64), shapes: &mut Vec<Shape>) {
        let colour = match row.emphasis {
            Emphasis::Usual => self.palette().look(0).colour,
            Emphasis::Strong => self.palette().look(1).colour,
            Emphasis::Faint => self.palette().axis.mix(self.palette().page, 0.25),
        };
        let ink = if row.emphasis == Emphasis::Faint { self.palette().grey } else { self.palette().ink };
        let at = |value: f64| panel.left + range.position(value).clamp(0.0, 1.0) * panel.width();
        let baseline = y + TICK * 0.35;
        // The widest name has just this room, and rounding may not take any of it.
        let name = font::elide_middle(&font::one_line(&row.name), TICK, panel.left - EDGE - 11.5);
        write(name, (panel.left - 12.0, baseline), ink, Anchor::End, shapes);
        if self.mark == RowMark::Bars {
            let (zero, end) = (at(0.0_f64.max(range.scale.back(range.low))), at(row.value));
            let bar = Rect {
                left: zero.min(end),
                right: zero.max(end).max(zero.min(end) + 1.0),
                top: y - height * BAR / 2.0,
                bottom: y + height * BAR / 2.0,
            };
            shapes.push(filled(&bar, colour));
        } else {
            shapes.push(stroke((panel.left, y), (panel.right, y), self.palette().faint));
            for single in row.singles.iter().filter(|single| range.holds(**single)) {
                shapes.push(Shape::Circle { centre: (at(*single), y), radius: 2.3, colour: colour.with_alpha(0.38) });
            }
        }
        if let Some((low, high)) =
            row.interval.filter(|(low, high)| range.scale.shows(*low) && range.scale.shows(*high))
        {
            let (low, high) = (at(low), at(high));
            let line = |from: Spot, to: Spot| Shape::Polyline { spots: vec![from, to], colour, width: 1.6, dash: &[] };
            shapes.push(line((low, y), (high, y)));
            shapes.extend([low, high].map(|x| line((x, y - 3.5), (x, y + 3.5))));
        }
        if self.mark == RowMark::Dots {
            let marker = if row.emphasis == Emphasis::Strong { Marker::Diamond } else { Marker::Circle };
            marks::marker(marker, (at(row.value), y), RADIUS, (colour, Some(self.palette().page)), shapes);
        }
        let label = font::elide_end(&font::one_line(&row.label), TICK, LABELS);
        write(label, (panel.right + 10.0, baseline), ink, Anchor::Start, shapes);
    }
}

/// A text of the size of ticks, unless it is empty.
fn write(text: String, at: Spot, colour: Colour, anchor: Anchor, shapes: &mut Vec<Shape>) {
    if !text.is_empty() {
        shapes.push(Shape::Text(Label::new(text, at, TICK, colour, anchor)));
    }
}

/// Moved so far from the edges that a centred `text` stays in the picture.
fn centred((x, y): Spot, text: &str) -> Spot {
    let half = font::room(&font::one_line(text), TEXT).min(WIDTH - 2.0 * EDGE) / 2.0;
    (x.clamp(EDGE + half, WIDTH - EDGE - half), y)
}

fn stroke(from: Spot, to: Spot, colour: Colour) -> Shape {
    Shape::Polyline { spots: vec![from, to], colour, width: 1.0, dash: &[] }
}
