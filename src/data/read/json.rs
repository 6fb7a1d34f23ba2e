//! Reads JSON files: one object a line, or one document with a table. The content decides, not the name: `.json` files of
//! lines and `.jsonl` files of one array are common.
//!
//! Leaves to others: parsing values (`json_text.rs`).

use super::collector::RowCollector;
use super::json_array;
use super::json_text::{describe, parse};
use super::options::CALL;
use super::source::{self, at_line};
use crate::data::dataset::Row;
use crate::error::{Error, Kind, Result};
use crate::heap::HandedOver;
use crate::interrupt;
use rayon::prelude::*;
use serde_json::Value;
use std::io::BufRead;
use std::path::Path;

/// Keys of a document whose value is the list of rows, beside metadata.
const ROW_KEYS: [&str; 12] = [
    "data",
    "rows",
    "examples",
    "instances",
    "items",
    "records",
    "samples",
    "entries",
    "train",
    "validation",
    "test",
    "dataset",
];

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Bytes of lines that are parsed side by side.
const BATCH: usize = 2 << 20;

/// Reads lines, one document, or several documents one after the other.
pub fn read(path: &Path, as_lines: bool, collector: &mut RowCollector) -> Result<()> {
    let mut reader = source::open(path)?;
    if collector.options.field.is_none() && begins_with_bracket(path, &mut reader)? {
        return array_document(path, as_lines, &mut reader, collector);
    }
    let mut line = Vec::new();
    let mut number = 0;
    // The first line that is not blank decides.
    while line.trim_ascii().is_empty() {
        number += 1;
        if !source::next_line(path, &mut reader, &mut line)? {
            return Ok(());
        }
        strip_byte_order_mark(&mut line, number);
    }
    let first = source::utf8(path, number, &line)?;
    let start = first.trim_start().chars().next();
    let is_document = start == Some('[') || collector.options.field.is_some() || (!as_lines && start != Some('{'));
    if is_document || parse(first).is_err_and(|error| error.is_eof()) {
        source::rest(path, &mut reader, &mut line)?;
        return document(path, number, &line, as_lines, collector);
    }
    lines(path, number, line, &mut reader, as_lines, collector)
}

/// Whether the text begins with a bracket, as far as it is in the buffer. Removes the byte order mark if so.
fn begins_with_bracket(path: &Path, reader: &mut dyn BufRead) -> Result<bool> {
    let head = reader.fill_buf().map_err(|error| source::failed(path, &error))?;
    let text = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    let begins = text.trim_ascii_start().first() == Some(&b'[');
    let mark = head.len() - text.len();
    reader.consume(if begins { mark } else { 0 });
    Ok(begins)
}

/// Reads a document that begins with a bracket.
fn array_document(path: &Path, as_lines: bool, reader: &mut dyn BufRead, collector: &mut RowCollector) -> Result<()> {
    if json_array::read(path, reader, collector)? {
        return Ok(());
    }
    // The document has a fault; all of it at once tells which.
    let mut bytes = Vec::new();
    source::rest(path, &mut source::open(path)?, &mut bytes)?;
    strip_byte_order_mark(&mut bytes, 1);
    document(path, 1, &bytes, as_lines, collector)?;
    Err(Error::bug(format!("`{}` was read in two ways", path.display())))
}

/// Removes the byte order mark at the start of the file.
fn strip_byte_order_mark(line: &mut Vec<u8>, number: usize) {
    if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
        line.drain(..3);
    }
}

fn lines(
    path: &Path,
    mut number: usize,
    mut line: Vec<u8>,
    reader: &mut dyn BufRead,
    as_lines: bool,
    collector: &mut RowCollector,
) -> Result<()> {
    let before = collector.len();
    let mut has_more = true;
    while has_more {
        push_line(path, number, parse_line(path, number, &line)?, collector)?;
        number += 1;
        has_more = source::next_line(path, reader, &mut line)?;
        while has_more && collector.is_large() {
            (has_more, number) = batch(path, number, &mut line, reader, collector)?;
        }
    }
    // A single object may be a document.
    if !as_lines && collector.len() == before + 1 {
        if let Some(document) = collector.pop() {
            object(path, document, collector)?;
        }
    }
    Ok(())
}

/// Reads `first` and the lines behind it, which threads parse side by side. Then `first` is the next line, with its number,
/// if there is one.
fn batch(
    path: &Path,
    mut number: usize,
    first: &mut Vec<u8>,
    reader: &mut dyn BufRead,
    collector: &mut RowCollector,
) -> Result<(bool, usize)> {
    let mut bytes = first.len();
    let mut lines = vec![std::mem::take(first)];
    let mut next = source::next_line(path, reader, first);
    while bytes < BATCH && matches!(next, Ok(true)) {
        bytes += first.len();
        lines.push(std::mem::take(first));
        next = source::next_line(path, reader, first);
    }
    for mut values in parse_in_parallel(&lines, |index, line| parse_line(path, number + index, line)) {
        push_line(path, number, values.take().unwrap_or_else(|| Ok(Vec::new()))?, collector)?;
        number += 1;
    }
    // An error of the lines before it came first.
    Ok((next?, number))
}

