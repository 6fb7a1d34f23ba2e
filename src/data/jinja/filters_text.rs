//! The filters of text.

use super::arguments::Call;
use super::error::{fault, Result};
use super::fuel;
use super::functions::soft_text;
use super::html::{escape, strip_tags};
use super::ops;
use super::print;
use super::printf;
use super::split;
use super::text as str_methods;
use super::unicode;
use super::value::{Text, Value};

pub(super) fn call(name: &str, value: Value, arguments: Call) -> Result<Value> {
    match name {
        "filesizeformat" => file_size(&value, arguments),
        "indent" => indent(&value, arguments),
        "truncate" => truncate(value, arguments),
        "wordwrap" => word_wrap(&value, arguments),
        "urlencode" => {
            let _ = arguments.positional::<0>(name, 0)?;
            url_encode(&value)
        }
        "xmlattr" => xml_attributes(&value, arguments),
        "replace" => {
            let bound = arguments.bind(name, ["old", "new", "count"], 2)?;
            let count = if bound.some(2).is_some() { bound.int(2, -1)? } else { -1 };
            let replaced = str_methods::replace(&print::text(&value)?, &bound.printed(0)?, &bound.printed(1)?, count)?;
            Ok(Value::str(replaced))
        }
        "format" => {
            let format = soft_text(value)?;
            if arguments.named.is_empty() {
                return printf::format(&format, &Value::tuple(arguments.positional));
            }
            if !arguments.positional.is_empty() {
                return fault("format: cannot take arguments by position and by name");
            }
            let named = arguments.named.into_iter().map(|(name, value)| (Value::str(name), value));
            printf::format(&format, &Value::dict(named)?)
        }
        "center" => {
            let bound = arguments.bind(name, ["width"], 0)?;
            let text = soft_text(value)?;
            let centered = str_methods::justify(&text, bound.int(0, 80)?, " ", "center")?;
            Ok(Value::text(centered, text.markup))
        }
        "trim" => {
            let bound = arguments.bind(name, ["chars"], 0)?;
            let text = soft_text(value)?;
            let trimmed = str_methods::strip(&text, bound.optional_str(0)?, true, true);
            Ok(Value::text(trimmed, text.markup))
        }
        _ => {
            let _ = arguments.positional::<0>(name, 0)?;
            let text = soft_text(value)?;
            let result = |result: String| Ok(Value::text(result, text.markup));
            match name {
                "lower" => result(text.to_lowercase()),
                "upper" => result(text.to_uppercase()),
                "capitalize" => result(unicode::capitalize(&text)),
                "title" => Ok(Value::str(split::title(&text))),
                "wordcount" => Ok(Value::Int(split::word_count(&text) as i128)),
                _ => Ok(Value::text(strip_tags(&text)?, false)),
            }
        }
    }
}

/// The string, or an error for other types.
fn string(value: &Value) -> Result<&Text> {
    match value {
        Value::Str(text) => Ok(text),
        other => {
            ops::fail_if_undefined(other)?;
            fault(format!("expected a string, found {}", other.type_name()))
        }
    }
}

fn file_size(value: &Value, arguments: Call) -> Result<Value> {
    let bound = arguments.bind("filesizeformat", ["binary"], 0)?;
    ops::fail_if_undefined(value)?;
    let size = value.as_str().map_or_else(|| value.as_float(), super::number::parse_float);
    let Some(size) = size else { return fault("filesizeformat: expected a number") };
    let binary = bound.truth(0, false);
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if size == 1.0 {
        return Ok(Value::str("1 Byte"));
    }
    if size < base {
        return Ok(Value::str(format!("{} Bytes", super::number::truncate(size)?)));
    }
    let prefixes = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
    let at = (0..prefixes.len()).find(|at| size < base.powi(*at as i32 + 2)).unwrap_or(prefixes.len() - 1);
    let unit = base.powi(at as i32 + 2);
    let prefix = match (binary, prefixes[at]) {
        (true, "k") => "Ki".to_owned(),
        (true, prefix) => format!("{prefix}i"),
        (false, prefix) => prefix.to_owned(),
    };
    Ok(Value::str(format!("{:.1} {prefix}B", base * size / unit)))
}

