//! A chart with its layout as shapes, from the back to the front: grid, areas, faint runs,
//! lines, bars, markers, texts. `frame.rs` draws what surrounds the data.

use super::clean::{CleanData, CleanSeries};
use super::frame;
use super::layout::{Layout, PanelLayout};
use super::marks::{self, LINE, RADIUS};
use super::named::{palette_of, slot_look};
use super::palette::{Colour, Palette};
use super::placement::Placer;
use super::scene::{Part, Scene, Shape, Spot};
use super::shade::ShadeScale;
use super::sizes::TICK;
use super::{clip, font, thin};
use crate::plot::charts::chart::{Chart, Mark, Point, Series, Spread};
use std::collections::HashSet;

/// Curves with more points than this have only a few markers.
const MOST_MARKERS: usize = 48;
/// The distance between the few markers of a curve.
const MARKER_STEP: f64 = 90.0;
/// More points than this are drawn small and see-through, and more than the second number once where they coincide.
const MANY_POINTS: usize = 400;
const TOO_MANY_POINTS: usize = 4000;

pub fn draw(chart: &Chart, data: &CleanData, layout: &Layout) -> Scene {
    let mut shapes = vec![];
    let all = DrawnSeries::all(chart, data, layout);
    for (index, panel) in layout.panels.iter().enumerate() {
        let series: Vec<&DrawnSeries> = all.iter().filter(|series| series.panel_index() == index).collect();
        draw_panel(chart, (index, panel), &series, &mut shapes);
    }
    if let Some(shades) = &layout.shades {
        shades.bar(chart, &layout.space, &mut shapes);
    }
    frame::names(chart, &layout.names, &mut shapes);
    shapes.extend(layout.texts.iter().cloned().map(Shape::Text));
    Scene { width: layout.width, height: layout.height, shapes, style: chart.style.clone() }
}

fn draw_panel(chart: &Chart, (index, panel): (usize, &PanelLayout), series: &[&DrawnSeries], shapes: &mut Vec<Shape>) {
    let mut placer = Placer::new(panel.panel);
    frame::bands(chart, panel, shapes);
    frame::grid(chart, panel, shapes);
    layer(series, shapes, |series, shapes| series.areas(&mut placer, shapes));
    layer(series, shapes, DrawnSeries::band);
    layer(series, shapes, DrawnSeries::faint);
    frame::reference_strokes(chart, panel, &mut placer, shapes);
    layer(series, shapes, |series, shapes| series.line(&mut placer, shapes));
    layer(series, shapes, |series, shapes| series.bars(&mut placer, shapes));
    layer(series, shapes, |series, shapes| series.markers(&mut placer, shapes));
    frame::reference_texts(chart, panel, &mut placer, shapes);
    annotations(chart, (index, panel), &mut placer, shapes);
    layer(series, shapes, |series, shapes| series.point_labels(&mut placer, shapes));
    frame::axes(chart, panel, shapes);
}

/// Draws one kind of shape for every series, in a group for each.
fn layer<'a>(
    series: &[&DrawnSeries<'a>],
    all: &mut Vec<Shape>,
    mut draw: impl FnMut(&DrawnSeries<'a>, &mut Vec<Shape>),
) {
    for one in series {
        let mut shapes = vec![];
        draw(one, &mut shapes);
        if !shapes.is_empty() {
            all.push(Shape::Series { series: one.index, part: Part::Data, shapes });
        }
    }
}

/// A series with its layout, from which its shapes are drawn.
pub struct DrawnSeries<'a> {
    chart: &'a Chart,
    pub(super) data: &'a CleanSeries,
    pub(super) layout: &'a PanelLayout,
    pub(super) shades: Option<&'a ShadeScale>,
    index: usize,
    /// The horizontal shift that puts error bars of several series side by side.
    shift: f64,
}

