//! Typed reading of `config.json`. Every error names the field.
//!
//! An absent key takes its default. A null takes it only if transformers allows null ([`Fields::get`]), and
//! is an error otherwise, as in transformers.

use crate::bail;
use crate::error::{Error, Kind, Result};
use serde_json::Value;

pub struct Fields<'a>(pub &'a Value);

impl<'a> Fields<'a> {
    /// The field; `None` if it is absent or null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    pub fn wrong(name: &str, expected: &str, found: &Value) -> Error {
        Error::model(format!("`{name}`: expected {expected}, found {found}"))
    }

    pub fn text(&self, name: &str) -> Result<String> {
        match self.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(Self::wrong(name, "a string", other)),
            None => Err(Error::model(format!("`{name}` is missing"))
                .with_hint("is this the config.json of a transformers model?")),
        }
    }

    /// A size that may be null: `None` if it is null or absent.
    pub fn optional_size(&self, name: &str) -> Result<Option<i64>> {
        self.get(name).map(|value| size(name, value)).transpose()
    }

    pub fn size_or(&self, name: &str, default: i64) -> Result<i64> {
        self.0.get(name).map_or(Ok(default), |value| size(name, value))
    }

    /// The number of layers. Limited, because memory is allocated for each before any weight is read.
    pub fn layers(&self, default: i64) -> Result<usize> {
        const MAX_LAYERS: i64 = 10_000;
        match self.size_or("num_hidden_layers", default)? {
            count if count <= MAX_LAYERS => Ok(count as usize),
            count => bail!(Kind::Model, "`num_hidden_layers`: expected at most {MAX_LAYERS}, found {count}"),
        }
    }

    pub fn number_or(&self, name: &str, default: f64) -> Result<f64> {
        match self.0.get(name) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() && number > 0.0 => Ok(number),
                _ => Err(Self::wrong(name, "a positive number", value)),
            },
        }
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.0.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(Self::wrong(name, "true or false", other)),
        }
    }
}

/// Sizes are below 2^31, so that a product of two cannot overflow an i64.
fn size(name: &str, value: &Value) -> Result<i64> {
    match value.as_i64() {
        Some(size) if (0..1 << 31).contains(&size) && (size > 0 || name == "max_window_layers") => Ok(size),
        _ => Err(Fields::wrong(name, "a positive integer", value)),
    }
}
