//! Text from files and from other people, made harmless for terminals and pages.
//!
//! Control characters move the cursor, change the title of a window or hide what stands before them; characters of
//! the bidirectional algorithm reverse the text behind them (CVE-2021-42574). They are shown as escapes of Rust and
//! Rhai, such as `\u{1b}`.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Shows a text within a line: line breaks and tabs are escaped too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign<'a>(pub &'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Through `pad`, so that widths apply.
        out.pad(&line(self.0))
    }
}

/// Does a terminal act on this character, or reorder the text around it?
pub fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text within a line.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_harmful)
}

/// The text over several lines: line breaks and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| is_harmful(character) && !matches!(character, '\n' | '\t'))
}

/// As [`lines`], for what a script prints at a terminal: colours (`ESC [ … m`) stay too.
pub fn printed(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|character| is_harmful(character) && !matches!(character, '\n' | '\t')) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        shown.push_str(&lines(&rest[..at]));
        let length = colour_length(&rest[at..]);
        match length {
            Some(length) => shown.push_str(&rest[at..at + length]),
            None => push(&mut shown, '\u{1b}'),
        }
        rest = &rest[at + length.unwrap_or(1)..];
    }
    shown.push_str(&lines(rest));
    shown.into()
}

/// The bytes of the colour sequence that `text` begins with.
fn colour_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|character: char| !character.is_ascii_digit() && character != ';')?;
    parameters[end..].starts_with('m').then_some(2 + end + 1)
}

/// JSON, or a page, in which no harmful character stands as itself. Outside of texts, JSON has none; in a page the escape
/// is shown, and read by its script.
pub fn json(text: &str) -> Cow<'_, str> {
    let is_raw = |character: char| is_harmful(character) && !matches!(character, '\n' | '\t');
    if !text.contains(is_raw) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_raw(character) {
            // All of them are below U+10000.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown.into()
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool + Copy) -> Cow<'_, str> {
    if !text.contains(is_escaped) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_escaped(character) {
            push(&mut shown, character);
        } else {
            shown.push(character);
        }
    }
    shown.into()
}

fn push(shown: &mut String, character: char) {
    match character {
        '\n' => shown.push_str("\\n"),
        '\r' => shown.push_str("\\r"),
        '\t' => shown.push_str("\\t"),
        // Writing to a text does not fail.
        _ => drop(write!(shown, "\\u{{{:x}}}", u32::from(character))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_harmful_character_is_left() {
        let every: String = ('\0'..=char::MAX).filter(|character| is_harmful(*character)).collect();
        // C0, DEL and C1; ALM, LRM and RLM; line and paragraph separators with five of the bidirectional algorithm;
        // its four isolates.
        assert_eq!(every.chars().count(), 65 + 3 + 7 + 4);
        assert!(!line(&every).contains(is_harmful));
        assert!(!json(&every.replace(['\n', '\t'], "")).contains(is_harmful));
        assert_eq!(lines(&every).chars().filter(|character| is_harmful(*character)).collect::<String>(), "\t\n");
        assert_eq!(lines(&every), printed(&every));
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in ["", "한국어 ❤\u{fe0f} e\u{301} \u{200d}", "\\n <b> \u{feff}"] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn escapes_name_the_character() {
        assert_eq!(line("a\x1b[2J\u{202e}b\n"), "a\\u{1b}[2J\\u{202e}b\\n");
        assert_eq!(format!("{:>8}|{:<3}|", Foreign("a\nb"), Foreign("c")), "    a\\nb|c  |");
        assert_eq!(json("{\"a\": \"\u{202e}\u{9b}\"}\n"), "{\"a\": \"\\u202e\\u009b\"}\n");
    }

    #[test]
    fn of_what_is_printed_colours_stay() {
        assert_eq!(printed("\x1b[1;31mred\x1b[0m\n"), "\x1b[1;31mred\x1b[0m\n");
        assert_eq!(printed("\x1b[2J\x1b]0;x\x07\x1b["), "\\u{1b}[2J\\u{1b}]0;x\\u{7}\\u{1b}[");
        assert_eq!(printed("\x1b"), "\\u{1b}");
    }
}
