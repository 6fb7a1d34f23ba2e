//! Shapes of marks: markers, error bars, samples in the legend, dashes.

use super::palette::{Colour, Dash, Look, Marker};
use super::scene::{Rect, Shape, Spot};
use crate::plot::charts::chart::Mark;

pub const LINE: f64 = 2.0;
pub const RADIUS: f64 = 3.8;
/// The rim in the colour of the page that keeps markers apart from lines behind them.
const RIM: f64 = 1.2;

/// A marker, with a rim if that has a colour.
pub fn marker(marker: Marker, at: Spot, radius: f64, (colour, rim): (Colour, Option<Colour>), shapes: &mut Vec<Shape>) {
    shapes.extend(rim.map(|rim| filled(marker, at, radius + RIM, rim)));
    shapes.push(filled(marker, at, radius, colour));
}

/// Markers of one radius look equally large, because shapes with corners are drawn wider.
fn filled(marker: Marker, (x, y): Spot, radius: f64, colour: Colour) -> Shape {
    let at_corners = |corners: &[Spot]| corners.iter().map(|(dx, dy)| (x + dx * radius, y + dy * radius)).collect();
    let spots = match marker {
        Marker::Circle => return Shape::Circle { centre: (x, y), radius, colour },
        Marker::Square => at_corners(&[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]),
        Marker::Diamond => at_corners(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
        Marker::Triangle => at_corners(&[(0.0, -1.25), (1.15, 0.85), (-1.15, 0.85)]),
        Marker::Inverted => at_corners(&[(0.0, 1.25), (1.15, -0.85), (-1.15, -0.85)]),
        Marker::Cross => at_corners(&cross(1.15, 0.4)),
    };
    Shape::Polygon { spots, colour }
}

/// The outline of a plus sign whose arms are `long` and twice `short` wide.
fn cross(long: f64, short: f64) -> Vec<Spot> {
    let arm = [(-short, -long), (short, -long), (short, -short)];
    let rotated = |(x, y): Spot, times: usize| (0..times).fold((x, y), |(x, y), _| (-y, x));
    (0..4).flat_map(|times| arm.map(|corner| rotated(corner, times))).collect()
}

/// An error bar between two positions, upright or lying, with caps of `cap` pixels to each side.
pub fn error_bar(from: Spot, to: Spot, cap: f64, colour: Colour, shapes: &mut Vec<Shape>) {
    let stroke = |from: Spot, to: Spot| Shape::Polyline { spots: vec![from, to], colour, width: 1.3, dash: &[] };
    let is_upright = (to.0 - from.0).abs() <= (to.1 - from.1).abs();
    let (dx, dy) = if is_upright { (cap, 0.0) } else { (0.0, cap) };
    shapes.push(stroke(from, to));
    for (x, y) in [from, to] {
        shapes.push(stroke((x - dx, y - dy), (x + dx, y + dy)));
    }
}

/// The piece of a series shown in the legend, from `at` to the right: an area, or a marker with the line if it has one.
pub fn sample(look: Look, mark: Mark, (x, y): Spot, (length, rim): (f64, Colour), shapes: &mut Vec<Shape>) {
    if mark.is_area() {
        let middle = x + length / 2.0;
        let area = Rect { left: middle - 7.0, right: middle + 7.0, top: y - 5.0, bottom: y + 5.0 };
        shapes.push(Shape::Polygon { spots: area.corners().to_vec(), colour: look.colour });
        return;
    }
    if mark.has_line() {
        let spots = vec![(x, y), (x + length, y)];
        shapes.push(Shape::Polyline { spots, colour: look.colour, width: LINE, dash: look.dash });
    }
    marker(look.marker, (x + length / 2.0, y), RADIUS, (look.colour, Some(rim)), shapes);
}

/// The strokes of a dashed line, for the drawing backends have no dashes.
pub fn strokes(spots: &[Spot], dash: Dash) -> Vec<Vec<Spot>> {
    let Some(mut left) = dash.first().copied() else { return vec![spots.to_vec()] };
    let (mut parts, mut part, mut index) = (vec![], vec![], 0);
    part.extend(spots.first());
    for pair in spots.windows(2) {
        let ((mut x, mut y), (x1, y1)) = (pair[0], pair[1]);
        let mut rest = (x1 - x).hypot(y1 - y);
        while rest > left {
            (x, y) = (x + (x1 - x) * left / rest, y + (y1 - y) * left / rest);
            rest -= left;
            part.push((x, y));
            if index % 2 == 0 {
                parts.push(std::mem::take(&mut part));
            } else {
                part = vec![(x, y)];
            }
            index = (index + 1) % dash.len();
            left = dash[index];
        }
        left -= rest;
        part.push((x1, y1));
    }
    if index % 2 == 0 && part.len() > 1 {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_run_on_around_corners() {
        let parts = strokes(&[(0.0, 0.0), (5.0, 0.0), (5.0, 15.0)], &[6.0, 4.0]);
        assert_eq!(parts[0], [(0.0, 0.0), (5.0, 0.0), (5.0, 1.0)]);
        assert_eq!(parts[1], [(5.0, 5.0), (5.0, 11.0)]);
        assert_eq!(parts.len(), 2);
        assert_eq!(strokes(&[(0.0, 0.0), (5.0, 0.0)], &[]).len(), 1);
    }

    #[test]
    fn a_cross_has_twelve_corners_in_a_ring() {
        let corners = cross(2.0, 1.0);
        let steps = corners.iter().zip(corners.iter().cycle().skip(1)).take(12);
        assert!(steps.into_iter().all(|(one, two)| one.0 == two.0 || one.1 == two.1), "{corners:?}");
    }
}
