//! Colours that colour-blind readers can distinguish, and markers for print without colours.
//!
//! The hues are those of Okabe and Ito (2008, "Color Universal Design"), without yellow,
//! which vanishes on white. Colour, marker and dash repeat with different periods, so
//! 84 series have different looks.

use crate::plot::charts::style::Theme;

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

/// The colours of a theme.
#[derive(Debug)]
pub struct Palette {
    /// The background.
    pub page: Colour,
    pub ink: Colour,
    pub grey: Colour,
    pub axis: Colour,
    pub faint: Colour,
    series: [Colour; 7],
    /// From low to high values.
    pub sequential: [Colour; 4],
    /// From low values over the neutral colour to high ones.
    pub diverging: [Colour; 5],
}

static LIGHT: Palette = Palette {
    page: WHITE,
    ink: INK,
    grey: GREY,
    axis: AXIS,
    faint: FAINT,
    series: [
        Colour::new(0, 114, 178),   // blue
        Colour::new(213, 94, 0),    // vermilion
        Colour::new(0, 158, 115),   // bluish green
        Colour::new(204, 121, 167), // reddish purple
        Colour::new(230, 159, 0),   // orange
        Colour::new(86, 180, 233),  // sky blue
        Colour::new(31, 35, 40),    // near black
    ],
    sequential: SHADES,
    diverging: [
        Colour::new(5, 75, 140),
        Colour::new(110, 172, 214),
        Colour::new(244, 244, 244),
        Colour::new(238, 145, 95),
        Colour::new(165, 45, 10),
    ],
};

/// The same hues, lighter, on a dark page.
static DARK: Palette = Palette {
    page: Colour::new(17, 21, 27),
    ink: Colour::new(232, 237, 243),
    grey: Colour::new(168, 177, 188),
    axis: Colour::new(110, 119, 130),
    faint: Colour::new(40, 46, 54),
    series: [
        Colour::new(72, 153, 219),
        Colour::new(240, 122, 56),
        Colour::new(46, 190, 146),
        Colour::new(224, 152, 192),
        Colour::new(240, 184, 64),
        Colour::new(146, 214, 250),
        Colour::new(232, 237, 243),
    ],
    sequential: [
        Colour::new(30, 38, 52),
        Colour::new(26, 78, 130),
        Colour::new(66, 148, 208),
        Colour::new(206, 232, 250),
    ],
    diverging: [
        Colour::new(126, 190, 240),
        Colour::new(44, 104, 160),
        Colour::new(46, 52, 60),
        Colour::new(178, 84, 40),
        Colour::new(250, 168, 120),
    ],
};

/// Light to dark, so that the order survives in grey.
pub const SHADES: [Colour; 4] =
    [Colour::new(240, 245, 250), Colour::new(146, 190, 219), Colour::new(36, 116, 178), Colour::new(8, 45, 98)];

pub fn of(theme: Theme) -> &'static Palette {
    match theme {
        Theme::Light => &LIGHT,
        Theme::Dark => &DARK,
    }
}

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

/// As [`Palette::look`], in the light theme.
pub fn look(slot: usize) -> Look {
    LIGHT.look(slot)
}

impl Palette {
    /// The look of the series at index `slot`: the first seven differ in colour and are solid.
    pub fn look(&self, slot: usize) -> Look {
        Look {
            colour: self.series[slot % self.series.len()],
            marker: MARKERS[slot % MARKERS.len()],
            dash: DASHES[(slot / self.series.len()) % DASHES.len()],
        }
    }

    /// `colour` mixed with the ink until text in it is readable on the page: contrast 4.5 : 1 (WCAG 2.1, level AA).
    pub fn for_text(&self, colour: Colour) -> Colour {
        let steps = (0..=20).map(|step| colour.mix(self.ink, f64::from(step) / 20.0));
        steps.into_iter().find(|colour| colour.contrast(self.page) >= 4.5).unwrap_or(self.ink)
    }

    /// Ink or page, whichever is readable on `colour`.
    pub fn text_on(&self, colour: Colour) -> Colour {
        if colour.contrast(self.page) > colour.contrast(self.ink) {
            self.page
        } else {
            self.ink
        }
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
    fn all_text_is_readable_on_its_page() {
        for palette in [&LIGHT, &DARK] {
            let series = palette.series.iter().map(|colour| palette.for_text(*colour));
            for colour in series.chain([palette.ink, palette.grey]) {
                assert!(colour.contrast(palette.page) >= 4.5, "{colour:?}");
            }
            let shades = palette.sequential.iter().chain(&palette.diverging);
            assert!(shades.copied().all(|shade| palette.text_on(shade).contrast(shade) >= 3.0));
        }
        assert!((Colour::new(0, 0, 0).contrast(WHITE) - 21.0).abs() < 1e-9);
    }
}
