//! Colours that colour-blind readers can distinguish, and markers for print without colours.
//!
//! The hues are those of Okabe and Ito (2008, "Color Universal Design"), without yellow,
//! which vanishes on white. Colour, marker and dash repeat with different periods, so
//! 84 series have different looks.

/// A colour with opacity `alpha` from 0 (invisible) to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Colour {
    pub rgb: (u8, u8, u8),
    pub alpha: f64,
}

pub const WHITE: Colour = Colour::new(255, 255, 255);
/// Titles.
pub const INK: Colour = Colour::new(31, 35, 40);
/// Tick labels and axis titles.
pub const GREY: Colour = Colour::new(75, 83, 92);
/// Axis lines and tick marks.
pub const AXIS: Colour = Colour::new(125, 133, 144);
/// The grid.
pub const FAINT: Colour = Colour::new(229, 232, 236);

const SERIES: [Colour; 7] = [
    Colour::new(0, 114, 178),   // blue
    Colour::new(213, 94, 0),    // vermilion
    Colour::new(0, 158, 115),   // bluish green
    Colour::new(204, 121, 167), // reddish purple
    Colour::new(230, 159, 0),   // orange
    Colour::new(86, 180, 233),  // sky blue
    Colour::new(31, 35, 40),    // near black
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Inverted,
    Cross,
}

const MARKERS: [Marker; 6] =
    [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Inverted, Marker::Cross];

/// Lengths of strokes and gaps in pixels, alternating; empty for a solid line.
pub type Dash = &'static [f64];
const DASHES: [Dash; 4] = [&[], &[7.0, 4.0], &[2.0, 3.5], &[9.0, 3.5, 2.0, 3.5]];

/// How one series looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    pub colour: Colour,
    pub marker: Marker,
    pub dash: Dash,
}

/// The look of the series at index `slot`: the first seven differ in colour and are solid.
pub fn look(slot: usize) -> Look {
    Look {
        colour: SERIES[slot % SERIES.len()],
        marker: MARKERS[slot % MARKERS.len()],
        dash: DASHES[(slot / SERIES.len()) % DASHES.len()],
    }
}

impl Colour {
    pub const fn new(red: u8, green: u8, blue: u8) -> Self {
        Colour { rgb: (red, green, blue), alpha: 1.0 }
    }

    pub fn with_alpha(self, alpha: f64) -> Self {
        Colour { alpha, ..self }
    }

    /// A mix of both colours: this one at `t` 0, `other` at 1.
    pub fn mix(self, other: Colour, t: f64) -> Self {
        let blend = |from: u8, to: u8| (f64::from(from) * (1.0 - t) + f64::from(to) * t).round() as u8;
        let ((r, g, b), (r2, g2, b2)) = (self.rgb, other.rgb);
        Colour { rgb: (blend(r, r2), blend(g, g2), blend(b, b2)), alpha: self.alpha }
    }

    /// This colour darkened until text in it is readable on white: contrast 4.5 : 1 (WCAG 2.1, level AA).
    pub fn for_text(self) -> Self {
        let steps = (0..=20).map(|step| self.mix(INK, f64::from(step) / 20.0));
        steps.into_iter().find(|colour| colour.contrast(WHITE) >= 4.5).unwrap_or(INK)
    }

    /// Contrast ratio by WCAG 2.1, 1 to 21.
    pub fn contrast(self, other: Colour) -> f64 {
        let (one, two) = (self.luminance(), other.luminance());
        (one.max(two) + 0.05) / (one.min(two) + 0.05)
    }

    fn luminance(self) -> f64 {
        let linear = |value: u8| {
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(self.rgb.0) + 0.7152 * linear(self.rgb.1) + 0.0722 * linear(self.rgb.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eighty_four_series_look_different() {
        let looks: Vec<Look> = (0..84).map(look).collect();
        for (slot, one) in looks.iter().enumerate() {
            assert!(looks[..slot].iter().all(|other| other != one), "slot {slot} repeats a look");
        }
    }

    #[test]
    fn all_text_is_readable_on_white() {
        for colour in SERIES.iter().map(|colour| colour.for_text()).chain([INK, GREY]) {
            assert!(colour.contrast(WHITE) >= 4.5, "{colour:?}");
        }
        assert!((Colour::new(0, 0, 0).contrast(WHITE) - 21.0).abs() < 1e-9);
    }
}
