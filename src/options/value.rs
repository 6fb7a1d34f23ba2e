//! Values of options from any source: a script, a JSON file, a default.

use std::any::Any;
use std::fmt::Write as _;
use std::rc::Rc;

/// The value of an option. A value of a type that only the caller knows, such as a function of a script, is
/// [`Value::Other`].
#[derive(Clone)]
pub enum Value {
    Unit,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Array(Vec<Value>),
    Map(Vec<(String, Value)>),
    Other(Other),
}

/// A value of a type that this module does not know.
#[derive(Clone)]
pub struct Other {
    /// As messages name it: "a function".
    pub described: String,
    /// A character, or a number beyond an int, where JSON can hold it.
    pub json: Option<serde_json::Value>,
    pub value: Rc<dyn Any>,
}

/// The longest text of a value in a message, in characters.
const LONGEST: usize = 60;

impl Value {
    pub fn is_unit(&self) -> bool {
        matches!(self, Value::Unit)
    }

    /// An int counts as a float.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(int) => Some(*int as f64),
            Value::Float(float) => Some(*float),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_map(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value as JSON; `None` where something in it is none: a function, NaN.
    pub fn to_json(&self) -> Option<serde_json::Value> {
        Some(match self {
            Value::Unit => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => serde_json::Number::from_f64(*value)?.into(),
            Value::Text(value) => value.as_str().into(),
            Value::Array(items) => items.iter().map(Value::to_json).collect::<Option<Vec<_>>>()?.into(),
            Value::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| Some((key.clone(), value.to_json()?)));
                serde_json::Value::Object(entries.collect::<Option<_>>()?)
            }
            Value::Other(other) => other.json.clone()?,
        })
    }

    /// What to write after "found": the type and, where it is short, the value.
    pub fn describe(&self) -> String {
        match self {
            Value::Unit => "nothing `()`".to_owned(),
            Value::Bool(_) => format!("bool {}", self.literal()),
            Value::Int(_) => format!("int {}", self.literal()),
            Value::Float(_) => format!("float {}", self.literal()),
            Value::Text(_) => format!("string {}", shortened(&self.literal())),
            Value::Array(_) => format!("array {}", shortened(&self.literal())),
            Value::Map(_) => format!("map {}", shortened(&self.literal())),
            Value::Other(other) => other.described.clone(),
        }
    }

    /// As a script writes it: `2e-4`, `"linear"`, `["q_proj"]`, `()`.
    pub fn literal(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) {
        // Writing into a string does not fail.
        let _ = match self {
            Value::Unit => write!(text, "()"),
            Value::Bool(value) => write!(text, "{value}"),
            Value::Int(value) => write!(text, "{value}"),
            Value::Float(value) if *value != 0.0 && value.is_finite() && value.abs() < 1e-3 => {
                write!(text, "{value:e}")
            }
            Value::Float(value) => write!(text, "{value:?}"),
            Value::Text(value) => write!(text, "{value:?}"),
            Value::Other(other) => write!(text, "{}", other.described),
            Value::Array(items) => {
                text.push('[');
                for (at, item) in items.iter().enumerate() {
                    text.push_str(if at == 0 { "" } else { ", " });
                    item.write(text);
                }
                write!(text, "]")
            }
            Value::Map(entries) => {
                text.push_str("#{");
                for (at, (key, value)) in entries.iter().enumerate() {
                    text.push_str(if at == 0 { " " } else { ", " });
                    let _ = write!(text, "{key}: ");
                    value.write(text);
                }
                write!(text, "{}", if entries.is_empty() { "}" } else { " }" })
            }
        };
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(&self.literal())
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Value::Unit,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(int), _) => Value::Int(int),
                (None, Some(float)) => Value::Float(float),
                (None, None) => Value::Text(number.to_string()),
            },
            serde_json::Value::String(text) => Value::Text(text.clone()),
            serde_json::Value::Array(items) => Value::Array(items.iter().map(Value::from).collect()),
            serde_json::Value::Object(map) => {
                Value::Map(map.iter().map(|(key, value)| (key.clone(), Value::from(value))).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_go_to_json_and_back() {
        let json = json!({"a": [1, 0.5, null, true, "x"], "b": {}});
        assert_eq!(Value::from(&json).to_json(), Some(json));
        assert_eq!(Value::Array(vec![Value::Float(f64::NAN)]).to_json(), None);
    }

    #[test]
    fn values_are_described_and_written_as_scripts_write_them() {
        for (value, described, literal) in [
            (Value::Unit, "nothing `()`", "()"),
            (Value::Int(3), "int 3", "3"),
            (Value::Float(1.0), "float 1.0", "1.0"),
            (Value::Float(2e-4), "float 2e-4", "2e-4"),
            (Value::Text("a\"b".to_owned()), r#"string "a\"b""#, r#""a\"b""#),
            (Value::from(&json!(["x", 1, 0.5])), r#"array ["x", 1, 0.5]"#, r#"["x", 1, 0.5]"#),
            (Value::from(&json!({"a": {}})), "map #{ a: #{} }", "#{ a: #{} }"),
        ] {
            assert_eq!((value.describe().as_str(), value.literal().as_str()), (described, literal));
        }
        let long = Value::Text("x".repeat(100)).describe();
        assert_eq!(long.chars().count(), "string ".len() + LONGEST + 1, "{long}");
    }
}
