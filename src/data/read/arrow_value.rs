//! Converts one value of an Arrow column to JSON, exactly. Types that JSON lacks (times, decimals) become the text that Python
//! prints; values without an exact text are refused.

use crate::data::dataset::Row;
use crate::data::number;
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType};
use arrow_schema::{DataType, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};
use serde_json::Value;

/// Why a value cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Bytes that are not text, such as images and audio.
    Bytes,
    Other(String),
}

type Read = Result<Value, Unreadable>;

/// The value at `index`; null if it is missing.
pub fn value(column: &ArrayRef, index: usize) -> Read {
    if column.is_null(index) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::from(column.as_boolean().value(index)),
        DataType::Int8 => Value::from(at::<Int8Type>(column, index)),
        DataType::Int16 => Value::from(at::<Int16Type>(column, index)),
        DataType::Int32 => Value::from(at::<Int32Type>(column, index)),
        DataType::Int64 => Value::from(at::<Int64Type>(column, index)),
        DataType::UInt8 => Value::from(at::<UInt8Type>(column, index)),
        DataType::UInt16 => Value::from(at::<UInt16Type>(column, index)),
        DataType::UInt32 => Value::from(at::<UInt32Type>(column, index)),
        DataType::UInt64 => Value::from(at::<UInt64Type>(column, index)),
        DataType::Float16 => number::value(f64::from(at::<Float16Type>(column, index))),
        DataType::Float32 => number::value(f64::from(at::<Float32Type>(column, index))),
        DataType::Float64 => number::value(at::<Float64Type>(column, index)),
        DataType::Utf8 => Value::from(column.as_string::<i32>().value(index)),
        DataType::LargeUtf8 => Value::from(column.as_string::<i64>().value(index)),
        DataType::Utf8View => Value::from(column.as_string_view().value(index)),
        DataType::Binary => text(column.as_binary::<i32>().value(index))?,
        DataType::LargeBinary => text(column.as_binary::<i64>().value(index))?,
        DataType::BinaryView => text(column.as_binary_view().value(index))?,
        DataType::FixedSizeBinary(_) => text(column.as_fixed_size_binary().value(index))?,
        DataType::Decimal32(..) => Value::from(column.as_primitive::<Decimal32Type>().value_as_string(index)),
        DataType::Decimal64(..) => Value::from(column.as_primitive::<Decimal64Type>().value_as_string(index)),
        DataType::Decimal128(..) => Value::from(column.as_primitive::<Decimal128Type>().value_as_string(index)),
        DataType::Decimal256(..) => Value::from(column.as_primitive::<Decimal256Type>().value_as_string(index)),
        DataType::Date32 => date(i64::from(at::<Date32Type>(column, index)) * DAY)?,
        DataType::Date64 => match at::<Date64Type>(column, index) {
            millis if millis % (DAY * 1000) == 0 => date(millis / 1000)?,
            part => timestamp(i128::from(part), 1_000, None)?,
        },
        DataType::Time32(TimeUnit::Second) => time(i64::from(at::<Time32SecondType>(column, index)), 1)?,
        DataType::Time32(_) => time(i64::from(at::<Time32MillisecondType>(column, index)), 1_000)?,
        DataType::Time64(TimeUnit::Microsecond) => time(at::<Time64MicrosecondType>(column, index), 1_000_000)?,
        DataType::Time64(_) => time(at::<Time64NanosecondType>(column, index), 1_000_000_000)?,
        DataType::Timestamp(unit, zone) => {
            let count = match unit {
                TimeUnit::Second => at::<TimestampSecondType>(column, index),
                TimeUnit::Millisecond => at::<TimestampMillisecondType>(column, index),
                TimeUnit::Microsecond => at::<TimestampMicrosecondType>(column, index),
                TimeUnit::Nanosecond => at::<TimestampNanosecondType>(column, index),
            };
            timestamp(i128::from(count), per_second(unit), zone.as_deref())?
        }
        DataType::Duration(unit) => {
            let count = match unit {
                TimeUnit::Second => at::<DurationSecondType>(column, index),
                TimeUnit::Millisecond => at::<DurationMillisecondType>(column, index),
                TimeUnit::Microsecond => at::<DurationMicrosecondType>(column, index),
                TimeUnit::Nanosecond => at::<DurationNanosecondType>(column, index),
            };
            duration(count, per_second(unit))
        }
        DataType::List(_) => list(&column.as_list::<i32>().value(index))?,
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(index))?,
        DataType::FixedSizeList(..) => list(&column.as_fixed_size_list().value(index))?,
        DataType::ListView(_) => list(&column.as_list_view::<i32>().value(index))?,
        DataType::LargeListView(_) => list(&column.as_list_view::<i64>().value(index))?,
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(column.as_struct().columns());
            let fields: Result<Row, Unreadable> =
                columns.map(|(field, column)| Ok((field.name().clone(), value(column, index)?))).collect();
            Value::Object(fields?)
        }
        DataType::Map(..) => map(&column.as_map().value(index).into_parts().1)?,
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let key = dictionary.normalized_keys().get(index).copied().unwrap_or_default();
            value(dictionary.values(), key)?
        }
        other => return Err(Unreadable::Other(format!("values of type {other} cannot be read"))),
    })
}

