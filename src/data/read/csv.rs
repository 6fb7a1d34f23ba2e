//! Reads CSV files, with comma, tab or another separator.
//!
//! A column becomes numbers or booleans only if every value would be written back the same, so `007`, `1.50`, `1e5` and `True`
//! stay text. An empty field is null. Quotes work as in RFC 4180 and pandas; in tab-separated files they are text if they
//! cannot be quoting (`quotes.rs`).

use super::collector::RowCollector;
use super::options::Header;
use super::quotes::{Quotes, Quoting};
use super::source::{self, at_line};
use crate::data::dataset::Row;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use serde_json::{Number, Value};
use std::io::Read;
use std::path::Path;

/// Appended to every file. If the last quoted field has no closing quote, this does not become a record of its own.
const END_MARK: &[u8] = b"\n\x03end of the table\x03\n";
const END_FIELD: &[u8] = b"\x03end of the table\x03";

/// Reads a table. `default_delimiter` is that of its format.
pub fn read(path: &Path, default_delimiter: u8, collector: &mut RowCollector) -> Result<()> {
    let options = &collector.options.table;
    let (header_option, delimiter) = (options.header.clone(), options.delimiter.unwrap_or(default_delimiter));
    let has_delimiter = options.delimiter.is_some();
    let quoting = match options.quoting {
        Some(quoting) => quoting,
        None => detect_quoting(path, delimiter, collector)?,
    };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(quoting == Quoting::Minimal)
        .flexible(true)
        .has_headers(false)
        .from_reader(source::open(path)?.chain(END_MARK));
    let mut record = csv::ByteRecord::new();
    let mut header: Option<Vec<String>> = match &header_option {
        Header::Names(names) => Some(names.clone()),
        Header::FirstLine | Header::None => None,
    };
    let mut fields: Vec<Vec<String>> = Vec::new();
    let mut kept: Vec<usize> = Vec::new();
    let mut line = 1;
    let mut is_first = true;
    loop {
        interrupt::check()?;
        if !reader.read_byte_record(&mut record).map_err(|error| failed(path, &error))? {
            return Err(unclosed(path, line));
        }
        if record.len() == 1 && record.get(0) == Some(END_FIELD) {
            break;
        }
        line = record.position().map_or(0, |position| position.line() as usize);
        let texts = texts(path, line, &record, std::mem::take(&mut is_first))?;
        let Some(names) = &header else {
            let names: Vec<String> = match header_option {
                Header::None => (0..texts.len()).map(|index| index.to_string()).collect(),
                _ => header_names(path, line, &texts, has_delimiter)?,
            };
            if header_option == Header::None {
                fields = texts.iter().map(|text| vec![(*text).to_owned()]).collect();
                kept = wanted(&names, collector);
            }
            header = Some(names);
            continue;
        };
        if texts.len() != names.len() {
            let expected = if header_option == Header::FirstLine { "as in the header" } else { "as in `header`" };
            let detail = format!("expected {} fields {expected}, found {}", names.len(), texts.len());
            return Err(at_line(path, line, detail).with_hint(match quoting {
                Quoting::Minimal => "put a field with a separator or a line break in double quotes, and write a separator for every empty field",
                Quoting::None => "a field contains the separator: quoting: \"minimal\" reads quoted fields",
            }));
        }
        if fields.is_empty() {
            fields = vec![Vec::new(); names.len()];
            kept = wanted(names, collector);
        }
        for &index in &kept {
            fields[index].push(texts[index].to_owned());
        }
    }
    let Some(names) = header else {
        return Err(Error::new(Kind::File, format!("`{}` is empty: expected a header line", path.display())));
    };
    finish(names, fields, collector);
    Ok(())
}

fn wanted(names: &[String], collector: &RowCollector) -> Vec<usize> {
    (0..names.len()).filter(|&index| collector.options.wants(&names[index])).collect()
}

fn finish(names: Vec<String>, fields: Vec<Vec<String>>, collector: &mut RowCollector) {
    collector.add_columns(&names);
    let mut columns: Vec<(String, std::vec::IntoIter<Value>)> = names
        .into_iter()
        .zip(fields)
        .filter(|(name, _)| collector.options.wants(name))
        .map(|(name, column)| (name, typed(column).into_iter()))
        .collect();
    let count = columns.first().map_or(0, |(_, values)| values.len());
    for _ in 0..count {
        let row: Row =
            columns.iter_mut().map(|(name, values)| (name.clone(), values.next().unwrap_or(Value::Null))).collect();
        collector.rows.push(row);
    }
}

