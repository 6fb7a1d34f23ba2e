//! Summarises columns: type, missing values, and smallest, mean and largest value or length.

use super::dataset::{Dataset, Row};
use super::number;
use crate::table::{table, Align};
use serde_json::Value;
use std::fmt;

/// The summary of one column. `min`, `mean` and `max` are of numbers, of texts' lengths in characters, and of lists' and
/// maps' numbers of entries.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ColumnSummary {
    pub name: String,
    /// `int`, `float`, `bool`, `string`, `list`, `map`, `null`, or `mixed`.
    pub kind: &'static str,
    /// How many rows lack the column or have null.
    pub missing: usize,
    pub min: Option<f64>,
    pub mean: Option<f64>,
    pub max: Option<f64>,
}

/// The summary of a data set; prints as a table.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DatasetSummary {
    pub rows: usize,
    pub columns: Vec<ColumnSummary>,
}

impl Dataset {
    /// Summarises every column over all rows.
    pub fn describe(&self) -> DatasetSummary {
        let columns = self.columns().into_iter().map(|name| summarise(self, name)).collect();
        DatasetSummary { rows: self.len(), columns }
    }
}

fn summarise(data: &Dataset, name: String) -> ColumnSummary {
    let mut kind = "null";
    let (mut missing, mut sizes) = (0, Vec::new());
    for row in data.iter() {
        let value = Row::get(row, &name).unwrap_or(&Value::Null);
        let (value_kind, size) = measure(value);
        match (kind, value_kind) {
            (_, "null") => missing += 1,
            ("null", _) => kind = value_kind,
            ("int" | "float", "int" | "float") if kind != value_kind => kind = "float",
            _ if kind != value_kind => kind = "mixed",
            _ => {}
        }
        sizes.extend(size);
    }
    let sizes = if kind == "mixed" { Vec::new() } else { sizes };
    let mean = (!sizes.is_empty()).then(|| sizes.iter().sum::<f64>() / sizes.len() as f64);
    let (min, max) = (sizes.iter().copied().reduce(f64::min), sizes.iter().copied().reduce(f64::max));
    ColumnSummary { name, kind, missing, min, mean, max }
}

/// The kind of a value, and its number or length.
fn measure(value: &Value) -> (&'static str, Option<f64>) {
    match value {
        Value::Null => ("null", None),
        Value::Bool(_) => ("bool", None),
        Value::Number(number) => (if number.is_f64() { "float" } else { "int" }, number.as_f64()),
        Value::String(text) => ("string", Some(text.chars().count() as f64)),
        Value::Array(list) => ("list", Some(list.len() as f64)),
        // NaN and infinity would make `min`, `mean` and `max` meaningless.
        value if number::not_finite(value).is_some() => ("float", None),
        Value::Object(map) => ("map", Some(map.len() as f64)),
    }
}

impl fmt::Display for DatasetSummary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<f64>| {
            value.map_or_else(String::new, |value| {
                format!("{:.6}", value).trim_end_matches('0').trim_end_matches('.').to_owned()
            })
        };
        let header = ["column", "type", "missing", "min", "mean", "max", "of"].map(str::to_owned).to_vec();
        let rows = self.columns.iter().map(|column| {
            let unit = match column.kind {
                "string" => "characters",
                "list" | "map" => "entries",
                "int" | "float" => "value",
                _ => "",
            };
            vec![
                column.name.clone(),
                column.kind.to_owned(),
                column.missing.to_string(),
                number(column.min),
                column.mean.map_or_else(String::new, |mean| format!("{mean:.1}")),
                number(column.max),
                unit.to_owned(),
            ]
        });
        use Align::{Left, Right};
        writeln!(out, "{} rows", self.rows)?;
        out.write_str(&table(header, rows.collect(), &[Left, Left, Right, Right, Right, Right, Left]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_summarised_by_value_and_texts_by_length() {
        let rows = [
            json!({"n": 1, "t": "가나", "m": [1]}),
            json!({"n": 2.5, "t": null, "m": "x"}),
            json!({"n": 3, "t": "abcd"}),
        ];
        let summary = Dataset::from_rows(rows.map(|row| row.as_object().unwrap().clone())).describe();
        let [n, t, m] = &summary.columns[..] else { panic!("three columns") };
        assert_eq!((n.kind, n.missing, n.min, n.max), ("float", 0, Some(1.0), Some(3.0)));
        assert_eq!((t.kind, t.missing, t.mean), ("string", 1, Some(3.0)));
        assert_eq!((m.kind, m.missing, m.min), ("mixed", 1, None));
        assert!(summary.to_string().contains("characters"));
    }
}