fn indent(value: &Value, arguments: Call) -> Result<Value> {
    let bound = arguments.bind("indent", ["width", "first", "blank"], 0)?;
    let text = string(value)?;
    let indention = match bound.value(0) {
        Some(Value::Str(indention)) => indention.to_string(),
        _ => super::text::justify("", bound.int(0, 4)?, " ", "ljust")?,
    };
    let (first, blank) = (bound.truth(1, false), bound.truth(2, false));
    // With another line break, an empty last line counts as a line.
    let ended = format!("{}\n", &**text);
    let lines = split::lines(&ended, false);
    fuel::bytes(lines.len().saturating_mul(indention.len()))?;
    let mut out = String::with_capacity(text.len());
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&indention);
        }
        out.push_str(line);
    }
    Ok(Value::text(out, text.markup))
}

fn truncate(value: Value, arguments: Call) -> Result<Value> {
    let bound = arguments.bind("truncate", ["length", "killwords", "end", "leeway"], 0)?;
    let length = bound.int(0, 255)?;
    let end = if bound.value(2).is_some() { bound.str(2)? } else { "..." };
    let leeway = if bound.some(3).is_some() { bound.int(3, 5)? } else { 5 };
    let end_length = end.chars().count() as i128;
    if length < end_length || leeway < 0 {
        return fault(format!("truncate: expected length >= {end_length} and leeway >= 0"));
    }
    if ops::length(&value)? as i128 <= length + leeway {
        return Ok(value);
    }
    let text = string(&value)?;
    let kept: String = text.chars().take((length - end_length) as usize).collect();
    let kept = if bound.truth(1, false) { &*kept } else { kept.rsplit_once(' ').map_or(&*kept, |(kept, _)| kept) };
    Ok(Value::text(format!("{kept}{end}"), text.markup))
}

fn word_wrap(value: &Value, arguments: Call) -> Result<Value> {
    let names = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
    let bound = arguments.bind("wordwrap", names, 0)?;
    let text = string(value)?;
    let width = usize::try_from(bound.int(0, 79)?).unwrap_or(0);
    let separator = bound.optional_str(2)?.unwrap_or("\n");
    let mut lines = Vec::new();
    for line in split::lines(text, false) {
        lines.push(split::wrap(line, width, bound.truth(1, true), bound.truth(3, true))?.join(separator));
    }
    let wrapped = lines.join(separator);
    fuel::bytes(wrapped.len())?;
    Ok(Value::str(wrapped))
}

/// Percent-encoding; in a query string spaces become `+` and `/` is encoded.
fn quote(text: &str, in_query: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
            b'/' if !in_query => out.push('/'),
            b' ' if in_query => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn url_encode(value: &Value) -> Result<Value> {
    let pairs = match value {
        Value::Str(text) => return Ok(Value::str(quote(text, false))),
        Value::Dict(dict) => dict.view(super::value::View::Items),
        other => match ops::items(other) {
            Ok(items) => items,
            Err(_) => return Ok(Value::str(quote(&print::text(other)?, false))),
        },
    };
    let mut parts = Vec::new();
    for pair in pairs {
        let pair = ops::items(&pair)?;
        let [key, value] = pair.as_slice() else { return fault("urlencode: expected pairs") };
        parts.push(format!("{}={}", quote(&print::text(key)?, true), quote(&print::text(value)?, true)));
    }
    Ok(Value::str(parts.join("&")))
}

fn xml_attributes(value: &Value, arguments: Call) -> Result<Value> {
    let bound = arguments.bind("xmlattr", ["autospace"], 0)?;
    let Value::Dict(dict) = value else {
        ops::fail_if_undefined(value)?;
        return fault("xmlattr: expected a mapping");
    };
    let escaped = |value: &Value| -> Result<String> {
        match value {
            Value::Str(text) if text.markup => Ok(text.to_string()),
            other => Ok(escape(&print::text(other)?)),
        }
    };
    let mut parts = Vec::new();
    for (key, value) in dict.entries.values() {
        if value.is_none() || value.is_undefined() {
            continue;
        }
        let name = string(key)?;
        if name.contains(|c: char| matches!(c, '\t'..='\r' | ' ' | '/' | '>' | '=')) {
            return fault(format!("xmlattr: invalid character in the name {:?}", &**name));
        }
        parts.push(format!("{}=\"{}\"", escaped(key)?, escaped(value)?));
    }
    let joined = parts.join(" ");
    let space = if bound.truth(0, true) && !joined.is_empty() { " " } else { "" };
    Ok(Value::str(format!("{space}{joined}")))
}
