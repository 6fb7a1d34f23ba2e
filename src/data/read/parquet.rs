//! Parquet through the row interface: lists and structs become JSON arrays and objects.

use crate::data::dataset::Row;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Number, Value};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;

pub fn read(path: &Path, rows: &mut Vec<Row>) -> Result<()> {
    // Damaged files can panic inside the crate, which calls that a bug, not a promise.
    let before = rows.len();
    match catch_unwind(AssertUnwindSafe(|| read_rows(path, rows))) {
        Ok(result) => result,
        Err(_) => Err(damaged(path, rows.len() - before, "the reader panicked on it")),
    }
}

fn damaged(path: &Path, row: usize, detail: impl std::fmt::Display) -> Error {
    Error::new(Kind::File, format!("`{}` row {row}: not readable as parquet: {detail}", path.display()))
        .with_hint("fetch or write the file again")
}

fn read_rows(path: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let file = std::fs::File::open(path).map_err(|error| Error::file("read", path, &error))?;
    let reader = SerializedFileReader::new(file).map_err(|error| damaged(path, 0, error))?;
    let found = reader.get_row_iter(None).map_err(|error| damaged(path, 0, error))?;
    for (index, row) in found.enumerate() {
        interrupt::check()?;
        let row = row.map_err(|error| damaged(path, index, error))?;
        let fields: Result<Row> = row
            .get_column_iter()
            .map(|(name, field)| {
                let value = json(field).map_err(|detail| damaged(path, index, format!("column `{name}`: {detail}")))?;
                Ok((name.clone(), value))
            })
            .collect();
        rows.push(fields?);
    }
    Ok(())
}

/// Bytes must be text: parquet writers of older Arrow releases leave the text mark out.
fn json(field: &Field) -> std::result::Result<Value, String> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::Bool(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) => Value::from(*value),
        Field::Long(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Float16(value) => float(f64::from(*value)),
        Field::Float(value) => float(f64::from(*value)),
        Field::Double(value) => float(*value),
        Field::Str(value) => Value::from(value.as_str()),
        Field::Bytes(value) => {
            Value::from(std::str::from_utf8(value.data()).map_err(|_| "binary data is not supported")?)
        }
        // What the crate prints: a decimal number, an ISO date or time.
        Field::Decimal(_) | Field::Date(_) | Field::TimeMillis(_) | Field::TimeMicros(_) => {
            Value::from(field.to_string())
        }
        Field::TimestampMillis(_) | Field::TimestampMicros(_) => Value::from(field.to_string()),
        Field::Group(row) => {
            let fields: std::result::Result<Row, String> =
                row.get_column_iter().map(|(name, field)| Ok((name.clone(), json(field)?))).collect();
            Value::Object(fields?)
        }
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().map(json).collect::<std::result::Result<_, _>>()?)
        }
        Field::MapInternal(map) => {
            let mut fields = Row::new();
            for (key, value) in map.entries() {
                let key = json(key)?;
                fields.insert(key.as_str().map_or_else(|| key.to_string(), str::to_owned), json(value)?);
            }
            Value::Object(fields)
        }
    })
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
