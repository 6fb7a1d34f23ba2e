//! Values of scripts as values of options, and the option types that only scripts have.

use crate::options::{Mismatch, OptionSet, OptionType, Other, Table, Value};
use crate::script::values::from_script::{describe, whole_numbers};
use rhai::{Dynamic, FnPtr, Map};
use std::marker::PhantomData;
use std::rc::Rc;

/// What only the engine knows, such as functions and models, stays the script's value inside [`Value::Other`].
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
        return Value::Text(text.to_string());
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
    Value::Other(Other { described: describe(&value), value: Rc::new(value.clone()) })
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
        Value::Map(entries) => Dynamic::from_map(map(entries)),
        Value::Other(other) => other.value.downcast_ref::<Dynamic>().cloned().unwrap_or(Dynamic::UNIT),
    }
}

fn map(entries: &[(String, Value)]) -> Map {
    entries.iter().map(|(key, value)| (key.as_str().into(), to_dynamic(value))).collect()
}

/// Anything at all, as the script gave it.
impl OptionType for Dynamic {
    fn type_name() -> String {
        "any".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        Ok(to_dynamic(value))
    }
    fn to_value(&self) -> Value {
        to_value(self)
    }
}

impl OptionType for FnPtr {
    fn type_name() -> String {
        "function".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        to_dynamic(value).try_cast().ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        to_value(&Dynamic::from(self.clone()))
    }
}

impl OptionType for Map {
    fn type_name() -> String {
        "map".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        value.as_map().map(map).ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        to_value(&Dynamic::from_map(self.clone()))
    }
}

/// A map that holds the options of `T`, not read yet.
#[derive(Debug, Clone)]
pub struct OptionsOf<T> {
    pub values: Map,
    set: PhantomData<T>,
}

impl<T> Default for OptionsOf<T> {
    fn default() -> Self {
        OptionsOf { values: Map::new(), set: PhantomData }
    }
}

impl<T: OptionSet> OptionType for OptionsOf<T> {
    fn type_name() -> String {
        "map".to_owned()
    }
    fn inner() -> Option<&'static Table> {
        Some(T::table())
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        Map::from_value(value).map(|values| OptionsOf { values, set: PhantomData })
    }
    fn to_value(&self) -> Value {
        self.values.to_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_there_and_back() {
        let mut inner = Map::new();
        inner.insert("f".into(), Dynamic::from(FnPtr::new("f").unwrap()));
        inner.insert("list".into(), vec![Dynamic::from(1_i64), Dynamic::from(0.5)].into());
        let value = to_value(&Dynamic::from_map(inner));
        let back = Map::from_value(&value).unwrap();
        assert!(back["f"].is::<FnPtr>() && back["list"].is_array());
        assert_eq!(value.as_map().unwrap()[0].1.describe(), "a function");
        assert_eq!(to_value(&Dynamic::from(2_i64..4)).literal(), "[2, 3]");
    }
}
