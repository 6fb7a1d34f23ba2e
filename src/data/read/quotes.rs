//! How a table quotes its fields, found before it is read: whether double quotes stand around fields
//! or are text. Tab-separated files are often written without quoting.

use super::source;
use crate::error::Result;
use std::io::BufRead;
use std::path::Path;

/// What a double quote at the start of a field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quoting {
    /// It opens a quoted field (RFC 4180).
    Minimal,
    /// Nothing: quotes are text.
    None,
}

impl Quoting {
    pub const NAMES: [(&'static str, Quoting); 2] = [("minimal", Quoting::Minimal), ("none", Quoting::None)];
}

/// What the quotes of a table look like; lines count from 1.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Quotes {
    /// The line of the first field whose closing quote text follows.
    pub broken: Option<usize>,
    /// The line of a quoted field that nothing closes.
    pub unclosed: Option<usize>,
    /// The line of the first quoted field that holds a line break.
    pub spanning: Option<usize>,
    /// All lines have as many separators as the first, whatever is quoted.
    pub even: bool,
}

impl Quotes {
    pub fn of(path: &Path, delimiter: u8) -> Result<Self> {
        let mut reader = source::open(path)?;
        let mut scan = Scan::new(delimiter);
        loop {
            crate::interrupt::check()?;
            let bytes = reader.fill_buf().map_err(|error| source::failed(path, &error))?;
            let length = bytes.len();
            if length == 0 {
                return Ok(scan.end());
            }
            bytes.iter().for_each(|&byte| scan.next(byte));
            reader.consume(length);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote inside of quotes: the end, or the first half of a doubled one.
    MaybeClosed,
}

struct Scan {
    delimiter: u8,
    place: Place,
    line: usize,
    /// Where the quoted field began.
    opened: usize,
    separators: usize,
    is_blank: bool,
    first: Option<usize>,
    quotes: Quotes,
}

impl Scan {
    fn new(delimiter: u8) -> Self {
        let quotes = Quotes { even: true, ..Quotes::default() };
        Scan {
            delimiter,
            place: Place::FieldStart,
            line: 1,
            opened: 1,
            separators: 0,
            is_blank: true,
            first: None,
            quotes,
        }
    }

    fn next(&mut self, byte: u8) {
        let ends_line = byte == b'\n' || byte == b'\r';
        let ends_field = ends_line || byte == self.delimiter;
        self.place = match (self.place, byte) {
            (Place::FieldStart, b'"') => {
                self.opened = self.line;
                Place::Quoted
            }
            (Place::Quoted, b'"') => Place::MaybeClosed,
            (Place::Quoted, _) => {
                if byte == b'\n' {
                    self.quotes.spanning.get_or_insert(self.opened);
                }
                Place::Quoted
            }
            (Place::MaybeClosed, b'"') => Place::Quoted,
            (_, _) if ends_field => Place::FieldStart,
            (Place::MaybeClosed, _) => {
                self.quotes.broken.get_or_insert(self.opened);
                Place::Plain
            }
            (Place::FieldStart | Place::Plain, _) => Place::Plain,
        };
        match byte {
            b'\n' => self.end_line(),
            b'\r' => {}
            _ => self.is_blank = false,
        }
        self.separators += usize::from(byte == self.delimiter);
    }

    fn end_line(&mut self) {
        if !self.is_blank {
            self.quotes.even &= *self.first.get_or_insert(self.separators) == self.separators;
        }
        (self.separators, self.is_blank) = (0, true);
        self.line += 1;
    }

    fn end(mut self) -> Quotes {
        self.end_line();
        self.quotes.unclosed = (self.place == Place::Quoted).then_some(self.opened);
        self.quotes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotes(text: &str) -> Quotes {
        let mut scan = Scan::new(b'\t');
        text.bytes().for_each(|byte| scan.next(byte));
        scan.end()
    }

    #[test]
    fn quotes_that_are_text_are_told_from_quotes_around_fields() {
        let clean = Quotes { even: true, ..Quotes::default() };
        assert_eq!(quotes("a\tb\nsay \"hi\"\t\"x\"\n\"a \"\"b\"\"\"\t1\r\n\n"), clean);
        assert_eq!(quotes("a\tb\n1\t\"x\" y\n"), Quotes { broken: Some(2), ..clean });
        assert_eq!(
            quotes("a\tb\n\"x\ty\nz\tw"),
            Quotes { unclosed: Some(2), spanning: Some(2), even: true, broken: None }
        );
        let spanning = Quotes { spanning: Some(2), even: false, ..Quotes::default() };
        assert_eq!(quotes("a\tb\n\"x\ny\"\tz\n"), spanning);
    }
}
