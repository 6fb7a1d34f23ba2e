//! The methods of `str`. Leaves to others: splitting (`split.rs`).

use super::arguments::{Bound, Call};
use super::error::{fault, Result};
use super::format;
use super::fuel;
use super::html;
use super::ops;
use super::split;
use super::unicode::*;
use super::value::{Dict, Text, Value};

/// Calls `text.name(…)`.
pub(super) fn call(text: &Text, name: &str, mut arguments: Call) -> Result<Value> {
    fuel::bytes(text.len() / 8)?;
    if text.markup {
        escape_arguments(name, &mut arguments);
    }
    let result = |result: String| Ok(Value::text(result, text.markup));
    let test = |holds: bool| Ok(Value::Bool(holds));
    let every = |is: fn(char) -> bool| Ok(Value::Bool(!text.is_empty() && text.chars().all(is)));
    // Methods with arguments.
    match name {
        "split" | "rsplit" => {
            let mut bound = arguments.bind(name, ["sep", "maxsplit"], 0)?;
            let limit = usize::try_from(bound.int(1, -1)?).ok();
            bound.take(1);
            let parts = match bound.optional_str(0)? {
                Some("") => return fault("empty separator"),
                separator => split::split(text, separator, limit, name == "rsplit"),
            };
            return Ok(strings(parts, text.markup));
        }
        "splitlines" => {
            let bound = arguments.bind(name, ["keepends"], 0)?;
            return Ok(strings(split::lines(text, bound.truth(0, false)), text.markup));
        }
        "partition" | "rpartition" => {
            let bound: Bound<1> = arguments.positional(name, 1)?;
            let parts = split::partition(text, bound.str(0)?, name == "rpartition")?;
            return Ok(Value::tuple(parts.iter().map(|part| Value::text(part, text.markup)).collect()));
        }
        "strip" | "lstrip" | "rstrip" => {
            let bound: Bound<1> = arguments.positional(name, 0)?;
            return result(strip(text, bound.optional_str(0)?, name != "rstrip", name != "lstrip").to_owned());
        }
        "startswith" | "endswith" => return affix(text, name, arguments),
        "find" | "rfind" | "index" | "rindex" | "count" => return find(text, name, arguments),
        "replace" => {
            let bound: Bound<3> = arguments.positional(name, 2)?;
            return result(replace(text, bound.str(0)?, bound.str(1)?, bound.int(2, -1)?)?);
        }
        "center" | "ljust" | "rjust" => {
            let bound: Bound<2> = arguments.positional(name, 1)?;
            let fill = if bound.value(1).is_some() { bound.str(1)? } else { " " };
            return result(justify(text, bound.int(0, 0)?, fill, name)?);
        }
        "zfill" => {
            let bound: Bound<1> = arguments.positional(name, 1)?;
            let (sign, digits) = match text.strip_prefix(['-', '+']) {
                Some(digits) => text.split_at(text.len() - digits.len()),
                None => ("", &**text),
            };
            let filled = justify(digits, bound.int(0, 0)? - sign.len() as i128, "0", "rjust")?;
            return result(format!("{sign}{filled}"));
        }
        "removeprefix" | "removesuffix" => {
            let bound: Bound<1> = arguments.positional(name, 1)?;
            let affix = bound.str(0)?;
            let rest = if name == "removeprefix" { text.strip_prefix(affix) } else { text.strip_suffix(affix) };
            return result(rest.unwrap_or(text).to_owned());
        }
        "join" => {
            let bound: Bound<1> = arguments.positional(name, 1)?;
            return join(text, bound.value(0).unwrap_or(&Value::None));
        }
        "expandtabs" => {
            let bound = arguments.bind(name, ["tabsize"], 0)?;
            return result(expand_tabs(text, usize::try_from(bound.int(0, 8)?).unwrap_or(0))?);
        }
        "encode" => {
            let bound = arguments.bind(name, ["encoding", "errors"], 0)?;
            let encoding = bound.optional_str(0)?.unwrap_or("utf-8").to_ascii_lowercase().replace('_', "-");
            if !matches!(encoding.as_str(), "utf-8" | "utf8") && !text.is_ascii() {
                return fault(format!("the encoding {encoding} is not supported: use utf-8"));
            }
            return Ok(Value::Bytes(text.as_bytes().into()));
        }
        "format" => {
            let mut named = Dict::default();
            for (name, value) in arguments.named {
                named.insert(Value::str(name), value)?;
            }
            return format::format(text, &arguments.positional, &named);
        }
        "format_map" => {
            let bound: Bound<1> = arguments.positional(name, 1)?;
            let Some(Value::Dict(named)) = bound.value(0) else { return fault("format_map() expects a mapping") };
            return format::format(text, &[], named);
        }
        "maketrans" => return make_table(arguments),
        "translate" => {
            let bound: Bound<1> = arguments.positional(name, 1)?;
            return result(translate(text, bound.value(0).unwrap_or(&Value::None))?);
        }
        "escape" => {
            let bound: Bound<1> = arguments.positional(name, 1)?;
            return Ok(Value::text(html::escape(&bound.printed(0)?), true));
        }
        _ => {}
    }
    let _: Bound<0> = arguments.positional(name, 0)?;
    match name {
        "upper" => result(text.to_uppercase()),
        "lower" => result(text.to_lowercase()),
        "title" => result(title(text)),
        "capitalize" => result(capitalize(text)),
        "swapcase" => result(swap_case(text)),
        "casefold" => result(case_fold(text)),
        "isalpha" => every(is_alpha),
        "isalnum" => every(is_alnum),
        "isdecimal" => every(is_decimal),
        "isdigit" => every(is_digit),
        "isnumeric" => every(is_numeric),
        "isspace" => every(is_space),
        "isascii" => test(text.is_ascii()),
        "isprintable" => test(text.chars().all(is_printable)),
        "isidentifier" => test(is_identifier(text)),
        "islower" => test(all_cased(text, false)),
        "isupper" => test(all_cased(text, true)),
        "istitle" => test(is_titled(text)),
        "striptags" => result(html::strip_tags(text)?),
        "unescape" => Ok(Value::str(html::unescape(text)?)),
        _ => fault(format!("str.{name} is not supported")),
    }
}

