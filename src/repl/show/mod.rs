//! Prints the value of an input: as much of it as fits the terminal, and how much is left out.

mod image;
mod model;
mod tensor;

use crate::data::{Dataset, TokenizedDataset};
use crate::foreign;
use crate::format::thousands;
use crate::plot::Chart;
use crate::script::Value;
use crate::table::{pad, truncate, width, Align};
pub use image::Protocol;

/// The terminal that values are printed on.
#[derive(Debug, Clone)]
pub struct Screen {
    pub columns: usize,
    pub rows: usize,
    pub colours: bool,
    /// How the terminal shows images, if it can.
    pub images: Option<Protocol>,
}

/// Elements and rows shown of a long value: the first and the last.
const FIRST: usize = 10;
const LAST: usize = 3;

/// The value on one or several lines; `None` if there is nothing to show.
pub fn show(value: &Value, screen: &Screen) -> Option<String> {
    let text = match value {
        Value::Nothing => return None,
        Value::List { first, last, length } => list(first, last, *length, screen),
        Value::Map(entries) => map(entries, screen),
        Value::Text(text) if text.contains('\n') => text.clone(),
        Value::Tensor(tensor) => tensor::show(tensor, screen),
        Value::Dataset(data) => table(data, screen),
        Value::Model(handle) => model::show(handle, screen),
        // Colours and images are its own.
        Value::Chart(chart) => return Some(draw(chart, screen).trim_end().to_string()),
        Value::Table { text, .. } => text.clone(),
        Value::Object { kind, properties } => object(kind, properties),
        other => summary(other, usize::MAX),
    };
    Some(foreign::lines(text.trim_end()).into_owned())
}

/// The value in one line of at most `room` columns.
pub fn summary(value: &Value, room: usize) -> String {
    let text = match value {
        Value::Nothing => "()".to_string(),
        Value::Plain(text) | Value::Function(text) => text.clone(),
        Value::Text(text) => format!("{text:?}"),
        Value::List { first, last, length } => short_list(first, last, *length, room),
        Value::Map(entries) => {
            let shown = entries.iter().map(|(key, value)| format!("{key}: {}", summary(value, room)));
            format!("#{{ {} }}", joined(shown, room)).replace("#{  }", "#{}")
        }
        Value::Tensor(tensor) => tensor::line(tensor),
        Value::Dataset(data) => {
            format!("Dataset of {} rows: {}", thousands(data.len() as u64), data.columns().join(", "))
        }
        Value::Tokenized(data) => tokens(data),
        Value::Model(handle) => model::line(handle),
        Value::Chart(chart) => format!("Chart \"{}\" of {} series", chart.title, chart.series.len()),
        Value::Table { kind, .. } | Value::Object { kind, .. } => kind.clone(),
    };
    truncate(&foreign::line(&text), room)
}

/// Items separated by commas until there is more than enough text; the caller cuts it.
fn joined(items: impl Iterator<Item = String>, room: usize) -> String {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&item);
        if text.len() / 4 > room {
            break;
        }
    }
    text
}

fn short_list(first: &[Value], last: &[Value], length: usize, room: usize) -> String {
    let shown = first.iter().map(|value| summary(value, room));
    if last.is_empty() {
        return format!("[{}]", joined(shown, room));
    }
    format!("[{}, …] ({} elements)", joined(shown.take(5), room), thousands(length as u64))
}

fn list(first: &[Value], last: &[Value], length: usize, screen: &Screen) -> String {
    let line = short_list(first, last, length, usize::MAX);
    if last.is_empty() && width(&line) <= screen.columns {
        return line;
    }
    let all: Vec<&Value> = first.iter().chain(last).collect();
    let hidden = all.len() > FIRST + LAST;
    let at = |index: usize| if index < first.len() { index } else { length - (all.len() - index) };
    let line =
        |index: usize| truncate(&format!("{:>6}  {}", at(index), summary(all[index], screen.columns)), screen.columns);
    let mut lines = vec![format!("array of {} elements", thousands(length as u64))];
    if hidden {
        lines.extend((0..FIRST).map(line));
        lines.push(format!("     …  {} more", thousands((length - FIRST - LAST) as u64)));
        lines.extend((all.len() - LAST..all.len()).map(line));
    } else {
        lines.extend((0..all.len()).map(line));
    }
    lines.join("\n")
}