/// Quoting as in RFC 4180, or none if the quotes of a tab-separated file cannot be quoting.
fn detect_quoting(path: &Path, delimiter: u8, collector: &mut RowCollector) -> Result<Quoting> {
    let quotes = Quotes::of(path, delimiter)?;
    let misplaced = quotes.unclosed.or(quotes.broken);
    let are_text = delimiter == b'\t' && quotes.even && (misplaced.is_some() || quotes.spanning.is_some());
    if are_text {
        let line = misplaced.or(quotes.spanning).unwrap_or(1);
        let text = format!(
            "quotes are read as text: line {line} has one that does not enclose a field \
             (`quoting: \"minimal\"` reads quotes as enclosing fields)"
        );
        collector.note(path, &text);
        return Ok(Quoting::None);
    }
    if let Some(line) = quotes.unclosed {
        return Err(unclosed(path, line));
    }
    if let Some(line) = quotes.broken {
        let text = format!(
            "line {line} has text after a closing quote: \"a\" b is read as a b, as in pandas \
             (`quoting: \"none\"` keeps quotes as text)"
        );
        collector.note(path, &text);
    }
    Ok(Quoting::Minimal)
}

fn unclosed(path: &Path, line: usize) -> Error {
    at_line(path, line, "a double quote opens a field here, and none closes it")
        .with_hint("close it, write a quote inside a field twice, or read quotes as text: quoting: \"none\"")
}

fn texts<'a>(path: &Path, line: usize, record: &'a csv::ByteRecord, is_first: bool) -> Result<Vec<&'a str>> {
    let text = |(index, field): (usize, &'a [u8])| {
        let text = std::str::from_utf8(field)
            .map_err(|error| source::not_utf8(path, line, "field", field, error.valid_up_to()))?;
        Ok(if is_first && index == 0 { text.trim_start_matches('\u{feff}') } else { text })
    };
    record.iter().enumerate().map(text).collect()
}

/// The column names of a header line.
fn header_names(path: &Path, line: usize, texts: &[&str], has_delimiter: bool) -> Result<Vec<String>> {
    if let ([only], false) = (texts, has_delimiter) {
        let other = [(";", ";"), ("\t", "\\t"), ("|", "|")].into_iter().find(|(other, _)| only.contains(other));
        if let Some((_, written)) = other {
            return Err(at_line(path, line, format!("the header is one column: `{only}`")).with_hint(format!(
                "give the separator: #{{ delimiter: \"{written}\" }} (\",\" or \"\\t\" if it is one column)"
            )));
        }
    }
    for (index, name) in texts.iter().enumerate() {
        if texts[..index].contains(name) {
            return Err(at_line(path, line, format!("the header names column `{name}` twice"))
                .with_hint("give each column another name"));
        }
    }
    Ok(texts.iter().map(|name| (*name).to_owned()).collect())
}

fn failed(path: &Path, error: &csv::Error) -> Error {
    match error.kind() {
        csv::ErrorKind::Io(error) => source::failed(path, error),
        _ => Error::new(Kind::File, format!("`{}`: {error}", path.display())),
    }
}

/// The values of a column: numbers or booleans if all can be, otherwise texts.
fn typed(column: Vec<String>) -> Vec<Value> {
    let parsers: [fn(&str) -> Option<Value>; 3] = [integer, number, boolean];
    let filled = || column.iter().filter(|field| !field.is_empty());
    let parser =
        parsers.into_iter().find(|parser| filled().next().is_some() && filled().all(|field| parser(field).is_some()));
    let value = |field: String| match parser {
        _ if field.is_empty() => Value::Null,
        Some(parser) => parser(&field).unwrap_or(Value::Null),
        None => Value::String(field),
    };
    column.into_iter().map(value).collect()
}

fn integer(field: &str) -> Option<Value> {
    let number: i64 = field.parse().ok()?;
    (number.to_string() == field).then(|| Value::from(number))
}

/// An integer or a float, as it is written: `3` in a column with `2.5` stays 3.
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
