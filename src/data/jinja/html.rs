//! Escapes text for HTML as markupsafe does, and removes tags.

use super::error::{fault, Result};

pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// `html.unescape` for numeric and common entities. Others are an error: Python knows 2,231.
pub(super) fn unescape(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '#').map_or(rest.len(), |end| end + 1);
        let name = &rest[1..end];
        let closed = rest[end..].starts_with(';');
        let character = match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" if closed => Some('\''),
            "nbsp" => Some('\u{a0}'),
            _ => match name.strip_prefix('#') {
                Some(code) => {
                    let hex = code.strip_prefix(['x', 'X']);
                    let code = hex.map_or_else(|| code.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok());
                    code.filter(|code| *code >= 32 && !(127..160).contains(code)).and_then(char::from_u32)
                }
                None => None,
            },
        };
        match character {
            Some(c) => {
                out.push(c);
                rest = &rest[end + usize::from(closed)..];
            }
            None if name.is_empty() => {
                out.push('&');
                rest = &rest[1..];
            }
            None => return fault(format!("the entity `&{name};` is not supported: write the character")),
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The text without tags and comments, and with single spaces.
pub(super) fn strip_tags(text: &str) -> Result<String> {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let end = if rest[start..].starts_with("<!--") {
            rest[start + 4..].find("-->").map(|end| start + 4 + end + 3)
        } else {
            rest[start..].find('>').map(|end| start + end + 1)
        };
        let Some(end) = end else { break };
        kept.push_str(&rest[..start]);
        rest = &rest[end..];
    }
    kept.push_str(rest);
    let words: Vec<&str> = kept.split(super::unicode::is_space).filter(|word| !word.is_empty()).collect();
    unescape(&words.join(" "))
}
