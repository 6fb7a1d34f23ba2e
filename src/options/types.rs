//! The types that options have.

use super::table::Table;
use super::value::Value;
use crate::error::Error;
use crate::suggest;
use std::path::PathBuf;

/// A Rust type that an option can be given as.
pub trait OptionType: Sized {
    /// As documents name the type: `int`, `array of string`.
    fn type_name() -> String;

    /// What to write after "expected".
    fn expected() -> String {
        match Self::choices() {
            [] => Self::type_name(),
            names => format!("one of {}", quoted(names)),
        }
    }

    /// The only values that there are, where these are names.
    fn choices() -> &'static [&'static str] {
        &[]
    }

    /// The options that the value holds, where it is a map of options.
    fn inner() -> Option<&'static Table> {
        None
    }

    /// # Errors
    /// A value of another type, or none of the choices.
    fn from_value(value: &Value) -> Result<Self, Mismatch>;

    /// The choice of this name.
    ///
    /// # Errors
    /// As [`from_value`](OptionType::from_value).
    fn named(name: &str) -> Result<Self, Mismatch> {
        Self::from_value(&Value::Text(name.to_owned()))
    }

    /// The value as a script would write it, for defaults in documents and for ranges.
    fn to_value(&self) -> Value;
}

/// Why a value is not of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    pub expected: String,
    pub hint: Option<String>,
    /// The key of the value inside a map that is meant, and what was found there.
    pub inside: Option<(String, String)>,
}

impl Mismatch {
    /// The mismatch of a value that is none of `T`.
    pub fn of<T: OptionType>(value: &Value) -> Self {
        let expected = T::expected();
        let near = value.as_str().filter(|_| !T::choices().is_empty());
        let hint = near.map(|name| suggest::hint(name, T::choices().iter().copied()));
        Mismatch { hint: hint.or_else(|| rewritten(&expected, value)), expected, inside: None }
    }

    pub fn expected(expected: &str, value: &Value) -> Self {
        Mismatch { expected: expected.to_owned(), hint: rewritten(expected, value), inside: None }
    }

    /// Says that the mismatch is at this key of a map.
    #[must_use]
    pub fn at(self, key: &str, value: &Value) -> Self {
        Mismatch { inside: Some((key.to_owned(), value.describe())), ..self }
    }

    /// The error for a name that is no option: `what` says where it is.
    pub fn error(self, what: &str, name: &str) -> Error {
        let error = Error::input(format!("{what}: expected {}, found \"{name}\"", self.expected));
        match self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Mismatch { hint: Some(hint.into()), ..self }
    }
}

/// Implements [`OptionType`] for a type: its name, how it is read, and how it is written.
macro_rules! option_type {
    ($type:ty, $name:literal, $read:expr, $write:expr) => {
        option_type!($type, $name, $name, $read, $write);
    };
    ($type:ty, $name:literal, $expected:literal, $read:expr, $write:expr) => {
        impl OptionType for $type {
            fn type_name() -> String {
                $name.to_owned()
            }
            fn expected() -> String {
                $expected.to_owned()
            }
            fn from_value(value: &Value) -> Result<Self, Mismatch> {
                let read: fn(&Value) -> Option<Self> = $read;
                read(value).ok_or_else(|| Mismatch::of::<Self>(value))
            }
            fn to_value(&self) -> Value {
                let write: fn(&Self) -> Value = $write;
                write(self)
            }
        }
    };
}

fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(int) => Some(*int),
        _ => None,
    }
}