/// Escapes the arguments that become part of a `Markup` string.
fn escape_arguments(name: &str, arguments: &mut Call) {
    let index = match name {
        "replace" | "ljust" | "rjust" | "center" => 1,
        _ => return,
    };
    if let Some(Value::Str(text)) = arguments.positional.get_mut(index) {
        if !text.markup {
            *text = Text { text: html::escape(text).into(), markup: true };
        }
    }
}

fn strings<S: AsRef<str>>(parts: Vec<S>, markup: bool) -> Value {
    Value::list(parts.iter().map(|part| Value::text(part, markup)).collect())
}

pub(super) fn strip<'a>(text: &'a str, of: Option<&str>, left: bool, right: bool) -> &'a str {
    let is_stripped = |c: char| of.map_or_else(|| is_space(c), |of| of.contains(c));
    let text = if left { text.trim_start_matches(is_stripped) } else { text };
    if right {
        text.trim_end_matches(is_stripped)
    } else {
        text
    }
}

/// `separator.join(values)`, for values that need no interpreter.
pub(super) fn join(separator: &Text, values: &Value) -> Result<Value> {
    let mut out = String::new();
    for (index, item) in ops::items(values)?.iter().enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        match item {
            Value::Str(part) if !separator.markup || part.markup => out.push_str(part),
            other if separator.markup => out.push_str(&html::escape(&super::print::text(other)?)),
            other => {
                ops::fail_if_undefined(other)?;
                let kind = other.type_name();
                return fault(format!("sequence item {index}: expected str instance, {kind} found"));
            }
        }
        fuel::bytes(separator.len() + 1)?;
    }
    fuel::bytes(out.len())?;
    Ok(Value::text(out, separator.markup))
}

/// Characters `start..end` of a text by Python's rules, as bytes; `None` past the end.
fn window(text: &str, start: Option<&Value>, end: Option<&Value>) -> Result<Option<(usize, usize, usize)>> {
    let length = text.chars().count() as i128;
    let index = |value: Option<&Value>, default: i128| -> Result<i128> {
        let value = match value {
            None | Some(Value::None) => return Ok(default),
            Some(value) => value.as_int(),
        };
        let Some(value) = value else { return fault("slice indices must be integers or None") };
        Ok(if value < 0 { (value + length).max(0) } else { value })
    };
    let (start, end) = (index(start, 0)?, index(end, length)?.min(length));
    if start > length || start > end {
        return Ok(None);
    }
    let byte = |index: i128| text.char_indices().nth(index as usize).map_or(text.len(), |(at, _)| at);
    Ok(Some((byte(start), byte(end), start as usize)))
}

fn affix(text: &str, name: &str, arguments: Call) -> Result<Value> {
    let bound: Bound<3> = arguments.positional(name, 1)?;
    let window = window(text, bound.some(1), bound.some(2))?;
    let affixes = match bound.value(0) {
        Some(Value::Tuple(items)) => items.to_vec(),
        Some(other) => vec![other.clone()],
        None => Vec::new(),
    };
    let mut holds = false;
    for affix in affixes {
        let Value::Str(affix) = &affix else {
            ops::fail_if_undefined(&affix)?;
            return fault(format!("{name} first arg must be str or a tuple of str, not {}", affix.type_name()));
        };
        let part = window.map(|(start, end, _)| &text[start..end]);
        let matches =
            |part: &str| if name == "startswith" { part.starts_with(&**affix) } else { part.ends_with(&**affix) };
        holds |= part.is_some_and(matches);
    }
    Ok(Value::Bool(holds))
}

