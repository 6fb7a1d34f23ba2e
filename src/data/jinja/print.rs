//! `str(value)` and `repr(value)`.

use super::error::{fault, Result};
use super::fuel;
use super::unicode::is_printable;
use super::value::{Object, Value, View};
use crate::data::python::float_repr;
use std::borrow::Cow;

/// `str(value)`, which is what a template prints.
pub(super) fn text(value: &Value) -> Result<Cow<'_, str>> {
    let text = match value {
        Value::Str(text) => Cow::Borrowed(&**text),
        Value::Undefined(_) => Cow::Borrowed(""),
        other => Cow::Owned(repr(other)?),
    };
    Ok(text)
}

/// `repr(value)`.
pub(super) fn repr(value: &Value) -> Result<String> {
    let mut out = String::new();
    write(value, false, &mut out)?;
    Ok(out)
}

/// `pprint.pformat`, which sorts the keys of dicts. More than one line is an error: the layout would depend on the width of
/// every part.
pub(super) fn pretty(value: &Value) -> Result<String> {
    let mut out = String::new();
    write(value, true, &mut out)?;
    if out.chars().count() > 80 {
        return fault("pprint of more than 80 characters is not supported: use tojson(indent=…)");
    }
    Ok(out)
}

/// `repr` of a float, `nan` and `inf` as Python names them.
pub(super) fn float(value: f64) -> String {
    if value.is_finite() {
        return float_repr(value);
    }
    let name = if value.is_nan() { "nan" } else { "inf" };
    if value.is_sign_negative() && !value.is_nan() {
        format!("-{name}")
    } else {
        name.to_owned()
    }
}

fn write(value: &Value, sorted: bool, out: &mut String) -> Result<()> {
    fuel::descend()?;
    let before = out.len();
    match value {
        Value::Undefined(_) => out.push_str("Undefined"),
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Float(value) => out.push_str(&float(*value)),
        Value::Str(text) if text.markup => {
            out.push_str("Markup(");
            quoted(text, out);
            out.push(')');
        }
        Value::Str(text) => quoted(text, out),
        Value::Bytes(bytes) => quoted_bytes(bytes, out),
        Value::List(items) => sequence(items, '[', ']', sorted, out)?,
        Value::Tuple(items) if items.len() == 1 => {
            out.push('(');
            write(&items[0], sorted, out)?;
            out.push_str(",)");
        }
        Value::Tuple(items) => sequence(items, '(', ')', sorted, out)?,
        Value::Dict(dict) => {
            let mut entries: Vec<&(Value, Value)> = dict.entries.values().collect();
            if sorted {
                super::ops::sort_by_key(&mut entries, |(key, _)| key)?;
            }
            mapping(&entries, sorted, out)?;
        }
        Value::View(view, dict) => {
            out.push_str(match view {
                View::Keys => "dict_keys(",
                View::Values => "dict_values(",
                View::Items => "dict_items(",
            });
            sequence(&dict.view(*view), '[', ']', sorted, out)?;
            out.push(')');
        }
        Value::Range(range) => {
            out.push_str(&format!("range({}, {}", range.start, range.stop));
            if range.step != 1 {
                out.push_str(&format!(", {}", range.step));
            }
            out.push(')');
        }
        Value::Object(object) => return self::object(value, object, sorted, out),
    }
    fuel::bytes(out.len() - before)
}

fn object(value: &Value, object: &Object, sorted: bool, out: &mut String) -> Result<()> {
    match object {
        Object::Namespace(dict) => {
            out.push_str("<Namespace ");
            let dict = dict.borrow();
            mapping(&dict.entries.values().collect::<Vec<_>>(), sorted, out)?;
            out.push('>');
            Ok(())
        }
        Object::Macro { definition, .. } => {
            out.push_str("<Macro ");
            quoted(&definition.name, out);
            out.push('>');
            Ok(())
        }
        // Python writes a memory address, which differs in every run.
        _ => fault(format!("cannot print a {}: call it, or make it a list", value.type_name())),
    }
}

fn sequence(items: &[Value], open: char, close: char, sorted: bool, out: &mut String) -> Result<()> {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write(item, sorted, out)?;
    }
    out.push(close);
    Ok(())
}

fn mapping(entries: &[&(Value, Value)], sorted: bool, out: &mut String) -> Result<()> {
    out.push('{');
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write(key, sorted, out)?;
        out.push_str(": ");
        write(value, sorted, out)?;
    }
    out.push('}');
    Ok(())
}

/// In single quotes, unless the text contains those and no double quotes.
pub(super) fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => escaped(c, out),
        }
    }
    out.push(quote);
}

/// `\x07`, `\u2028` or `\U0001f600`.
fn escaped(c: char, out: &mut String) {
    let code = u32::from(c);
    out.push_str(&match code {
        0..=0xff => format!("\\x{code:02x}"),
        0x100..=0xffff => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    });
}

/// `ascii(value)`: `repr` with everything beyond ASCII escaped.
pub(super) fn ascii(value: &Value) -> Result<String> {
    let mut out = String::new();
    for c in repr(value)?.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            escaped(c, &mut out);
        }
    }
    Ok(out)
}

fn quoted_bytes(bytes: &[u8], out: &mut String) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { b'"' } else { b'\'' };
    out.push('b');
    out.push(char::from(quote));
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte if *byte == quote => out.extend(['\\', char::from(quote)]),
            b' '..=b'~' => out.push(char::from(*byte)),
            byte => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push(char::from(quote));
}
