//! A chart with its layout as shapes, from the back to the front: grid, areas, faint runs,
//! lines, bars, markers, texts. `frame.rs` draws what surrounds the data.

use super::clean::{CleanData, CleanSeries};
use super::frame;
use super::layout::{Layout, TICK};
use super::marks::{self, LINE, RADIUS};
use super::names::slot_look;
use super::palette::{Colour, GREY, INK, WHITE};
use super::placement::Placer;
use super::scene::{Part, Scene, Shape, Spot};
use super::{clip, font, thin};
use crate::plot::charts::chart::{Chart, Mark, Series, Spread};

/// Curves with more points than this have only a few markers.
const MOST_MARKERS: usize = 48;
/// The distance between the few markers of a curve.
const MARKER_STEP: f64 = 90.0;

pub fn draw(chart: &Chart, data: &CleanData, layout: &Layout) -> Scene {
    let mut shapes = vec![];
    let mut placer = Placer::new(layout.panel);
    frame::grid(layout, &mut shapes);
    let series = DrawnSeries::all(chart, data, layout);
    layer(&series, &mut shapes, DrawnSeries::band);
    layer(&series, &mut shapes, DrawnSeries::faint);
    frame::reference_strokes(chart, layout, &mut placer, &mut shapes);
    layer(&series, &mut shapes, |series, shapes| series.line(&mut placer, shapes));
    layer(&series, &mut shapes, |series, shapes| series.bars(&mut placer, shapes));
    layer(&series, &mut shapes, |series, shapes| series.markers(&mut placer, shapes));
    frame::reference_texts(chart, layout, &mut placer, &mut shapes);
    annotations(chart, layout, &mut placer, &mut shapes);
    layer(&series, &mut shapes, |series, shapes| series.point_labels(&mut placer, shapes));
    frame::axes(layout, &mut shapes);
    frame::names(chart, &layout.names, &mut shapes);
    shapes.extend(layout.texts.iter().cloned().map(Shape::Text));
    Scene { width: layout.width, height: layout.height, shapes }
}

/// Draws one kind of shape for every series, in a group for each.
fn layer<'a>(
    series: &[DrawnSeries<'a>],
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
    data: &'a CleanSeries,
    layout: &'a Layout,
    index: usize,
    /// The horizontal shift that puts error bars of several series side by side.
    shift: f64,
}

impl<'a> DrawnSeries<'a> {
    pub fn all(chart: &'a Chart, data: &'a CleanData, layout: &'a Layout) -> Vec<Self> {
        let has_bars = |(series, clean): (&Series, &CleanSeries)| {
            series.spread == Spread::Bars && clean.points.iter().any(|point| point.spread.is_some())
        };
        let with_bars = chart.series.iter().zip(&data.series).filter(|pair| has_bars(*pair)).count();
        let step = if (2..=8).contains(&with_bars) { 4.0 } else { 0.0 };
        let middle = (data.series.len() as f64 - 1.0) / 2.0;
        let drawn = |(index, data)| DrawnSeries { chart, data, layout, index, shift: step * (index as f64 - middle) };
        data.series.iter().enumerate().map(drawn).collect()
    }

    /// The position in the picture of a point of the series.
    pub fn spot(&self, x: f64, y: f64) -> Spot {
        let (left, top) = self.layout.spot(x, y);
        (left + self.shift, top)
    }

    fn spots(&self) -> Vec<Spot> {
        self.data.points.iter().map(|point| self.spot(point.x, point.y)).collect()
    }

    fn colour(&self) -> Colour {
        slot_look(self.chart, self.index).colour
    }

    fn mark(&self) -> Mark {
        self.chart.series[self.index].mark
    }

    fn band(&self, shapes: &mut Vec<Shape>) {
        if self.chart.series[self.index].spread != Spread::Band {
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
        let is_grey = self.chart.series[self.index].is_grey;
        let colour = if is_grey { GREY.mix(WHITE, 0.55) } else { self.colour().mix(WHITE, 0.72) };
        for spots in clip::polyline(&thin::thinned(&raw), &self.layout.panel) {
            shapes.push(Shape::Polyline { spots, colour, width: 1.0, dash: &[] });
        }
        for run in &self.data.runs {
            let centre = self.spot(run.x, run.y);
            if self.layout.panel.holds(centre) {
                shapes.push(Shape::Circle { centre, radius: 2.3, colour: self.colour().with_alpha(0.38) });
            }
        }
    }

    fn line(&self, placer: &mut Placer, shapes: &mut Vec<Shape>) {
        if self.mark() == Mark::Points {
            return;
        }
        let look = slot_look(self.chart, self.index);
        for spots in clip::polyline(&thin::thinned(&self.spots()), &self.layout.panel) {
            placer.line(&spots);
            shapes.push(Shape::Polyline { spots, colour: look.colour, width: LINE, dash: look.dash });
        }
    }

    fn bars(&self, placer: &mut Placer, shapes: &mut Vec<Shape>) {
        if self.chart.series[self.index].spread != Spread::Bars {
            return;
        }
        let panel = &self.layout.panel;
        for point in &self.data.points {
            let Some((low, high)) = point.spread else { continue };
            let (x, bottom) = self.spot(point.x, low);
            let top = self.spot(point.x, high).1;
            let (top, bottom) = (top.max(panel.top), bottom.min(panel.bottom));
            if (panel.left..=panel.right).contains(&x) && bottom - top > 0.5 {
                placer.line(&[(x, top), (x, bottom)]);
                let cap = if self.shift == 0.0 { 4.5 } else { 3.0 };
                marks::error_bar(x, bottom, top, cap, self.colour(), shapes);
            }
        }
    }

    fn markers(&self, placer: &mut Placer, shapes: &mut Vec<Shape>) {
        let look = slot_look(self.chart, self.index);
        let radius = if self.mark() == Mark::Points { RADIUS - 0.4 } else { RADIUS };
        for spot in self.marked() {
            placer.dot(spot);
            marks::marker(look.marker, spot, radius, look.colour, shapes);
        }
    }

    /// The positions of markers: every point, a few of a long curve, none of a single line without points.
    fn marked(&self) -> Vec<Spot> {
        let spots: Vec<Spot> = self.spots().into_iter().filter(|spot| self.layout.panel.holds(*spot)).collect();
        let is_line = self.mark() == Mark::Line;
        if spots.len() == 1 || self.mark() == Mark::Points || (!is_line && spots.len() <= MOST_MARKERS) {
            return spots;
        }
        if is_line && self.chart.series.len() == 1 {
            return vec![];
        }
        // Each series starts at another position, so that the markers of close curves do not overlap.
        let offset = (self.index as f64 * 0.382 + 0.25).fract();
        let mut next = self.layout.panel.left + MARKER_STEP * offset;
        let mut chosen = vec![];
        for spot in spots {
            if spot.0 >= next {
                chosen.push(spot);
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
                let label = placer.near(spot, &content, TICK, self.colour().for_text(), false);
                shapes.extend(label.map(Shape::Text));
            }
        }
    }
}

fn annotations(chart: &Chart, layout: &Layout, placer: &mut Placer, shapes: &mut Vec<Shape>) {
    for note in &chart.annotations {
        if layout.x.range.holds(note.x) && layout.y.range.holds(note.y) {
            let content = font::elide_end(&font::one_line(&note.text), TICK, layout.panel.width() * 0.6);
            let label = placer.near(layout.spot(note.x, note.y), &content, TICK, INK, true);
            shapes.extend(label.map(Shape::Text));
        }
    }
}
