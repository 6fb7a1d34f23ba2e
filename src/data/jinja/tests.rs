//! Jinja2's tests: `value is name`.

use super::arguments::{Bound, Call};
use super::arithmetic;
use super::ast::{Binary, Comparison};
use super::error::{fault, Result};
use super::filters;
use super::ops;
use super::print;
use super::unicode::all_cased;
use super::value::{Object, Value};

const NAMES: [&str; 38] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
];

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name) || name == "upper"
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "==" | "eq" | "equalto" => Comparison::Eq,
        "!=" | "ne" => Comparison::Ne,
        "<" | "lt" | "lessthan" => Comparison::Lt,
        "<=" | "le" => Comparison::Le,
        ">" | "gt" | "greaterthan" => Comparison::Gt,
        ">=" | "ge" => Comparison::Ge,
        "in" => Comparison::In,
        _ => return None,
    })
}

fn remainder(value: &Value, by: &Value) -> Result<Value> {
    arithmetic::binary(Binary::Mod, value, by)
}

/// `value is name(…)`.
pub(super) fn call(name: &str, value: &Value, arguments: Call) -> Result<bool> {
    if let Some(comparison) = comparison(name) {
        let bound: Bound<1> = arguments.bind(name, ["seq"], 1)?;
        return ops::compare(comparison, value, bound.value(0).unwrap_or(&Value::None));
    }
    match name {
        "divisibleby" => {
            let bound = arguments.bind(name, ["num"], 1)?;
            return ops::equal(&remainder(value, bound.value(0).unwrap_or(&Value::None))?, &Value::Int(0));
        }
        "sameas" => {
            let bound = arguments.bind(name, ["other"], 1)?;
            return Ok(ops::same(value, bound.value(0).unwrap_or(&Value::None)));
        }
        _ => {}
    }
    let _: Bound<0> = arguments.positional(name, 0)?;
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => value.is_none(),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "string" => matches!(value, Value::Str(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "iterable" => match value {
            Value::Object(object) => matches!(&**object, Object::Generator(_) | Object::Loop(_)),
            other => ops::length(other).is_ok(),
        },
        // As in Python: it has a length, and items by index or key.
        "sequence" => !matches!(value, Value::View(..)) && ops::length(value).is_ok(),
        "callable" => match value {
            Value::Undefined(_) => true,
            Value::Object(object) => !matches!(
                &**object,
                Object::Generator(_) | Object::Namespace(_) | Object::Cycler { .. } | Object::Blocks
            ),
            _ => false,
        },
        "escaped" => matches!(value, Value::Str(text) if text.markup),
        "lower" => all_cased(&print::text(value)?, false),
        "upper" => all_cased(&print::text(value)?, true),
        "odd" => ops::equal(&remainder(value, &Value::Int(2))?, &Value::Int(1))?,
        "even" => ops::equal(&remainder(value, &Value::Int(2))?, &Value::Int(0))?,
        "filter" => {
            value.key()?;
            value.as_str().is_some_and(filters::exists)
        }
        "test" => {
            value.key()?;
            value.as_str().is_some_and(exists)
        }
        _ => return fault(format!("no test named `{name}`")),
    })
}
