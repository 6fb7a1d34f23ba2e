//! Parses JSON without loss. It reads NaN and infinity, which Python writes although the standard does not allow them. It
//! refuses what a value cannot represent: integers of more than 64 bits, and duplicate keys.

use crate::data::number;
use crate::{files, interrupt};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// The key of an object that represents an integer of more than 64 bits, until the row that has it is known.
const LARGE: &str = "\u{0}large";

/// What is wrong with a text.
#[derive(Debug)]
pub struct ParseError(serde_json::Error);

impl ParseError {
    pub fn is_eof(&self) -> bool {
        self.0.is_eof()
    }

    pub fn line(&self) -> usize {
        self.0.line()
    }

    pub fn column(&self) -> usize {
        self.0.column()
    }

    fn is_surrogate(&self) -> bool {
        let text = self.0.to_string();
        text.contains("surrogate") || text.contains("unexpected end of hex escape")
    }

    pub fn problem(&self) -> String {
        if self.is_surrogate() {
            return "a lone surrogate: half of a character (\\ud800 to \\udfff) without its other half".to_owned();
        }
        files::json_problem(&self.0)
    }

    pub fn hint(&self) -> Option<&'static str> {
        if self.is_surrogate() {
            Some("the text was cut inside a character: write it again, or remove the escape")
        } else if self.0.to_string().contains("given twice") {
            Some("remove one of them: Python would silently keep the last")
        } else {
            None
        }
    }
}

/// The problem in one line of text, with its column.
pub fn describe(text: &str, error: &ParseError) -> String {
    // At the end of a line, the parser is already at column 0 of the next.
    let end = text.trim_ascii_end().len();
    let column = if error.is_eof() { end } else { error.column() };
    format!("{} (column {column})", error.problem())
}

/// Parses all values of a text, one after the other.
pub fn parse(text: &str) -> Result<Vec<Value>, ParseError> {
    if ["\\u0000number", "\\u0000large"].iter().any(|key| text.contains(key)) {
        return Err(ParseError(serde_json::Error::custom("the keys `\\u0000number` and `\\u0000large` are reserved")));
    }
    let prepared = replace_numbers(text, |token, out| {
        let value = match token {
            "NaN" | "Infinity" | "-Infinity" => (number::KEY, token),
            digits => (LARGE, digits),
        };
        out.push_str(&format!("{{{}:\"{}\"}}", Value::from(value.0), value.1));
    });
    let values = |text: &str| -> Result<Vec<Value>, serde_json::Error> {
        let values = serde_json::Deserializer::from_str(text).into_iter::<Exact>();
        values.map(|value| value.map(|Exact(value)| value)).collect()
    };
    values(&prepared).map_err(|error| match prepared {
        Cow::Borrowed(_) => ParseError(error),
        // Parses again, with replacements as long as the originals, so that the column is right.
        Cow::Owned(_) => {
            let pad = |token: &str, out: &mut String| {
                out.push('0');
                out.extend(std::iter::repeat_n(' ', token.len() - 1));
            };
            ParseError(values(&replace_numbers(text, pad)).err().unwrap_or(error))
        }
    })
}

/// Replaces each number that the parser would refuse or round.
fn replace_numbers(text: &str, replace: impl Fn(&str, &mut String)) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        let length = match byte {
            b'"' => {
                at = end_of_string(bytes, at);
                continue;
            }
            b'N' if bytes[at..].starts_with(b"NaN") => 3,
            b'I' if bytes[at..].starts_with(b"Infinity") => 8,
            b'-' if bytes[at..].starts_with(b"-Infinity") => 9,
            b'-' | b'0'..=b'9' => {
                let length = 1 + bytes[at + 1..]
                    .iter()
                    .take_while(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
                    .count();
                if !is_large(&text[at..at + length]) {
                    at += length;
                    continue;
                }
                length
            }
            _ => {
                at += 1;
                continue;
            }
        };
        out.push_str(&text[copied..at]);
        replace(&text[at..at + length], &mut out);
        at += length;
        copied = at;
    }
    match copied {
        0 => Cow::Borrowed(text),
        _ => Cow::Owned(out + &text[copied..]),
    }
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    /// Bytes that are compared at once: most of a text is no quote and no backslash.
    const AT_ONCE: usize = 32;
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
        while let Some(piece) = bytes.get(at..at + AT_ONCE) {
            if piece.iter().fold(false, |found, &byte| found | (byte == b'"') | (byte == b'\\')) {
                break;
            }
            at += AT_ONCE;
        }
    }
    bytes.len()
}

/// Whether a number is an integer of more than 64 bits.
fn is_large(token: &str) -> bool {
    let digits = token.strip_prefix('-').unwrap_or(token);
    digits.len() >= 19
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && token.parse::<i64>().is_err()
        && token.parse::<u64>().is_err()
}

/// An integer of more than 64 bits anywhere in `value`.
pub fn large_integer(value: &Value) -> Option<&str> {
    match value {
        Value::Array(items) => items.iter().find_map(large_integer),
        Value::Object(fields) if fields.len() == 1 && fields.contains_key(LARGE) => fields.get(LARGE)?.as_str(),
        Value::Object(fields) => fields.values().find_map(large_integer),
        _ => None,
    }
}

/// A value whose objects have no duplicate keys.
struct Exact(Value);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ExactVisitor).map(Exact)
    }
}

struct ExactVisitor;

impl<'de> Visitor<'de> for ExactVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(number::value(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Exact(value)) = items.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        // A document of one array may be long.
        if interrupt::requested() {
            return Err(A::Error::custom("stopped"));
        }
        let mut fields = serde_json::Map::new();
        while let Some((key, Exact(value))) = entries.next_entry::<String, Exact>()? {
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` is given twice")));
            }
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> Value {
        let mut values = parse(text).unwrap();
        assert_eq!(values.len(), 1, "{text}");
        values.remove(0)
    }

    #[test]
    fn nan_and_infinity_are_read() {
        let value = one(
            r#"{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN \"Infinity", "d": -1e-5, "e": 18446744073709551615}"#,
        );
        assert!(number::not_finite(&value["a"]).unwrap().is_nan());
        assert_eq!(number::not_finite(&value["b"][0]), Some(f64::NEG_INFINITY));
        assert_eq!((&value["c"], &value["d"]), (&json!("NaN \"Infinity"), &json!(-1e-5)));
        assert_eq!(value["e"].as_u64(), Some(u64::MAX));
        assert_eq!(parse("{\"a\":1}{\"a\":2}").unwrap().len(), 2);
    }

    #[test]
    fn nothing_is_rounded_or_dropped() {
        assert_eq!(large_integer(&one("[{\"id\": -9223372036854775809}]")), Some("-9223372036854775809"));
        assert_eq!(large_integer(&one("[9223372036854775808, 1234567890123456789.5]")), None);
        let twice = parse("{\"a\": 1, \"b\": {\"c\": 1, \"c\": 2}}").unwrap_err();
        assert_eq!(twice.problem(), "the key `c` is given twice");
        assert!(parse(r#"{"\u0000number": "NaN"}"#).is_err());
        assert!(parse("\"bad \\ud83d tail\"").unwrap_err().problem().contains("surrogate"));
    }

    #[test]
    fn problems_are_reported_with_their_column() {
        let text = "{\"a\": NaN, \"b\": 123456789012345678901234567890, \"c\": }";
        assert_eq!(describe(text, &parse(text).unwrap_err()), format!("expected a value (column {})", text.len()));
    }
}
