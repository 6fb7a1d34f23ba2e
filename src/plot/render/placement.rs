//! Positions for texts inside the panel where they hide neither data nor each other.

use super::palette::Colour;
use super::scene::{Anchor, Label, Rect, Spot};

/// Lines count as dots this many pixels apart.
const GRAIN: f64 = 4.0;
/// Areas count as dots this many pixels apart.
const AREA_GRAIN: f64 = 8.0;

/// What is drawn in the panel so far.
#[derive(Debug)]
pub struct Placer {
    panel: Rect,
    texts: Vec<Rect>,
    dots: Vec<Spot>,
}

impl Placer {
    pub fn new(panel: Rect) -> Self {
        Placer { panel, texts: vec![], dots: vec![] }
    }

    /// Marks a polyline as occupied.
    pub fn line(&mut self, spots: &[Spot]) {
        for pair in spots.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let steps = ((x1 - x0).hypot(y1 - y0) / GRAIN).ceil().clamp(1.0, 4000.0) as usize;
            let at = |step: usize| step as f64 / steps as f64;
            self.dots.extend((0..=steps).map(|step| (x0 + at(step) * (x1 - x0), y0 + at(step) * (y1 - y0))));
        }
    }

    /// Marks an area as occupied.
    pub fn area(&mut self, area: &Rect) {
        let steps = |length: f64| (length / AREA_GRAIN).ceil().clamp(1.0, 60.0) as usize;
        let (across, down) = (steps(area.width()), steps(area.height()));
        for column in 0..=across {
            let x = area.left + area.width() * column as f64 / across as f64;
            self.dots.extend((0..=down).map(|row| (x, area.top + area.height() * row as f64 / down as f64)));
        }
    }

    /// Does a label that was placed cover data?
    pub fn covers(&self, label: &Label) -> bool {
        let bounds = label.bounds();
        self.dots.iter().any(|dot| bounds.holds(*dot))
    }

    /// Marks a marker as occupied.
    pub fn dot(&mut self, (x, y): Spot) {
        self.dots.extend([(x, y), (x - 4.0, y), (x + 4.0, y), (x, y - 4.0), (x, y + 4.0)]);
    }

    /// A label near `at`, on the side where it hides least; `None` if it would hide a text or more than
    /// two dots of data, unless `is_required`.
    pub fn near(&mut self, at: Spot, text: &str, size: f64, colour: Colour, is_required: bool) -> Option<Label> {
        let sides = [
            (0.0, -1.0, Anchor::Middle),
            (1.0, 0.0, Anchor::Start),
            (0.0, 1.0, Anchor::Middle),
            (-1.0, 0.0, Anchor::End),
            (1.0, -1.0, Anchor::Start),
            (-1.0, -1.0, Anchor::End),
            (1.0, 1.0, Anchor::Start),
            (-1.0, 1.0, Anchor::End),
        ];
        let spots = [9.0, 16.0, 26.0].into_iter().flat_map(|gap| sides.map(|(dx, dy, anchor)| (gap, dx, dy, anchor)));
        let labels = spots.map(|(gap, dx, dy, anchor)| {
            let down = size * 0.35 + dy * (gap + size * 0.35);
            Label::new(text, (at.0 + dx * gap, at.1 + down), size, colour, anchor)
        });
        self.best(labels.collect(), is_required)
    }

    /// The best of several candidates, the first of those that are equally good.
    pub fn best(&mut self, labels: Vec<Label>, is_required: bool) -> Option<Label> {
        let costs = labels.into_iter().map(|label| (self.cost(&label), label));
        let (cost, label) = costs.min_by(|(one, _), (two, _)| one.total_cmp(two))?;
        if !is_required && cost > 2.0 {
            return None;
        }
        self.texts.push(label.bounds());
        Some(label)
    }

    /// The number of hidden dots of data, plus 100 for each hidden text and 10,000 outside the panel.
    fn cost(&self, label: &Label) -> f64 {
        let bounds = label.bounds();
        let is_inside = self.panel.holds((bounds.left, bounds.top)) && self.panel.holds((bounds.right, bounds.bottom));
        let near = bounds.grown(1.5);
        let hidden = self.dots.iter().filter(|dot| near.holds(**dot)).count() as f64;
        let texts = self.texts.iter().filter(|text| text.meets(&near)).count() as f64;
        hidden + 100.0 * texts + if is_inside { 0.0 } else { 10_000.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::palette::INK;
    use super::*;

    const PANEL: Rect = Rect { left: 0.0, top: 0.0, right: 200.0, bottom: 100.0 };

    #[test]
    fn labels_avoid_lines_and_each_other_and_stay_inside() {
        let mut placer = Placer::new(PANEL);
        placer.line(&[(0.0, 50.0), (200.0, 50.0)]);
        placer.line(&[(100.0, 0.0), (100.0, 50.0)]);
        let one = placer.near((100.0, 50.0), "r=8", 11.0, INK, false).unwrap().bounds();
        assert!(one.top > 50.0 || one.bottom < 50.0, "{one:?}");
        let two = placer.near((100.0, 50.0), "r=8", 11.0, INK, false).unwrap().bounds();
        assert!(!one.meets(&two));
        let corner = placer.near((199.0, 1.0), "a corner", 11.0, INK, true).unwrap().bounds();
        assert!(corner.right <= 200.0 && corner.top >= 0.0);
    }

    #[test]
    fn a_label_without_room_is_left_out_unless_it_is_required() {
        let mut placer = Placer::new(PANEL);
        (0..25).for_each(|row| placer.line(&[(0.0, f64::from(row) * 4.0), (200.0, f64::from(row) * 4.0)]));
        assert!(placer.near((100.0, 50.0), "hidden", 11.0, INK, false).is_none());
        assert!(placer.near((100.0, 50.0), "shown", 11.0, INK, true).is_some());
    }
}
