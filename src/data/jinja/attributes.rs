//! `value.name` and `value["name"]` as Jinja2's sandbox looks them up: an attribute, or
//! failing that an item, and the other way round; nothing that begins with `_` and nothing
//! that would change a list or dict.

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
/// What every Python object has, so that a dict's key of that name is not reached.
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

enum Found {
    Value(Value),
    /// Python has it, the sandbox does not let it be used.
    Unsafe,
    Missing,
}

fn method(value: &Value, name: &str, safe: &[&'static str], unsafe_: &[&str]) -> Found {
    if let Some(name) = safe.iter().find(|safe| **safe == name) {
        return Found::Value(Value::object(Object::Method { of: value.clone(), name }));
    }
    if unsafe_.contains(&name) {
        Found::Unsafe
    } else {
        Found::Missing
    }
}

/// `getattr(value, name)`.
fn python_attribute(value: &Value, name: &str) -> Found {
    if name.starts_with("__") && DUNDER.contains(&name) {
        return Found::Unsafe;
    }
    let int = |value: i128| Found::Value(Value::Int(value));
    match value {
        Value::Str(text) => match method(value, name, &STR, &[]) {
            Found::Missing if text.markup => method(value, name, &MARKUP, &[]),
            found => found,
        },
        Value::List(_) => method(value, name, &LIST, &LIST_UNSAFE),
        Value::Tuple(items) => match (name, items.grouped) {
            ("grouper", true) => Found::Value(items[0].clone()),
            ("list", true) => Found::Value(items[1].clone()),
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
            "real" => Found::Value(Value::Float(*float)),
            "imag" => Found::Value(Value::Float(0.0)),
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
                Some(value) => Found::Value(value),
                None => Found::Missing,
            },
            Object::Cycler { items, at } => match name {
                "current" => Found::Value(items[at.get()].clone()),
                "pos" => int(at.get() as i128),
                "items" => Found::Value(Value::tuple(items.clone())),
                _ => method(value, name, &["next", "reset"], &[]),
            },
            Object::Joiner { separator, used } => match name {
                "sep" => Found::Value(separator.clone()),
                "used" => Found::Value(Value::Bool(used.get())),
                _ => Found::Missing,
            },
            Object::Macro { definition, .. } => {
                let parameters = definition.parameters.iter().map(|(name, _)| Value::str(name));
                match name {
                    "name" => Found::Value(Value::str(&definition.name)),
                    "arguments" => Found::Value(Value::tuple(parameters.collect())),
                    "catch_kwargs" => Found::Value(Value::Bool(definition.takes_named_rest)),
                    "catch_varargs" => Found::Value(Value::Bool(definition.takes_rest)),
                    "caller" => Found::Value(Value::Bool(definition.takes_caller)),
                    _ => Found::Missing,
                }
            }
            Object::Function("dict") => method(value, name, &["fromkeys"], &[]),
            _ => Found::Missing,
        },
        Value::Undefined(_) | Value::None | Value::View(..) => Found::Missing,
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
        Found::Value(value) if !name.starts_with('_') => Ok(value),
        Found::Value(_) | Found::Unsafe => Ok(Value::hint(UNSAFE)),
        Found::Missing => match value {
            Value::Dict(dict) => Ok(dict.get_str(name).unwrap_or_else(|| missing(value, name))),
            other => Ok(missing(other, name)),
        },
    }
}

/// The filter `attr`, which looks for no item.
pub(super) fn only_attribute(value: &Value, name: &str) -> Result<Value> {
    ops::fail_if_undefined(value)?;
    match python_attribute(value, name) {
        Found::Value(value) if !name.starts_with('_') => Ok(value),
        Found::Value(_) | Found::Unsafe => Ok(Value::hint(UNSAFE)),
        Found::Missing => Ok(Value::undefined(name, Owner::Type(value.type_name()))),
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
        Found::Value(found) if !name.starts_with('_') => Ok(found),
        Found::Value(_) | Found::Unsafe => Ok(Value::hint(UNSAFE)),
        Found::Missing => Ok(missing(value, name)),
    }
}

/// Whether a method of this name exists for some type, so that the value is to blame.
pub(super) fn is_method(name: &str) -> bool {
    STR.contains(&name) || LIST.contains(&name) || DICT.contains(&name)
}
