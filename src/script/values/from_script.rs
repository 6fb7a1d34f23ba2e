//! Plain values across the border, and the names that scripts know types by.
//!
//! Option maps are read by `options`; JSON values by `json`.

use rhai::{Dynamic, FnPtr, Map};

/// A Rust value that a script value can stand for. Ints are accepted where floats are asked for.
pub trait FromScript: Sized {
    /// What to write after "expected".
    fn expected() -> String;

    /// The value, or `None` where `value` is of another type or out of range.
    fn from_script(value: &Dynamic) -> Option<Self>;
}

macro_rules! from_script {
    ($type:ty, $expected:literal, $read:expr) => {
        impl FromScript for $type {
            fn expected() -> String {
                $expected.to_string()
            }
            fn from_script(value: &Dynamic) -> Option<Self> {
                let read: fn(&Dynamic) -> Option<Self> = $read;
                read(value)
            }
        }
    };
}

from_script!(i64, "int", |value| value.as_int().ok());
from_script!(usize, "int of at least 0", |value| usize::try_from(value.as_int().ok()?).ok());
from_script!(u64, "int of at least 0", |value| u64::try_from(value.as_int().ok()?).ok());
from_script!(bool, "bool", |value| value.as_bool().ok());
from_script!(f64, "float", |value| value.as_float().ok().or_else(|| Some(value.as_int().ok()? as f64)));
from_script!(String, "string", |value| Some(value.as_immutable_string_ref().ok()?.to_string()));
from_script!(std::path::PathBuf, "string (a path)", |value| Some(
    value.as_immutable_string_ref().ok()?.as_str().into()
));
from_script!(Map, "map", |value| Some(value.as_map_ref().ok()?.clone()));
from_script!(FnPtr, "function", |value| value.clone().try_cast());
from_script!(Dynamic, "anything", |value| Some(value.clone()));
from_script!(Number, "number", |value| match value.as_int() {
    Ok(int) => Some(Number::Int(int)),
    Err(_) => Some(Number::Float(value.as_float().ok()?)),
});

/// A number that remembers which it was: `lora_alpha` is written as an int where it is one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Int(i64),
    Float(f64),
}

impl<T: FromScript> FromScript for Vec<T> {
    fn expected() -> String {
        format!("array of {}", T::expected())
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        match whole_numbers(value) {
            Some(numbers) => numbers.iter().map(T::from_script).collect(),
            None => value.as_array_ref().ok()?.iter().map(T::from_script).collect(),
        }
    }
}

/// The ints of a range with an end, `2..8` or `2..=8`.
pub fn whole_numbers(value: &Dynamic) -> Option<rhai::Array> {
    /// More is an end that was left out, or a slip.
    const MOST: i64 = 1_000_000;
    let (start, end) = if let Some(range) = value.read_lock::<std::ops::Range<i64>>() {
        (range.start, range.end)
    } else {
        let range = value.read_lock::<std::ops::RangeInclusive<i64>>()?;
        (*range.start(), range.end().checked_add(1)?)
    };
    (end.saturating_sub(start) <= MOST).then(|| (start..end).map(Dynamic::from).collect())
}

/// The numbers of a range, also of one with steps: `range(2, 9, 2)`.
pub fn values_of_range(value: &Dynamic, engine: &rhai::Engine) -> Option<rhai::Array> {
    // The engine keeps the type of a range with steps to itself: only a loop can read it.
    const READ: &str = "let list = []; for value in values { list.push(value); if list.len > 1000000 { throw; } } list";
    if !value.type_name().contains("StepRange<") {
        return whole_numbers(value);
    }
    let mut scope = rhai::Scope::new();
    scope.push_dynamic("values", value.clone());
    engine.eval_with_scope(&mut scope, READ).ok()
}

/// What to write after "found": the type and, where it is short, the value.
pub fn describe(value: &Dynamic) -> String {
    if value.is_unit() {
        return "nothing `()`".to_string();
    }
    if value.is::<FnPtr>() {
        return "a function".to_string();
    }
    let name = type_name(value.type_name());
    match value.is_array() || value.is_map() || value.is_string() {
        true => format!("{name} {}", shortened(&format!("{value:?}"))),
        false if value.is_int() || value.is_float() || value.is_bool() || value.is_char() => format!("{name} {value}"),
        false => name,
    }
}

