//! Texts as glyphs: of the built-in font, or of the font file that a chart names where the built-in one lacks a character.
//!
//! PNG, PDF and outlined SVG are drawn from them. The layout measures texts by the built-in font alone (`font.rs`):
//! characters that it lacks count as one em where they are wide, which all Chinese and Japanese characters are.

use super::font;
use super::scene::{Anchor, Label, Spot};
use crate::plot::charts::style::Style;
use ab_glyph::{Font, GlyphId, Outline, OutlineCurve, Point};

/// The fonts of a chart, the built-in one first.
pub struct Glyphs<'a> {
    faces: Vec<&'a dyn Font>,
}

/// A glyph of a text, `x` pixels behind the position of its label.
#[derive(Debug, Clone, Copy)]
pub struct Glyph {
    /// The index of its font.
    pub face: usize,
    pub id: GlyphId,
    pub character: char,
    pub x: f64,
}

/// A piece of an outline, in the picture.
#[derive(Debug, Clone, Copy)]
pub enum Segment {
    Move(Spot),
    Line(Spot),
    Quad(Spot, Spot),
    Cubic(Spot, Spot, Spot),
}

impl<'a> Glyphs<'a> {
    /// `None` only if the program was built with a broken font.
    pub fn of(style: &'a Style) -> Option<Self> {
        let built_in: &dyn Font = font::face()?;
        let file = style.font.as_ref().map(|font| -> &dyn Font { font.face.as_ref() });
        Some(Glyphs { faces: [built_in].into_iter().chain(file).collect() })
    }

    /// The font that has the character; `None` if none has.
    fn find(&self, character: char) -> Option<(usize, GlyphId)> {
        let ids = self.faces.iter().map(|face| face.glyph_id(character)).enumerate();
        ids.into_iter().find(|(_, id)| id.0 != 0)
    }

    /// The first character that no font has.
    pub fn missing(&self, text: &str) -> Option<char> {
        text.chars().find(|character| self.find(*character).is_none())
    }

    /// Does the text need the font file?
    pub fn needs_file(&self, text: &str) -> bool {
        text.chars().any(|character| self.find(character).is_some_and(|(face, _)| face > 0))
    }

    pub fn units_per_em(&self, face: usize) -> f64 {
        self.faces.get(face).and_then(|face| face.units_per_em()).map_or(1000.0, f64::from)
    }

    pub fn advance(&self, face: usize, id: GlyphId) -> f64 {
        self.faces.get(face).map_or(0.0, |face| f64::from(face.h_advance_unscaled(id)))
    }

    pub fn outline(&self, face: usize, id: GlyphId) -> Option<Outline> {
        self.faces.get(face)?.outline(id)
    }

    /// The glyphs of a label, from its anchor.
    pub fn run(&self, label: &Label) -> Vec<Glyph> {
        let (mut glyphs, mut pen) = (vec![], 0.0);
        for character in label.text.chars() {
            let (face, id) = self.find(character).unwrap_or((0, GlyphId(0)));
            glyphs.push(Glyph { face, id, character, x: pen });
            pen += self.advance(face, id) * label.size / self.units_per_em(face);
        }
        let before = match label.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => pen / 2.0,
            Anchor::End => pen,
        };
        glyphs.iter_mut().for_each(|glyph| glyph.x -= before);
        glyphs
    }

    /// The outlines of a label in the picture.
    pub fn outlines(&self, label: &Label) -> Vec<Segment> {
        let mut segments = vec![];
        for glyph in self.run(label) {
            let Some(outline) = self.outline(glyph.face, glyph.id) else { continue };
            let scale = label.size / self.units_per_em(glyph.face);
            let place = |point: Point| {
                let (along, up) = (glyph.x + f64::from(point.x) * scale, f64::from(point.y) * scale);
                if label.upright {
                    (label.at.0 - up, label.at.1 - along)
                } else {
                    (label.at.0 + along, label.at.1 - up)
                }
            };
            segments.extend(segments_of(&outline, place));
        }
        segments
    }
}

/// The curves of an outline, with a move wherever one does not begin where the last ended.
pub fn segments_of(outline: &Outline, place: impl Fn(Point) -> Spot) -> Vec<Segment> {
    let (mut segments, mut at) = (vec![], None);
    for curve in &outline.curves {
        let (from, to) = match curve {
            OutlineCurve::Line(from, to) | OutlineCurve::Quad(from, _, to) | OutlineCurve::Cubic(from, _, _, to) => {
                (*from, *to)
            }
        };
        if at != Some(from) {
            segments.push(Segment::Move(place(from)));
        }
        segments.push(match curve {
            OutlineCurve::Line(_, to) => Segment::Line(place(*to)),
            OutlineCurve::Quad(_, control, to) => Segment::Quad(place(*control), place(*to)),
            OutlineCurve::Cubic(_, one, two, to) => Segment::Cubic(place(*one), place(*two), place(*to)),
        });
        at = Some(to);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::super::palette::INK;
    use super::*;

    #[test]
    fn glyphs_follow_their_anchor_and_have_outlines() {
        let style = Style::default();
        let glyphs = Glyphs::of(&style).unwrap();
        let label = Label::new("HH", (100.0, 50.0), 20.0, INK, Anchor::End);
        let run = glyphs.run(&label);
        assert!((run[0].x + font::width("HH", 20.0)).abs() < 1e-9 && (run[1].x * 2.0 - run[0].x).abs() < 1e-9);
        let spots: Vec<Spot> = glyphs
            .outlines(&label)
            .iter()
            .map(|segment| match segment {
                Segment::Move(to) | Segment::Line(to) | Segment::Quad(_, to) | Segment::Cubic(_, _, to) => *to,
            })
            .collect();
        assert!(spots.iter().all(|(x, y)| (70.0..=100.0).contains(x) && (34.0..=50.5).contains(y)), "{spots:?}");
        assert_eq!((glyphs.missing("학습 loss"), glyphs.missing("损失")), (None, Some('损')));
    }
}