/// Parses the texts in parallel; `parse` gets the index of each.
pub fn parse_in_parallel(
    texts: &[Vec<u8>],
    parse: impl Fn(usize, &[u8]) -> Result<Vec<Value>> + Sync,
) -> Vec<HandedOver<Result<Vec<Value>>>> {
    texts.par_iter().enumerate().map(|(index, text)| HandedOver::new(|| parse(index, text))).collect()
}

fn push_line(path: &Path, number: usize, values: Vec<Value>, collector: &mut RowCollector) -> Result<()> {
    for value in values {
        match value {
            Value::Object(row) => collector.push(row, || format!("line {number}"), path)?,
            other => {
                return Err(at_line(path, number, format!("expected a JSON object, found {}", type_name(&other)))
                    .with_hint("each line is a row, as in {\"text\": \"…\"}"))
            }
        }
    }
    Ok(())
}

fn parse_line(path: &Path, number: usize, line: &[u8]) -> Result<Vec<Value>> {
    let text = source::utf8(path, number, line)?;
    parse(text).map_err(|error| {
        if let Err(stopped) = interrupt::check() {
            return stopped;
        }
        at_line(path, number, format!("not valid JSON: {}", describe(text, &error)))
            .with_hint(error.hint().unwrap_or("write one JSON object on each line, or one document in the file"))
    })
}

fn document(path: &Path, first: usize, bytes: &[u8], as_lines: bool, collector: &mut RowCollector) -> Result<()> {
    let text = match simdutf8::compat::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let line = first + before.iter().filter(|byte| **byte == b'\n').count();
            return Err(source::not_utf8(path, line, "line", &bytes[start..], error.valid_up_to() - start));
        }
    };
    let values = parse(text).map_err(|error| {
        if let Err(stopped) = interrupt::check() {
            return stopped;
        }
        let line = first + error.line().saturating_sub(1);
        failed(path, format!("not valid JSON: {} (line {line}, column {})", error.problem(), error.column()))
            .with_hint(error.hint().unwrap_or("check that the file is whole"))
    })?;
    let several = values.len() > 1;
    for value in values {
        let (value, at_field) = match &collector.options.field {
            Some(field) => (value_of_field(path, value, field)?, true),
            None => (value, false),
        };
        match value {
            Value::Array(list) if !several => array(path, list, collector)?,
            Value::Object(row) if several || (as_lines && !at_field) => {
                let number = collector.len();
                collector.push(row, || format!("row {number}"), path)?;
            }
            Value::Object(row) => object(path, row, collector)?,
            other => {
                return Err(failed(path, format!("expected an array of objects, found {}", type_name(&other)))
                    .with_hint("rows are objects: one a line, or all in one array"))
            }
        }
    }
    Ok(())
}

fn failed(path: &Path, detail: String) -> Error {
    Error::new(Kind::File, format!("`{}`: {detail}", path.display()))
}

/// The value of the key that the option `field` names.
fn value_of_field(path: &Path, value: Value, field: &str) -> Result<Value> {
    let keys: Vec<String> = value.as_object().map(|row| row.keys().cloned().collect()).unwrap_or_default();
    let inner = match value {
        Value::Object(mut row) => row.swap_remove(field),
        _ => None,
    };
    inner.ok_or_else(|| {
        let error =
            Error::input(format!("{CALL}: option `field`: `{}` has no top-level key `{field}`", path.display()));
        error.with_hint(crate::suggest::hint(field, keys.iter().map(String::as_str)))
    })
}

/// Reads an array of objects, of texts, or of conversations.
fn array(path: &Path, list: Vec<Value>, collector: &mut RowCollector) -> Result<()> {
    let column = match list.first() {
        Some(Value::String(_)) if list.iter().all(Value::is_string) => Some("text"),
        Some(Value::Array(_)) if list.iter().all(is_conversation) => Some("messages"),
        _ => None,
    };
    if column == Some("messages") {
        collector.note(path, "each list is read as the `messages` of a row");
    }
    for (index, value) in list.into_iter().enumerate() {
        let row = match (value, column) {
            (value, Some(column)) => Row::from_iter([(column.to_owned(), value)]),
            (Value::Object(row), None) => row,
            (other, None) => {
                return Err(failed(path, format!("row {index}: expected an object, found {}", type_name(&other)))
                    .with_hint("rows are all objects, all texts, or all lists of messages"))
            }
        };
        collector.push(row, || format!("row {index}"), path)?;
    }
    Ok(())
}

