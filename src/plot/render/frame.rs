//! The frame around the data of a chart, as shapes: grid, axes with their ticks, reference
//! lines, the names of the series.

use super::font;
use super::layout::PanelLayout;
use super::marks::{self, RADIUS};
use super::named::{palette_of, slot_look, Names, SAMPLE};
use super::palette::Colour;
use super::placement::Placer;
use super::scene::{Anchor, Label, Part, Rect, Shape, Spot};
use super::sizes::TICK;
use crate::plot::charts::chart::{Axis, Band, Chart, Line, Ticks};

pub fn grid(chart: &Chart, layout: &PanelLayout, shapes: &mut Vec<Shape>) {
    let (panel, faint) = (&layout.panel, palette_of(chart).faint);
    let has_areas = chart.series.iter().any(|series| series.mark.is_area());
    // Lines through the middle of bars and boxes say nothing.
    let has_grid = |axis: &Axis| !(has_areas && matches!(axis.ticks, Ticks::Named(_)));
    for (x, _) in layout.x.ticks.iter().filter(|_| has_grid(&chart.x)) {
        let at = x_position(layout, *x);
        shapes.push(stroke((at, panel.top), (at, panel.bottom), faint, 1.0));
    }
    for (y, _) in layout.y.ticks.iter().filter(|_| has_grid(&chart.y)) {
        let at = y_position(layout, *y);
        shapes.push(stroke((panel.left, at), (panel.right, at), faint, 1.0));
    }
}

pub fn axes(chart: &Chart, layout: &PanelLayout, shapes: &mut Vec<Shape>) {
    let (colour, text) = (palette_of(chart).axis, palette_of(chart).grey);
    let Rect { left, top, right, bottom } = layout.panel;
    shapes.push(stroke((left, bottom), (right, bottom), colour, 1.2));
    shapes.push(stroke((left, top), (left, bottom), colour, 1.2));
    for value in &layout.x.minor {
        let at = x_position(layout, *value);
        shapes.push(stroke((at, bottom), (at, bottom + 2.5), colour, 1.0));
    }
    for value in &layout.y.minor {
        let at = y_position(layout, *value);
        shapes.push(stroke((left - 2.5, at), (left, at), colour, 1.0));
    }
    for (value, label) in &layout.x.ticks {
        let at = x_position(layout, *value);
        shapes.push(stroke((at, bottom), (at, bottom + 4.5), colour, 1.2));
        tick_label(label, (at, bottom + 7.0 + TICK * 0.9), (Anchor::Middle, text), shapes);
    }
    for (value, label) in &layout.y.ticks {
        let at = y_position(layout, *value);
        shapes.push(stroke((left - 4.5, at), (left, at), colour, 1.2));
        tick_label(label, (left - 8.0, at + TICK * 0.35), (Anchor::End, text), shapes);
    }
}

/// The shaded ranges, behind everything.
pub fn bands(chart: &Chart, layout: &PanelLayout, shapes: &mut Vec<Shape>) {
    for band in &chart.bands {
        if let Some(rect) = band_rect(band, layout) {
            let colour = palette_of(chart).grey.with_alpha(0.14);
            shapes.push(Shape::Polygon { spots: rect.corners().to_vec(), colour });
        }
    }
}

/// The part of a band that the panel shows.
fn band_rect(band: &Band, layout: &PanelLayout) -> Option<Rect> {
    let panel = layout.panel;
    let rect = match band {
        Band::Horizontal { low, high, .. } => {
            let (top, bottom) = (y_position(layout, *high), y_position(layout, *low));
            Rect { top: top.max(panel.top), bottom: bottom.min(panel.bottom), ..panel }
        }
        Band::Vertical { low, high, .. } => {
            let (left, right) = (x_position(layout, *low), x_position(layout, *high));
            Rect { left: left.max(panel.left), right: right.min(panel.right), ..panel }
        }
    };
    (rect.left < rect.right && rect.top < rect.bottom).then_some(rect)
}

fn x_position(layout: &PanelLayout, x: f64) -> f64 {
    layout.panel.left + layout.x.range.position(x) * layout.panel.width()
}

fn y_position(layout: &PanelLayout, y: f64) -> f64 {
    layout.panel.bottom - layout.y.range.position(y) * layout.panel.height()
}

fn stroke(from: Spot, to: Spot, colour: Colour, width: f64) -> Shape {
    Shape::Polyline { spots: vec![from, to], colour, width, dash: &[] }
}

fn tick_label(label: &str, at: Spot, (anchor, colour): (Anchor, Colour), shapes: &mut Vec<Shape>) {
    if !label.is_empty() {
        shapes.push(Shape::Text(Label::new(label, at, TICK, colour, anchor)));
    }
}

