//! Values written as Python writes them: `json.dumps` and the `repr` of a float.
//!
//! Chat templates are rendered by Python elsewhere, so the text must agree byte for byte.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// The options of `json.dumps` that a chat template may give.
#[derive(Debug, Clone, Default)]
pub struct JsonStyle {
    pub ensure_ascii: bool,
    /// Spaces per level; `None` writes everything on one line.
    pub indent: Option<usize>,
    /// Between items and after keys; `None` for Python's choice.
    pub separators: Option<(String, String)>,
    pub sort_keys: bool,
}

/// `json.dumps(value, …)`.
pub fn dumps(value: &Value, style: &JsonStyle) -> Result<String, Error> {
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
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        // As deep as the parser lets data be; a template can nest deeper by itself.
        if depth > 200 {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: the value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            ValueKind::Map => self.map(value, depth)?,
            kind => {
                return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: {kind} is not JSON serializable")))
            }
        }
        Ok(())
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.text.push('[');
        let mut empty = true;
        for item in value.try_iter()? {
            self.separate(empty, depth + 1);
            empty = false;
            self.value(&item, depth + 1)?;
        }
        self.close(empty, depth, ']');
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        for key in value.try_iter()? {
            let item = value.get_item(&key)?;
            entries.push((json_key(&key)?, item));
        }
        if self.style.sort_keys {
            entries.sort_by(|left, right| left.0.cmp(&right.0));
        }
        self.text.push('{');
        for (index, (key, item)) in entries.iter().enumerate() {
            self.separate(index == 0, depth + 1);
            self.string(key);
            self.text.push_str(self.key);
            self.value(item, depth + 1)?;
        }
        self.close(entries.is_empty(), depth, '}');
        Ok(())
    }

    fn separate(&mut self, first: bool, depth: usize) {
        if !first {
            self.text.push_str(self.item);
        }
        self.line(depth);
    }

    fn close(&mut self, empty: bool, depth: usize, bracket: char) {
        if !empty {
            self.line(depth);
        }
        self.text.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(spaces) = self.style.indent {
            self.text.push('\n');
            self.text.push_str(&" ".repeat(spaces * depth));
        }
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

fn json_key(key: &Value) -> Result<String, Error> {
    Ok(match key.kind() {
        ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
        ValueKind::None => "null".into(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
        ValueKind::Number => number(key),
        kind => return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: a key cannot be a {kind}"))),
    })
}

fn number(value: &Value) -> String {
    match (value.is_integer(), f64::try_from(value.clone())) {
        (false, Ok(float)) => float_repr(float),
        _ => value.to_string(),
    }
}

/// The shortest digits that read back as the same number, laid out as Python does:
/// plain from 1e-4 up to 1e16, with an exponent elsewhere.
pub fn float_repr(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .into();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    match (-4..16).contains(&exponent) {
        true => {
            let plain = format!("{value}");
            if plain.contains('.') {
                plain
            } else {
                format!("{plain}.0")
            }
        }
        false => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

/// `datetime.now().strftime(format)`.
pub fn strftime_now(format: &str) -> Result<String, String> {
    // SAFETY: asked for no record of its own, `time` writes nothing.
    strftime(format, unsafe { libc::time(std::ptr::null_mut()) })
}

/// A time, in seconds since 1970, in the local time zone.
pub fn strftime(format: &str, seconds: i64) -> Result<String, String> {
    let format = std::ffi::CString::new(format).map_err(|_| "strftime_now: the format holds a NUL")?;
    if format.is_empty() {
        return Ok(String::new());
    }
    let mut text = [0_u8; 512];
    // SAFETY: `localtime_r` fills the zeroed record that it is given, `strftime` writes at
    // most `text.len()` bytes, and both pointers are valid for the calls.
    let length = unsafe {
        let mut local: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut local).is_null() {
            return Err("strftime_now: no local time".into());
        }
        libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &local)
    };
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_laid_out_as_in_python() {
        let expected = [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.1 + 0.2, "0.30000000000000004"),
            (-0.0, "-0.0"),
        ];
        for (value, text) in expected {
            assert_eq!(float_repr(value), text);
        }
    }

    #[test]
    fn json_is_spaced_as_in_python() {
        let value = Value::from(minijinja::value::Serde(
            serde_json::json!({"b": [1, 2.0, {}], "가": "<a & 'b'>\u{1}\u{7f}", "a": null}),
        ));
        assert_eq!(
            dumps(&value, &JsonStyle::default()).unwrap(),
            "{\"b\": [1, 2.0, {}], \"가\": \"<a & 'b'>\\u0001\u{7f}\", \"a\": null}"
        );
        let style = JsonStyle { indent: Some(2), sort_keys: true, ensure_ascii: true, separators: None };
        assert_eq!(
            dumps(&value, &style).unwrap(),
            "{\n  \"a\": null,\n  \"b\": [\n    1,\n    2.0,\n    {}\n  ],\n  \"\\uac00\": \"<a & 'b'>\\u0001\\u007f\"\n}"
        );
        assert!(dumps(&Value::UNDEFINED, &JsonStyle::default()).is_err());
    }
}
