//! Reads text files: one row a line, with the column `text`, as `datasets` does.

use super::collector::RowCollector;
use super::source;
use crate::data::dataset::Row;
use crate::error::Result;
use serde_json::Value;
use std::path::Path;

/// A blank line is a row too. Line breaks are not part of the text.
pub fn read(path: &Path, collector: &mut RowCollector) -> Result<()> {
    let mut reader = source::open(path)?;
    collector.add_columns(&["text".to_owned()]);
    let mut line = Vec::new();
    for number in 1.. {
        if !source::next_line(path, &mut reader, &mut line)? {
            break;
        }
        let text = source::utf8(path, number, &line)?;
        let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
        let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { text };
        collector.add(Row::from_iter([("text".to_owned(), Value::from(text))]))?;
    }
    Ok(())
}
