//! Comma and tab separated tables with a header line.
//!
//! A column becomes numbers or booleans only where every value of it is written as one
//! and would be written back the same, so that `007`, `1.50`, `1e5` and `True` stay text. An empty
//! field is null. Quotes work as in RFC 4180, in tab separated files too, as pandas reads them.

use super::at_line;
use crate::data::dataset::Row;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use serde_json::{Number, Value};
use std::io::Read;
use std::path::Path;

/// Read behind the end of every file: inside quotes that nothing closes it is no record of its own.
const LAST: &[u8] = b"\n\x03end of the table\x03\n";
const LAST_FIELD: &str = "\x03end of the table\x03";

pub fn read(path: &Path, delimiter: u8, rows: &mut Vec<Row>) -> Result<()> {
    let file = std::fs::File::open(path).map_err(|error| Error::file("read", path, &error))?;
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(file.chain(LAST));
    let header = header(path, &mut reader)?;
    let mut fields: Vec<Vec<String>> = vec![Vec::new(); header.len()];
    let mut record = csv::StringRecord::new();
    let mut line = 1;
    loop {
        interrupt::check()?;
        if !reader.read_record(&mut record).map_err(|error| failed(path, &error))? {
            return Err(at_line(path, line, "a double quote opens a field here that nothing closes")
                .with_hint("close it, or write a quote inside of a field twice"));
        }
        if record.len() == 1 && record.get(0) == Some(LAST_FIELD) {
            break;
        }
        line = record.position().map_or(0, |position| position.line() as usize);
        if record.len() != header.len() {
            let found = format!("expected {} fields as in the header, found {}", header.len(), record.len());
            return Err(at_line(path, line, found)
                .with_hint("put a field that holds the separator or a line break in double quotes"));
        }
        for (column, field) in fields.iter_mut().zip(&record) {
            column.push(field.to_owned());
        }
    }
    let count = fields.first().map_or(0, Vec::len);
    let mut columns: Vec<std::vec::IntoIter<Value>> =
        fields.into_iter().map(|column| typed(column).into_iter()).collect();
    for _ in 0..count {
        let values = columns.iter_mut().map(|column| column.next().unwrap_or(Value::Null));
        rows.push(header.iter().cloned().zip(values).collect());
    }
    Ok(())
}

fn header(path: &Path, reader: &mut csv::Reader<impl Read>) -> Result<Vec<String>> {
    let names = reader.headers().map_err(|error| failed(path, &error))?;
    let names: Vec<String> = names.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
    if names.is_empty() || names == [LAST_FIELD] {
        return Err(Error::new(Kind::File, format!("`{}` is empty: expected a header line", path.display())));
    }
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(at_line(path, 1, format!("the header names column `{name}` twice"))
                .with_hint("give each column a name of its own"));
        }
    }
    Ok(names)
}

fn failed(path: &Path, error: &csv::Error) -> Error {
    match error.kind() {
        csv::ErrorKind::Io(error) => Error::file("read", path, error),
        csv::ErrorKind::Utf8 { pos, .. } => {
            at_line(path, pos.as_ref().map_or(0, |pos| pos.line() as usize), "not UTF-8")
                .with_hint("save the file as UTF-8")
        }
        _ => Error::new(Kind::File, format!("`{}`: {error}", path.display())),
    }
}

fn typed(column: Vec<String>) -> Vec<Value> {
    let parsers: [fn(&str) -> Option<Value>; 3] = [integer, number, boolean];
    let filled = || column.iter().filter(|field| !field.is_empty());
    let parser =
        parsers.into_iter().find(|parser| filled().next().is_some() && filled().all(|field| parser(field).is_some()));
    let value = |field: String| match (field.is_empty(), parser) {
        (true, _) => Value::Null,
        (false, Some(parser)) => parser(&field).unwrap_or(Value::Null),
        (false, None) => Value::String(field),
    };
    column.into_iter().map(value).collect()
}

fn integer(field: &str) -> Option<Value> {
    let number: i64 = field.parse().ok()?;
    (number.to_string() == field).then(|| Value::from(number))
}

/// An integer or a float, each as it is written: `3` beside `2.5` stays 3.
fn number(field: &str) -> Option<Value> {
    let float = || {
        let number = Number::from_f64(field.parse().ok()?)?;
        let written = number.to_string();
        (written == field).then_some(Value::Number(number))
    };
    integer(field).or_else(float)
}

fn boolean(field: &str) -> Option<Value> {
    match field {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ => None,
    }
}
