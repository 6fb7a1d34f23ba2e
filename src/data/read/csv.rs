//! Tables of fields with a separator between them: comma, tab, or any other.
//!
//! A column becomes numbers or booleans only where every value of it is written as one
//! and would be written back the same, so that `007`, `1.50`, `1e5` and `True` stay text. An empty
//! field is null. Quotes work as in RFC 4180 and pandas; in tab-separated files they are text where
//! they cannot be that (`quotes.rs`).

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

/// Read behind the end of every file: inside quotes that nothing closes it is no record of its own.
const LAST: &[u8] = b"\n\x03end of the table\x03\n";
const LAST_FIELD: &[u8] = b"\x03end of the table\x03";

pub fn read(path: &Path, usual: u8, collector: &mut RowCollector) -> Result<()> {
    let options = &collector.options.table;
    let (header_option, delimiter) = (options.header.clone(), options.delimiter.unwrap_or(usual));
    let is_known = options.delimiter.is_some();
    let quoting = match options.quoting {
        Some(quoting) => quoting,
        None => quoting_of(path, delimiter, collector)?,
    };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(quoting == Quoting::Minimal)
        .flexible(true)
        .has_headers(false)
        .from_reader(source::open(path)?.chain(LAST));
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
        if record.len() == 1 && record.get(0) == Some(LAST_FIELD) {
            break;
        }
        line = record.position().map_or(0, |position| position.line() as usize);
        let texts = texts(path, line, &record, std::mem::take(&mut is_first))?;
        let Some(names) = &header else {
            let names: Vec<String> = match header_option {
                Header::None => (0..texts.len()).map(|index| index.to_string()).collect(),
                _ => named(path, line, &texts, is_known)?,
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
                Quoting::Minimal => "put a field that holds the separator or a line break in double quotes, and write a comma for every empty field",
                Quoting::None => "a field holds the separator: quoting: \"minimal\" reads quoted fields",
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

/// Quotes as RFC 4180 has them, or as text where they cannot be meant so.
fn quoting_of(path: &Path, delimiter: u8, collector: &mut RowCollector) -> Result<Quoting> {
    let quotes = Quotes::of(path, delimiter)?;
    let odd = quotes.unclosed.or(quotes.broken);
    let as_text = delimiter == b'\t' && quotes.even && (odd.is_some() || quotes.spanning.is_some());
    if as_text {
        let line = odd.or(quotes.spanning).unwrap_or(1);
        let text = format!(
            "quotes are read as text: line {line} has one that is not around a field \
             (`quoting: \"minimal\"` reads them as around fields)"
        );
        collector.note(path, &text);
        return Ok(Quoting::None);
    }
    if let Some(line) = quotes.unclosed {
        return Err(unclosed(path, line));
    }
    if let Some(line) = quotes.broken {
        let text = format!(
            "line {line} has text behind a closing quote: \"a\" b is read as a b, as in pandas \
             (`quoting: \"none\"` keeps quotes as text)"
        );
        collector.note(path, &text);
    }
    Ok(Quoting::Minimal)
}

fn unclosed(path: &Path, line: usize) -> Error {
    at_line(path, line, "a double quote opens a field here that nothing closes")
        .with_hint("close it, write a quote inside of a field twice, or read quotes as text: quoting: \"none\"")
}

fn texts<'a>(path: &Path, line: usize, record: &'a csv::ByteRecord, is_first: bool) -> Result<Vec<&'a str>> {
    let text = |(index, field): (usize, &'a [u8])| {
        let text = std::str::from_utf8(field)
            .map_err(|error| source::not_utf8(path, line, "field", field, error.valid_up_to()))?;
        Ok(if is_first && index == 0 { text.trim_start_matches('\u{feff}') } else { text })
    };
    record.iter().enumerate().map(text).collect()
}

fn named(path: &Path, line: usize, texts: &[&str], is_known: bool) -> Result<Vec<String>> {
    if let ([only], false) = (texts, is_known) {
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
