//! The arguments of a call, and how they are bound to the parameters of built-in functions.

use super::ast::Name;
use super::error::{fault, Result};
use super::ops;
use super::print;
use super::value::Value;

#[derive(Default, Clone)]
pub(super) struct Call {
    pub positional: Vec<Value>,
    pub named: Vec<(Name, Value)>,
}

/// The arguments of a call, one for each parameter.
pub(super) struct Bound<const N: usize> {
    values: [Option<Value>; N],
    names: [&'static str; N],
    function: String,
}

impl Call {
    pub fn new(positional: Vec<Value>) -> Self {
        Call { positional, named: Vec::new() }
    }

    /// Binds the arguments to parameters; the first `required` ones must have a value.
    pub fn bind<const N: usize>(self, function: &str, names: [&'static str; N], required: usize) -> Result<Bound<N>> {
        let mut values = [const { None }; N];
        if self.positional.len() > N {
            return fault(format!("{function}() takes at most {N} arguments, found {}", self.positional.len()));
        }
        for (slot, value) in values.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let Some(slot) = names.iter().position(|parameter| *parameter == &*name) else {
                return fault(format!("{function}() has no argument `{name}`"));
            };
            if values[slot].replace(value).is_some() {
                return fault(format!("{function}() has two values for the argument `{name}`"));
            }
        }
        if let Some(missing) = values.iter().take(required).position(Option::is_none) {
            let name = names[missing].trim_start_matches('/');
            return fault(format!("{function}() is missing the argument `{name}`"));
        }
        Ok(Bound { values, names, function: function.to_owned() })
    }

    /// As [`Self::bind`] for parameters that Python takes by position only.
    pub fn positional<const N: usize>(self, function: &str, required: usize) -> Result<Bound<N>> {
        if let Some((name, _)) = self.named.first() {
            return fault(format!("{function}() takes no argument by name, found `{name}`"));
        }
        self.bind(function, ["argument"; N], required)
    }
}

impl<const N: usize> Bound<N> {
    pub fn take(&mut self, index: usize) -> Option<Value> {
        self.values[index].take()
    }

    /// A value; `None` if it is absent or Python's `None`.
    pub fn some(&self, index: usize) -> Option<&Value> {
        self.values[index].as_ref().filter(|value| !value.is_none())
    }

    pub fn value(&self, index: usize) -> Option<&Value> {
        self.values[index].as_ref()
    }

    fn wrong<T>(&self, index: usize, expected: &str, value: &Value) -> Result<T> {
        ops::fail_if_undefined(value)?;
        let (function, name) = (&self.function, self.names[index]);
        fault(format!("{function}(): `{name}` must be {expected}, found {}", value.type_name()))
    }

    pub fn int(&self, index: usize, default: i128) -> Result<i128> {
        match &self.values[index] {
            None => Ok(default),
            Some(value) => match value.as_int() {
                Some(value) => Ok(value),
                None => self.wrong(index, "an integer", value),
            },
        }
    }

    pub fn truth(&self, index: usize, default: bool) -> bool {
        self.values[index].as_ref().map_or(default, ops::truth)
    }

    /// A string.
    pub fn str(&self, index: usize) -> Result<&str> {
        match &self.values[index] {
            Some(Value::Str(text)) => Ok(text),
            Some(other) => self.wrong(index, "a string", other),
            None => fault(format!("{}() is missing the argument `{}`", self.function, self.names[index])),
        }
    }

    /// A string; `None` if it is absent or Python's `None`.
    pub fn optional_str(&self, index: usize) -> Result<Option<&str>> {
        if self.some(index).is_some() {
            self.str(index).map(Some)
        } else {
            Ok(None)
        }
    }

    /// `str(value)`.
    pub fn printed(&self, index: usize) -> Result<String> {
        self.values[index].as_ref().map_or_else(|| Ok(String::new()), |value| Ok(print::text(value)?.into_owned()))
    }
}
