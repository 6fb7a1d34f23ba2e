//! The conversation as values of the template.

use super::value::{Dict, Items, Key, Text, Value};
use serde_json::Value as Json;
use std::rc::Rc;
use std::sync::Arc;

impl Value {
    /// A value of the conversation.
    pub fn from_json(json: &Json) -> Value {
        match json {
            Json::Null => Value::None,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Value::Int(value.into()),
                (None, Some(value)) => Value::Int(value.into()),
                (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::str(text),
            Json::Array(items) => {
                let items = items.iter().map(Value::from_json).collect();
                Value::List(Rc::new(Items { items, grouped: false, data: true }))
            }
            Json::Object(fields) => {
                let entries = fields.iter().map(|(name, value)| {
                    let name: Arc<str> = Arc::from(name.as_str());
                    let key = Value::Str(Text { text: name.clone(), markup: false });
                    (Key::Str(name), (key, Value::from_json(value)))
                });
                Value::Dict(Rc::new(Dict { entries: entries.collect(), data: true, turn: None }))
            }
        }
    }

    /// The messages of a conversation, each with its index.
    pub fn from_messages(messages: &[Json]) -> Value {
        let items = messages.iter().enumerate().map(|(index, message)| match Value::from_json(message) {
            Value::Dict(dict) => match Rc::try_unwrap(dict) {
                Ok(mut dict) => {
                    dict.turn = Some(index);
                    Value::Dict(Rc::new(dict))
                }
                Err(dict) => Value::Dict(dict),
            },
            other => other,
        });
        Value::List(Rc::new(Items { items: items.collect(), grouped: false, data: true }))
    }
}
