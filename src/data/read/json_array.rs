//! Reads a document that is one array, a batch of values at a time, so that it may be larger than memory.
//!
//! serde_json can read from a stream, but by one thread and byte by byte. Here the texts of the values are cut apart first, and
//! threads parse them side by side.

use super::collector::RowCollector;
use super::json::{is_conversation, parse_in_parallel};
use super::json_text::parse;
use super::source;
use crate::data::dataset::Row;
use crate::error::Result;
use crate::interrupt;
use serde_json::Value;
use std::io::BufRead;
use std::path::Path;

/// Bytes of values that are parsed side by side.
const BATCH: usize = 2 << 20;

/// Reads an array of objects, of texts, or of conversations. `false` if the file has anything else: whoever reads all of it
/// finds out what and where.
pub fn read(path: &Path, reader: &mut dyn BufRead, collector: &mut RowCollector) -> Result<bool> {
    let mut texts = ArrayTexts::default();
    let mut rows = Rows::default();
    loop {
        interrupt::check()?;
        let bytes = reader.fill_buf().map_err(|error| source::failed(path, &error))?;
        let len = bytes.len();
        let is_sound = texts.push(bytes);
        reader.consume(len);
        if !is_sound {
            return Ok(false);
        }
        if texts.size > BATCH || len == 0 {
            texts.size = 0;
            if !rows.push(path, &std::mem::take(&mut texts.values), collector)? {
                return Ok(false);
            }
        }
        if len == 0 {
            return Ok(texts.state == State::Behind);
        }
    }
}

/// What the values of the array are.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Rows,
    Texts,
    Conversations,
}

/// Turns values into rows.
#[derive(Default)]
struct Rows {
    /// As the first value has it.
    kind: Option<Kind>,
    count: usize,
}

impl Rows {
    /// Parses values and adds their rows. `false` if one is malformed, or of another kind than those before.
    fn push(&mut self, path: &Path, texts: &[Vec<u8>], collector: &mut RowCollector) -> Result<bool> {
        let values = |_, text: &[u8]| {
            interrupt::check()?;
            Ok(simdutf8::basic::from_utf8(text).ok().and_then(|text| parse(text).ok()).unwrap_or_default())
        };
        for mut values in parse_in_parallel(texts, values) {
            let values = values.take().unwrap_or_else(|| Ok(Vec::new()))?;
            let Ok([value]) = <[Value; 1]>::try_from(values) else { return Ok(false) };
            let kind = match &value {
                Value::Object(_) => Kind::Rows,
                Value::String(_) => Kind::Texts,
                value if is_conversation(value) => Kind::Conversations,
                _ => return Ok(false),
            };
            if self.kind.is_none() && kind == Kind::Conversations {
                collector.note(path, "each list is read as the `messages` of a row");
            }
            if *self.kind.get_or_insert(kind) != kind {
                return Ok(false);
            }
            let row = match (value, kind) {
                (Value::Object(row), _) => row,
                (value, Kind::Texts) => Row::from_iter([("text".to_owned(), value)]),
                (value, _) => Row::from_iter([("messages".to_owned(), value)]),
            };
            collector.push(row, || format!("row {}", self.count), path)?;
            self.count += 1;
        }
        Ok(true)
    }
}

/// Cuts the text of an array into those of its values. It looks at strings and brackets alone; parsing finds the other faults.
#[derive(Default)]
struct ArrayTexts {
    state: State,
    /// Brackets that are open within the value.
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
    /// The value as far as it is known.
    value: Vec<u8>,
    has_values: bool,
    values: Vec<Vec<u8>>,
    /// The bytes of `values`.
    size: usize,
}

/// Where in the document the text is.
#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Before,
    Within,
    Behind,
}

impl ArrayTexts {
    /// Goes on with the next bytes. `false` if the document is no array, or has something behind it.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let mut start = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            match (self.state, byte) {
                (State::Within, _) if self.is_in_string => {
                    self.is_in_string = self.is_escaped || byte != b'"';
                    self.is_escaped = !self.is_escaped && byte == b'\\';
                }
                (State::Within, b'"') => self.is_in_string = true,
                (State::Within, b'[' | b'{') => self.depth += 1,
                (State::Within, b']') if self.depth == 0 => {
                    self.value.extend_from_slice(&bytes[start..at]);
                    if self.has_values || !self.value.trim_ascii().is_empty() {
                        self.end_value();
                    }
                    self.state = State::Behind;
                }
                (State::Within, b']' | b'}') => match self.depth.checked_sub(1) {
                    Some(depth) => self.depth = depth,
                    None => return false,
                },
                (State::Within, b',') if self.depth == 0 => {
                    self.value.extend_from_slice(&bytes[start..at]);
                    self.end_value();
                    start = at + 1;
                }
                (State::Within, _) | (State::Before | State::Behind, b' ' | b'\t' | b'\r' | b'\n') => {}
                (State::Before, b'[') => {
                    self.state = State::Within;
                    start = at + 1;
                }
                _ => return false,
            }
        }
        if self.state == State::Within {
            self.value.extend_from_slice(&bytes[start..]);
        }
        true
    }

    fn end_value(&mut self) {
        self.has_values = true;
        self.size += self.value.len();
        self.values.push(std::mem::take(&mut self.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of the values, if the document is an array, whatever the pieces in which it comes.
    fn cut(document: &str) -> Option<Vec<String>> {
        let in_pieces = |size: usize| {
            let mut texts = ArrayTexts::default();
            let is_sound = document.as_bytes().chunks(size).all(|piece| texts.push(piece));
            let text = |value: &Vec<u8>| String::from_utf8(value.trim_ascii().to_vec()).unwrap();
            (is_sound && texts.state == State::Behind).then(|| texts.values.iter().map(text).collect())
        };
        let whole = in_pieces(1000);
        (1..10).for_each(|size| assert_eq!(in_pieces(size), whole, "{document}"));
        whole
    }

    #[test]
    fn values_are_cut_at_the_commas_between_them() {
        let values = cut(" [ {\"a\": [1, {}], \"b\": \"],\\\"[\"} , \"x\\\\\",\n[[]]]\n").unwrap();
        assert_eq!(values, ["{\"a\": [1, {}], \"b\": \"],\\\"[\"}", "\"x\\\\\"", "[[]]"]);
        assert_eq!((cut("[]").unwrap().len(), cut("[ \n]").unwrap().len()), (0, 0));
        // An empty text, which no parser takes for a value.
        assert_eq!((cut("[1,]").unwrap(), cut("[,]").unwrap()), (vec!["1".into(), "".into()], vec!["".into(); 2]));
    }

    #[test]
    fn documents_that_are_no_array_are_found() {
        for document in ["", "[1", "[1]]", "[1] [2]", "{}", "[}", "[\"a]", "[1], 2"] {
            assert_eq!(cut(document), None, "{document}");
        }
    }
}