pub fn reference_strokes(chart: &Chart, layout: &PanelLayout, placer: &mut Placer, shapes: &mut Vec<Shape>) {
    for line in &chart.lines {
        if let Some(spots) = reference_ends(line, layout) {
            placer.line(&spots);
            shapes.push(Shape::Polyline {
                spots: spots.to_vec(),
                colour: palette_of(chart).grey,
                width: 1.3,
                dash: &[5.0, 4.0],
            });
        }
    }
}

/// The ends of the line, from left to right or from bottom to top; `None` if the value is not on the axis.
fn reference_ends(line: &Line, layout: &PanelLayout) -> Option<[Spot; 2]> {
    let Rect { left, top, right, bottom } = layout.panel;
    match line {
        Line::Horizontal { y, .. } if layout.y.range.holds(*y) => {
            let at = y_position(layout, *y);
            Some([(left, at), (right, at)])
        }
        Line::Vertical { x, .. } if layout.x.range.holds(*x) => {
            let at = x_position(layout, *x);
            Some([(at, bottom), (at, top)])
        }
        _ => None,
    }
}

pub fn reference_texts(chart: &Chart, layout: &PanelLayout, placer: &mut Placer, shapes: &mut Vec<Shape>) {
    let colour = palette_of(chart).grey;
    for line in &chart.lines {
        let (Line::Horizontal { label, .. } | Line::Vertical { label, .. }) = line;
        let Some(ends) = reference_ends(line, layout) else { continue };
        let labels = texts_at_line(label, ends, layout, colour);
        let label = placer.best(labels, true);
        readable(chart, placer, label, shapes);
    }
    for band in &chart.bands {
        let (Band::Horizontal { label, .. } | Band::Vertical { label, .. }) = band;
        let Some(Rect { left, top, right, bottom }) = band_rect(band, layout) else { continue };
        // Inside the band if it is wide enough, at one of its edges.
        let mut labels = match band {
            Band::Horizontal { .. } => texts_at_line(label, [(left, top), (right, top)], layout, colour),
            Band::Vertical { .. } => texts_at_line(label, [(left, bottom), (left, top)], layout, colour),
        };
        if matches!(band, Band::Horizontal { .. }) && labels.len() > 2 {
            labels.rotate_left(2);
        }
        let label = placer.best(labels, true);
        readable(chart, placer, label, shapes);
    }
}

/// A label, on a piece of page where it covers data.
pub fn readable(chart: &Chart, placer: &Placer, label: Option<Label>, shapes: &mut Vec<Shape>) {
    let Some(label) = label else { return };
    if placer.covers(&label) {
        let spots = label.bounds().grown(1.0).corners().to_vec();
        shapes.push(Shape::Polygon { spots, colour: palette_of(chart).page.with_alpha(0.82) });
    }
    shapes.push(Shape::Text(label));
}

/// Where the text of a line may be: beside its ends, the best first; none for an empty text.
fn texts_at_line(text: &str, [from, to]: [Spot; 2], layout: &PanelLayout, colour: Colour) -> Vec<Label> {
    if text.is_empty() {
        return vec![];
    }
    let content = font::elide_end(&font::one_line(text), TICK, layout.panel.width() * 0.6);
    let candidate = |at: Spot, anchor: Anchor| Label::new(content.clone(), at, TICK, colour, anchor);
    let mut labels = vec![];
    if from.1 == to.1 {
        for y in [from.1 - 5.0, from.1 + TICK + 4.0] {
            labels.extend([candidate((to.0 - 4.0, y), Anchor::End), candidate((from.0 + 6.0, y), Anchor::Start)]);
        }
    } else {
        for y in [to.1 + TICK + 2.0, from.1 - 8.0] {
            labels.extend([candidate((from.0 + 5.0, y), Anchor::Start), candidate((from.0 - 5.0, y), Anchor::End)]);
        }
    }
    labels
}

pub fn names(chart: &Chart, names: &Names, shapes: &mut Vec<Shape>) {
    match names {
        Names::None => {}
        Names::Ends { title, names } => {
            for (index, from, label) in names {
                let colour = slot_look(chart, *index).colour.mix(palette_of(chart).page, 0.35);
                let to = (label.at.0 - 3.0, label.at.1 - label.size * 0.35);
                let lead = stroke((from.0 + RADIUS + 2.5, from.1), to, colour, 1.0);
                shapes.push(named(*index, vec![lead, Shape::Text(label.clone())]));
            }
            shapes.extend(title.clone().map(Shape::Text));
        }
        Names::Side { texts, names } => {
            for (index, at, label) in names {
                let (look, mark) = (slot_look(chart, *index), chart.series[*index].mark);
                let mut sample = vec![];
                marks::sample(look, mark, *at, (SAMPLE, palette_of(chart).page), &mut sample);
                sample.push(Shape::Text(label.clone()));
                shapes.push(named(*index, sample));
            }
            shapes.extend(texts.iter().cloned().map(Shape::Text));
        }
    }
}

fn named(series: usize, shapes: Vec<Shape>) -> Shape {
    Shape::Series { series, part: Part::Name, shapes }
}
