//! The frame around the data of a chart, as shapes: grid, axes with their ticks, reference
//! lines, the names of the series.

use super::font;
use super::layout::{Layout, TICK};
use super::marks::{self, RADIUS};
use super::names::{slot_look, Names, SAMPLE};
use super::palette::{Colour, AXIS, FAINT, GREY, WHITE};
use super::placement::Placer;
use super::scene::{Anchor, Label, Part, Rect, Shape, Spot};
use crate::plot::charts::chart::{Chart, Line, Mark};

pub fn grid(layout: &Layout, shapes: &mut Vec<Shape>) {
    let panel = &layout.panel;
    for (x, _) in &layout.x.ticks {
        let at = x_position(layout, *x);
        shapes.push(stroke((at, panel.top), (at, panel.bottom), FAINT, 1.0));
    }
    for (y, _) in &layout.y.ticks {
        let at = y_position(layout, *y);
        shapes.push(stroke((panel.left, at), (panel.right, at), FAINT, 1.0));
    }
}

pub fn axes(layout: &Layout, shapes: &mut Vec<Shape>) {
    let Rect { left, top, right, bottom } = layout.panel;
    shapes.push(stroke((left, bottom), (right, bottom), AXIS, 1.2));
    shapes.push(stroke((left, top), (left, bottom), AXIS, 1.2));
    for value in &layout.x.minor {
        let at = x_position(layout, *value);
        shapes.push(stroke((at, bottom), (at, bottom + 2.5), AXIS, 1.0));
    }
    for value in &layout.y.minor {
        let at = y_position(layout, *value);
        shapes.push(stroke((left - 2.5, at), (left, at), AXIS, 1.0));
    }
    for (value, label) in &layout.x.ticks {
        let at = x_position(layout, *value);
        shapes.push(stroke((at, bottom), (at, bottom + 4.5), AXIS, 1.2));
        tick_label(label, (at, bottom + 7.0 + TICK * 0.9), Anchor::Middle, shapes);
    }
    for (value, label) in &layout.y.ticks {
        let at = y_position(layout, *value);
        shapes.push(stroke((left - 4.5, at), (left, at), AXIS, 1.2));
        tick_label(label, (left - 8.0, at + TICK * 0.35), Anchor::End, shapes);
    }
}

fn x_position(layout: &Layout, x: f64) -> f64 {
    layout.panel.left + layout.x.range.position(x) * layout.panel.width()
}

fn y_position(layout: &Layout, y: f64) -> f64 {
    layout.panel.bottom - layout.y.range.position(y) * layout.panel.height()
}

fn stroke(from: Spot, to: Spot, colour: Colour, width: f64) -> Shape {
    Shape::Polyline { spots: vec![from, to], colour, width, dash: &[] }
}

fn tick_label(label: &str, at: Spot, anchor: Anchor, shapes: &mut Vec<Shape>) {
    if !label.is_empty() {
        shapes.push(Shape::Text(Label::new(label, at, TICK, GREY, anchor)));
    }
}

pub fn reference_strokes(chart: &Chart, layout: &Layout, placer: &mut Placer, shapes: &mut Vec<Shape>) {
    for line in &chart.lines {
        if let Some(spots) = reference_ends(line, layout) {
            placer.line(&spots);
            shapes.push(Shape::Polyline { spots: spots.to_vec(), colour: GREY, width: 1.3, dash: &[5.0, 4.0] });
        }
    }
}

/// The ends of the line, from left to right or from bottom to top; `None` if the value is not on the axis.
fn reference_ends(line: &Line, layout: &Layout) -> Option<[Spot; 2]> {
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

pub fn reference_texts(chart: &Chart, layout: &Layout, placer: &mut Placer, shapes: &mut Vec<Shape>) {
    for line in &chart.lines {
        shapes.extend(reference_text(line, layout, placer).map(Shape::Text));
    }
}

fn reference_text(line: &Line, layout: &Layout, placer: &mut Placer) -> Option<Label> {
    let (Line::Horizontal { label, .. } | Line::Vertical { label, .. }) = line;
    if label.is_empty() {
        return None;
    }
    let [from, to] = reference_ends(line, layout)?;
    let content = font::elide_end(&font::one_line(label), TICK, layout.panel.width() * 0.6);
    let candidate = |at: Spot, anchor: Anchor| Label::new(content.clone(), at, TICK, GREY, anchor);
    let mut labels = vec![];
    if matches!(line, Line::Horizontal { .. }) {
        for y in [from.1 - 5.0, from.1 + TICK + 4.0] {
            labels.extend([candidate((to.0 - 4.0, y), Anchor::End), candidate((from.0 + 6.0, y), Anchor::Start)]);
        }
    } else {
        for y in [to.1 + TICK + 2.0, from.1 - 8.0] {
            labels.extend([candidate((from.0 + 5.0, y), Anchor::Start), candidate((from.0 - 5.0, y), Anchor::End)]);
        }
    }
    placer.best(labels, true)
}

pub fn names(chart: &Chart, names: &Names, shapes: &mut Vec<Shape>) {
    match names {
        Names::None => {}
        Names::Ends { title, names } => {
            for (index, from, label) in names {
                let colour = slot_look(chart, *index).colour.mix(WHITE, 0.35);
                let to = (label.at.0 - 3.0, label.at.1 - label.size * 0.35);
                let lead = stroke((from.0 + RADIUS + 2.5, from.1), to, colour, 1.0);
                shapes.push(named(*index, vec![lead, Shape::Text(label.clone())]));
            }
            shapes.extend(title.clone().map(Shape::Text));
        }
        Names::Side { texts, names } => {
            for (index, at, label) in names {
                let line = chart.series[*index].mark != Mark::Points;
                let mut sample = vec![];
                marks::sample(slot_look(chart, *index), line, *at, SAMPLE, &mut sample);
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
