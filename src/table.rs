//! Text in columns for a terminal: how wide a text is, texts cut to a width, tables. The cells of tables are made
//! harmless.
//!
//! Widths are those of the crate `console` (Unicode TR 11): wide characters take two columns,
//! combining ones none, escape sequences for colours none.

use crate::foreign;
use console::Alignment;

/// Which side of its column a cell stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// The number of terminal columns that a text takes.
pub fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

/// The text in at most `columns` terminal columns, with an ellipsis where something was cut.
pub fn truncate(text: &str, columns: usize) -> String {
    console::truncate_str(text, columns, "…").into_owned()
}

/// The text with spaces up to `columns` terminal columns.
pub fn pad(text: &str, columns: usize, align: Align) -> String {
    let side = match align {
        Align::Left => Alignment::Left,
        Align::Right => Alignment::Right,
    };
    console::pad_str(text, columns, side, None).into_owned()
}

/// The widths of the columns of `rows`.
pub fn widths<'a>(rows: impl IntoIterator<Item = &'a Vec<String>>) -> Vec<usize> {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = width(cell).max(*widest);
        }
    }
    widths
}

/// Lines of cells two spaces apart; columns without an entry in `align` stand to the left.
pub fn lines(rows: &[Vec<String>], align: &[Align]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| shown(row)).collect();
    let widths = widths(&rows);
    rows.iter().map(|row| line(row, &widths, align)).collect()
}

/// As [`lines`], with a rule below the header.
pub fn table(header: Vec<String>, rows: Vec<Vec<String>>, align: &[Align]) -> String {
    let (header, rows): (_, Vec<Vec<String>>) = (shown(&header), rows.iter().map(|row| shown(row)).collect());
    let widths = widths(rows.iter().chain([&header]));
    let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    [header, rule].iter().chain(&rows).map(|row| line(row, &widths, align)).collect()
}

/// Cells may come from files.
fn shown(cells: &[String]) -> Vec<String> {
    cells.iter().map(|cell| foreign::line(cell).into_owned()).collect()
}

/// One line with its line break.
pub fn line(cells: &[String], widths: &[usize], align: &[Align]) -> String {
    let sides = align.iter().copied().chain(std::iter::repeat(Align::Left));
    let padded = cells.iter().zip(widths).zip(sides).map(|((cell, width), side)| pad(cell, *width, side));
    format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_take_two_columns_and_combining_ones_none() {
        assert_eq!((width("한글"), width("ab"), width("e\u{301}"), width("ㄱ")), (4, 2, 1, 2));
        // Emoji of two characters, and a colour around a text.
        assert_eq!((width("❤\u{fe0f}"), width("👍\u{1f3fd}"), width("\x1b[31mab\x1b[0m")), (2, 2, 2));
        assert_eq!(truncate("한국어입니다", 7), "한국어…");
        assert_eq!(truncate("한국어입니다", 6), "한국…");
        assert_eq!(truncate("short", 5), "short");
    }

    #[test]
    fn columns_line_up_behind_wide_characters() {
        let row = |cells: [&str; 2]| cells.map(str::to_string).to_vec();
        let rows = [row(["runs/한국", "1"]), row(["runs/long-name", "22"])];
        assert_eq!(lines(&rows, &[]), "runs/한국       1\nruns/long-name  22\n");
        let right = [Align::Left, Align::Right];
        assert_eq!(table(row(["", "n"]), rows[..1].to_vec(), &right), "           n\n─────────  ─\nruns/한국  1\n");
    }
}
