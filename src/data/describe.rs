//! Summarises columns: type, missing values, and smallest, mean and largest value or length.

use super::dataset::Dataset;
use super::number;
use crate::error::Result;
use crate::interrupt;
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
    ///
    /// # Errors
    /// A disk that fails; a stop.
    pub fn describe(&self) -> Result<DatasetSummary> {
        let names = self.columns();
        let mut columns = vec![Measured::default(); names.len()];
        for row in self.iter() {
            interrupt::check()?;
            let row = row?;
            for (name, column) in names.iter().zip(&mut columns) {
                column.add(row.get(name).unwrap_or(&Value::Null));
            }
        }
        let columns = names.into_iter().zip(columns).map(|(name, column)| column.summary(name)).collect();
        Ok(DatasetSummary { rows: self.len(), columns })
    }
}

/// What is known of a column after some of its rows.
#[derive(Clone)]
struct Measured {
    kind: &'static str,
    missing: usize,
    /// How many values have a number or a length; and the smallest, the sum and the largest of these.
    count: usize,
    bounds: Option<(f64, f64, f64)>,
}

impl Default for Measured {
    fn default() -> Self {
        Measured { kind: "null", missing: 0, count: 0, bounds: None }
    }
}

impl Measured {
    fn add(&mut self, value: &Value) {
        let (kind, size) = measure(value);
        match (self.kind, kind) {
            (_, "null") => self.missing += 1,
            ("null", _) => self.kind = kind,
            ("int" | "float", "int" | "float") if self.kind != kind => self.kind = "float",
            _ if self.kind != kind => self.kind = "mixed",
            _ => {}
        }
        let Some(size) = size else { return };
        self.count += 1;
        self.bounds = Some(match self.bounds {
            Some((min, sum, max)) => (min.min(size), sum + size, max.max(size)),
            None => (size, size, size),
        });
    }

    fn summary(self, name: String) -> ColumnSummary {
        let bounds = self.bounds.filter(|_| self.kind != "mixed");
        ColumnSummary {
            name,
            kind: self.kind,
            missing: self.missing,
            min: bounds.map(|(min, ..)| min),
            mean: bounds.map(|(_, sum, _)| sum / self.count as f64),
            max: bounds.map(|(.., max)| max),
        }
    }
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
        let summary = Dataset::from_rows(rows.map(|row| row.as_object().unwrap().clone())).describe().unwrap();
        let [n, t, m] = &summary.columns[..] else { panic!("three columns") };
        assert_eq!((n.kind, n.missing, n.min, n.max), ("float", 0, Some(1.0), Some(3.0)));
        assert_eq!((t.kind, t.missing, t.mean), ("string", 1, Some(3.0)));
        assert_eq!((m.kind, m.missing, m.min), ("mixed", 1, None));
        assert!(summary.to_string().contains("characters"));
    }
}
