//! Reads CSV files, with comma, tab or another separator.
//!
//! A column becomes numbers or booleans only if every value would be written back the same, so `007`, `1.50`, `1e5` and `True`
//! stay text. An empty field is null. Quotes work as in RFC 4180 and pandas; in tab-separated files they are text if they
//! cannot be quoting (`quotes.rs`). A large table is read twice: the type of a column depends on all its fields.

use super::collector::RowCollector;
use super::options::Header;
use super::quotes::{Quotes, Quoting};
use super::source::{self, at_line};
use crate::data::dataset::Row;
use crate::data::rows::memory_limit;
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
    let (header, delimiter) =
        (options.header.clone(), options.delimiter.map_or(default_delimiter, |delimiter| delimiter.0));
    let has_delimiter = options.delimiter.is_some();
    let quoting = match options.quoting {
        Some(quoting) => quoting,
        None => detect_quoting(path, delimiter, collector)?,
    };
    let layout = Layout { header, delimiter, has_delimiter, quoting };
    let mut columns = Columns::new(memory_limit());
    let names = layout.each_record(path, &mut |names, texts| {
        let options = collector.options;
        columns.add(names, texts, |name| options.wants(name));
        Ok(())
    })?;
    collector.add_columns(&names);
    let Some(texts) = columns.take_texts() else {
        // A large table is read again, now that the types of its columns are known.
        return layout.each_record(path, &mut |_, texts| collector.add(columns.row(path, texts)?)).map(drop);
    };
    let mut texts: Vec<std::vec::IntoIter<String>> = texts.into_iter().map(Vec::into_iter).collect();
    while let Some(fields) =
        texts.iter_mut().map(Iterator::next).collect::<Option<Vec<String>>>().filter(|row| !row.is_empty())
    {
        let row = columns.kept.iter().zip(fields).map(|(column, field)| (column.name.clone(), column.value(field)));
        collector.add(row.collect())?;
    }
    Ok(())
}

/// Called with the names of the columns and the fields of a record.
type OnRecord<'a> = dyn FnMut(&[String], &[&str]) -> Result<()> + 'a;

/// How a table is written.
struct Layout {
    header: Header,
    delimiter: u8,
    has_delimiter: bool,
    quoting: Quoting,
}

impl Layout {
    /// Calls `on_record` with the names of the columns and the fields of each record. Returns the names.
    fn each_record(&self, path: &Path, on_record: &mut OnRecord) -> Result<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(self.delimiter)
            .quoting(self.quoting == Quoting::Minimal)
            .flexible(true)
            .has_headers(false)
            .from_reader(source::open(path)?.chain(END_MARK));
        let mut record = csv::ByteRecord::new();
        let mut header: Option<Vec<String>> = match &self.header {
            Header::Names(names) => Some(names.clone()),
            Header::FirstLine | Header::None => None,
        };
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
            let names = match &header {
                Some(names) => names,
                None if self.header == Header::None => {
                    header.insert((0..texts.len()).map(|index| index.to_string()).collect())
                }
                None => {
                    header = Some(header_names(path, line, &texts, self.has_delimiter)?);
                    continue;
                }
            };
            if texts.len() != names.len() {
                return Err(self.uneven(path, line, names.len(), texts.len()));
            }
            on_record(names, &texts)?;
        }
        header.ok_or_else(|| Error::new(Kind::File, format!("`{}` is empty: expected a header line", path.display())))
    }

    fn uneven(&self, path: &Path, line: usize, expected: usize, count: usize) -> Error {
        let source = if self.header == Header::FirstLine { "as in the header" } else { "as in `header`" };
        at_line(path, line, format!("expected {expected} fields {source}, found {count}")).with_hint(match self.quoting {
            Quoting::Minimal => "put a field with a separator or a line break in double quotes, and write a separator for every empty field",
            Quoting::None => "a field contains the separator: quoting: \"minimal\" reads quoted fields",
        })
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
        let text = simdutf8::compat::from_utf8(field)
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

/// The columns of a table that are kept, with their fields if these are few.
struct Columns {
    kept: Vec<Column>,
    is_begun: bool,
    /// For each kept column its fields; `None` once they are more than `limit` bytes.
    texts: Option<Vec<Vec<String>>>,
    bytes: u64,
    limit: u64,
}

/// A column, whose values are numbers or booleans if all its fields can be, otherwise texts.
struct Column {
    name: String,
    /// Its place in a record.
    index: usize,
    /// Has any record a field in it?
    is_filled: bool,
    /// The parsers that every field passes so far.
    parsers: Vec<fn(&str) -> Option<Value>>,
}

impl Columns {
    fn new(limit: u64) -> Self {
        Columns { kept: Vec::new(), is_begun: false, texts: Some(Vec::new()), bytes: 0, limit }
    }

    fn add(&mut self, names: &[String], fields: &[&str], wants: impl Fn(&str) -> bool) {
        if !std::mem::replace(&mut self.is_begun, true) {
            let kept = names.iter().enumerate().filter(|(_, name)| wants(name));
            self.kept = kept.map(|(index, name)| Column::new(name, index)).collect();
            self.texts = Some(vec![Vec::new(); self.kept.len()]);
        }
        for (at, column) in self.kept.iter_mut().enumerate() {
            let field = fields[column.index];
            column.is_filled |= !field.is_empty();
            column.parsers.retain(|parser| field.is_empty() || parser(field).is_some());
            if let Some(texts) = &mut self.texts {
                texts[at].push(field.to_owned());
                self.bytes += field.len() as u64 + size_of::<String>() as u64;
            }
        }
        if self.bytes > self.limit {
            self.texts = None;
        }
    }

    fn take_texts(&mut self) -> Option<Vec<Vec<String>>> {
        self.texts.take()
    }

    /// The row of a record.
    fn row(&self, path: &Path, fields: &[&str]) -> Result<Row> {
        let cell = |column: &Column| {
            let field = fields.get(column.index).copied().unwrap_or_default();
            let value = column.value(field.to_owned());
            let is_lost = value.is_null() && !field.is_empty();
            if is_lost {
                return Err(Error::new(Kind::File, format!("`{}` changed while it was read", path.display()))
                    .with_hint("load it again once it is written"));
            }
            Ok((column.name.clone(), value))
        };
        self.kept.iter().map(cell).collect()
    }
}

impl Column {
    fn new(name: &str, index: usize) -> Self {
        Column { name: name.to_owned(), index, is_filled: false, parsers: vec![integer, number, boolean] }
    }

    /// The value of a field; null if it is empty.
    fn value(&self, field: String) -> Value {
        match self.parsers.first().filter(|_| self.is_filled) {
            _ if field.is_empty() => Value::Null,
            Some(parser) => parser(&field).unwrap_or(Value::Null),
            None => Value::String(field),
        }
    }
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
