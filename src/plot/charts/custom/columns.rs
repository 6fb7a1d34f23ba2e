//! Columns of data: arrays, or names of columns in rows.

use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::options::{Mismatch, OptionType, Value};
use crate::suggest;

/// A column as the caller gives it.
#[derive(Debug, Clone)]
pub enum Column {
    Name(String),
    Values(Vec<Value>),
}

impl OptionType for Column {
    fn type_name() -> String {
        "string or array".to_owned()
    }
    fn expected() -> String {
        "the name of a column, or an array of values".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Text(name) => Ok(Column::Name(name.clone())),
            Value::Array(values) => Ok(Column::Values(values.clone())),
            _ => Err(Mismatch::of::<Self>(value)),
        }
    }
    fn to_value(&self) -> Value {
        match self {
            Column::Name(name) => Value::Text(name.clone()),
            Column::Values(values) => Value::Array(values.clone()),
        }
    }
}

impl Column {
    pub fn name(&self) -> Option<&str> {
        match self {
            Column::Name(name) => Some(name),
            Column::Values(_) => None,
        }
    }
}

/// Rows as maps, or a map of columns.
#[derive(Debug, Clone)]
pub enum Rows {
    Maps(Vec<Value>),
    Columns(Vec<(String, Value)>),
}

impl OptionType for Rows {
    fn type_name() -> String {
        "array of map, or map of arrays".to_owned()
    }
    fn expected() -> String {
        "an array of maps, a map of arrays, or a sweep's result".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Array(rows) if rows.iter().all(|row| row.as_map().is_some()) => Ok(Rows::Maps(rows.clone())),
            Value::Map(columns) if columns.iter().all(|(_, column)| column.as_array().is_some()) => {
                Ok(Rows::Columns(columns.clone()))
            }
            _ => Err(Mismatch::of::<Self>(value)),
        }
    }
    fn to_value(&self) -> Value {
        match self {
            Rows::Maps(rows) => Value::Array(rows.clone()),
            Rows::Columns(columns) => Value::Map(columns.clone()),
        }
    }
}

impl Rows {
    fn column(&self, name: &str) -> Option<Vec<Value>> {
        match self {
            Rows::Columns(columns) => {
                let (_, values) = columns.iter().find(|(column, _)| column == name)?;
                values.as_array().map(<[Value]>::to_vec)
            }
            Rows::Maps(rows) => {
                let value =
                    |row: &Value| row.as_map()?.iter().find(|(column, _)| column == name).map(|(_, v)| v.clone());
                let values: Vec<Option<Value>> = rows.iter().map(value).collect();
                values
                    .iter()
                    .any(Option::is_some)
                    .then(|| values.into_iter().map(|v| v.unwrap_or(Value::Unit)).collect())
            }
        }
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = match self {
            Rows::Columns(columns) => columns.iter().map(|(name, _)| name.as_str()).collect(),
            Rows::Maps(rows) => {
                rows.iter().filter_map(Value::as_map).flatten().map(|(name, _)| name.as_str()).collect()
            }
        };
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(*name));
        names
    }

    fn is_empty(&self) -> bool {
        matches!(self, Rows::Maps(rows) if rows.is_empty())
    }
}

/// One value of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Number(f64),
    Text(String),
    Missing,
}

impl Cell {
    pub fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Unit => Cell::Missing,
            Value::Bool(flag) => Cell::Text(flag.to_string()),
            Value::Text(text) => Cell::Text(text.clone()),
            Value::Int(_) | Value::Float(_) => Cell::Number(value.as_f64()?),
            Value::Array(_) | Value::Map(_) | Value::Other(_) => return None,
        })
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Cell::Number(number) => Some(*number),
            Cell::Text(_) | Cell::Missing => None,
        }
    }

    /// As a name in a legend, on an axis or over a panel.
    pub fn name(&self) -> String {
        match self {
            Cell::Number(number) => written(*number),
            Cell::Text(text) => text.clone(),
            Cell::Missing => "missing".to_owned(),
        }
    }
}

/// A number in as few characters as it needs: 8, 0.05, 2e-4.
fn written(number: f64) -> String {
    let is_plain = number == 0.0 || (1e-3..1e15).contains(&number.abs()) || !number.is_finite();
    if is_plain {
        format!("{number}")
    } else {
        format!("{number:e}")
    }
}

/// Where the columns of a mark come from, and how errors name it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub rows: Option<&'a Rows>,
    /// As in "chart: line".
    pub mark: &'a str,
}