option_type!(i64, "int", int, |value| Value::Int(*value));
option_type!(usize, "int", "int of at least 0", |value| usize::try_from(int(value)?).ok(), |value| Value::Int(
    *value as i64
));
option_type!(u64, "int", "int of at least 0", |value| u64::try_from(int(value)?).ok(), |value| Value::Int(
    *value as i64
));
option_type!(
    bool,
    "bool",
    |value| match value {
        Value::Bool(value) => Some(*value),
        _ => None,
    },
    |value| Value::Bool(*value)
);
option_type!(f64, "float", Value::as_f64, |value| Value::Float(*value));
option_type!(String, "string", |value| value.as_str().map(str::to_owned), |value| Value::Text(value.clone()));
option_type!(PathBuf, "string (a path)", |value| value.as_str().map(PathBuf::from), |value| Value::Text(
    value.display().to_string()
));
option_type!(Number, "number", Number::read, |value| match value {
    Number::Int(int) => Value::Int(*int),
    Number::Float(float) => Value::Float(*float),
});

/// A number that remembers which it was: `lora_alpha` is written as an int where it is one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Int(int) => Some(Number::Int(*int)),
            Value::Float(float) => Some(Number::Float(*float)),
            _ => None,
        }
    }
}

/// A map of anything that JSON can hold.
impl OptionType for serde_json::Map<String, serde_json::Value> {
    fn type_name() -> String {
        "map".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match (value.as_map(), value.to_json()) {
            (Some(_), Some(serde_json::Value::Object(entries))) => Ok(entries),
            (Some(_), _) => Err(Mismatch::expected("map of texts, numbers, bools, arrays and maps", value)),
            (None, _) => Err(Mismatch::of::<Self>(value)),
        }
    }
    fn to_value(&self) -> Value {
        Value::Map(self.iter().map(|(key, value)| (key.clone(), Value::from(value))).collect())
    }
}

impl OptionType for Value {
    fn type_name() -> String {
        "anything".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        Ok(value.clone())
    }
    fn to_value(&self) -> Value {
        self.clone()
    }
}

impl<T: OptionType> OptionType for Vec<T> {
    fn type_name() -> String {
        format!("array of {}", T::type_name())
    }
    fn expected() -> String {
        format!("array of {}", T::expected())
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let items = value.as_array().ok_or_else(|| Mismatch::of::<Self>(value))?;
        let mismatch = |item: Mismatch| {
            let array = Mismatch::of::<Self>(value);
            // Of names, which one was meant.
            Mismatch { hint: array.hint.or(item.hint.filter(|_| !T::choices().is_empty())), ..array }
        };
        items.iter().map(|item| T::from_value(item).map_err(mismatch)).collect()
    }
    fn to_value(&self) -> Value {
        Value::Array(self.iter().map(T::to_value).collect())
    }
}

/// Several values, of which a lone one may be given without an array.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> FromIterator<T> for OneOrMany<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        OneOrMany(items.into_iter().collect())
    }
}

impl<T> std::ops::Deref for OneOrMany<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: OptionType> OptionType for OneOrMany<T> {
    fn type_name() -> String {
        format!("{0} or array of {0}", T::type_name())
    }
    fn expected() -> String {
        format!("{} or an array of them", T::expected())
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let one = T::from_value(value).map(|one| vec![one]);
        one.or_else(|_| Vec::from_value(value)).map(OneOrMany).map_err(|_| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        self.0.to_value()
    }
}

/// `None` where the option is absent.
impl<T: OptionType> OptionType for Option<T> {
    fn type_name() -> String {
        T::type_name()
    }
    fn expected() -> String {
        T::expected()
    }
    fn choices() -> &'static [&'static str] {
        T::choices()
    }
    fn inner() -> Option<&'static Table> {
        T::inner()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        T::from_value(value).map(Some)
    }
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Unit, T::to_value)
    }
}

