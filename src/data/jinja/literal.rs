//! Reads the numbers and strings of a template.

use super::error::{Failure, Result};
use super::token::Token;

/// The length of a run of digits, with single `_` between them; 0 if there is none.
fn digits(text: &str, is_digit: impl Fn(u8) -> bool) -> usize {
    let bytes = text.as_bytes();
    let mut end = 0;
    while end < bytes.len() {
        let digit = match bytes[end] {
            b'_' if end > 0 => end + 1,
            _ => end,
        };
        if !bytes.get(digit).is_some_and(|byte| is_digit(*byte)) {
            break;
        }
        end = digit + 1;
    }
    end
}

/// The length of a float at the start of `text`.
fn float(text: &str) -> Option<usize> {
    let decimal = |text: &str| digits(text, |byte| byte.is_ascii_digit());
    let whole = decimal(text);
    if whole == 0 {
        return None;
    }
    let fraction = text[whole..].strip_prefix('.').map_or(0, decimal);
    let mantissa = whole + if fraction > 0 { 1 + fraction } else { 0 };
    let exponent = text[mantissa..].strip_prefix(['e', 'E']).and_then(|rest| {
        let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let length = decimal(unsigned);
        (length > 0).then(|| 1 + rest.len() - unsigned.len() + length)
    });
    match exponent {
        Some(length) => Some(mantissa + length),
        None => (fraction > 0).then_some(mantissa),
    }
}

/// A number at the start of `text`, with its length. After a dot it is an integer: `a.0.1` has two indices.
pub(super) fn number(text: &str, after_dot: bool, line: u32) -> Result<Option<(Token, usize)>> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(None);
    }
    if let Some(length) = float(text).filter(|_| !after_dot) {
        let value: f64 = text[..length]
            .replace('_', "")
            .parse()
            .map_err(|_| Failure::syntax(line, format!("`{}` is not a number", &text[..length])))?;
        return Ok(Some((Token::Float(value), length)));
    }
    let lower = text.as_bytes().get(1).map(u8::to_ascii_lowercase);
    let digits_of = |radix: u32| {
        // An underscore may follow the prefix: 0x_ff.
        let body = &text[2..];
        let skipped = usize::from(body.starts_with('_'));
        let length = digits(&body[skipped..], |byte| char::from(byte).is_digit(radix));
        (length > 0).then(|| (2 + skipped + length, radix))
    };
    let prefixed = match (text.as_bytes()[0], lower) {
        (b'0', Some(b'b')) => digits_of(2),
        (b'0', Some(b'o')) => digits_of(8),
        (b'0', Some(b'x')) => digits_of(16),
        _ => None,
    };
    let (length, radix) = match prefixed {
        Some(prefixed) => prefixed,
        None if text.starts_with('0') => (digits(text, |byte| byte == b'0'), 10),
        None => (digits(text, |byte| byte.is_ascii_digit()), 10),
    };
    let body = text[if radix == 10 { 0 } else { 2 }..length].replace('_', "");
    let value = i128::from_str_radix(&body, radix)
        .map_err(|_| Failure::syntax(line, format!("{} is beyond 128 bits", &text[..length])))?;
    Ok(Some((Token::Int(value), length)))
}

/// A string in `quote`s at the start of `text`, with its length.
pub(super) fn string(text: &str, quote: char, line: u32) -> Result<(Token, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((Token::Str(value), at + 1));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        let Some((_, escape)) = chars.next() else { break };
        let mut hex = |count: usize| -> Result<char> {
            let mut code = 0;
            for _ in 0..count {
                let digit = chars.next().and_then(|(_, c)| c.to_digit(16));
                let digit = digit.ok_or_else(|| Failure::syntax(line, format!("truncated \\{escape} escape")))?;
                code = code * 16 + digit;
            }
            char::from_u32(code)
                .ok_or_else(|| Failure::syntax(line, format!("\\{escape}{code:0count$x} is half a character")))
        };
        match escape {
            '\n' => {}
            '\\' | '\'' | '"' => value.push(escape),
            'a' => value.push('\u{7}'),
            'b' => value.push('\u{8}'),
            'f' => value.push('\u{c}'),
            'n' => value.push('\n'),
            'r' => value.push('\r'),
            't' => value.push('\t'),
            'v' => value.push('\u{b}'),
            'x' => value.push(hex(2)?),
            'u' => value.push(hex(4)?),
            'U' => value.push(hex(8)?),
            'N' => return Err(Failure::syntax(line, "\\N{…} is not supported: write the character")),
            '0'..='7' => {
                let mut code = escape.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = chars.clone().next().and_then(|(_, c)| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    chars.next();
                }
                value.push(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            other => value.extend(['\\', other]),
        }
    }
    Err(Failure::syntax(line, "a string has no end"))
}
