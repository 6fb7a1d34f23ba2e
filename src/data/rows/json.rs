//! Writes rows as JSON: the text that `serde_json` writes, which looks at each byte of a string on its own. Most strings have
//! nothing to escape, which is found out many bytes at a time.

use super::row::Row;
use crate::error::{Error, Result};
use serde::Serialize;
use serde_json::Value;

/// Adds the text of a row.
pub fn write_row(row: &Row, text: &mut Vec<u8>) -> Result<()> {
    text.push(b'{');
    for (index, (name, value)) in row.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        write_string(name, text)?;
        text.push(b':');
        write_value(value, text)?;
    }
    text.push(b'}');
    Ok(())
}

fn write_value(value: &Value, text: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::String(string) => write_string(string, text),
        Value::Object(fields) => write_row(fields, text),
        Value::Array(items) => {
            text.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                write_value(item, text)?;
            }
            text.push(b']');
            Ok(())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => write_by_serde(value, text),
    }
}

fn write_string(string: &str, text: &mut Vec<u8>) -> Result<()> {
    if has_escapes(string.as_bytes()) {
        return write_by_serde(string, text);
    }
    text.reserve(string.len() + 2);
    text.push(b'"');
    text.extend_from_slice(string.as_bytes());
    text.push(b'"');
    Ok(())
}

fn has_escapes(bytes: &[u8]) -> bool {
    // Without branches, so that the compiler compares a piece at once.
    let in_piece = |piece: &[u8]| {
        piece.iter().fold(false, |found, &byte| found | (byte < b' ') | (byte == b'"') | (byte == b'\\'))
    };
    bytes.chunks(64).any(in_piece)
}

fn write_by_serde<T: Serialize + ?Sized>(value: &T, text: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(text, value).map_err(|error| Error::bug(format!("cannot write a row: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_text_is_that_of_serde_json() {
        let mut row = Row::new();
        // Every character that may have to be escaped, at the beginnings and ends of the pieces of a string.
        for character in (0..0x100).filter_map(char::from_u32).chain(['\u{2028}', '가', '\u{10ffff}']) {
            for before in [0, 1, 62, 63, 64, 127, 200] {
                let string = format!("{}{character}{}", "x".repeat(before), "y".repeat(before % 3));
                row.insert(string.clone(), json!([string, {"k": string}]));
            }
        }
        row.insert(
            "others".into(),
            json!([[], {}, "", null, true, false, -1, u64::MAX, 0.1, 1e300, -0.0, [[{"a": []}]]]),
        );
        let mut text = b"kept".to_vec();
        write_row(&row, &mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), format!("kept{}", Value::Object(row)));
    }
}
