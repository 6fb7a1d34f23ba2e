//! JSON lines, and JSON documents that hold a table.

use super::at_line;
use crate::data::dataset::Row;
use crate::error::{Error, Kind, Result};
use crate::{files, interrupt};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// One JSON object per line; blank lines are skipped.
pub fn read_lines(path: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let file = File::open(path).map_err(|error| Error::file("read", path, &error))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        interrupt::check()?;
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|error| Error::file("read", path, &error))?;
        if read == 0 {
            break;
        }
        let text = without_mark(&line, number);
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice(text) {
            Ok(Value::Object(row)) => rows.push(row),
            Ok(other) => {
                return Err(at_line(path, number, format!("expected a JSON object, found {}", name(&other)))
                    .with_hint("each line is a row, as in {\"text\": \"…\"}"))
            }
            Err(error) => {
                return Err(at_line(path, number, format!("not valid JSON: {}", fault(text, &error)))
                    .with_hint("each line holds one whole JSON object; a table in one document is named .json"))
            }
        }
    }
    Ok(())
}

/// A byte order mark is allowed at the start of the file.
fn without_mark(line: &[u8], number: usize) -> &[u8] {
    match number {
        1 => line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line),
        _ => line,
    }
}

/// Within one line only the column of the parser's place means anything.
fn fault(text: &[u8], error: &serde_json::Error) -> String {
    // At the line's end the parser counts a new line begun.
    let end = text.trim_ascii_end().len();
    let column = if error.is_eof() { end } else { error.column() };
    format!("{} (column {column})", files::json_problem(error))
}

/// An array of objects, an object that holds one such array, or an object of columns.
pub fn read_document(path: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let bytes = files::read(path)?;
    let text = without_mark(&bytes, 1);
    let failed = |detail: String| Error::new(Kind::File, format!("`{}`: {detail}", path.display()));
    let value: Value = match serde_json::from_slice(text) {
        Ok(value) => value,
        Err(error) => {
            let several = error.to_string().starts_with("trailing characters");
            let hint = if several {
                "one object per line is JSON lines: name the file .jsonl"
            } else {
                "check that the file is whole"
            };
            return Err(failed(format!("not valid JSON: {}", files::json_fault(&error))).with_hint(hint));
        }
    };
    match value {
        Value::Array(list) => push_all(list, rows).map_err(failed),
        Value::Object(fields) => push_fields(fields, rows).map_err(failed),
        other => Err(failed(format!("expected an array of objects, found {}", name(&other)))),
    }
}

fn push_all(list: Vec<Value>, rows: &mut Vec<Row>) -> std::result::Result<(), String> {
    for (index, value) in list.into_iter().enumerate() {
        match value {
            Value::Object(row) => rows.push(row),
            other => return Err(format!("row {index}: expected an object, found {}", name(&other))),
        }
    }
    Ok(())
}

fn push_fields(fields: Row, rows: &mut Vec<Row>) -> std::result::Result<(), String> {
    let of_objects = |list: &Vec<Value>| !list.is_empty() && list.iter().all(Value::is_object);
    let is_table = |value: &Value| value.as_array().is_some_and(of_objects);
    let tables: Vec<&String> = fields.iter().filter(|(_, value)| is_table(value)).map(|(key, _)| key).collect();
    if let ([table], false) = (&tables[..], are_columns(&fields)) {
        let table = (*table).clone();
        let list = fields.into_iter().find(|(key, _)| *key == table).map(|(_, value)| value);
        return push_all(list.and_then(|value| value.as_array().cloned()).unwrap_or_default(), rows);
    }
    let columns: Option<Vec<(&String, &Vec<Value>)>> =
        fields.iter().map(|(key, value)| Some((key, value.as_array()?))).collect();
    let Some(columns) = columns.filter(|columns| !columns.is_empty()) else {
        return Err("expected rows (an array of objects, an object with one such array, or an object of columns), \
                    found an object of other things: is it a file of data?"
            .into());
    };
    let len = columns.first().map_or(0, |(_, values)| values.len());
    if let Some((key, values)) = columns.iter().find(|(_, values)| values.len() != len) {
        return Err(format!("column `{key}` has {} values, the first column has {len}", values.len()));
    }
    rows.extend(
        (0..len).map(|row| columns.iter().map(|(key, values)| ((*key).clone(), values[row].clone())).collect::<Row>()),
    );
    Ok(())
}

/// Several lists of the same length: one of objects among them is a column too.
fn are_columns(fields: &Row) -> bool {
    let mut lengths = fields.values().map(|value| value.as_array().map(Vec::len));
    let first = lengths.next().flatten();
    fields.len() > 1 && first.is_some() && lengths.all(|length| length == first)
}

/// The kind of a value in the words of JSON.
fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