fn map(entries: &[(String, Value)], screen: &Screen) -> String {
    let line = summary(&Value::Map(entries.to_vec()), usize::MAX);
    if width(&line) <= screen.columns {
        return line;
    }
    let margin = entries.iter().map(|(key, _)| width(key)).max().unwrap_or(0).min(screen.columns / 3);
    let most = screen.rows.max(FIRST);
    let line = |(key, value): &(String, Value)| {
        let name = pad(&format!("{key}:"), margin + 1, Align::Left);
        truncate(&format!("  {name} {}", summary(value, screen.columns)), screen.columns)
    };
    let mut lines = vec!["#{".to_string()];
    lines.extend(entries.iter().take(most).map(line));
    if entries.len() > most {
        lines.push(format!("  … {} more keys", entries.len() - most));
    }
    lines.push("}".to_string());
    lines.join("\n")
}

fn table(data: &Dataset, screen: &Screen) -> String {
    let columns = data.columns().len();
    let title = format!("Dataset of {} rows and {columns} columns", thousands(data.len() as u64));
    let rows = data.preview(FIRST).unwrap_or_else(|error| error.to_string());
    std::iter::once(title.as_str())
        .chain(rows.lines())
        .map(|line| truncate(line, screen.columns))
        .collect::<Vec<_>>()
        .join("\n")
}

fn tokens(data: &TokenizedDataset) -> String {
    let number = |count: usize| thousands(count as u64);
    format!(
        "tokens of {} rows: {} tokens, {} with a label, the longest row {}",
        number(data.len()),
        number(data.token_count()),
        number(data.label_count()),
        number(data.longest())
    )
}

fn draw(chart: &Chart, screen: &Screen) -> String {
    let image = screen.images.and_then(|protocol| image::of(chart, protocol).ok());
    let height = (screen.rows / 2).clamp(8, 20);
    image.unwrap_or_else(|| match chart.to_text(screen.columns.min(100), height, screen.colours) {
        Ok(text) => text,
        Err(error) => error.to_string(),
    })
}

fn object(kind: &str, properties: &[String]) -> String {
    if properties.is_empty() {
        return kind.to_string();
    }
    format!("{kind}\n  {}", properties.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Session;

    pub fn screen() -> Screen {
        Screen { columns: 60, rows: 24, colours: false, images: None }
    }

    pub fn shown(input: &str) -> String {
        shown_on(&screen(), input)
    }

    pub fn shown_on(screen: &Screen, input: &str) -> String {
        let value = Session::new().run_input(1, input).unwrap_or_else(|failure| panic!("{failure}"));
        show(&value, screen).unwrap_or_default()
    }

    #[test]
    fn small_values_take_one_line() {
        assert_eq!(shown("1 + 1"), "2");
        assert_eq!(shown("\"a\\\"b\""), "\"a\\\"b\"");
        assert_eq!(shown("[1, \"x\", #{ a: 1.5 }]"), "[1, \"x\", #{ a: 1.5 }]");
        assert_eq!(shown("#{}"), "#{}");
        assert_eq!(shown("let a = 1;"), "");
        assert_eq!(shown("|x| x + 1"), "a closure");
        assert_eq!(shown("0..3"), "0..3");
    }

    #[test]
    fn long_arrays_show_both_ends() {
        let text = shown("let a = []; for i in 0..1000 { a.push(i); } a");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "array of 1,000 elements");
        assert_eq!((lines[1], lines[10]), ("     0  0", "     9  9"));
        assert_eq!((lines[11], lines[12], lines[14]), ("     …  987 more", "   997  997", "   999  999"));
    }

    #[test]
    fn wide_maps_take_a_line_for_each_key_and_are_cut_to_the_terminal() {
        let text = shown("#{ name: \"a long text that goes on and on and on and on\", other_key: [1, 2, 3], z: 1 }");
        assert_eq!(text.lines().next(), Some("#{"));
        assert!(text.contains("\n  other_key: [1, 2, 3]\n") && text.lines().all(|line| width(line) <= 60), "{text}");
    }

    #[test]
    fn data_sets_are_tables_cut_to_the_terminal() {
        let text = shown("let rows = []; for i in 0..50 { rows.push(#{ a: i, b: `${i} ` + \"xy\".repeat_it() }); } fn repeat_it() { this + this + this + this + this + this + this + this + this + this + this + this + this + this } dataset(rows)");
        assert!(text.starts_with("Dataset of 50 rows and 2 columns\na  b"), "{text}");
        assert!(text.ends_with("… 40 more rows") && text.lines().all(|line| width(line) <= 60), "{text}");
    }
}
