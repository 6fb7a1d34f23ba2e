//! Values of scripts as Rust values, by the types of options; and the names that scripts know types by.
//!
//! Option maps are read by `options`; JSON values by `json`.

use crate::options::{OptionType, Other, Value};
use crate::script::engine::budget;
use rhai::{Dynamic, FnPtr, Map};
use std::rc::Rc;

/// Rust values that a script's value can stand for: those that options have.
pub trait FromScript: OptionType {
    /// The value, or `None` where `value` is of another type or out of range.
    fn from_script(value: &Dynamic) -> Option<Self> {
        Self::from_value(&to_value(value)).ok()
    }
}

impl<T: OptionType> FromScript for T {}

/// A script's value. What only the engine knows, such as functions and models, is [`Value::Other`].
pub fn to_value(value: &Dynamic) -> Value {
    let value = value.flatten_clone();
    if value.is_unit() {
        return Value::Unit;
    }
    if let Ok(flag) = value.as_bool() {
        return Value::Bool(flag);
    }
    if let Ok(int) = value.as_int() {
        return Value::Int(int);
    }
    if let Ok(float) = value.as_float() {
        return Value::Float(float);
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        // A text that is there many times is shared by the script, but not by what is made here.
        return match budget::charge_or_end("options", text.len() as u128) {
            Ok(()) => Value::Text(text.to_string()),
            Err(_) => Value::Text(String::new()),
        };
    }
    if let Some(numbers) = whole_numbers(&value) {
        return Value::Array(numbers.iter().map(to_value).collect());
    }
    if let Ok(array) = value.as_array_ref() {
        return Value::Array(array.iter().map(to_value).collect());
    }
    if let Ok(map) = value.as_map_ref() {
        return Value::Map(map.iter().map(|(key, value)| (key.to_string(), to_value(value))).collect());
    }
    let (described, json) = match (value.as_char(), value.clone().try_cast::<u64>()) {
        (Ok(character), _) => (format!("char {character}"), Some(character.to_string().into())),
        (_, Some(large)) => (format!("int {large}"), Some(large.into())),
        _ if value.is::<FnPtr>() => ("a function".to_owned(), None),
        _ => (type_name(value.type_name()), None),
    };
    Value::Other(Other { described, json, value: Rc::new(value.clone()) })
}

/// The script's value again.
pub fn to_dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Unit => Dynamic::UNIT,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Text(value) => value.clone().into(),
        Value::Array(items) => items.iter().map(to_dynamic).collect::<rhai::Array>().into(),
        Value::Map(entries) => Dynamic::from_map(to_map(entries)),
        Value::Other(other) => other.value.downcast_ref::<Dynamic>().cloned().unwrap_or(Dynamic::UNIT),
    }
}

pub fn to_map(entries: &[(String, Value)]) -> Map {
    entries.iter().map(|(key, value)| (key.as_str().into(), to_dynamic(value))).collect()
}

/// What to write after "found": the type and, where it is short, the value.
pub fn describe(value: &Dynamic) -> String {
    let name = type_name(value.type_name());
    // As options, ranges are arrays.
    if name == "range" {
        return name;
    }
    to_value(value).describe()
}

/// The ints of a range with an end, `2..8` or `2..=8`.
pub fn whole_numbers(value: &Dynamic) -> Option<rhai::Array> {
    /// A longer range has no end, or is a slip.
    const MAX_LENGTH: i64 = 1_000_000;
    let (start, end) = if let Some(range) = value.read_lock::<std::ops::Range<i64>>() {
        (range.start, range.end)
    } else {
        let range = value.read_lock::<std::ops::RangeInclusive<i64>>()?;
        (*range.start(), range.end().checked_add(1)?)
    };
    (end.saturating_sub(start) <= MAX_LENGTH).then(|| (start..end).map(Dynamic::from).collect())
}

