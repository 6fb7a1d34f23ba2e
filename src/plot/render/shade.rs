//! The colours of values: of a heatmap's cells, and of points with a value; and the bar that says what they mean.

use super::clean::CleanData;
use super::named::palette_of;
use super::palette::Colour;
use super::picture::filled;
use super::range::AxisRange;
use super::scene::{Anchor, Label, Rect, Shape};
use super::sizes::{TEXT, TICK};
use super::{font, number, ticks};
use crate::plot::charts::chart::{Chart, Mark, Numbers};
use crate::plot::charts::scale::Scale;

/// The widest title of the bar, and the distance from the panels to the bar.
const MOST_TITLE: f64 = 130.0;
const GAP: f64 = 18.0;
const WIDTH: f64 = 12.0;
const STEPS: usize = 48;
/// The tallest bar.
const MOST_HEIGHT: f64 = 240.0;

/// The scale of the values of a chart.
#[derive(Debug, Clone)]
pub struct ShadeScale {
    range: AxisRange,
    colours: Vec<Colour>,
    title: String,
}

impl ShadeScale {
    /// `None` for a chart without values.
    pub fn of(chart: &Chart, data: &CleanData) -> Option<Self> {
        let points = data.series.iter().flat_map(|series| &series.points);
        let values = points.filter_map(|point| point.value).filter(|value| value.is_finite());
        let fixed = |range: AxisRange| range.fixed(chart.shades.low, chart.shades.high);
        let around = AxisRange::around(Scale::Linear, values, 0.0).map(fixed);
        let has_values = data.series.iter().flat_map(|series| &series.points).any(|point| point.value.is_some());
        let mut range = around.or(has_values.then_some(AxisRange { scale: Scale::Linear, low: 0.0, high: 1.0 }))?;
        let palette = palette_of(chart);
        let mut colours = palette.sequential.to_vec();
        if chart.series.iter().all(|series| series.mark != Mark::Cells) {
            // Points of the lightest colour would vanish on the page.
            colours[0] = colours[0].mix(colours[1], 0.7);
        }
        if let Some(center) = chart.shades.center {
            let reach = (range.high - center).max(center - range.low).max(f64::MIN_POSITIVE);
            (range.low, range.high) = (center - reach, center + reach);
            colours = palette.diverging.to_vec();
        }
        Some(ShadeScale { range, colours, title: font::one_line(&chart.shades.title) })
    }

    pub fn colour(&self, value: f64) -> Colour {
        let position = self.range.position(value).clamp(0.0, 1.0) * (self.colours.len() - 1) as f64;
        let from = (position as usize).min(self.colours.len() - 2);
        self.colours[from].mix(self.colours[from + 1], position - from as f64)
    }

    fn ticks(&self, height: f64) -> Vec<(f64, String)> {
        let values = ticks::linear(&self.range, ((height / 40.0) as usize).clamp(2, 6), false);
        let labels = number::labels(&values, Numbers::Auto, false);
        values.into_iter().zip(labels).collect()
    }

    /// The width to reserve at the right of the panels.
    pub fn room(&self, height: f64) -> f64 {
        let labels = self.ticks(height.min(MOST_HEIGHT)).into_iter().map(|(_, label)| font::room(&label, TICK));
        let title = font::room(&self.title, TEXT).min(MOST_TITLE);
        GAP + (WIDTH + 8.0 + labels.fold(0.0, f64::max)).max(title)
    }

    /// The bar at the right of the panels, its title above it.
    pub fn bar(&self, chart: &Chart, panels: &Rect, shapes: &mut Vec<Shape>) {
        let (palette, left) = (palette_of(chart), panels.right + GAP);
        let mut top = panels.top;
        if !self.title.is_empty() {
            let title = font::elide_end(&self.title, TEXT, MOST_TITLE);
            shapes.push(Shape::Text(Label::new(title, (left, top + TEXT * 0.8), TEXT, palette.ink, Anchor::Start)));
            top += TEXT * 1.6;
        }
        top += TICK * 0.4;
        let bottom = (panels.bottom - TICK * 0.4).min(top + MOST_HEIGHT);
        let step = (bottom - top) / STEPS as f64;
        let high_to_low = |at: f64| self.range.high - (self.range.high - self.range.low) * at / STEPS as f64;
        for at in 0..STEPS {
            let above = top + step * at as f64;
            // The last one ends with the bar; the others reach below the next, or light shows between them.
            let overlap = if at + 1 < STEPS { 0.4 } else { 0.0 };
            let rect = Rect { left, top: above, right: left + WIDTH, bottom: above + step + overlap };
            shapes.push(filled(&rect, self.colour(high_to_low(at as f64 + 0.5))));
        }
        for (value, label) in self.ticks(bottom - top) {
            let at = bottom - self.range.position(value) * (bottom - top);
            let spots = vec![(left + WIDTH, at), (left + WIDTH + 3.5, at)];
            shapes.push(Shape::Polyline { spots, colour: palette.axis, width: 1.0, dash: &[] });
            let spot = (left + WIDTH + 7.0, at + TICK * 0.35);
            shapes.push(Shape::Text(Label::new(label, spot, TICK, palette.grey, Anchor::Start)));
        }
    }
}
