//! The bundled font: the width of a text, and texts cut to a width.
//!
//! SVG names [`FAMILY`] and is drawn with the reader's fonts. Their widths differ from the bundled font's by
//! a few per cent, so layouts use [`room`], which adds a margin.

use crate::foreign;
use crate::table;
use ab_glyph::{Font, FontRef};
use std::sync::LazyLock;

pub static BYTES: &[u8] = include_bytes!("fonts/lorhai-sans.otf");
static FACE: LazyLock<Option<FontRef<'static>>> = LazyLock::new(|| FontRef::try_from_slice(BYTES).ok());

/// CSS families for SVG and HTML: near the bundled font in width, with Hangul on each system.
pub const FAMILY: &str = "Pretendard, Inter, 'Helvetica Neue', Arial, 'Apple SD Gothic Neo', 'Malgun Gothic', \
                          'Noto Sans KR', 'Noto Sans CJK KR', sans-serif";

/// Common substitutes are wider than the bundled font by this factor at most.
pub const SUBSTITUTE: f64 = 1.08;

/// The bundled font; `None` only if the program was built with a broken one.
pub fn face() -> Option<&'static FontRef<'static>> {
    FACE.as_ref()
}

/// Width in pixels of `text` set at `size` pixels per em, in the bundled font.
pub fn width(text: &str, size: f64) -> f64 {
    let Some(face) = face() else { return 0.55 * size * text.chars().count() as f64 };
    let em = f64::from(face.units_per_em().unwrap_or(1000.0));
    let advance = |character: char| match face.glyph_id(character) {
        // Some other font draws it, in which a wide character takes one em.
        ab_glyph::GlyphId(0) if table::width(character.encode_utf8(&mut [0; 4])) == 2 => em,
        id => f64::from(face.h_advance_unscaled(id)),
    };
    text.chars().map(advance).sum::<f64>() * size / em
}

/// Width to reserve for `text`, whichever font of [`FAMILY`] draws it.
pub fn room(text: &str, size: f64) -> f64 {
    width(text, size) * SUBSTITUTE
}

/// `text` on one line without control characters, which XML forbids and no font draws.
pub fn one_line(text: &str) -> String {
    let cleaned: String = text
        .chars()
        .map(|character| {
            if foreign::is_harmful(character) || matches!(character, '\u{fffe}' | '\u{ffff}') {
                ' '
            } else {
                character
            }
        })
        .collect();
    cleaned.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Cuts the end of `text`, marking the cut with "…", so that it needs at most `limit` pixels.
pub fn elide_end(text: &str, size: f64, limit: f64) -> String {
    if room(text, size) <= limit {
        return text.to_string();
    }
    let characters: Vec<char> = text.chars().collect();
    let cut = |kept: usize| format!("{}…", characters[..kept].iter().collect::<String>().trim_end());
    longest(characters.len(), size, limit, cut)
}

/// Cuts the middle of `text`: names of runs often differ only at their ends.
pub fn elide_middle(text: &str, size: f64, limit: f64) -> String {
    if room(text, size) <= limit {
        return text.to_string();
    }
    let characters: Vec<char> = text.chars().collect();
    let cut = |kept: usize| {
        let head: String = characters[..kept.div_ceil(2)].iter().collect();
        let tail: String = characters[characters.len() - kept / 2..].iter().collect();
        format!("{}…{}", head.trim_end(), tail.trim_start())
    };
    longest(characters.len(), size, limit, cut)
}

/// The longest `cut(kept)`, kept < `count`, that needs at most `limit` pixels; at worst `cut(0)`.
fn longest(count: usize, size: f64, limit: f64, cut: impl Fn(usize) -> String) -> String {
    let (mut fits, mut fails) = (0, count);
    while fails - fits > 1 {
        let middle = (fits + fails) / 2;
        if room(&cut(middle), size) <= limit {
            fits = middle;
        } else {
            fails = middle;
        }
    }
    cut(fits)
}

/// Breaks `text` at spaces into at most `lines` lines of `limit` pixels; the last one is elided.
pub fn wrap(text: &str, size: f64, limit: f64, lines: usize) -> Vec<String> {
    let mut wrapped: Vec<String> = Vec::new();
    let mut rest: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    while !rest.is_empty() && wrapped.len() + 1 < lines {
        let fitting = (1..=rest.len()).take_while(|count| room(&rest[..*count].join(" "), size) <= limit).count();
        if fitting == 0 {
            break; // The word is wider than a line: it is elided below.
        }
        wrapped.push(rest[..fitting].join(" "));
        rest.drain(..fitting);
    }
    if !rest.is_empty() {
        wrapped.push(elide_end(&rest.join(" "), size, limit));
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_font_has_latin_greek_hangul_and_signs() {
        let face = face().unwrap();
        for character in "Rank 32 eval_loss αβμσ학습손실평가순위 −±×·–…≤≥→⁻³".chars() {
            assert_ne!(face.glyph_id(character).0, 0, "no glyph for {character:?}");
        }
    }

    #[test]
    fn widths_add_up_and_grow_with_size() {
        assert!((width("학습", 10.0) - 2.0 * width("학", 10.0)).abs() < 1.0);
        assert!((width("rank", 20.0) - 2.0 * width("rank", 10.0)).abs() < 1e-9);
        assert!(width("", 10.0) == 0.0);
    }

    #[test]
    fn cut_texts_fit_and_show_the_cut() {
        let name = "qwen2.5-0.5b-instruct/학습률=0.0002/rank=64/seed=3";
        for limit in [40.0, 80.0, 160.0] {
            let (end, middle) = (elide_end(name, 12.0, limit), elide_middle(name, 12.0, limit));
            assert!(room(&end, 12.0) <= limit && end.ends_with('…'), "{end}");
            assert!(room(&middle, 12.0) <= limit && middle.contains('…'), "{middle}");
        }
        assert!(elide_middle(name, 12.0, 120.0).ends_with('3'));
        assert_eq!(elide_end(name, 12.0, 900.0), name);
    }

    #[test]
    fn wrapping_keeps_every_word_while_there_is_room() {
        let text = "evaluation loss against rank over three seeds";
        assert_eq!(wrap(text, 16.0, 200.0, 9).join(" "), text);
        let two = wrap(text, 16.0, 120.0, 2);
        assert!(two.len() == 2 && two[1].ends_with('…'), "{two:?}");
        assert_eq!(wrap("", 16.0, 100.0, 2), Vec::<String>::new());
    }

    #[test]
    fn control_characters_do_not_reach_the_picture() {
        assert_eq!(one_line(" a\nb\u{0}c\t\u{1b}[0m "), "a b c [0m");
    }
}
