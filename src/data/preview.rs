//! Tables for a terminal, right for Hangul and other wide characters.

use super::dataset::Dataset;
use super::number;
use serde_json::Value;

/// Which side of its column a cell stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// The widest a cell of a preview gets, in terminal columns.
const WIDEST: usize = 40;

impl Dataset {
    /// The first `count` rows as a table; long values are cut.
    pub fn preview(&self, count: usize) -> String {
        let names = self.columns();
        let rows = self
            .iter()
            .take(count)
            .map(|row| names.iter().map(|name| cut(&cell(row.get(name).unwrap_or(&Value::Null)), WIDEST)).collect());
        let left = vec![Align::Left; names.len()];
        let mut text = table(names.iter().map(|name| cut(name, WIDEST)).collect(), rows.collect(), &left);
        if self.len() > count {
            text.push_str(&format!("… {} more rows\n", self.len() - count));
        }
        text
    }
}

/// Strings without quotes, everything else as JSON; line breaks and other controls escaped.
fn cell(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| number::text(value), str::to_owned);
    let mut plain = String::new();
    for c in text.chars() {
        match c {
            '\n' => plain.push_str("\\n"),
            '\t' => plain.push_str("\\t"),
            '\r' => plain.push_str("\\r"),
            c if c.is_control() => plain.push('\u{fffd}'),
            c => plain.push(c),
        }
    }
    plain
}

/// Lines of cells padded to the width of their column, under a header and a rule.
pub fn table(header: Vec<String>, rows: Vec<Vec<String>>, align: &[Align]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| width(cell)).collect();
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(index, (cell, widest))| {
            let space = " ".repeat(widest.saturating_sub(width(cell)));
            match align.get(index) {
                Some(Align::Right) => format!("{space}{cell}"),
                _ => format!("{cell}{space}"),
            }
        });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let rule: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
    let mut text = line(&header);
    text.push_str(&line(&rule));
    rows.iter().for_each(|row| text.push_str(&line(row)));
    text
}

/// Cuts to `most` terminal columns, with an ellipsis where something was cut.
pub fn cut(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += char_width(c);
        if used >= most {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// The number of terminal columns that a text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// By the East Asian Width property (Unicode TR 11): wide and full-width characters take
/// two columns, combining ones none.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036F | 0x1160..=0x11FF | 0x200B..=0x200F | 0x20D0..=0x20FF | 0xD7B0..=0xD7FF | 0xFE00..=0xFE0F => 0,
        0x1100..=0x115F | 0x2E80..=0x303E | 0x3041..=0xA4CF | 0xA960..=0xA97F | 0xAC00..=0xD7A3 => 2,
        0xF900..=0xFAFF | 0xFE30..=0xFE6F | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 => 2,
        0x1F300..=0x1F64F | 0x1F680..=0x1F6FF | 0x1F900..=0x1FAFF | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hangul_takes_two_columns() {
        assert_eq!((width("한글"), width("ab"), width("e\u{301}"), width("ㄱ")), (4, 2, 1, 2));
        assert_eq!(cut("한국어입니다", 7), "한국어…");
        assert_eq!(cut("short", 5), "short");
    }

    #[test]
    fn columns_line_up() {
        let rows = [json!({"질문": "안녕\n하세요", "n": 1}), json!({"질문": "hi", "n": null})];
        let data = Dataset::from_rows(rows.map(|row| row.as_object().unwrap().clone()));
        let text = data.preview(2);
        let starts: Vec<usize> = text.lines().skip(2).map(width).collect();
        assert_eq!(text.lines().nth(2), Some("안녕\\n하세요  1"));
        assert_eq!(text.lines().nth(3), Some("hi            null"));
        assert_eq!(starts, [15, 18]);
        assert!(data.preview(1).ends_with("… 1 more rows\n"));
    }
}
