//! Splits the text of a template into tokens, with Jinja2's whitespace control (`trim_blocks` and `lstrip_blocks` are on,
//! as transformers sets them). Leaves to others: numbers and strings (`literal.rs`).

use super::error::{Failure, Result};
use super::literal;
use super::token::Token;
use super::unicode::is_space;

/// Longest first, so that `**` is not read as two `*`.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";",
];

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: u32,
    tokens: Vec<(u32, Token)>,
    /// Whether the last token ended with a line break.
    at_line_start: bool,
}

/// All tokens with their lines; the last is [`Token::End`].
pub(super) fn tokenize(source: &str) -> Result<Vec<(u32, Token)>> {
    let unified = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = unified.strip_suffix('\n').unwrap_or(&unified);
    let mut lexer = Lexer { source, at: 0, line: 1, tokens: Vec::new(), at_line_start: true };
    lexer.root()?;
    let line = lexer.line;
    lexer.tokens.push((line, Token::End));
    Ok(lexer.tokens)
}

fn skip_space(text: &str) -> usize {
    text.char_indices().find(|(_, c)| !is_space(*c)).map_or(text.len(), |(at, _)| at)
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((self.line, token));
    }

    /// Skips `length` bytes, counting lines.
    fn advance(&mut self, length: usize) {
        let skipped = &self.source[self.at..self.at + length];
        self.line += skipped.matches('\n').count() as u32;
        self.at_line_start = skipped.ends_with('\n');
        self.at += length;
    }

    fn root(&mut self) -> Result<()> {
        while self.at < self.source.len() {
            let rest = self.rest();
            let Some(begin) = ["{%", "{{", "{#"].iter().filter_map(|tag| rest.find(tag)).min() else {
                self.push(Token::Data(rest.to_owned()));
                self.advance(rest.len());
                break;
            };
            let (text, tag) = rest.split_at(begin);
            let raw = raw_begin(tag);
            let sign = tag[2..].chars().next().filter(|c| matches!(c, '-' | '+'));
            let text = self.strip_left(text, sign, tag.starts_with("{{"));
            if !text.is_empty() {
                self.push(Token::Data(text.to_owned()));
            }
            let kind = tag.as_bytes()[1];
            self.advance(begin);
            if let Some(length) = raw {
                self.advance(length);
                self.raw()?;
                continue;
            }
            let opening = 2 + usize::from(sign.is_some());
            match kind {
                b'#' => {
                    self.advance(opening);
                    self.comment()?;
                }
                b'{' => {
                    self.push(Token::VariableBegin);
                    self.advance(opening);
                    self.expression(true)?;
                }
                _ => {
                    self.push(Token::BlockBegin);
                    self.advance(opening);
                    self.expression(false)?;
                }
            }
        }
        Ok(())
    }

    /// The text before a tag, without the white space that the tag's sign or `lstrip_blocks` removes.
    fn strip_left<'t>(&self, text: &'t str, sign: Option<char>, is_variable: bool) -> &'t str {
        if sign == Some('-') {
            return text.trim_end_matches(is_space);
        }
        let line = text.rfind('\n').map_or(0, |at| at + 1);
        let indented = line < text.len() && text[line..].chars().all(is_space);
        if sign.is_none() && !is_variable && (line > 0 || self.at_line_start) && indented {
            &text[..line]
        } else {
            text
        }
    }

    /// The length of a tag's end at `rest`, with the white space after it that is removed.
    fn end_of_tag(rest: &str, end: &str, trims: bool) -> Option<usize> {
        if let Some(after) = rest.strip_prefix('-').and_then(|rest| rest.strip_prefix(end)) {
            return Some(1 + end.len() + skip_space(after));
        }
        if trims && rest.strip_prefix('+').is_some_and(|rest| rest.starts_with(end)) {
            return Some(1 + end.len());
        }
        let after = rest.strip_prefix(end)?;
        Some(end.len() + usize::from(trims && after.starts_with('\n')))
    }

    fn comment(&mut self) -> Result<()> {
        let rest = self.rest();
        let candidates = rest.char_indices().filter(|(_, c)| matches!(c, '+' | '-' | '#'));
        let end = candidates.into_iter().find_map(|(at, _)| Some((at, Self::end_of_tag(&rest[at..], "#}", true)?)));
        let (at, length) = end.ok_or_else(|| Failure::syntax(self.line, "a comment has no end: `#}` is missing"))?;
        self.advance(at + length);
        Ok(())
    }

    /// The text up to `{% endraw %}`, unchanged.
    fn raw(&mut self) -> Result<()> {
        let rest = self.rest();
        for (at, _) in rest.match_indices("{%") {
            let sign = rest[at + 2..].chars().next().filter(|c| matches!(c, '-' | '+'));
            let inside = &rest[at + 2 + usize::from(sign.is_some())..];
            let inside = &inside[skip_space(inside)..];
            let Some(after) = inside.strip_prefix("endraw") else { continue };
            let after = &after[skip_space(after)..];
            let Some(length) = Self::end_of_tag(after, "%}", true) else { continue };
            let end = rest.len() - after.len() + length;
            let text = self.strip_left(&rest[..at], sign, false);
            if !text.is_empty() {
                self.push(Token::Data(text.to_owned()));
            }
            self.advance(end);
            return Ok(());
        }
        Err(Failure::syntax(self.line, "a raw block has no end: `{% endraw %}` is missing"))
    }

    /// The tokens inside a tag, including its end.
    fn expression(&mut self, is_variable: bool) -> Result<()> {
        let mut open: Vec<&'static str> = Vec::new();
        loop {
            let rest = self.rest();
            let end = if is_variable { "}}" } else { "%}" };
            if let Some(length) = Self::end_of_tag(rest, end, !is_variable).filter(|_| open.is_empty()) {
                self.push(if is_variable { Token::VariableEnd } else { Token::BlockEnd });
                self.advance(length);
                return Ok(());
            }
            let Some(first) = rest.chars().next() else {
                return Ok(());
            };
            let space = skip_space(rest);
            if space > 0 {
                self.advance(space);
            } else if let Some((token, length)) = self.atom(rest, first)? {
                self.push(token);
                self.advance(length);
            } else if let Some(operator) = OPERATORS.iter().find(|operator| rest.starts_with(**operator)) {
                self.balance(&mut open, operator)?;
                self.push(Token::Op(operator));
                self.advance(operator.len());
            } else {
                return Err(Failure::syntax(self.line, format!("unexpected character {first:?}")));
            }
        }
    }

    fn balance(&self, open: &mut Vec<&'static str>, operator: &str) -> Result<()> {
        match operator {
            "{" => open.push("}"),
            "(" => open.push(")"),
            "[" => open.push("]"),
            "}" | ")" | "]" => match open.pop() {
                Some(expected) if expected == operator => {}
                Some(expected) => {
                    return Err(Failure::syntax(self.line, format!("unexpected `{operator}`, expected `{expected}`")))
                }
                None => return Err(Failure::syntax(self.line, format!("unexpected `{operator}`"))),
            },
            _ => {}
        }
        Ok(())
    }

    /// A number, name or string at `rest`, with its length.
    fn atom(&self, rest: &str, first: char) -> Result<Option<(Token, usize)>> {
        let after_dot = self.at > 0 && self.source.as_bytes()[self.at - 1] == b'.';
        if let Some((token, length)) = literal::number(rest, after_dot, self.line)? {
            return Ok(Some((token, length)));
        }
        if super::unicode::is_word(first) {
            let length = rest.find(|c| !super::unicode::is_word(c)).unwrap_or(rest.len());
            if first.is_numeric() {
                return Err(Failure::syntax(self.line, format!("`{}` is not an identifier", &rest[..length])));
            }
            return Ok(Some((Token::Name(rest[..length].to_owned()), length)));
        }
        if matches!(first, '\'' | '"') {
            return literal::string(rest, first, self.line).map(Some);
        }
        Ok(None)
    }
}

/// The length of `{% raw %}` at the start of `tag`.
fn raw_begin(tag: &str) -> Option<usize> {
    let inside = tag.strip_prefix("{%")?;
    let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside);
    let inside = inside[skip_space(inside)..].strip_prefix("raw")?;
    let inside = &inside[skip_space(inside)..];
    let after = match inside.strip_prefix("-%}") {
        Some(after) => &after[skip_space(after)..],
        None => inside.strip_prefix("%}")?,
    };
    Some(tag.len() - after.len())
}
