//! Splits text at separators, white space and line ends, and wraps it.

use super::error::{fault, Result};
use super::unicode::{ends_line, is_space, is_word};

/// `split` or, from the right, `rsplit`; `limit` is the largest number of splits.
pub(super) fn split<'a>(text: &'a str, separator: Option<&str>, limit: Option<usize>, right: bool) -> Vec<&'a str> {
    let limit = limit.unwrap_or(usize::MAX - 1);
    match (separator, right) {
        (Some(separator), false) => text.splitn(limit + 1, separator).collect(),
        (Some(separator), true) => {
            let mut parts: Vec<&str> = text.rsplitn(limit + 1, separator).collect();
            parts.reverse();
            parts
        }
        (None, false) => {
            let mut parts = Vec::new();
            let mut rest = text.trim_start_matches(is_space);
            while !rest.is_empty() {
                if parts.len() == limit {
                    parts.push(rest);
                    break;
                }
                let end = rest.find(is_space).unwrap_or(rest.len());
                parts.push(&rest[..end]);
                rest = rest[end..].trim_start_matches(is_space);
            }
            parts
        }
        (None, true) => {
            let mut parts = Vec::new();
            let mut rest = text.trim_end_matches(is_space);
            while !rest.is_empty() {
                if parts.len() == limit {
                    parts.push(rest);
                    break;
                }
                let begin =
                    rest.char_indices().rev().find(|(_, c)| is_space(*c)).map_or(0, |(at, c)| at + c.len_utf8());
                parts.push(&rest[begin..]);
                rest = rest[..begin].trim_end_matches(is_space);
            }
            parts.reverse();
            parts
        }
    }
}

/// `splitlines`.
pub(super) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some(at) = rest.find(ends_line) else {
            lines.push(rest);
            break;
        };
        let end = if rest[at..].starts_with("\r\n") {
            at + 2
        } else {
            at + rest[at..].chars().next().map_or(0, char::len_utf8)
        };
        lines.push(&rest[..if keep_ends { end } else { at }]);
        rest = &rest[end..];
    }
    lines
}

/// `partition` or, from the right, `rpartition`.
pub(super) fn partition<'a>(text: &'a str, separator: &'a str, right: bool) -> Result<[&'a str; 3]> {
    if separator.is_empty() {
        return fault("empty separator");
    }
    let at = if right { text.rfind(separator) } else { text.find(separator) };
    Ok(match at {
        Some(at) => [&text[..at], separator, &text[at + separator.len()..]],
        None if right => ["", "", text],
        None => [text, "", ""],
    })
}

/// Jinja2's `title`: words begin after whitespace, `-` and opening brackets.
pub(super) fn title(text: &str) -> String {
    let begins = |c: char| matches!(c, '-' | '(' | '{' | '[' | '<') || is_space(c);
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let separators = begins(rest.chars().next().unwrap_or(' '));
        let end = rest.find(|c| begins(c) != separators).unwrap_or(rest.len());
        let first = rest.chars().next().map_or(0, char::len_utf8);
        out.push_str(&rest[..first].to_uppercase());
        out.push_str(&rest[first..end].to_lowercase());
        rest = &rest[end..];
    }
    out
}

/// The number of runs of `\w`.
pub(super) fn word_count(text: &str) -> usize {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).count()
}

/// The pieces between which `textwrap` may break a line.
fn chunks(text: &str, on_hyphens: bool) -> Vec<String> {
    let ws = |c: char| matches!(c, '\t'..='\r' | ' ');
    let chars: Vec<char> = text.chars().collect();
    let get = |at: usize| chars.get(at).copied();
    let letter = |at: Option<usize>| at.and_then(get).is_some_and(|c| is_word(c) && !super::unicode::is_numeric(c));
    let punct = |at: Option<usize>| {
        at.and_then(get).is_some_and(|c| is_word(c) || matches!(c, '!' | '"' | '\'' | '&' | '.' | ',' | '?'))
    };
    let dashes = |at: usize| chars[at..].iter().take_while(|c| **c == '-').count();
    let before = |at: usize, back: usize| at.checked_sub(back);
    // An em dash between words: `--` with a word before and after.
    let em_dash = |at: usize| {
        let count = dashes(at);
        count >= 2 && punct(before(at, 1)) && get(at + count).is_some_and(is_word)
    };
    let mut parts = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let begin = at;
        if ws(chars[at]) {
            while get(at).is_some_and(ws) {
                at += 1;
            }
        } else if !on_hyphens {
            while get(at).is_some_and(|c| !ws(c)) {
                at += 1;
            }
        } else if em_dash(at) {
            at += dashes(at);
        } else {
            loop {
                at += 1;
                let Some(c) = get(at) else { break };
                if ws(c) || em_dash(at) {
                    break;
                }
                // A hyphen after two letters, or after a letter, hyphen, letter.
                let after = at + 1;
                let hyphenated = c == '-'
                    && letter(before(at, 1))
                    && (letter(before(at, 2)) || before(at, 2).and_then(get) == Some('-') && letter(before(at, 3)))
                    && letter(Some(after))
                    && (letter(Some(after + 1)) || get(after + 1) == Some('-') && letter(Some(after + 2)));
                if hyphenated {
                    at += 1;
                    break;
                }
            }
        }
        parts.push(chars[begin..at].iter().collect());
    }
    parts
}

/// `textwrap.wrap` without expanding tabs or replacing whitespace.
pub(super) fn wrap(text: &str, width: usize, break_long: bool, on_hyphens: bool) -> Result<Vec<String>> {
    if width == 0 {
        return fault("wordwrap: the width must be 1 or more");
    }
    let size = |text: &str| text.chars().count();
    let blank = |text: &str| text.chars().all(is_space);
    let mut left: Vec<String> = chunks(text, on_hyphens);
    left.reverse();
    let mut lines: Vec<String> = Vec::new();
    while !left.is_empty() {
        let mut line: Vec<String> = Vec::new();
        let mut length = 0;
        if !lines.is_empty() && left.last().is_some_and(|chunk| blank(chunk)) {
            left.pop();
        }
        while let Some(chunk) = left.pop() {
            if length + size(&chunk) > width {
                left.push(chunk);
                break;
            }
            length += size(&chunk);
            line.push(chunk);
        }
        if let Some(chunk) = left.pop_if(|chunk| size(chunk) > width) {
            if break_long {
                let mut room = (width - length).min(size(&chunk));
                if on_hyphens && size(&chunk) > room {
                    // Break after the last hyphen that fits, unless only hyphens precede it.
                    let head: Vec<char> = chunk.chars().take(room).collect();
                    if let Some(hyphen) = head.iter().rposition(|c| *c == '-').filter(|at| *at > 0) {
                        if head[..hyphen].iter().any(|c| *c != '-') {
                            room = hyphen + 1;
                        }
                    }
                }
                let (head, tail): (String, String) =
                    (chunk.chars().take(room).collect(), chunk.chars().skip(room).collect());
                line.push(head);
                if !tail.is_empty() {
                    left.push(tail);
                }
            } else if line.is_empty() {
                line.push(chunk);
            } else {
                left.push(chunk);
            }
        }
        line.pop_if(|chunk| blank(chunk));
        if !line.is_empty() {
            lines.push(line.concat());
        }
    }
    Ok(lines)
}