impl<'a> DrawnSeries<'a> {
    pub fn all(chart: &'a Chart, data: &'a CleanData, layout: &'a Layout) -> Vec<Self> {
        let has_bars = |(series, clean): &(&Series, &CleanSeries)| {
            series.spread == Spread::Bars && clean.points.iter().any(|point| point.spread.is_some())
        };
        let is_shifted =
            |pair: &(&Series, &CleanSeries)| has_bars(pair) && !pair.0.mark.is_area() && !pair.0.is_horizontal;
        let panels: Vec<usize> = chart.series.iter().map(|series| series.panel.min(layout.panels.len() - 1)).collect();
        let drawn = |(index, pair): (usize, (&'a Series, &'a CleanSeries))| {
            let in_panel = chart.series.iter().zip(&data.series).zip(&panels).enumerate();
            let in_panel = in_panel.filter(|(_, (_, panel))| **panel == panels[index]);
            let all: Vec<(usize, bool)> = in_panel.map(|(at, (pair, _))| (at, is_shifted(&pair))).collect();
            let with_bars = all.iter().filter(|(_, is_shifted)| *is_shifted).count();
            let step = if (2..=8).contains(&with_bars) { 4.0 } else { 0.0 };
            let at = all.iter().position(|(at, _)| *at == index).unwrap_or(0);
            let shift = step * (at as f64 - (all.len() as f64 - 1.0) / 2.0);
            let shift = if pair.0.mark.is_area() || pair.0.is_horizontal { 0.0 } else { shift };
            let (data, layout_of) = (pair.1, &layout.panels[panels[index]]);
            DrawnSeries { chart, data, layout: layout_of, shades: layout.shades.as_ref(), index, shift }
        };
        chart.series.iter().zip(&data.series).enumerate().map(drawn).collect()
    }

