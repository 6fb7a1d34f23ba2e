//! The first rows of a data set as a table for a terminal.

use super::dataset::Dataset;
use super::number;
use crate::error::Result;
use crate::foreign;
use crate::table::{table, truncate};
use serde_json::Value;

/// The widest a cell of a preview gets, in terminal columns.
const WIDEST: usize = 40;

impl Dataset {
    /// The first `count` rows as a table; long values are cut.
    ///
    /// # Errors
    /// A disk that fails.
    pub fn preview(&self, count: usize) -> Result<String> {
        let names = self.columns();
        let rows = self.iter().take(count).map(|row| {
            let row = row?;
            Ok(names.iter().map(|name| truncate(&cell(row.get(name).unwrap_or(&Value::Null)), WIDEST)).collect())
        });
        let header = names.iter().map(|name| truncate(&foreign::line(name), WIDEST)).collect();
        let mut text = table(header, rows.collect::<Result<_>>()?, &[]);
        if self.len() > count {
            text.push_str(&format!("… {} more rows\n", self.len() - count));
        }
        Ok(text)
    }
}

/// Strings without quotes, everything else as JSON; line breaks and other controls escaped.
fn cell(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| number::text(value), str::to_owned);
    foreign::line(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::width;
    use serde_json::json;

    #[test]
    fn columns_line_up() {
        let rows = [json!({"질문": "안녕\n하세요", "n": 1}), json!({"질문": "hi", "n": null})];
        let data = Dataset::from_rows(rows.map(|row| row.as_object().unwrap().clone()));
        let text = data.preview(2).unwrap();
        let starts: Vec<usize> = text.lines().skip(2).map(width).collect();
        assert_eq!(text.lines().nth(2), Some("안녕\\n하세요  1"));
        assert_eq!(text.lines().nth(3), Some("hi            null"));
        assert_eq!(starts, [15, 18]);
        assert!(data.preview(1).unwrap().ends_with("… 1 more rows\n"));
    }
}
