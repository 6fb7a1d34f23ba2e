//! Marks that are areas: bars from the axis, boxes with whiskers, the cells of a heatmap.

use super::clip;
use super::draw::DrawnSeries;
use super::font;
use super::number;
use super::palette::Colour;
use super::placement::Placer;
use super::ranges::HALF_CELL;
use super::scene::{Anchor, Label, Rect, Shape, Spot};
use crate::plot::charts::chart::{Mark, Point};

/// The size of the numbers in cells.
const NUMBER: f64 = 10.5;
/// Half the width of a bar or box without edges, in units of its axis.
const HALF_WIDTH: f64 = 0.4;
/// Outliers of a box.
const OUTLIER: f64 = 2.2;

impl DrawnSeries<'_> {
    pub(super) fn areas(&self, placer: &mut Placer, shapes: &mut Vec<Shape>) {
        match self.series().mark {
            Mark::Bars => self.data.points.iter().for_each(|point| self.bar(point, placer, shapes)),
            Mark::Boxes => self.data.points.iter().for_each(|point| self.box_of(point, placer, shapes)),
            Mark::Cells => self.cells(shapes),
            Mark::LineAndPoints | Mark::Line | Mark::Points => {}
        }
    }

    /// The part of the rectangle between two corners that the panel shows. Neighbours are told apart by a gap of so
    /// many pixels on each side, where there is room for one.
    fn fill(&self, corners: (Spot, Spot), gap: (f64, f64), colour: Colour, shapes: &mut Vec<Shape>) -> Option<Rect> {
        let Rect { left, right, top, bottom } = Rect::between(corners.0, corners.1);
        let inset = |gap: f64, length: f64| if length > 4.0 { gap } else { 0.0 };
        let (dx, dy) = (inset(gap.0, right - left), inset(gap.1, bottom - top));
        let rect = Rect { left: left + dx, right: right - dx, top: top + dy, bottom: bottom - dy };
        let spots = clip::polygon(&rect.corners(), &self.layout.panel);
        if spots.len() < 3 {
            return None;
        }
        shapes.push(Shape::Polygon { spots, colour });
        Some(rect)
    }

    fn strokes(&self, spots: &[Spot], width: f64, colour: Colour, shapes: &mut Vec<Shape>) {
        for spots in clip::polyline(spots, &self.layout.panel) {
            shapes.push(Shape::Polyline { spots, colour, width, dash: &[] });
        }
    }

    /// A bar from 0, or on a logarithmic axis from its low end.
    fn bar(&self, point: &Point, placer: &mut Placer, shapes: &mut Vec<Shape>) {
        let is_horizontal = self.series().is_horizontal;
        let values = if is_horizontal { &self.layout.x.range } else { &self.layout.y.range };
        let base = if values.scale.is_log() { values.scale.back(values.low) } else { 0.0 };
        let (low, high) = point.edges.unwrap_or((point.x - HALF_WIDTH, point.x + HALF_WIDTH));
        let colour = self.colour().with_alpha(self.series().alpha.unwrap_or(1.0));
        // Only between bars: a gap at their ends would shorten them.
        let gap = if is_horizontal { (0.0, 0.5) } else { (0.5, 0.0) };
        let corners = (self.spot(low, base), self.spot(high, point.y));
        if let Some(rect) = self.fill(corners, gap, colour, shapes) {
            placer.area(&rect);
        }
    }

    /// The box of the quartiles with the median in it, whiskers, and the points beyond them.
    fn box_of(&self, point: &Point, placer: &mut Placer, shapes: &mut Vec<Shape>) {
        let Some([lowest, lower, upper, highest]) = point.quartiles else { return };
        let (left, right) = point.edges.unwrap_or((point.x - HALF_WIDTH, point.x + HALF_WIDTH));
        let (colour, page) = (self.colour(), self.palette().page);
        let (middle, cap) = (point.x, (right - left) / 4.0);
        self.strokes(&[self.spot(middle, lowest), self.spot(middle, lower)], 1.3, colour, shapes);
        self.strokes(&[self.spot(middle, upper), self.spot(middle, highest)], 1.3, colour, shapes);
        for end in [lowest, highest] {
            self.strokes(&[self.spot(middle - cap, end), self.spot(middle + cap, end)], 1.3, colour, shapes);
        }
        let alpha = self.series().alpha.unwrap_or(1.0);
        let corners = (self.spot(left, lower), self.spot(right, upper));
        if let Some(rect) = self.fill(corners, (0.0, 0.0), colour.mix(page, 0.7).with_alpha(alpha), shapes) {
            placer.area(&rect);
        }
        let outline = [(left, lower), (right, lower), (right, upper), (left, upper), (left, lower)];
        self.strokes(&outline.map(|(x, y)| self.spot(x, y)), 1.4, colour, shapes);
        let median = [self.spot(left, point.y), self.spot(right, point.y)];
        self.strokes(&median, 2.4, colour.mix(self.palette().ink, 0.35), shapes);
        placer.line(&[self.spot(middle, lowest), self.spot(middle, highest)]);
    }

    /// The points beyond the whiskers of boxes.
    pub(super) fn outliers(&self, shapes: &mut Vec<Shape>) {
        for run in &self.data.runs {
            let centre = self.spot(run.x, run.y);
            if self.holds(centre) {
                shapes.push(Shape::Circle { centre, radius: OUTLIER, colour: self.colour() });
            }
        }
    }

    fn cells(&self, shapes: &mut Vec<Shape>) {
        let Some(shades) = self.shades else { return };
        let values: Vec<f64> = self.data.points.iter().filter_map(|point| point.value).collect();
        let numbers = number::significant(&values);
        let room = numbers.iter().map(|text| font::room(text, NUMBER)).fold(0.0, f64::max);
        let mut numbers = numbers.into_iter();
        for point in &self.data.points {
            let corner = |side: f64| self.spot(point.x + side * HALF_CELL, point.y + side * HALF_CELL);
            let number = point.value.and_then(|_| numbers.next());
            let value = point.value.filter(|value| value.is_finite());
            let colour = value.map_or(self.palette().faint, |value| shades.colour(value));
            let Some(cell) = self.fill((corner(-1.0), corner(1.0)), (0.5, 0.5), colour, shapes) else { continue };
            let has_room = room + 4.0 <= cell.width() && NUMBER * 1.3 <= cell.height();
            let middle = ((cell.left + cell.right) / 2.0, (cell.top + cell.bottom) / 2.0);
            if !(self.shows_numbers() && has_room && value.is_some() && self.holds(middle)) {
                continue;
            }
            let at = (middle.0, middle.1 + NUMBER * 0.35);
            let ink = self.palette().text_on(colour);
            shapes.push(Shape::Text(Label::new(number.unwrap_or_default(), at, NUMBER, ink, Anchor::Middle)));
        }
    }
}