/// Whether the value is a list of turns.
pub fn is_conversation(value: &Value) -> bool {
    value.as_array().is_some_and(|turns| !turns.is_empty() && turns.iter().all(is_turn))
}

fn is_turn(value: &Value) -> bool {
    let has = |name: &str| value.get(name).is_some_and(Value::is_string);
    has("role") || has("from")
}

fn is_table(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_object) && !list.iter().all(is_turn))
}

/// Reads one object: a row, as in `datasets`, unless it can only be a table of rows or of columns.
fn object(path: &Path, fields: Row, collector: &mut RowCollector) -> Result<()> {
    if !fields.is_empty() && fields.values().all(Value::is_array) && !fields.values().all(is_conversation) {
        return object_of_lists(path, fields, collector);
    }
    let tables: Vec<&String> = fields.iter().filter(|(_, value)| is_table(value)).map(|(key, _)| key).collect();
    let row_key = match tables[..] {
        [only] if ROW_KEYS.contains(&only.as_str()) => Some(only.clone()),
        _ => None,
    };
    match row_key {
        Some(key) => rows_under(path, fields, &key, collector),
        None => collector.push(fields, || "row 0".to_owned(), path),
    }
}

fn rows_under(path: &Path, mut fields: Row, key: &str, collector: &mut RowCollector) -> Result<()> {
    collector.note(path, &format!("the rows under `{key}` are read (`field: \"{key}\"` in datasets)"));
    match fields.swap_remove(key) {
        Some(Value::Array(list)) => array(path, list, collector),
        _ => Ok(()),
    }
}

/// Reads an object whose values are all lists, which can be several kinds of table.
fn object_of_lists(path: &Path, fields: Row, collector: &mut RowCollector) -> Result<()> {
    if let Some(rows) = split_oriented(&fields) {
        collector.note(path, "read as pandas' orient=\"split\"");
        return array(path, rows, collector);
    }
    let filled: Vec<(&String, &Vec<Value>)> = fields
        .iter()
        .filter_map(|(key, value)| Some((key, value.as_array()?)))
        .filter(|(_, list)| !list.is_empty())
        .collect();
    let names = || filled.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ");
    match filled[..] {
        [] => return Ok(()),
        [(key, _)] if is_table(&fields[key]) => {
            let key = key.clone();
            return rows_under(path, fields, &key, collector);
        }
        _ => {}
    }
    let is_scalar = |value: &Value| !value.is_array() && !value.is_object();
    let has_scalars = filled.iter().any(|(_, list)| list.iter().all(is_scalar));
    let has_nested_lists = fields.values().filter_map(Value::as_array).flatten().any(Value::is_array);
    if !has_scalars || has_nested_lists {
        let error = failed(path, format!("one object with the lists {}: are they rows, columns or splits?", names()));
        return Err(error.with_hint(format!(
            "choose one list of rows by field: \"{}\", or write the table as JSON lines, one object a row",
            filled.first().map_or("data", |(key, _)| key)
        )));
    }
    let len = fields.values().next().and_then(Value::as_array).map_or(0, Vec::len);
    if let Some((key, values)) =
        fields.iter().filter_map(|(key, value)| Some((key, value.as_array()?))).find(|(_, list)| list.len() != len)
    {
        let error = failed(path, format!("column `{key}` has {} values, the first column has {len}", values.len()));
        return Err(error.with_hint("write a single row of lists as JSON lines, in a file named .jsonl"));
    }
    collector.note(
        path,
        &format!("one object of lists is read as {len} rows of the columns {}; datasets reads one row", names()),
    );
    let mut columns: Vec<(String, std::vec::IntoIter<Value>)> = fields
        .into_iter()
        .filter_map(|(key, value)| match value {
            Value::Array(list) => Some((key, list.into_iter())),
            _ => None,
        })
        .collect();
    for index in 0..len {
        let row = columns.iter_mut().map(|(key, list)| (key.clone(), list.next().unwrap_or(Value::Null))).collect();
        collector.push(row, || format!("row {index}"), path)?;
    }
    Ok(())
}

/// pandas' `{"columns": […], "index": […], "data": [[…], …]}` as objects.
fn split_oriented(fields: &Row) -> Option<Vec<Value>> {
    let names: Option<Vec<&str>> = fields.get("columns")?.as_array()?.iter().map(Value::as_str).collect();
    let (names, data) = (names?, fields.get("data")?.as_array()?);
    if fields.keys().any(|key| !["columns", "index", "data"].contains(&key.as_str())) {
        return None;
    }
    let row = |value: &Value| -> Option<Value> {
        let cells = value.as_array().filter(|cells| cells.len() == names.len())?;
        Some(Value::Object(names.iter().map(|name| (*name).to_owned()).zip(cells.iter().cloned()).collect()))
    };
    data.iter().map(row).collect()
}

/// The JSON type of a value, for messages.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