fn find(text: &str, name: &str, arguments: Call) -> Result<Value> {
    let bound: Bound<3> = arguments.positional(name, 1)?;
    let part = bound.str(0)?;
    let window = window(text, bound.some(1), bound.some(2))?;
    if name == "count" {
        let count = window.map_or(0, |(start, end, _)| {
            if part.is_empty() {
                text[start..end].chars().count() + 1
            } else {
                text[start..end].matches(part).count()
            }
        });
        return Ok(Value::Int(count as i128));
    }
    let index = window.and_then(|(start, end, skipped)| {
        let inside = &text[start..end];
        let at = if name.starts_with('r') { inside.rfind(part) } else { inside.find(part) };
        at.map(|at| skipped + inside[..at].chars().count())
    });
    match index {
        Some(index) => Ok(Value::Int(index as i128)),
        None if name.ends_with("find") => Ok(Value::Int(-1)),
        None => fault("substring not found"),
    }
}

pub(super) fn replace(text: &str, old: &str, new: &str, count: i128) -> Result<String> {
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    let matches = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    fuel::bytes(text.len().saturating_add(matches.min(limit).saturating_mul(new.len())))?;
    Ok(if count < 0 { text.replace(old, new) } else { text.replacen(old, new, limit) })
}

pub(super) fn justify(text: &str, width: i128, fill: &str, how: &str) -> Result<String> {
    let mut chars = fill.chars();
    let (Some(fill), None) = (chars.next(), chars.next()) else {
        return fault("The fill character must be exactly one character long");
    };
    let length = text.chars().count();
    let width = usize::try_from(width).unwrap_or(if width < 0 { 0 } else { usize::MAX });
    let missing = width.saturating_sub(length);
    fuel::bytes(missing.saturating_mul(fill.len_utf8()))?;
    let pad = |count: usize| fill.to_string().repeat(count);
    Ok(match how {
        "ljust" => format!("{text}{}", pad(missing)),
        "rjust" => format!("{}{text}", pad(missing)),
        _ => {
            // If the halves differ, the left one is longer only for an odd width.
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", pad(left), pad(missing - left))
        }
    })
}

fn expand_tabs(text: &str, size: usize) -> Result<String> {
    let mut out = String::new();
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' if size == 0 => {}
            '\t' => {
                let spaces = size - column % size;
                fuel::bytes(spaces)?;
                out.push_str(&" ".repeat(spaces));
                column += spaces;
            }
            c => {
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                out.push(c);
            }
        }
    }
    Ok(out)
}

/// `str.maketrans`.
fn make_table(arguments: Call) -> Result<Value> {
    let bound: Bound<3> = arguments.positional("maketrans", 1)?;
    let code = |c: char| Value::Int(u32::from(c).into());
    if let (Some(Value::Dict(dict)), None) = (bound.value(0), bound.value(1)) {
        let mut table = Dict::default();
        for (key, value) in dict.entries.values() {
            let key = match key {
                Value::Str(text) if text.chars().count() == 1 => text.chars().next().map_or(Value::None, code),
                Value::Str(_) => return fault("string keys in translate table must be of length 1"),
                other => other.clone(),
            };
            table.insert(key, value.clone())?;
        }
        return Ok(Value::Dict(table.into()));
    }
    let (from, to) = (bound.str(0)?, bound.str(1)?);
    if from.chars().count() != to.chars().count() {
        return fault("the first two maketrans arguments must have equal length");
    }
    let mut table: Vec<(Value, Value)> = from.chars().map(code).zip(to.chars().map(code)).collect();
    if bound.value(2).is_some() {
        table.extend(bound.str(2)?.chars().map(|c| (code(c), Value::None)));
    }
    Value::dict(table)
}

fn translate(text: &str, table: &Value) -> Result<String> {
    let Value::Dict(table) = table else { return fault("translate() expects a table of maketrans") };
    let mut out = String::new();
    for c in text.chars() {
        match table.get(&Value::Int(u32::from(c).into()))? {
            None => out.push(c),
            Some(Value::None) => {}
            Some(Value::Str(text)) => out.push_str(&text),
            Some(other) => match other.as_int().and_then(|code| char::from_u32(code.try_into().ok()?)) {
                Some(c) => out.push(c),
                None => return fault("character mapping must return integer, None or str"),
            },
        }
    }
    fuel::bytes(out.len())?;
    Ok(out)
}
