//! Colours of a line while it is typed, and the bracket that matches the one at the cursor.

use super::commands;
use super::known::Known;
use super::syntax::{matching, words, Kind, Word};
use anstyle::{AnsiColor, Style};

const KEYWORD: Style = AnsiColor::Magenta.on_default();
const TEXT: Style = AnsiColor::Green.on_default();
const NUMBER: Style = AnsiColor::Cyan.on_default();
/// What the editor suggests behind the cursor.
pub const HINT: Style = AnsiColor::BrightBlack.on_default();
const COMMENT: Style = AnsiColor::BrightBlack.on_default();
const FUNCTION: Style = AnsiColor::Blue.on_default();
const COMMAND: Style = AnsiColor::Yellow.on_default();
const BRACKET: Style = Style::new().bold().invert();
/// A closing bracket without an opening one.
const STRAY: Style = AnsiColor::Red.on_default();

/// The line in colours; `position` is the byte of the cursor.
pub fn highlight(known: &Known, line: &str, position: usize) -> String {
    if commands::parse(line).is_some() {
        return painted(line, COMMAND);
    }
    let partner = bracket_at(line, position);
    words(line).iter().map(|word| coloured(known, line, word, partner)).collect()
}

/// The two brackets to mark: the one at or before the cursor, and its partner.
fn bracket_at(line: &str, position: usize) -> Option<(usize, usize)> {
    let is_bracket = |at: &usize| line.as_bytes().get(*at).is_some_and(|byte| b"()[]{}".contains(byte));
    let at = [Some(position), position.checked_sub(1)].into_iter().flatten().find(is_bracket)?;
    Some((at, matching(line, at)?))
}

fn coloured(known: &Known, line: &str, word: &Word, marked: Option<(usize, usize)>) -> String {
    let bracket = word.end() - 1;
    let is_marked = marked.is_some_and(|(one, other)| bracket == one || bracket == other);
    match word.kind {
        Kind::Open | Kind::Close if is_marked => painted(word.text, BRACKET),
        Kind::Close if matching(line, bracket).is_none() => painted(word.text, STRAY),
        Kind::Keyword => painted(word.text, KEYWORD),
        Kind::Text => painted(word.text, TEXT),
        Kind::Number => painted(word.text, NUMBER),
        Kind::Comment => painted(word.text, COMMENT),
        Kind::Name if line[word.end()..].starts_with('(') && known.callable(word.text).next().is_some() => {
            painted(word.text, FUNCTION)
        }
        _ => word.text.to_string(),
    }
}

pub fn painted(text: &str, style: Style) -> String {
    // Some terminals lose the colour at a line break.
    let lines: Vec<String> = text.split('\n').map(|line| format!("{style}{line}{style:#}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::complete::tests::known;
    use super::*;
    use console::strip_ansi_codes;

    #[test]
    fn colours_leave_the_text_as_it_is() {
        let known = known(&[]);
        for line in ["let x = load_model(\"한글\", #{ a: 1 }); // c", "`a\nb` + (", ":load x", "f(]"] {
            for position in 0..=line.len() {
                assert_eq!(strip_ansi_codes(&highlight(&known, line, position)), line);
            }
        }
    }

    #[test]
    fn the_bracket_at_the_cursor_and_its_partner_are_marked() {
        let known = known(&[]);
        let marks = |line: &str, at| highlight(&known, line, at).matches(&BRACKET.to_string()).count();
        assert_eq!((marks("f(1)", 4), marks("f(1)", 1), marks("f(1)", 0), marks("f(1", 1)), (2, 2, 0, 0));
        assert!(highlight(&known, "load_model(1)", 0).starts_with("\x1b[34mload_model\x1b[0m"));
        assert!(highlight(&known, "f)", 0).ends_with("\x1b[31m)\x1b[0m"));
    }
}
