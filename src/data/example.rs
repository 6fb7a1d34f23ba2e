//! One row as a training example: a conversation, a prompt with its completion, or text.
//!
//! Beside its messages a row may have `tools` (a list, or JSON text of one) and `chat_template_kwargs` (further variables
//! for the template). Leaves to others: which format the rows have (`row_format.rs`), ShareGPT's turns (`share_gpt.rs`).

use super::dataset::Row;
use super::number;
use super::python::float_repr;
use super::row_format::RowFormat;
use super::share_gpt;
use crate::error::{Error, Result};
use serde_json::{json, Value};

/// The training example of one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Example {
    Chat(Chat),
    /// The completion follows the prompt without anything between them.
    Pair {
        prompt: String,
        completion: String,
    },
    Text(String),
}

/// A conversation, with everything else that the chat template sees.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chat {
    pub messages: Vec<Value>,
    /// How many messages are the prompt; `None` in rows without a `prompt` column.
    pub prompt: Option<usize>,
    pub tools: Option<Value>,
    pub variables: Row,
}

impl Example {
    /// Reads a row. Alpaca rows become a conversation if there is a chat template to render it, and `### Instruction:`
    /// text if there is none.
    pub fn read(row: &Row, format: RowFormat, text_column: &str, has_template: bool) -> Result<Self> {
        match format {
            RowFormat::Messages => {
                Ok(Example::Chat(with_context(row, messages(field(row, "messages")?, "messages")?)?))
            }
            RowFormat::Conversations => {
                let messages = share_gpt::messages(list(field(row, "conversations")?, "conversations")?)?;
                let messages = match row.get("system").and_then(Value::as_str).filter(|system| !system.is_empty()) {
                    Some(system) if messages.first().is_none_or(|first| first["role"] != "system") => {
                        [vec![json!({"role": "system", "content": system})], messages].concat()
                    }
                    _ => messages,
                };
                Ok(Example::Chat(with_context(row, messages)?))
            }
            // Read as `preference.rs` does, they are no examples of one answer.
            RowFormat::Preference => Err(Error::bug("a preference as an example")),
            RowFormat::PromptCompletion | RowFormat::Labelled => prompt_completion(row),
            RowFormat::Alpaca => alpaca(row, has_template),
            RowFormat::Text => Ok(Example::Text(string(field(row, text_column)?, text_column)?)),
        }
    }
}

pub(super) fn field<'a>(row: &'a Row, name: &str) -> Result<&'a Value> {
    match row.get(name) {
        Some(Value::Null) | None => Err(Error::data(format!("column `{name}` is empty"))
            .with_hint(format!("leave such rows out: data.filter(|row| \"{name}\" in row && row.{name} != ())"))),
        Some(value) => Ok(value),
    }
}

pub(super) fn string(value: &Value, name: &str) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        // A CSV column of digits was read as numbers; the user means their text, as Python writes it.
        Value::Number(number) if number.is_f64() => Ok(float_repr(number.as_f64().unwrap_or(f64::NAN))),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        other if number::not_finite(other).is_some() => {
            Err(Error::data(format!("column `{name}`: expected a string, found {}", number::text(other))))
        }
        other => Err(Error::data(format!("column `{name}`: expected a string, found {}", kind(other)))),
    }
}

/// The text of an optional column; empty if the column is null or absent.
fn optional(row: &Row, name: &str) -> Result<String> {
    row.get(name).filter(|value| !value.is_null()).map_or(Ok(String::new()), |value| string(value, name))
}

pub(super) fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    match value.as_array() {
        Some(list) if !list.is_empty() => Ok(list),
        Some(_) => Err(Error::data(format!("column `{name}` is an empty list"))),
        None => Err(Error::data(format!("column `{name}`: expected a list of messages, found {}", kind(value)))
            .with_hint("a message is {\"role\": \"user\", \"content\": \"…\"}")),
    }
}

pub(super) fn messages(value: &Value, name: &str) -> Result<Vec<Value>> {
    let list = list(value, name)?;
    for (index, message) in list.iter().enumerate() {
        if !message.get("role").is_some_and(Value::is_string) {
            let wrong = format!("column `{name}`, message {index}: expected an object with a `role` string");
            return Err(Error::data(wrong).with_hint(match message.get("from") {
                Some(_) => "messages with `from` and `value` are read from a column `conversations`: rename it",
                None => "a message is {\"role\": \"user\", \"content\": \"…\"}",
            }));
        }
    }
    Ok(list.clone())
}

pub(super) fn with_context(row: &Row, messages: Vec<Value>) -> Result<Chat> {
    messages
        .iter()
        .chain(row.get("tools"))
        .chain(row.get("chat_template_kwargs"))
        .try_for_each(number::ensure_finite)?;
    let tools =
        match row.get("tools") {
            Some(Value::String(text)) if text.trim().is_empty() => None,
            Some(Value::String(text)) => Some(serde_json::from_str(text).map_err(|error| {
                Error::data(format!("column `tools`: expected a list or JSON text of one: {error}"))
            })?),
            Some(Value::Null) | None => None,
            Some(value) => Some(value.clone()),
        };
    match &tools {
        None => {}
        Some(Value::Array(list)) => {
            if let Some((index, other)) = list.iter().enumerate().find(|(_, tool)| !tool.is_object()) {
                let wrong =
                    format!("column `tools`, item {index}: expected a function's schema, found {}", kind(other));
                return Err(Error::data(wrong).with_hint(
                    "give a list of maps, or the whole list as one JSON text: the template would write a list of JSON texts \
                     into the prompt as quoted strings",
                ));
            }
        }
        Some(other) => {
            return Err(Error::data(format!("column `tools`: expected a list of functions, found {}", kind(other))))
        }
    }
    let variables = match row.get("chat_template_kwargs") {
        Some(Value::Object(map)) => map.clone(),
        Some(Value::Null) | None => Row::new(),
        Some(other) => {
            return Err(Error::data(format!("column `chat_template_kwargs`: expected a map, found {}", kind(other))))
        }
    };
    Ok(Chat { messages, prompt: None, tools, variables })
}

