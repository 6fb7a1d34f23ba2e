//! NaN and infinity as values of a row.
//!
//! A row has [`serde_json::Value`]s, whose numbers are finite. NaN and infinity are stored as an object with one reserved
//! key, which every reader refuses as a key of the data. Scripts see the number (`script/values/json.rs`); chat templates
//! never do ([`ensure_finite`]).

use super::dataset::Row;
use crate::error::{Error, Result};
use serde_json::{Number, Value};

/// The reserved key; its value is the number as Python writes it.
pub const KEY: &str = "\u{0}number";

/// A float as a value of a row.
pub fn value(number: f64) -> Value {
    match Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None => Value::Object(Row::from_iter([(KEY.to_owned(), Value::from(name(number)))])),
    }
}

/// `NaN`, `Infinity` or `-Infinity`.
fn name(number: f64) -> &'static str {
    match number {
        number if number.is_nan() => "NaN",
        number if number > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

/// The number that `value` stands for, if that is NaN or infinity.
pub fn not_finite(value: &Value) -> Option<f64> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    match fields.get(KEY)?.as_str()? {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// The value as JSON, with NaN and infinity as Python writes them.
pub fn text(value: &Value) -> String {
    match (value, not_finite(value)) {
        (_, Some(number)) => name(number).to_owned(),
        (Value::Array(items), _) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(",")),
        (Value::Object(fields), _) => {
            let fields = fields.iter().map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), text(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        _ => value.to_string(),
    }
}

/// Fails if `value` contains NaN or infinity anywhere.
pub fn ensure_finite(value: &Value) -> Result<()> {
    match (value, not_finite(value)) {
        (_, Some(number)) => Err(Error::data(format!("expected text or a finite number, found {}", name(number)))
            .with_hint("leave such rows out, or replace it by null")),
        (Value::Array(items), _) => items.iter().try_for_each(ensure_finite),
        (Value::Object(fields), _) => fields
            .iter()
            .try_for_each(|(key, value)| ensure_finite(value).map_err(|error| error.context(format!("`{key}`")))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nan_and_infinity_are_stored_and_read_back() {
        for number in [f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(not_finite(&value(number)), Some(number));
        }
        assert!(not_finite(&value(f64::NAN)).unwrap().is_nan());
        assert_eq!((value(1.5), not_finite(&json!({"a": "NaN"}))), (json!(1.5), None));
        let nested = json!({"a": [1, value(f64::NAN)], "b": "x"});
        assert_eq!(text(&nested), r#"{"a":[1,NaN],"b":"x"}"#);
        assert!(ensure_finite(&nested).unwrap_err().message.starts_with("`a`: "));
        assert!(ensure_finite(&json!([1, "NaN", null])).is_ok());
    }
}
