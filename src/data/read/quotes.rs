//! Detects whether double quotes in a table enclose fields or are text, before the table is read. Tab-separated files are
//! often written without quoting.

use super::source;
use crate::error::Result;
use std::io::BufRead;
use std::path::Path;

/// What a double quote at the start of a field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quoting {
    /// It opens a quoted field (RFC 4180).
    Minimal,
    /// Quotes are text.
    None,
}

impl Quoting {
    pub const NAMES: [(&'static str, Quoting); 2] = [("minimal", Quoting::Minimal), ("none", Quoting::None)];
}

/// How quotes are used in a table; lines count from 1.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Quotes {
    /// The line of the first field with text after its closing quote.
    pub broken: Option<usize>,
    /// The line of a quoted field without a closing quote.
    pub unclosed: Option<usize>,
    /// The line of the first quoted field with a line break.
    pub spanning: Option<usize>,
    /// Whether all lines have as many separators as the first, inside quotes or not.
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

/// Where in a field the scan is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FieldState {
    Start,
    Unquoted,
    Quoted,
    /// After a quote inside quotes, which is the closing one or the first of two.
    MaybeClosed,
}

struct Scan {
    delimiter: u8,
    state: FieldState,
    line: usize,
    /// The line where the quoted field began.
    opened: usize,
    separators: usize,
    is_blank: bool,
    /// The separators of the first line.
    first: Option<usize>,
    quotes: Quotes,
}

impl Scan {
    fn new(delimiter: u8) -> Self {
        let quotes = Quotes { even: true, ..Quotes::default() };
        Scan {
            delimiter,
            state: FieldState::Start,
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
        self.state = match (self.state, byte) {
            (FieldState::Start, b'"') => {
                self.opened = self.line;
                FieldState::Quoted
            }
            (FieldState::Quoted, b'"') => FieldState::MaybeClosed,
            (FieldState::Quoted, _) => {
                if byte == b'\n' {
                    self.quotes.spanning.get_or_insert(self.opened);
                }
                FieldState::Quoted
            }
            (FieldState::MaybeClosed, b'"') => FieldState::Quoted,
            (_, _) if ends_field => FieldState::Start,
            (FieldState::MaybeClosed, _) => {
                self.quotes.broken.get_or_insert(self.opened);
                FieldState::Unquoted
            }
            (FieldState::Start | FieldState::Unquoted, _) => FieldState::Unquoted,
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
        self.quotes.unclosed = (self.state == FieldState::Quoted).then_some(self.opened);
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
    fn quotes_that_are_text_differ_from_quotes_around_fields() {
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