fn prompt_completion(row: &Row) -> Result<Example> {
    let (prompt, completion) = (field(row, "prompt")?, field(row, "completion")?);
    if !prompt.is_array() && !completion.is_array() {
        return Ok(Example::Pair { prompt: string(prompt, "prompt")?, completion: string(completion, "completion")? });
    }
    if !prompt.is_array() || !completion.is_array() {
        return Err(Error::data("`prompt` and `completion` must both be texts or both be lists of messages"));
    }
    let mut turns = messages(prompt, "prompt")?;
    let count = turns.len();
    turns.extend(messages(completion, "completion")?);
    Ok(Example::Chat(Chat { prompt: Some(count), ..with_context(row, turns)? }))
}

fn alpaca(row: &Row, has_template: bool) -> Result<Example> {
    let (instruction, input) = (string(field(row, "instruction")?, "instruction")?, optional(row, "input")?);
    let (output, system) = (string(field(row, "output")?, "output")?, optional(row, "system")?);
    if !has_template {
        let input = if input.is_empty() { String::new() } else { format!("### Input:\n{input}\n\n") };
        let system = if system.is_empty() { String::new() } else { format!("{system}\n\n") };
        let prompt = format!("{system}### Instruction:\n{instruction}\n\n{input}### Response:\n");
        return Ok(Example::Pair { prompt, completion: output });
    }
    let question = if input.is_empty() { instruction } else { format!("{instruction}\n{input}") };
    let mut messages = Vec::new();
    if !system.is_empty() {
        messages.push(json!({"role": "system", "content": system}));
    }
    messages.push(json!({"role": "user", "content": question}));
    messages.push(json!({"role": "assistant", "content": output}));
    let prompt = Some(messages.len() - 1);
    Ok(Example::Chat(Chat { prompt, ..with_context(row, messages)? }))
}

/// The JSON type of a value, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::row_format::TEXT;

    fn read(row: Value, has_template: bool) -> Result<Example> {
        let row = row.as_object().unwrap().clone();
        let columns: Vec<String> = row.keys().cloned().collect();
        Example::read(&row, RowFormat::recognise(&columns, None)?, TEXT, has_template)
    }

    #[test]
    fn rows_of_every_format_are_read() {
        let chat =
            read(json!({"messages": [{"role": "user", "content": "hi"}], "tools": "[]", "id": 3}), true).unwrap();
        assert!(matches!(chat, Example::Chat(Chat { prompt: None, tools: Some(_), .. })));
        let pair = read(json!({"prompt": "a", "completion": 3}), true).unwrap();
        assert_eq!(pair, Example::Pair { prompt: "a".into(), completion: "3".into() });
        let turns = json!({"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]});
        assert!(matches!(read(turns, true).unwrap(), Example::Chat(Chat { prompt: Some(1), .. })));
        assert_eq!(read(json!({"text": "t"}), false).unwrap(), Example::Text("t".into()));
    }

    #[test]
    fn alpaca_becomes_a_conversation_or_headed_text() {
        let source = json!({"instruction": "Add", "input": "1 2", "output": "3"});
        let Example::Chat(chat) = read(source.clone(), true).unwrap() else { panic!("a chat") };
        assert_eq!(chat.messages[0]["content"], "Add\n1 2");
        let Example::Pair { prompt, .. } = read(source, false).unwrap() else { panic!("a pair") };
        assert_eq!(prompt, "### Instruction:\nAdd\n\n### Input:\n1 2\n\n### Response:\n");
    }

    #[test]
    fn malformed_rows_are_refused() {
        for bad in [
            json!({"messages": []}),
            json!({"messages": "hi"}),
            json!({"messages": [{"content": "x"}]}),
            json!({"text": null}),
            json!({"text": ["a"]}),
            json!({"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}),
            json!({"conversations": [{"from": "alien", "value": "x"}]}),
            json!({"messages": [{"role": "user", "content": "x"}], "tools": "{"}),
            json!({"messages": [{"role": "user", "content": "x"}], "tools": ["{\"type\": \"function\"}"]}),
            json!({"messages": [{"role": "user", "content": "x"}], "tools": "[\"{}\"]"}),
        ] {
            assert!(read(bad.clone(), true).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_system_column_of_share_gpt_becomes_the_first_message() {
        let turns =
            json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"});
        let Example::Chat(chat) = read(turns, true).unwrap() else { panic!("a chat") };
        assert_eq!(chat.messages[0], json!({"role": "system", "content": "s"}));
        assert_eq!(chat.messages.len(), 3);
    }
}
