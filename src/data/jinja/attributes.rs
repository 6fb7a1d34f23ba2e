//! `value.name` and `value["name"]`, as Jinja2's sandbox looks them up: the first prefers an attribute to an item, the second
//! an item to an attribute. Names that start with `_` and methods that change a list or dict are not available.

use super::error::Result;
use super::ops;
use super::subscript;
use super::value::{Object, Owner, Value};

pub(super) const STR: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
const MARKUP: [&str; 3] = ["escape", "striptags", "unescape"];
const LIST: [&str; 3] = ["copy", "count", "index"];
const LIST_UNSAFE: [&str; 8] = ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];
const DICT: [&str; 6] = ["copy", "fromkeys", "get", "items", "keys", "values"];
const DICT_UNSAFE: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];
const TUPLE: [&str; 2] = ["count", "index"];
const INT: [&str; 5] = ["as_integer_ratio", "bit_count", "bit_length", "conjugate", "to_bytes"];
const FLOAT: [&str; 4] = ["as_integer_ratio", "conjugate", "hex", "is_integer"];
const BYTES: [&str; 2] = ["decode", "hex"];
/// Attributes of every Python object, which hide keys of a dict with the same name.
const DUNDER: [&str; 12] = [
    "__class__",
    "__contains__",
    "__doc__",
    "__eq__",
    "__getitem__",
    "__init__",
    "__iter__",
    "__len__",
    "__module__",
    "__ne__",
    "__repr__",
    "__str__",
];

/// The result of `getattr`.
enum Lookup {
    Value(Value),
    /// Python has the attribute, but the sandbox does not allow it.
    Unsafe,
    Missing,
}

fn method(value: &Value, name: &str, safe: &[&'static str], unsafe_: &[&str]) -> Lookup {
    if let Some(name) = safe.iter().find(|safe| **safe == name) {
        return Lookup::Value(Value::object(Object::Method { of: value.clone(), name }));
    }
    if unsafe_.contains(&name) {
        Lookup::Unsafe
    } else {
        Lookup::Missing
    }
}

/// `getattr(value, name)`.
fn python_attribute(value: &Value, name: &str) -> Lookup {
    if name.starts_with("__") && DUNDER.contains(&name) {
        return Lookup::Unsafe;
    }
    let int = |value: i128| Lookup::Value(Value::Int(value));
    match value {
        Value::Str(text) => match method(value, name, &STR, &[]) {
            Lookup::Missing if text.markup => method(value, name, &MARKUP, &[]),
            lookup => lookup,
        },
        Value::List(_) => method(value, name, &LIST, &LIST_UNSAFE),
        Value::Tuple(items) => match (name, items.grouped) {
            ("grouper", true) => Lookup::Value(items[0].clone()),
            ("list", true) => Lookup::Value(items[1].clone()),
            _ => method(value, name, &TUPLE, &[]),
        },
        Value::Dict(_) => method(value, name, &DICT, &DICT_UNSAFE),
        Value::Int(_) | Value::Bool(_) => match (name, value.as_int().unwrap_or(0)) {
            ("real" | "numerator", value) => int(value),
            ("imag", _) => int(0),
            ("denominator", _) => int(1),
            _ => method(value, name, &INT, &[]),
        },
        Value::Float(float) => match name {
            "real" => Lookup::Value(Value::Float(*float)),
            "imag" => Lookup::Value(Value::Float(0.0)),
            _ => method(value, name, &FLOAT, &[]),
        },
        Value::Bytes(_) => method(value, name, &BYTES, &[]),
        Value::Range(range) => match name {
            "start" => int(range.start),
            "stop" => int(range.stop),
            "step" => int(range.step),
            _ => method(value, name, &TUPLE, &[]),
        },
        Value::Object(object) => match &**object {
            Object::Namespace(dict) => match dict.borrow().get_str(name) {
                Some(value) => Lookup::Value(value),
                None => Lookup::Missing,
            },
            Object::Cycler { items, at } => match name {
                "current" => Lookup::Value(items[at.get()].clone()),
                "pos" => int(at.get() as i128),
                "items" => Lookup::Value(Value::tuple(items.clone())),
                _ => method(value, name, &["next", "reset"], &[]),
            },
            Object::Joiner { separator, used } => match name {
                "sep" => Lookup::Value(separator.clone()),
                "used" => Lookup::Value(Value::Bool(used.get())),
                _ => Lookup::Missing,
            },
            Object::Macro { definition, .. } => {
                let parameters = definition.parameters.iter().map(|(name, _)| Value::str(name));
                match name {
                    "name" => Lookup::Value(Value::str(&definition.name)),
                    "arguments" => Lookup::Value(Value::tuple(parameters.collect())),
                    "catch_kwargs" => Lookup::Value(Value::Bool(definition.takes_named_rest)),
                    "catch_varargs" => Lookup::Value(Value::Bool(definition.takes_rest)),
                    "caller" => Lookup::Value(Value::Bool(definition.takes_caller)),
                    _ => Lookup::Missing,
                }
            }
            Object::Function("dict") => method(value, name, &["fromkeys"], &[]),
            _ => Lookup::Missing,
        },
        Value::Undefined(_) | Value::None | Value::View(..) => Lookup::Missing,
    }
}

fn missing(value: &Value, name: &str) -> Value {
    let owner = match value {
        Value::Dict(dict) => Owner::Dict { data: dict.data, turn: dict.turn },
        other => Owner::Type(other.type_name()),
    };
    Value::undefined(name, owner)
}

const UNSAFE: &str = "the sandbox of chat templates does not allow this attribute: it changes a value, or is internal";

/// `value.name`.
pub(super) fn attribute(value: &Value, name: &str) -> Result<Value> {
    if DUNDER.contains(&name) {
        return Ok(Value::hint(UNSAFE));
    }
    ops::fail_if_undefined(value)?;
    match python_attribute(value, name) {
        Lookup::Value(value) if !name.starts_with('_') => Ok(value),
        Lookup::Value(_) | Lookup::Unsafe => Ok(Value::hint(UNSAFE)),
        Lookup::Missing => match value {
            Value::Dict(dict) => Ok(dict.get_str(name).unwrap_or_else(|| missing(value, name))),
            other => Ok(missing(other, name)),
        },
    }
}

/// The filter `attr`, which does not look up items.
pub(super) fn only_attribute(value: &Value, name: &str) -> Result<Value> {
    ops::fail_if_undefined(value)?;
    match python_attribute(value, name) {
        Lookup::Value(value) if !name.starts_with('_') => Ok(value),
        Lookup::Value(_) | Lookup::Unsafe => Ok(Value::hint(UNSAFE)),
        Lookup::Missing => Ok(Value::undefined(name, Owner::Type(value.type_name()))),
    }
}

/// `value[key]`.
pub(super) fn item(value: &Value, key: &Value) -> Result<Value> {
    if let Some(item) = subscript::item(value, key)? {
        return Ok(item);
    }
    let Value::Str(name) = key else {
        return Ok(missing(value, &super::print::repr(key)?));
    };
    match python_attribute(value, name) {
        Lookup::Value(value) if !name.starts_with('_') => Ok(value),
        Lookup::Value(_) | Lookup::Unsafe => Ok(Value::hint(UNSAFE)),
        Lookup::Missing => Ok(missing(value, name)),
    }
}

/// Whether some type has a method with this name.
pub(super) fn is_method(name: &str) -> bool {
    STR.contains(&name) || LIST.contains(&name) || DICT.contains(&name)
}