fn at<T: ArrowPrimitiveType>(column: &ArrayRef, index: usize) -> T::Native {
    column.as_primitive::<T>().value(index)
}

/// Bytes as text: parquet writers of older Arrow releases do not mark text columns.
fn text(bytes: &[u8]) -> Read {
    simdutf8::compat::from_utf8(bytes).map(Value::from).map_err(|_| Unreadable::Bytes)
}

fn list(items: &ArrayRef) -> Read {
    (0..items.len()).map(|index| value(items, index)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn map(entries: &[ArrayRef]) -> Read {
    let [keys, values] = entries else { return Err(Unreadable::Other("a map with more than keys and values".into())) };
    let mut fields = Row::new();
    for index in 0..keys.len() {
        let key = value(keys, index)?;
        let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        if fields.contains_key(&key) {
            return Err(Unreadable::Other(format!("a map has the key `{key}` twice")));
        }
        fields.insert(key, value(values, index)?);
    }
    Ok(Value::Object(fields))
}

const DAY: i64 = 86_400;

fn per_second(unit: &TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

fn date(seconds: i64) -> Read {
    let day = moment(seconds, 0)?;
    Ok(format!("{:04}-{:02}-{:02}", day.year(), day.month(), day.day()).into())
}

/// A time in the years of Python's dates.
fn moment(seconds: i64, nanoseconds: u32) -> Result<NaiveDateTime, Unreadable> {
    let moment = DateTime::from_timestamp(seconds, nanoseconds).map(|moment| moment.naive_utc());
    moment
        .filter(|moment| (1..=9999).contains(&moment.year()))
        .ok_or_else(|| Unreadable::Other(format!("a time {seconds} seconds from 1970 is outside the years 1 to 9999")))
}

/// As Python prints it: with the offset of a fixed time zone, and in UTC for a named one.
fn timestamp(count: i128, per_second: i64, zone: Option<&str>) -> Read {
    let per_second = i128::from(per_second);
    let seconds = i64::try_from(count.div_euclid(per_second)).unwrap_or(i64::MAX);
    let nanoseconds = (count.rem_euclid(per_second) * (1_000_000_000 / per_second)) as u32;
    let offset = zone.map(|zone| fixed_offset(zone).unwrap_or(0));
    let at = moment(seconds.saturating_add(offset.unwrap_or(0) * 60), nanoseconds)?;
    let zone = offset.map_or_else(String::new, |minutes| {
        let sign = if minutes < 0 { '-' } else { '+' };
        format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
    });
    Ok(format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}{}{zone}",
        at.year(),
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        fraction(nanoseconds)
    )
    .into())
}

/// The minutes of `+09:00`; `None` for a name such as `Asia/Seoul`.
fn fixed_offset(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?))
}

/// No digits, six, or nine if six would lose some.
fn fraction(nanoseconds: u32) -> String {
    match nanoseconds {
        0 => String::new(),
        millis if millis % 1000 == 0 => format!(".{:06}", millis / 1000),
        _ => format!(".{nanoseconds:09}"),
    }
}

fn time(count: i64, per_second: i64) -> Read {
    let (seconds, part) = (count.div_euclid(per_second), count.rem_euclid(per_second));
    if !(0..DAY).contains(&seconds) {
        return Err(Unreadable::Other(format!("a time of day of {seconds} seconds")));
    }
    let nanoseconds = (part * (1_000_000_000 / per_second)) as u32;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    Ok(format!("{hours:02}:{minutes:02}:{:02}{}", seconds % 60, fraction(nanoseconds)).into())
}

/// As Python prints a timedelta: `1 day, 2:03:04.500000`.
fn duration(count: i64, per_second: i64) -> Value {
    let (seconds, part) = (count.div_euclid(per_second), count.rem_euclid(per_second));
    let nanoseconds = (part * (1_000_000_000 / per_second)) as u32;
    let (days, seconds) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let days = match days {
        0 => String::new(),
        1 | -1 => format!("{days} day, "),
        _ => format!("{days} days, "),
    };
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{days}{hours}:{minutes:02}:{:02}{}", seconds % 60, fraction(nanoseconds)).into()
}
