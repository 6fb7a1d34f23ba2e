//! `json.dumps`, which the filter `tojson` calls.

use super::error::{fault, Result};
use super::fuel;
use super::ops;
use super::value::{Dict, Value};
use crate::data::python::float_repr;

/// The options of `json.dumps` that `tojson` has.
#[derive(Debug, Clone, Default)]
pub(super) struct JsonStyle {
    pub ensure_ascii: bool,
    /// Written once for each level; `None` for one line.
    pub indent: Option<String>,
    /// Between items and after keys; `None` for Python's defaults.
    pub separators: Option<(String, String)>,
    pub sort_keys: bool,
}

/// `json.dumps(value, …)`.
pub(super) fn dumps(value: &Value, style: &JsonStyle) -> Result<String> {
    let (item, key) = match &style.separators {
        Some((item, key)) => (item.as_str(), key.as_str()),
        None if style.indent.is_some() => (",", ": "),
        None => (", ", ": "),
    };
    let mut writer = Writer { text: String::new(), style, item, key };
    writer.value(value, 0)?;
    Ok(writer.text)
}

struct Writer<'a> {
    text: String,
    style: &'a JsonStyle,
    item: &'a str,
    key: &'a str,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<()> {
        let before = self.text.len();
        // Deeper than the JSON parser allows data to be; only a template can nest so deep.
        if depth > 200 {
            return fault("tojson: the value is nested too deeply");
        }
        match value {
            Value::None => self.text.push_str("null"),
            Value::Bool(value) => self.text.push_str(if *value { "true" } else { "false" }),
            Value::Int(value) => self.text.push_str(&value.to_string()),
            Value::Float(value) => self.text.push_str(&float_repr(*value)),
            Value::Str(text) => self.string(text),
            Value::List(items) | Value::Tuple(items) => self.list(items, depth)?,
            Value::Dict(dict) => self.map(dict, depth)?,
            other => return fault(format!("tojson: an object of type {} is not JSON serializable", other.type_name())),
        }
        fuel::bytes(self.text.len() - before)
    }

    fn list(&mut self, items: &[Value], depth: usize) -> Result<()> {
        self.text.push('[');
        for (index, item) in items.iter().enumerate() {
            self.separate(index == 0, depth + 1)?;
            self.value(item, depth + 1)?;
        }
        self.close(items.is_empty(), depth, ']')
    }

    fn map(&mut self, dict: &Dict, depth: usize) -> Result<()> {
        let mut entries: Vec<&(Value, Value)> = dict.entries.values().collect();
        if self.style.sort_keys {
            ops::sort_by_key(&mut entries, |(key, _)| key)?;
        }
        self.text.push('{');
        for (index, (key, item)) in entries.iter().enumerate() {
            self.separate(index == 0, depth + 1)?;
            self.string(&json_key(key)?);
            self.text.push_str(self.key);
            self.value(item, depth + 1)?;
        }
        self.close(entries.is_empty(), depth, '}')
    }

    fn separate(&mut self, first: bool, depth: usize) -> Result<()> {
        if !first {
            self.text.push_str(self.item);
        }
        self.line(depth)
    }

    fn close(&mut self, empty: bool, depth: usize, bracket: char) -> Result<()> {
        if !empty {
            self.line(depth)?;
        }
        self.text.push(bracket);
        Ok(())
    }

    fn line(&mut self, depth: usize) -> Result<()> {
        if let Some(indent) = &self.style.indent {
            fuel::bytes(indent.len().saturating_mul(depth))?;
            self.text.push('\n');
            self.text.push_str(&indent.repeat(depth));
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                c if c < ' ' || (self.style.ensure_ascii && !matches!(c, ' '..='~')) => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        self.text.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

fn json_key(key: &Value) -> Result<String> {
    Ok(match key {
        Value::Str(text) => text.to_string(),
        Value::None => "null".into(),
        Value::Bool(value) => if *value { "true" } else { "false" }.into(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => float_repr(*value),
        other => return fault(format!("tojson: a key cannot be a {}", other.type_name())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_spaced_as_in_python() {
        let value = Value::from_json(&serde_json::json!({"b": [1, 2.0, {}], "가": "<a & 'b'>\u{1}\u{7f}", "a": null}));
        fuel::begin(1000, 1000);
        assert_eq!(
            dumps(&value, &JsonStyle::default()).unwrap(),
            "{\"b\": [1, 2.0, {}], \"가\": \"<a & 'b'>\\u0001\u{7f}\", \"a\": null}"
        );
        let style = JsonStyle { indent: Some("  ".into()), sort_keys: true, ensure_ascii: true, separators: None };
        assert_eq!(
            dumps(&value, &style).unwrap(),
            "{\n  \"a\": null,\n  \"b\": [\n    1,\n    2.0,\n    {}\n  ],\n  \"\\uac00\": \"<a & 'b'>\\u0001\\u007f\"\n}"
        );
        assert!(dumps(&Value::hint(""), &JsonStyle::default()).is_err());
    }
}
