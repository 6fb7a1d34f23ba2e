//! JSON values to script values and back. Ints stay ints.
//!
//! A script map is sorted by key. [`to_json_ordered`] puts the keys of a known object back
//! into their order; keys that the script added follow, sorted.

use crate::data::number;
use crate::error::{Error, Result};
use crate::script::engine::budget;
use crate::script::values::from_script::describe;
use rhai::{Array, Dynamic, Map};
use serde_json::Value;

/// Objects become maps, null becomes `()`. Whole numbers beyond 63 bits stay exact, as `u64`; NaN and
/// infinity come out of the rows that hold them (`data/number.rs`).
pub fn to_dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match number.as_i64() {
            Some(int) => int.into(),
            None => match number.as_u64() {
                Some(large) => Dynamic::from(large),
                None => number.as_f64().unwrap_or(f64::NAN).into(),
            },
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(to_dynamic).collect::<Array>().into(),
        Value::Object(fields) => {
            if let Some(number) = number::not_finite(value) {
                return number.into();
            }
            Dynamic::from_map(to_map(fields))
        }
    }
}

/// An object as a map.
pub fn to_map(fields: &serde_json::Map<String, Value>) -> Map {
    fields.iter().map(|(key, value)| (key.as_str().into(), to_dynamic(value))).collect()
}

/// Fails on what JSON cannot hold: functions, models, numbers that are not finite.
pub fn to_json(value: &Dynamic) -> Result<Value> {
    to_json_ordered(value, &Value::Null)
}

/// As [`to_json`], with the keys that `known` has in the order that `known` has them.
pub fn to_json_ordered(value: &Dynamic, known: &Value) -> Result<Value> {
    convert(value, known, &|float| Err(Error::data(format!("expected a finite number, found {float}"))))
}

/// A value of a row, which may hold NaN and infinity; keys in the order that `known` has them.
pub fn to_row_value(value: &Dynamic, known: &Value) -> Result<Value> {
    convert(value, known, &|float| Ok(number::value(float)))
}

/// What becomes of a float that is not finite.
type NotFinite<'a> = &'a dyn Fn(f64) -> Result<Value>;

fn convert(value: &Dynamic, known: &Value, not_finite: NotFinite) -> Result<Value> {
    if let Ok(map) = value.as_map_ref() {
        return object(&map, known, not_finite);
    }
    if let Ok(items) = value.as_array_ref() {
        let like = |index: usize| known.get(index).unwrap_or(&Value::Null);
        let items = items.iter().enumerate().map(|(index, item)| convert(item, like(index), not_finite));
        return Ok(Value::Array(items.collect::<Result<_>>()?));
    }
    scalar(value, not_finite)
}

fn object(map: &Map, known: &Value, not_finite: NotFinite) -> Result<Value> {
    if map.contains_key(number::KEY) {
        return Err(Error::data(format!("the key {:?} is reserved", number::KEY)));
    }
    let mut fields = serde_json::Map::new();
    let empty = serde_json::Map::new();
    let known = known.as_object().unwrap_or(&empty);
    let first = known.keys().map(String::as_str).filter(|key| map.contains_key(*key));
    let rest = map.keys().map(|key| key.as_str()).filter(|key| !known.contains_key(*key));
    for key in first.chain(rest) {
        let like = known.get(key).unwrap_or(&Value::Null);
        if let Some(value) = map.get(key) {
            let value = convert(value, like, not_finite).map_err(|error| error.context(format!("`{key}`")))?;
            fields.insert(key.to_string(), value);
        }
    }
    Ok(Value::Object(fields))
}

fn scalar(value: &Dynamic, not_finite: NotFinite) -> Result<Value> {
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(flag) = value.as_bool() {
        return Ok(flag.into());
    }
    if let Ok(int) = value.as_int() {
        return Ok(int.into());
    }
    if let Ok(float) = value.as_float() {
        return match serde_json::Number::from_f64(float) {
            Some(number) => Ok(Value::Number(number)),
            None => not_finite(float),
        };
    }
    if let Some(large) = value.clone().try_cast::<u64>() {
        return Ok(large.into());
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        // A text that is there many times is shared by the script, but not by what is made here.
        budget::charge("JSON", text.len() as u128)?;
        return Ok(text.as_str().into());
    }
    match value.as_char() {
        Ok(letter) => Ok(letter.to_string().into()),
        Err(_) => {
            Err(Error::data(format!("expected text, a number, a bool, an array or a map, found {}", describe(value))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_come_back_as_they_were() {
        let value = json!({"b": 1, "a": 1.0, "c": [null, true, "x", {"z": 0, "y": -1}], "big": 9007199254740993_i64});
        let back = to_json_ordered(&to_dynamic(&value), &value).unwrap();
        assert_eq!(back.to_string(), value.to_string(), "order and number types included");
    }

    #[test]
    fn added_keys_follow_the_known_ones() {
        let known = json!({"prompt": "p", "completion": "c"});
        let mut map = to_dynamic(&known).cast::<Map>();
        map.insert("added".into(), 1_i64.into());
        map.remove("prompt");
        let back = to_json_ordered(&map.into(), &known).unwrap();
        assert_eq!(back.to_string(), r#"{"completion":"c","added":1}"#);
    }

    #[test]
    fn what_json_cannot_hold_is_named() {
        let map: Map = [("f".into(), Dynamic::from(rhai::FnPtr::new("f").unwrap()))].into();
        let error = to_json(&map.into()).unwrap_err();
        assert_eq!(error.message, "`f`: expected text, a number, a bool, an array or a map, found a function");
        assert!(to_json(&f64::NAN.into()).is_err());
    }

    #[test]
    fn rows_keep_large_and_infinite_numbers() {
        let value = json!({"id": u64::MAX, "score": [number::value(f64::NEG_INFINITY)]});
        let map = to_dynamic(&value);
        assert_eq!(map.as_map_ref().unwrap()["id"].to_string(), u64::MAX.to_string());
        assert_eq!(to_row_value(&map, &value).unwrap(), value);
        assert!(to_json(&map).unwrap_err().message.contains("finite"));
    }
}
