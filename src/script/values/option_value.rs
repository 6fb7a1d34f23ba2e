//! The types of options that only scripts have: functions, maps of anything, options of another set.

use crate::options::{Mismatch, OptionSet, OptionType, Table, Value};
use crate::script::values::from_script::{to_dynamic, to_map, to_value};
use rhai::{Dynamic, FnPtr, Map};
use std::marker::PhantomData;

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
        value.as_map().map(to_map).ok_or_else(|| Mismatch::of::<Self>(value))
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