/// How `value` is to be written where something else was expected, if that is known.
pub fn rewritten(expected: &str, value: &Dynamic) -> Option<String> {
    let text = value.as_immutable_string_ref().ok().map(|text| text.trim().to_string());
    let number = text.as_ref().and_then(|text| text.parse::<f64>().ok());
    let whole = number.or_else(|| value.as_float().ok()).filter(|number| number.fract() == 0.0 && number.abs() < 1e15);
    let is_int = expected.starts_with("int");
    match (text, number, whole) {
        (Some(_), Some(_), Some(whole)) if is_int => Some(format!("write it without quotes: {whole}")),
        (Some(text), Some(_), _) if ["float", "number"].contains(&expected) => {
            Some(format!("write it without quotes: {text}"))
        }
        (None, _, Some(whole)) if is_int => Some(format!("write it without a fraction: {whole}")),
        _ if expected == "bool" => Some("write true or false, without quotes".to_string()),
        (Some(text), ..) if expected == "array of string" => Some(format!("write an array: [\"{text}\"]")),
        (None, ..) if expected.starts_with("array of") && (value.is_int() || value.is_float()) => {
            Some(format!("write an array: [{value}]"))
        }
        _ => None,
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

/// The name that scripts know a type by: `int` for `i64`, `Model` for `Handle<…::Model>`.
pub fn type_name(name: &str) -> String {
    let name = name.trim().trim_start_matches("&mut ").trim_start_matches("rhai::");
    let name = name.trim_start_matches("alloc::string::");
    match name {
        "i64" | "INT" | "usize" => "int".to_string(),
        "f64" | "FLOAT" => "float".to_string(),
        "()" => "()".to_string(),
        "&str" | "str" | "String" | "ImmutableString" | "&str | ImmutableString | String" => "string".to_string(),
        "Array" => "array".to_string(),
        "Map" => "map".to_string(),
        "Fn" | "FnPtr" => "function".to_string(),
        "Dynamic" => "any".to_string(),
        _ if name.starts_with("core::ops::range::Range") || name.starts_with("Range<") => "range".to_string(),
        _ if name.contains("StepRange<") => "range".to_string(),
        _ if name.ends_with("FnPtr") => "function".to_string(),
        _ => last_segment(name),
    }
}

fn last_segment(name: &str) -> String {
    let inside = match (name.find('<'), name.rfind('>')) {
        (Some(start), Some(end)) if name[..start].ends_with("Handle") => &name[start + 1..end],
        _ => name,
    };
    inside.rsplit("::").next().unwrap_or(inside).trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ints_pass_for_floats_but_not_the_reverse() {
        assert_eq!(f64::from_script(&Dynamic::from(2_i64)), Some(2.0));
        assert_eq!(i64::from_script(&Dynamic::from(2.0_f64)), None);
        assert_eq!(usize::from_script(&Dynamic::from(-1_i64)), None);
        assert_eq!(Vec::<f64>::from_script(&vec![Dynamic::from(1_i64), 0.5.into()].into()), Some(vec![1.0, 0.5]));
        assert_eq!(Vec::<i64>::from_script(&vec![Dynamic::from(1_i64), "x".into()].into()), None);
    }

    #[test]
    fn a_value_of_another_type_is_written_anew() {
        for (expected, value, written) in [
            ("int", Dynamic::from("8"), Some("write it without quotes: 8")),
            ("int of at least 0", 1e3.into(), Some("write it without a fraction: 1000")),
            ("float", "2e-4".into(), Some("write it without quotes: 2e-4")),
            ("bool", "yes".into(), Some("write true or false, without quotes")),
            ("array of string", "lm_head".into(), Some("write an array: [\"lm_head\"]")),
            ("int", 8.5.into(), None),
            ("int", "many".into(), None),
            ("map", 3_i64.into(), None),
        ] {
            assert_eq!(rewritten(expected, &value).as_deref(), written, "{expected} {value}");
        }
    }

    #[test]
    fn types_have_script_names() {
        assert_eq!(describe(&"x".into()), "string \"x\"");
        assert_eq!(describe(&Dynamic::from(3_i64)), "int 3");
        assert_eq!(describe(&Dynamic::UNIT), "nothing `()`");
        assert_eq!(type_name("lorhai::script::handles::Handle<lorhai::model::Model>"), "Model");
        assert_eq!(type_name("&str | ImmutableString | String"), "string");
        assert_eq!(Vec::<i64>::expected(), "array of int");
    }
}
