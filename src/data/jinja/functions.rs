//! The global functions of templates: `range`, `namespace`, `raise_exception`, ….

use super::arguments::{Bound, Call};
use super::error::{fault, Cause, Failure, Result};
use super::interpreter::ensure_public;
use super::ops;
use super::print;
use super::value::{Dict, Object, Range, Value};
use crate::data::python;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The limit of Jinja2's sandbox.
const MAX_RANGE: usize = 100_000;

pub(super) fn call(name: &str, arguments: Call) -> Result<Value> {
    match name {
        "range" => range(arguments),
        "dict" => Ok(Value::Dict(Rc::new(dict(arguments)?))),
        "namespace" => {
            let dict = dict(arguments)?;
            for (key, _) in dict.entries.values() {
                ensure_public(key.as_str().unwrap_or_default())?;
            }
            Ok(Value::object(Object::Namespace(RefCell::new(dict))))
        }
        "cycler" => {
            if arguments.positional.is_empty() || !arguments.named.is_empty() {
                return fault("cycler: at least one item has to be provided");
            }
            Ok(Value::object(Object::Cycler { items: arguments.positional, at: Cell::new(0) }))
        }
        "joiner" => {
            let mut bound = arguments.bind(name, ["sep"], 0)?;
            let separator = bound.take(0).unwrap_or_else(|| Value::str(", "));
            Ok(Value::object(Object::Joiner { separator, used: Cell::new(false) }))
        }
        "raise_exception" => {
            let bound = arguments.bind(name, ["message"], 1)?;
            Err(Failure::new(Cause::Raised, bound.printed(0)?))
        }
        "strftime_now" => {
            let bound = arguments.bind(name, ["format"], 1)?;
            python::strftime_now(bound.str(0)?).map_or_else(fault, |text| Ok(Value::str(text)))
        }
        _ => fault(format!("{name}() is not supported: its text is random")),
    }
}

fn range(arguments: Call) -> Result<Value> {
    let bound: Bound<3> = arguments.positional("range", 1)?;
    let first = bound.int(0, 0)?;
    let (start, stop) = if bound.value(1).is_some() { (first, bound.int(1, 0)?) } else { (0, first) };
    let step = bound.int(2, 1)?;
    if step == 0 {
        return fault("range() arg 3 must not be zero");
    }
    // Within 64 bits nothing overflows, and a longer range is refused anyway.
    let fits = [start, stop, step].iter().all(|value| i64::try_from(*value).is_ok());
    let range = Range { start, stop, step };
    if !fits || range.len() > MAX_RANGE {
        return fault("range() of more than 100,000 numbers, which the sandbox of chat templates blocks");
    }
    Ok(Value::Range(range))
}

/// `dict(mapping or pairs, **named)`.
fn dict(arguments: Call) -> Result<Dict> {
    let mut dict = Dict::default();
    if arguments.positional.len() > 1 {
        return fault("dict() takes at most one argument by position");
    }
    match arguments.positional.first() {
        None => {}
        Some(Value::Dict(other)) => dict.entries = other.entries.clone(),
        Some(pairs) => {
            ops::fail_if_undefined(pairs)?;
            for pair in ops::items(pairs)? {
                let [key, value] = <[Value; 2]>::try_from(ops::items(&pair)?).map_err(|items| {
                    Failure::new(Cause::Runtime, format!("dict() expects pairs, found {} items", items.len()))
                })?;
                dict.insert(key, value)?;
            }
        }
    }
    for (name, value) in arguments.named {
        dict.insert(Value::str(name), value)?;
    }
    Ok(dict)
}

/// `str(value)`, unless the value is a string.
pub(super) fn soft_text(value: Value) -> Result<super::value::Text> {
    match value {
        Value::Str(text) => Ok(text),
        other => Ok(super::value::Text { text: print::text(&other)?.as_ref().into(), markup: false }),
    }
}
