//! Plain text: one row per line with the one column `text`, as `datasets` reads it.

use super::at_line;
use crate::data::dataset::Row;
use crate::error::{Error, Result};
use crate::interrupt;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Blank lines are rows too; the line break belongs to no row.
pub fn read(path: &Path, rows: &mut Vec<Row>) -> Result<()> {
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
        let text = std::str::from_utf8(&line).map_err(|error| {
            at_line(path, number, format!("not UTF-8: byte {} of the line is invalid", error.valid_up_to()))
                .with_hint("save the file as UTF-8")
        })?;
        let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
        let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { text };
        rows.push(Row::from_iter([("text".to_owned(), Value::from(text))]));
    }
    Ok(())
}
