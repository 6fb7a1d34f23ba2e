//! Which brackets are open at a place of a script, for errors about one that is missing.

use rhai::{Engine, Token};

/// A bracket, and its line and column from 1.
pub type Open = (char, usize, usize);

pub fn closing(bracket: char) -> char {
    match bracket {
        '{' => '}',
        '[' => ']',
        _ => ')',
    }
}

/// The innermost bracket that is open before a place.
pub fn innermost(engine: &Engine, source: &str, line: usize, column: usize) -> Option<Open> {
    let mut open: Vec<Open> = Vec::new();
    let inputs = [source];
    for (token, position) in engine.lex(&inputs).0 {
        let at = (position.line().unwrap_or(usize::MAX), position.position().unwrap_or(0));
        if token == Token::EOF || at >= (line, column) {
            break;
        }
        match token {
            Token::LeftBrace | Token::MapStart => open.push(('{', at.0, at.1)),
            Token::LeftParen => open.push(('(', at.0, at.1)),
            Token::LeftBracket => open.push(('[', at.0, at.1)),
            Token::RightBrace | Token::RightParen | Token::RightBracket => drop(open.pop()),
            _ => {}
        }
    }
    open.pop()
}

/// The last line with code before a place, and its text; `None` where the code before stands
/// in the same line.
pub fn line_before(source: &str, line: usize, column: usize) -> Option<(usize, &str)> {
    let lines: Vec<&str> = source.lines().take(line).collect();
    let start: String =
        lines.get(line.checked_sub(1)?).copied().unwrap_or_default().chars().take(column.saturating_sub(1)).collect();
    if !start.trim().is_empty() {
        return None;
    }
    let is_code = |text: &str| !text.trim().is_empty() && !text.trim_start().starts_with("//");
    let before = lines.iter().enumerate().take(line - 1).rev();
    before.map(|(at, text)| (at + 1, *text)).find(|(_, text)| is_code(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_open_bracket_is_found() {
        let engine = Engine::new();
        let source = "let a = f(#{ r: [8], s: () },\n    \"}\" + `${a}`\nlet b = 2;";
        assert_eq!(innermost(&engine, source, 3, 1), Some(('(', 1, 10)));
        assert_eq!(innermost(&engine, source, 1, 18), Some(('[', 1, 17)));
        assert_eq!(innermost(&engine, source, 1, 24), Some(('{', 1, 11)));
        assert_eq!(innermost(&engine, "let a = 1;", 1, 9), None);
    }

    #[test]
    fn the_line_before_is_the_last_one_with_code() {
        let source = "let a = 1\n\n// more\nlet b = 2; let c = 3 let d";
        assert_eq!(line_before(source, 4, 1), Some((1, "let a = 1")));
        assert_eq!(line_before(source, 4, 22), None);
        assert_eq!(line_before(source, 1, 1), None);
    }
}