/// The numbers of a range, also of one with steps: `range(2, 9, 2)`.
pub fn values_of_range(value: &Dynamic, engine: &rhai::Engine) -> Option<rhai::Array> {
    // The type of a range with steps is private to the engine: only a loop can read it.
    const READ: &str = "let list = []; for value in values { list.push(value); if list.len > 1000000 { throw; } } list";
    if !value.type_name().contains("StepRange<") {
        return whole_numbers(value);
    }
    let mut scope = rhai::Scope::new();
    scope.push_dynamic("values", value.clone());
    engine.eval_with_scope(&mut scope, READ).ok()
}

/// The name that scripts know a type by: `int` for `i64`, `Model` for `Handle<…::Model>`.
pub fn type_name(name: &str) -> String {
    let name = name.trim().trim_start_matches("&mut ").trim_start_matches("rhai::");
    let name = name.trim_start_matches("alloc::string::");
    match name {
        "i64" | "INT" | "usize" => "int".to_owned(),
        "f64" | "FLOAT" => "float".to_owned(),
        "()" => "()".to_owned(),
        "&str" | "str" | "String" | "ImmutableString" | "&str | ImmutableString | String" => "string".to_owned(),
        "Array" => "array".to_owned(),
        "Map" => "map".to_owned(),
        "Fn" | "FnPtr" => "function".to_owned(),
        "Dynamic" => "any".to_owned(),
        _ if name.starts_with("core::ops::range::Range") || name.starts_with("Range<") => "range".to_owned(),
        _ if name.contains("StepRange<") => "range".to_owned(),
        _ if name.ends_with("FnPtr") => "function".to_owned(),
        _ => last_segment(name),
    }
}

fn last_segment(name: &str) -> String {
    let inside = match (name.find('<'), name.rfind('>')) {
        (Some(start), Some(end)) if name[..start].ends_with("Handle") => &name[start + 1..end],
        _ => name,
    };
    inside.rsplit("::").next().unwrap_or(inside).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ints_pass_for_floats_but_not_the_reverse() {
        assert_eq!(f64::from_script(&Dynamic::from(2_i64)), Some(2.0));
        assert_eq!(i64::from_script(&Dynamic::from(2.0_f64)), None);
        assert_eq!(usize::from_script(&Dynamic::from(-1_i64)), None);
        assert_eq!(Vec::<f64>::from_script(&vec![Dynamic::from(1_i64), 0.5.into()].into()), Some(vec![1.0, 0.5]));
        assert_eq!(Vec::<i64>::from_script(&vec![Dynamic::from(1_i64), "x".into()].into()), None);
    }

    #[test]
    fn values_go_there_and_back() {
        let mut inner = Map::new();
        inner.insert("f".into(), Dynamic::from(FnPtr::new("f").unwrap()));
        inner.insert("list".into(), vec![Dynamic::from(1_i64), Dynamic::from(0.5)].into());
        let value = to_value(&Dynamic::from_map(inner));
        let back = to_map(value.as_map().unwrap());
        assert!(back["f"].is::<FnPtr>() && back["list"].is_array());
        assert_eq!(value.as_map().unwrap()[0].1.describe(), "a function");
        assert_eq!(to_value(&Dynamic::from(2_i64..4)).literal(), "[2, 3]");
        assert_eq!(to_value(&vec![Dynamic::from('x'), Dynamic::from(u64::MAX)].into()).to_json().unwrap()[1], u64::MAX);
    }

    #[test]
    fn types_have_script_names() {
        assert_eq!(describe(&"x".into()), "string \"x\"");
        assert_eq!(describe(&Dynamic::from(3_i64)), "int 3");
        assert_eq!(describe(&Dynamic::UNIT), "nothing `()`");
        assert_eq!(describe(&Dynamic::from(0_i64..3)), "range");
        assert_eq!(describe(&Dynamic::from('x')), "char x");
        assert_eq!(type_name("lorhai::script::handles::Handle<lorhai::model::Model>"), "Model");
        assert_eq!(type_name("&str | ImmutableString | String"), "string");
    }
}