/// Implements [`OptionType`] for a `Copy` enum by the names of its values:
/// `choices!(Bias, [("none", Bias::None), ("all", Bias::All)])`. Several names may stand for one value;
/// the first is the one that is written.
#[macro_export]
macro_rules! choices {
    ($type:ty, [$(($name:literal, $value:expr)),+ $(,)?]) => {
        impl $crate::options::OptionType for $type {
            fn type_name() -> String {
                "string".to_owned()
            }
            fn choices() -> &'static [&'static str] {
                &[$($name),+]
            }
            fn from_value(value: &$crate::options::Value) -> Result<Self, $crate::options::Mismatch> {
                let known = [$(($name, $value)),+];
                let named = known.into_iter().find(|(name, _)| value.as_str() == Some(*name));
                named.map(|(_, choice)| choice).ok_or_else(|| $crate::options::Mismatch::of::<Self>(value))
            }
            fn to_value(&self) -> $crate::options::Value {
                let known = [$(($name, $value)),+];
                let named = known.into_iter().find(|(_, choice)| choice == self);
                named.map_or($crate::options::Value::Unit, |(name, _)| $crate::options::Value::Text(name.to_owned()))
            }
        }
    };
}

pub(super) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// A hint for a value of the wrong type that only needs to be written differently.
fn rewritten(expected: &str, value: &Value) -> Option<String> {
    let text = value.as_str().map(|text| text.trim().to_owned());
    let number = text.as_ref().and_then(|text| text.parse::<f64>().ok());
    let float = match value {
        Value::Float(float) => Some(*float),
        _ => None,
    };
    let integer = number.or(float).filter(|number| number.fract() == 0.0 && number.abs() < 1e15);
    let is_int = expected.starts_with("int");
    match (text, number, integer) {
        (Some(_), Some(_), Some(integer)) if is_int => Some(format!("write it without quotes: {integer}")),
        (Some(text), Some(_), _) if ["float", "number"].contains(&expected) => {
            Some(format!("write it without quotes: {text}"))
        }
        (None, _, Some(integer)) if is_int => Some(format!("write it without a fraction: {integer}")),
        _ if expected == "bool" => Some("write true or false, without quotes".to_owned()),
        (Some(text), ..) if expected == "array of string" => Some(format!("write an array: [\"{text}\"]")),
        (None, ..) if expected.starts_with("array of") && value.as_f64().is_some() => {
            Some(format!("write an array: [{}]", value.literal()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read<T: OptionType>(json: serde_json::Value) -> Result<T, Mismatch> {
        T::from_value(&Value::from(&json))
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fruit {
        Apple,
        Pear,
    }
    choices!(Fruit, [("apple", Fruit::Apple), ("pear", Fruit::Pear), ("pyrus", Fruit::Pear)]);

    #[test]
    fn ints_pass_for_floats_but_not_the_reverse() {
        assert_eq!(read::<f64>(json!(2)), Ok(2.0));
        assert!(read::<i64>(json!(2.0)).is_err() && read::<usize>(json!(-1)).is_err());
        assert_eq!(read::<Vec<f64>>(json!([1, 0.5])), Ok(vec![1.0, 0.5]));
        assert_eq!(read::<Vec<i64>>(json!([1, "x"])).unwrap_err().expected, "array of int");
    }

    #[test]
    fn choices_name_the_alternatives_and_the_nearest() {
        assert_eq!(read::<Fruit>(json!("pyrus")), Ok(Fruit::Pear));
        assert_eq!(Fruit::Pear.to_value().literal(), "\"pear\"");
        let mismatch = read::<Fruit>(json!("aple")).unwrap_err();
        assert_eq!(mismatch.expected, "one of \"apple\", \"pear\", \"pyrus\"");
        assert!(mismatch.hint.unwrap().starts_with("did you mean `apple`?"));
    }

    #[test]
    fn a_value_of_another_type_is_rewritten() {
        for (expected, value, written) in [
            ("int", json!("8"), Some("write it without quotes: 8")),
            ("int of at least 0", json!(1e3), Some("write it without a fraction: 1000")),
            ("float", json!("2e-4"), Some("write it without quotes: 2e-4")),
            ("bool", json!("yes"), Some("write true or false, without quotes")),
            ("array of string", json!("lm_head"), Some("write an array: [\"lm_head\"]")),
            ("int", json!(8.5), None),
            ("int", json!("many"), None),
            ("map", json!(3), None),
        ] {
            assert_eq!(rewritten(expected, &Value::from(&value)).as_deref(), written, "{expected} {value}");
        }
    }
}
