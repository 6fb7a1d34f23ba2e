//! Comma and tab separated tables with a header line.
//!
//! A column becomes numbers or booleans only where every value of it is written as one
//! and would be written back the same, so that `007` and `1e5` stay text. An empty field
//! is null. Quotes work as in RFC 4180, in tab separated files too, as pandas reads them.

use super::at_line;
use crate::data::dataset::Row;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use serde_json::{Number, Value};
use std::path::Path;

pub fn read(path: &Path, delimiter: u8, rows: &mut Vec<Row>) -> Result<()> {
    let file = std::fs::File::open(path).map_err(|error| Error::file("read", path, &error))?;
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(file);
    let header = header(path, &mut reader)?;
    let mut fields: Vec<Vec<String>> = vec![Vec::new(); header.len()];
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| failed(path, &error))? {
        interrupt::check()?;
        if record.len() != header.len() {
            let line = record.position().map_or(0, |position| position.line() as usize);
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

fn header(path: &Path, reader: &mut csv::Reader<std::fs::File>) -> Result<Vec<String>> {
    let names = reader.headers().map_err(|error| failed(path, &error))?;
    let names: Vec<String> = names.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
    if names.is_empty() {
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
    let parsers: [fn(&str) -> Option<Value>; 3] = [integer, float, boolean];
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

fn float(field: &str) -> Option<Value> {
    let plain = field.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
    let digits = field.trim_start_matches('-');
    let padded = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    // Up to 15 digits come back from an f64 as they were.
    let exact = digits.len() <= 16;
    let number: f64 = field.parse().ok().filter(|_| plain && exact && !padded)?;
    Number::from_f64(number).map(Value::Number)
}

fn boolean(field: &str) -> Option<Value> {
    match field {
        "true" | "True" | "TRUE" => Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => Some(Value::Bool(false)),
        _ => None,
    }
}