impl Source<'_> {
    /// The raw values of a column.
    ///
    /// # Errors
    /// A name without rows, or one that no row has.
    pub fn values(&self, option: &str, column: &Column) -> Result<Vec<Value>> {
        let name = match column {
            Column::Values(values) => return Ok(values.clone()),
            Column::Name(name) => name,
        };
        let mark = self.mark;
        let Some(rows) = self.rows else {
            bail!(Kind::Input, "{mark}: `{option}` names the column `{name}`, but the chart has no rows";
                hint: "add data: rows, or write {option}: [1, 2, 3]")
        };
        if rows.is_empty() {
            bail!(Kind::Input, "{mark}: expected at least one row in `data`, found none"; hint: "draw it when there are rows")
        }
        rows.column(name).ok_or_else(|| {
            let (names, is_long) = (rows.names(), rows.names().len() > 12);
            let near = suggest::hint(name, names.iter().copied());
            let listed = if is_long { format!("{near} (columns: {})", names.join(", ")) } else { near };
            let listed = listed.replace("(known: ", "(columns: ").replacen("known: ", "columns: ", 1);
            Error::input(format!("{mark}: no row has the column `{name}` of `{option}`")).with_hint(listed)
        })
    }

    /// The values of a column as numbers and names.
    ///
    /// # Errors
    /// As [`values`](Source::values), or a value that is an array or a map.
    pub fn cells(&self, option: &str, column: &Column) -> Result<Vec<Cell>> {
        let values = self.values(option, column)?;
        let cells = values.iter().enumerate().map(|(at, value)| {
            Cell::of(value).ok_or_else(|| {
                let message =
                    format!("{}: `{option}`: expected numbers or names, found {}", self.mark, value.describe());
                Error::input(format!("{message} at index {at}"))
            })
        });
        cells.collect()
    }

    /// The values of a column as numbers; a missing one is NaN.
    ///
    /// # Errors
    /// As [`values`](Source::values), or a value that is no number.
    pub fn numbers(&self, option: &str, column: &Column) -> Result<Vec<f64>> {
        let values = self.values(option, column)?;
        let numbers = values.iter().enumerate().map(|(at, value)| match value {
            Value::Unit => Ok(f64::NAN),
            _ => value.as_f64().ok_or_else(|| {
                let (mark, found) = (self.mark, value.describe());
                Error::input(format!("{mark}: `{option}`: expected numbers, found {found} at index {at}"))
            }),
        });
        numbers.collect()
    }
}

/// # Errors
/// Columns of different lengths, or without any value.
pub fn ensure_equal_lengths(mark: &str, columns: &[(&str, Option<usize>)]) -> Result<usize> {
    let mut lengths = columns.iter().filter_map(|(name, length)| Some((*name, (*length)?)));
    let Some((first, length)) = lengths.next() else {
        bail!(Kind::Input, "{mark}: expected data, found none"; hint: "write y: [1, 2, 3], or y: \"column\" with data: rows")
    };
    if let Some((other, other_length)) = lengths.find(|(_, other)| *other != length) {
        bail!(
            Kind::Input,
            "{mark}: expected arrays of one length, found {length} values in `{first}` and {other_length} in `{other}`"
        )
    }
    if length == 0 {
        bail!(Kind::Input, "{mark}: expected at least one value in `{first}`, found none"; hint: "draw it when there is data")
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows() -> Rows {
        Rows::from_value(&Value::from(&json!([{"rank": 8, "loss": 1.5}, {"rank": 16, "note": "slow"}]))).unwrap()
    }

    #[test]
    fn columns_of_rows_have_gaps_where_rows_lack_them() {
        let rows = rows();
        let source = Source { rows: Some(&rows), mark: "chart: line" };
        let losses = source.numbers("y", &Column::Name("loss".into())).unwrap();
        assert!(losses[0] == 1.5 && losses[1].is_nan());
        assert_eq!(
            source.cells("x", &Column::Name("note".into())).unwrap(),
            [Cell::Missing, Cell::Text("slow".into())]
        );
        let error = source.numbers("y", &Column::Name("los".into())).unwrap_err();
        assert_eq!(error.message, "chart: line: no row has the column `los` of `y`");
        assert!(error.hint.unwrap().starts_with("did you mean `loss`? (columns: "));
        let error = source.numbers("y", &Column::Name("note".into())).unwrap_err();
        assert_eq!(error.message, "chart: line: `y`: expected numbers, found string \"slow\" at index 1");
    }

    #[test]
    fn lengths_are_compared() {
        let error =
            ensure_equal_lengths("chart: line", &[("x", Some(3)), ("error", None), ("y", Some(4))]).unwrap_err();
        assert_eq!(error.message, "chart: line: expected arrays of one length, found 3 values in `x` and 4 in `y`");
        assert!(ensure_equal_lengths("chart: line", &[("x", Some(0))]).is_err());
        assert_eq!(ensure_equal_lengths("chart: line", &[("x", None), ("y", Some(2))]).unwrap(), 2);
    }

    #[test]
    fn numbers_are_named_in_few_characters() {
        let names = [8.0, 0.05, 2e-4, -1.5, 0.0].map(|number| Cell::Number(number).name());
        assert_eq!(names, ["8", "0.05", "2e-4", "-1.5", "0"]);
    }
}
