//! The methods of lists, tuples, dicts, numbers and bytes. Leaves to others: those of `str` (`text.rs`).

use super::arguments::{Bound, Call};
use super::error::{fault, Result};
use super::number;
use super::ops;
use super::text;
use super::value::{Dict, Object, Value, View};
use std::rc::Rc;

/// Calls `of.name(…)`.
pub(super) fn call(of: &Value, name: &'static str, arguments: Call) -> Result<Value> {
    match of {
        Value::Str(value) => text::call(value, name, arguments),
        Value::List(_) | Value::Tuple(_) | Value::Range(_) => sequence(of, name, arguments),
        Value::Dict(dict) => mapping(dict, name, arguments),
        Value::Int(_) | Value::Bool(_) => integer(of.as_int().unwrap_or(0), name, arguments),
        Value::Float(value) => float(*value, name, arguments),
        Value::Bytes(bytes) => match name {
            "decode" => {
                let bound = arguments.bind(name, ["encoding", "errors"], 0)?;
                let encoding = bound.optional_str(0)?.unwrap_or("utf-8").to_ascii_lowercase();
                if !matches!(encoding.as_str(), "utf-8" | "utf8" | "utf_8") && !bytes.is_ascii() {
                    return fault(format!("the encoding {encoding} is not supported: use utf-8"));
                }
                std::str::from_utf8(bytes)
                    .map_or_else(|_| fault("the bytes are not UTF-8"), |text| Ok(Value::str(text)))
            }
            _ => Ok(Value::str(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())),
        },
        Value::Object(object) => match &**object {
            Object::Cycler { items, at } => {
                let _: Bound<0> = arguments.positional(name, 0)?;
                let current = items[at.get()].clone();
                at.set(if name == "next" { (at.get() + 1) % items.len() } else { 0 });
                Ok(if name == "next" { current } else { Value::None })
            }
            _ => from_keys(arguments),
        },
        Value::Undefined(_) | Value::None | Value::View(..) => fault(format!("{name} is not supported")),
    }
}

fn sequence(of: &Value, name: &str, arguments: Call) -> Result<Value> {
    if name == "copy" {
        let _: Bound<0> = arguments.positional(name, 0)?;
        return Ok(Value::list(ops::items(of)?));
    }
    let bound: Bound<3> = arguments.positional(name, 1)?;
    let needle = bound.value(0).unwrap_or(&Value::None);
    let items = ops::items(of)?;
    let equals = |item: &Value| -> Result<bool> { Ok(ops::same(item, needle) || ops::equal(item, needle)?) };
    if name == "count" {
        if bound.value(1).is_some() {
            return fault("count() takes exactly one argument");
        }
        let mut count = 0;
        for item in &items {
            count += i128::from(equals(item)?);
        }
        return Ok(Value::Int(count));
    }
    let length = items.len() as i128;
    let clamp = |value: i128| if value < 0 { (value + length).max(0) } else { value.min(length) } as usize;
    let (start, stop) = (clamp(bound.int(1, 0)?), clamp(bound.int(2, length)?));
    for (index, item) in items.iter().enumerate().take(stop).skip(start) {
        if equals(item)? {
            return Ok(Value::Int(index as i128));
        }
    }
    fault(format!("{} is not in the {}", super::print::repr(needle)?, of.type_name()))
}

fn mapping(dict: &Rc<Dict>, name: &str, arguments: Call) -> Result<Value> {
    match name {
        "get" => {
            let mut bound: Bound<2> = arguments.positional(name, 1)?;
            let value = dict.get(bound.value(0).unwrap_or(&Value::None))?;
            return Ok(value.or_else(|| bound.take(1)).unwrap_or(Value::None));
        }
        "fromkeys" => return from_keys(arguments),
        _ => {}
    }
    let _: Bound<0> = arguments.positional(name, 0)?;
    match name {
        "items" => Ok(Value::View(View::Items, dict.clone())),
        "keys" => Ok(Value::View(View::Keys, dict.clone())),
        "values" => Ok(Value::View(View::Values, dict.clone())),
        _ => Ok(Value::Dict(Rc::new(Dict { entries: dict.entries.clone(), data: dict.data, turn: dict.turn }))),
    }
}

fn from_keys(arguments: Call) -> Result<Value> {
    let bound: Bound<2> = arguments.positional("fromkeys", 1)?;
    let value = bound.value(1).unwrap_or(&Value::None);
    let keys = ops::items(bound.value(0).unwrap_or(&Value::None))?;
    Value::dict(keys.into_iter().map(|key| (key, value.clone())))
}

fn integer(value: i128, name: &str, arguments: Call) -> Result<Value> {
    let _: Bound<0> = arguments.positional(name, 0)?;
    match name {
        "bit_length" => Ok(Value::Int((128 - value.unsigned_abs().leading_zeros()).into())),
        "bit_count" => Ok(Value::Int(value.unsigned_abs().count_ones().into())),
        "conjugate" => Ok(Value::Int(value)),
        "as_integer_ratio" => Ok(Value::tuple(vec![Value::Int(value), Value::Int(1)])),
        _ => fault(format!("int.{name} is not supported")),
    }
}

fn float(value: f64, name: &str, arguments: Call) -> Result<Value> {
    let _: Bound<0> = arguments.positional(name, 0)?;
    match name {
        "is_integer" => Ok(Value::Bool(value.is_finite() && value.fract() == 0.0)),
        "conjugate" => Ok(Value::Float(value)),
        "as_integer_ratio" => {
            let mut numerator = value;
            let mut denominator: i128 = 1;
            while numerator.fract() != 0.0 && denominator < 1 << 100 {
                numerator *= 2.0;
                denominator *= 2;
            }
            if numerator.fract() != 0.0 {
                return fault("an integer beyond 128 bits");
            }
            Ok(Value::tuple(vec![Value::Int(number::truncate(numerator)?), Value::Int(denominator)]))
        }
        _ => fault(format!("float.{name} is not supported")),
    }
}
