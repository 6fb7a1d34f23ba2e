//! Jinja2's filters: all names, and the filters of single values. Leaves to others: those of text (`filters_text.rs`) and of
//! sequences (`filters_sequence.rs`).

use super::arguments::Call;
use super::arithmetic;
use super::attributes;
use super::error::{fault, Result};
use super::filters_sequence as sequence;
use super::filters_text as text;
use super::functions::soft_text;
use super::html;
use super::interpreter::Interpreter;
use super::json::{dumps, JsonStyle};
use super::number;
use super::ops;
use super::print;
use super::value::{Object, Value};

const NAMES: [&str; 53] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
];

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name) || name == "xmlattr"
}

/// `value | name(…)`.
pub(super) fn call(interpreter: &mut Interpreter, name: &str, value: Value, arguments: Call) -> Result<Value> {
    match name {
        "capitalize" | "center" | "filesizeformat" | "format" | "indent" | "lower" | "replace" | "striptags"
        | "title" | "trim" | "truncate" | "upper" | "urlencode" | "wordcount" | "wordwrap" | "xmlattr" => {
            text::call(name, value, arguments)
        }
        "batch" | "dictsort" | "first" | "groupby" | "items" | "join" | "last" | "list" | "map" | "max" | "min"
        | "reject" | "rejectattr" | "reverse" | "select" | "selectattr" | "slice" | "sort" | "sum" | "unique" => {
            sequence::call(interpreter, name, value, arguments)
        }
        "count" | "length" => {
            let _ = arguments.positional::<0>(name, 0)?;
            if let Value::Object(object) = &value {
                if let Object::Loop(_) = &**object {
                    return interpreter.loop_attribute(object, "length");
                }
            }
            Ok(Value::Int(ops::length(&value)? as i128))
        }
        _ => single(name, value, arguments),
    }
}

fn single(name: &str, value: Value, arguments: Call) -> Result<Value> {
    match name {
        "d" | "default" => {
            let mut bound = arguments.bind(name, ["default_value", "boolean"], 0)?;
            let needs_default = value.is_undefined() || bound.truth(1, false) && !ops::truth(&value);
            Ok(if needs_default { bound.take(0).unwrap_or_else(|| Value::str("")) } else { value })
        }
        "attr" => {
            let bound = arguments.bind(name, ["name"], 1)?;
            attributes::only_attribute(&value, bound.str(0)?)
        }
        "round" => round(&value, arguments),
        "int" => int(&value, arguments),
        "float" => {
            let mut bound = arguments.bind(name, ["default"], 0)?;
            ops::fail_if_undefined(&value)?;
            let float = value.as_str().map_or_else(|| value.as_float(), number::parse_float);
            Ok(float.map_or_else(|| bound.take(0).unwrap_or(Value::Float(0.0)), Value::Float))
        }
        "tojson" => tojson(&value, arguments),
        "random" | "urlize" => fault(format!("the filter `{name}` is not supported in chat templates")),
        _ => {
            let _ = arguments.positional::<0>(name, 0)?;
            match name {
                "abs" => {
                    ops::fail_if_undefined(&value)?;
                    arithmetic::absolute(&value)
                }
                "string" => soft_text(value).map(Value::Str),
                "safe" => Ok(Value::text(print::text(&value)?, true)),
                "e" | "escape" => match value {
                    Value::Str(text) if text.markup => Ok(Value::Str(text)),
                    other => Ok(Value::text(html::escape(&print::text(&other)?), true)),
                },
                "forceescape" => Ok(Value::text(html::escape(&print::text(&value)?), true)),
                "pprint" => print::pretty(&value).map(Value::str),
                _ => fault(format!("no filter named `{name}`")),
            }
        }
    }
}

fn round(value: &Value, arguments: Call) -> Result<Value> {
    let bound = arguments.bind("round", ["precision", "method"], 0)?;
    let digits = bound.int(0, 0)?;
    let method = if bound.value(1).is_some() { bound.str(1)? } else { "common" };
    match method {
        "common" => number::round(value, digits),
        "ceil" | "floor" => {
            ops::fail_if_undefined(value)?;
            let Some(float) = value.as_float() else {
                return fault(format!("a {} cannot be rounded", value.type_name()));
            };
            let scale = if digits >= 0 {
                10_f64.powi(digits.min(400) as i32)
            } else {
                1.0 / 10_f64.powi(-digits.max(-400) as i32)
            };
            let scaled = float * scale;
            if !scaled.is_finite() {
                return fault("cannot convert float infinity or NaN to integer");
            }
            let whole = if method == "ceil" { scaled.ceil() } else { scaled.floor() };
            Ok(Value::Float(number::truncate(whole)? as f64 / scale))
        }
        _ => fault("round: method must be common, ceil or floor"),
    }
}

fn int(value: &Value, arguments: Call) -> Result<Value> {
    let mut bound = arguments.bind("int", ["default", "base"], 0)?;
    ops::fail_if_undefined(value)?;
    let base = u32::try_from(bound.int(1, 10)?).ok().filter(|base| *base == 0 || (2..=36).contains(base));
    let mut default = || bound.take(0).unwrap_or(Value::Int(0));
    match value {
        Value::Str(text) => {
            if let Some(parsed) = base.and_then(|base| number::parse_int(text, base)) {
                return parsed.map_or_else(|()| fault("an integer beyond 128 bits"), |value| Ok(Value::Int(value)));
            }
            match number::parse_float(text) {
                Some(float) if float.is_finite() => Ok(Value::Int(number::truncate(float)?)),
                _ => Ok(default()),
            }
        }
        Value::Float(float) if float.is_nan() => Ok(default()),
        Value::Float(float) => Ok(Value::Int(number::truncate(*float)?)),
        other => Ok(other.as_int().map_or_else(default, Value::Int)),
    }
}

/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
fn tojson(value: &Value, arguments: Call) -> Result<Value> {
    let bound = arguments.bind("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"], 0)?;
    let indent = match bound.some(1) {
        None => None,
        Some(Value::Str(text)) => Some(text.to_string()),
        Some(_) => Some(super::text::justify("", bound.int(1, 0)?, " ", "ljust")?),
    };
    let separators = match bound.some(2) {
        None => None,
        Some(pair) => match ops::items(pair)?.as_slice() {
            [Value::Str(item), Value::Str(key)] => Some((item.to_string(), key.to_string())),
            _ => return fault("tojson: `separators` must be two strings"),
        },
    };
    let style = JsonStyle { ensure_ascii: bound.truth(0, false), indent, separators, sort_keys: bound.truth(3, false) };
    dumps(value, &style).map(Value::str)
}