    pub(super) fn series(&self) -> &'a Series {
        &self.chart.series[self.index]
    }

    fn panel_index(&self) -> usize {
        self.series().panel.min(self.chart.panels.names.len().saturating_sub(1))
    }

    pub(super) fn palette(&self) -> &'static Palette {
        palette_of(self.chart)
    }

    pub(super) fn shows_numbers(&self) -> bool {
        self.chart.shades.shows_numbers
    }

    /// Does its panel show this position?
    pub fn holds(&self, spot: Spot) -> bool {
        self.layout.panel.holds(spot)
    }

    /// The position in the picture of a point of the series.
    pub fn spot(&self, x: f64, y: f64) -> Spot {
        if self.series().is_horizontal {
            return self.layout.spot(y, x);
        }
        let (left, top) = self.layout.spot(x, y);
        (left + self.shift, top)
    }

    fn spots(&self) -> Vec<Spot> {
        self.data.points.iter().map(|point| self.spot(point.x, point.y)).collect()
    }

    pub(super) fn colour(&self) -> Colour {
        slot_look(self.chart, self.index).colour
    }

    fn mark(&self) -> Mark {
        self.series().mark
    }

    fn band(&self, shapes: &mut Vec<Shape>) {
        if self.series().spread != Spread::Band {
            return;
        }
        let with_ends = self.data.points.iter().filter_map(|point| point.spread.map(|spread| (point.x, spread)));
        let ends: Vec<(f64, (f64, f64))> = with_ends.collect();
        let upper = thin::thinned(&ends.iter().map(|(x, (_, high))| self.spot(*x, *high)).collect::<Vec<_>>());
        let lower = thin::thinned(&ends.iter().map(|(x, (low, _))| self.spot(*x, *low)).collect::<Vec<_>>());
        let outline: Vec<Spot> = upper.into_iter().chain(lower.into_iter().rev()).collect();
        let spots = clip::polygon(&outline, &self.layout.panel);
        if ends.len() > 1 && spots.len() > 2 {
            shapes.push(Shape::Polygon { spots, colour: self.colour().with_alpha(0.16) });
        }
    }

    /// The curve before smoothing, and the single runs.
    fn faint(&self, shapes: &mut Vec<Shape>) {
        let raw: Vec<Spot> = self.data.raw.iter().map(|(x, y)| self.spot(*x, *y)).collect();
        let page = self.palette().page;
        let is_grey = self.series().is_grey;
        let colour = if is_grey { self.palette().grey.mix(page, 0.55) } else { self.colour().mix(page, 0.72) };
        for spots in clip::polyline(&thin::thinned(&raw), &self.layout.panel) {
            shapes.push(Shape::Polyline { spots, colour, width: 1.0, dash: &[] });
        }
        if self.mark().is_area() {
            return self.outliers(shapes);
        }
        for run in &self.data.runs {
            let centre = self.spot(run.x, run.y);
            if self.layout.panel.holds(centre) {
                shapes.push(Shape::Circle { centre, radius: 2.3, colour: self.colour().with_alpha(0.38) });
            }
        }
    }

    fn line(&self, placer: &mut Placer, shapes: &mut Vec<Shape>) {
        if !self.mark().has_line() {
            return;
        }
        let look = slot_look(self.chart, self.index);
        for spots in clip::polyline(&thin::thinned(&self.spots()), &self.layout.panel) {
            placer.line(&spots);
            shapes.push(Shape::Polyline { spots, colour: look.colour, width: LINE, dash: look.dash });
        }
    }

    fn bars(&self, placer: &mut Placer, shapes: &mut Vec<Shape>) {
        if self.series().spread != Spread::Bars {
            return;
        }
        let panel = &self.layout.panel;
        for point in &self.data.points {
            let Some((low, high)) = point.spread else { continue };
            for part in clip::polyline(&[self.spot(point.x, low), self.spot(point.x, high)], panel) {
                let [from, .., to] = part[..] else { continue };
                if (to.0 - from.0).hypot(to.1 - from.1) > 0.5 {
                    placer.line(&part);
                    let cap = if self.shift == 0.0 { 4.5 } else { 3.0 };
                    let is_area = self.mark().is_area();
                    let colour = if is_area { self.colour().mix(self.palette().ink, 0.6) } else { self.colour() };
                    marks::error_bar(from, to, cap, colour, shapes);
                }
            }
        }
    }

    fn markers(&self, placer: &mut Placer, shapes: &mut Vec<Shape>) {
        if self.mark().is_area() {
            return;
        }
        let look = slot_look(self.chart, self.index);
        let marked = self.marked();
        let is_many = self.mark() == Mark::Points && marked.len() > MANY_POINTS;
        let usual = if is_many {
            2.0
        } else if self.mark() == Mark::Points {
            RADIUS - 0.4
        } else {
            RADIUS
        };
        let radius = self.series().radius.unwrap_or(usual);
        let alpha = self.series().alpha.unwrap_or(if is_many { 0.55 } else { 1.0 });
        // See-through points and small ones have no rim, or it would hide their neighbours.
        let rim = (alpha >= 1.0 && radius > 2.5).then_some(self.palette().page);
        for (spot, point) in marked {
            placer.dot(spot);
            let shade = point.value.and_then(|value| Some(self.shades?.colour(value)));
            let colour = shade.unwrap_or(look.colour).with_alpha(alpha);
            marks::marker(look.marker, spot, radius, (colour, rim), shapes);
        }
    }

    /// Are there lines in its panel that its markers tell it from?
    fn has_other_lines(&self) -> bool {
        let others = self.chart.series.iter().enumerate().filter(|(index, _)| *index != self.index);
        others.into_iter().any(|(_, series)| series.mark.has_line() && series.panel == self.series().panel)
    }

    /// The points with markers: every point, a few of a long curve, none of a single line without points.
    fn marked(&self) -> Vec<(Spot, &'a Point)> {
        let spots = self.data.points.iter().map(|point| (self.spot(point.x, point.y), point));
        let mut spots: Vec<(Spot, &Point)> = spots.filter(|(spot, _)| self.layout.panel.holds(*spot)).collect();
        let is_line = self.mark() == Mark::Line;
        if self.mark() == Mark::Points && spots.len() > TOO_MANY_POINTS {
            let mut seen = HashSet::new();
            let half_pixels = |(x, y): Spot| ((x * 2.0).round() as i64, (y * 2.0).round() as i64);
            spots.retain(|(spot, _)| seen.insert(half_pixels(*spot)));
        }
        if spots.len() == 1 || self.mark() == Mark::Points || (!is_line && spots.len() <= MOST_MARKERS) {
            return spots;
        }
        if is_line && !self.has_other_lines() {
            return vec![];
        }
        // Each series starts at another position, so that the markers of close curves do not overlap.
        let offset = (self.index as f64 * 0.382 + 0.25).fract();
        let mut next = self.layout.panel.left + MARKER_STEP * offset;
        let mut chosen = vec![];
        for (spot, point) in spots {
            if spot.0 >= next {
                chosen.push((spot, point));
                next += MARKER_STEP * ((spot.0 - next) / MARKER_STEP + 1.0).floor();
            }
        }
        chosen
    }

    fn point_labels(&self, placer: &mut Placer, shapes: &mut Vec<Shape>) {
        for point in self.data.points.iter().filter(|point| !point.label.is_empty()) {
            let spot = self.spot(point.x, point.y);
            if self.layout.panel.holds(spot) {
                let content = font::elide_end(&font::one_line(&point.label), TICK, self.layout.panel.width() * 0.6);
                let label = placer.near(spot, &content, TICK, self.palette().for_text(self.colour()), false);
                shapes.extend(label.map(Shape::Text));
            }
        }
    }
}

fn annotations(chart: &Chart, (index, layout): (usize, &PanelLayout), placer: &mut Placer, shapes: &mut Vec<Shape>) {
    for note in chart.annotations.iter().filter(|note| note.panel.is_none_or(|panel| panel == index)) {
        if layout.x.range.holds(note.x) && layout.y.range.holds(note.y) {
            let content = font::elide_end(&font::one_line(&note.text), TICK, layout.panel.width() * 0.6);
            let label = placer.near(layout.spot(note.x, note.y), &content, TICK, palette_of(chart).ink, true);
            frame::readable(chart, placer, label, shapes);
        }
    }
}
