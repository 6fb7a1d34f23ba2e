//! What a row means: the shapes that TRL knows, told by the names of the columns.
//!
//! `messages` (or ShareGPT's `conversations`), `prompt` + `completion` (texts, or lists of
//! messages), Alpaca's `instruction` (+ `input`) + `output`, and `text`, looked for in
//! this order. Beside messages, a row may have `tools` (a list, or JSON text of one) and
//! `chat_template_kwargs` (a map of further template variables).

use super::dataset::Row;
use super::messages::WEIGHTS;
use super::number;
use super::python::float_repr;
use crate::error::{Error, Result};
use crate::suggest;
use serde_json::{json, Value};

/// A recognised set of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Messages,
    /// ShareGPT: `conversations` of `from` and `value`.
    Conversations,
    PromptCompletion,
    Alpaca,
    Text,
}

/// What one row gives to train on.
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

/// A conversation and what else the template sees.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chat {
    pub messages: Vec<Value>,
    /// How many messages are the prompt, where the row says so.
    pub prompt: Option<usize>,
    pub tools: Option<Value>,
    pub variables: Row,
}

/// The usual column of plain text.
pub const TEXT: &str = "text";

const ALPACA: [&str; 6] = ["instruction", "input", "output", "system", "tools", "chat_template_kwargs"];

const EXPECTED: &str =
    "`messages`, `conversations`, `prompt` + `completion`, `instruction` (+ `input`) + `output`, or `text`";
const KNOWN: [&str; 8] =
    ["messages", "conversations", "prompt", "completion", "instruction", "input", "output", "text"];

/// Names that data sets give to what is asked, to what it is asked about, and to the answer; the likelier first.
const QUESTIONS: [&str; 8] = ["instruction", "prompt", "question", "query", "problem", "user", "input", "source"];
const CONTEXTS: [&str; 5] = ["context", "input", "passage", "document", "article"];
const ANSWERS: [&str; 11] = [
    "completion",
    "output",
    "response",
    "answer",
    "chosen",
    "target",
    "reply",
    "assistant",
    "solution",
    "summary",
    "label",
];

impl Shape {
    /// Recognises the shape of a table by its columns. `text` is the column of plain text that was asked for: it
    /// comes before everything that is recognised.
    pub fn recognise(columns: &[String], text: Option<&str>) -> Result<Self> {
        let has = |name: &str| columns.iter().any(|column| column == name);
        match () {
            _ if text.is_some_and(has) => Ok(Shape::Text),
            _ if has("messages") => Ok(Shape::Messages),
            _ if has("conversations") => Ok(Shape::Conversations),
            _ if has("prompt") && has("completion") => Ok(Shape::PromptCompletion),
            _ if has("instruction") && has("output") => Ok(Shape::Alpaca),
            _ if has(TEXT) => Ok(Shape::Text),
            _ => Err(unrecognised(columns)),
        }
    }

    /// What the rows are read as, from which columns, and which are not used: one line for people.
    pub fn describe(self, columns: &[String], text: &str, chat: bool) -> String {
        let (what, names): (&str, &[&str]) = match self {
            Shape::Messages => ("as conversations", &["messages", "tools", "chat_template_kwargs"]),
            Shape::Conversations => ("as conversations", &["conversations", "system", "tools", "chat_template_kwargs"]),
            Shape::PromptCompletion => {
                ("as prompts and completions", &["prompt", "completion", "tools", "chat_template_kwargs"])
            }
            Shape::Alpaca if chat => ("as conversations for the chat template", &ALPACA),
            Shape::Alpaca => ("as \"### Instruction:\" text, for there is no chat template,", &ALPACA[..4]),
            Shape::Text => ("as plain text", &[]),
        };
        let is_used = |column: &str| names.contains(&column) || (self == Shape::Text && column == text);
        let (used, left): (Vec<&str>, Vec<&str>) = columns.iter().map(String::as_str).partition(|name| is_used(name));
        let left = if left.is_empty() { String::new() } else { format!("; not used: {}", left.join(", ")) };
        format!("rows are read {what} from {}{left}", used.join(", "))
    }

    /// Reads one row. Alpaca rows become a conversation where `chat` says that there is a
    /// template, and `### Instruction:` text where there is none.
    pub fn example(self, row: &Row, text: &str, chat: bool) -> Result<Example> {
        match self {
            Shape::Messages => Ok(Example::Chat(with_context(row, messages(field(row, "messages")?, "messages")?)?)),
            Shape::Conversations => {
                let messages = share_gpt(list(field(row, "conversations")?, "conversations")?)?;
                let messages = match row.get("system").and_then(Value::as_str).filter(|system| !system.is_empty()) {
                    Some(system) if messages.first().is_none_or(|first| first["role"] != "system") => {
                        [vec![json!({"role": "system", "content": system})], messages].concat()
                    }
                    _ => messages,
                };
                Ok(Example::Chat(with_context(row, messages)?))
            }
            Shape::PromptCompletion => prompt_completion(row),
            Shape::Alpaca => alpaca(row, chat),
            Shape::Text => Ok(Example::Text(string(field(row, text)?, text)?)),
        }
    }
}

fn unrecognised(columns: &[String]) -> Error {
    let error = Error::data(format!("expected columns {EXPECTED}, found [{}]", columns.join(", ")));
    if let Some(hint) = by_role(columns) {
        return error.with_hint(hint);
    }
    let misspelt = columns.iter().filter(|column| !KNOWN.contains(&column.as_str()));
    let near = misspelt.filter_map(|column| Some((column, suggest::nearest(column, KNOWN)?))).next();
    error.with_hint(match near {
        Some((column, known)) => {
            format!("did you mean `{known}` for `{column}`? rename the column, or map the rows")
        }
        _ => mapped(columns),
    })
}

/// How to map rows whose columns say by their names what is asked and what is answered.
fn by_role(columns: &[String]) -> Option<String> {
    let find = |names: &[&'static str], but: &[&str]| {
        names.iter().copied().find(|name| !but.contains(name) && columns.iter().any(|column| column == name))
    };
    let answer = find(&ANSWERS, &[])?;
    let question = find(&QUESTIONS, &[answer])?;
    let pair = |text: String| format!("map the rows, as in data.map(|row| {text})");
    Some(match find(&CONTEXTS, &[answer, question]) {
        Some(context) => {
            pair(format!("#{{ instruction: row.{question}, input: row.{context}, output: row.{answer} }}"))
        }
        None if question == "prompt" || answer == "completion" => {
            pair(format!("#{{ prompt: row.{question}, completion: row.{answer} }}"))
        }
        None => pair(format!("#{{ instruction: row.{question}, output: row.{answer} }}")),
    })
}

/// What to do with columns that say nothing by their names.
fn mapped(columns: &[String]) -> String {
    match columns {
        [_, _, ..] => "map the rows: data.map(|row| #{ prompt: …, completion: … }) with the column that is asked and \
                       the one that is answered"
            .to_owned(),
        [only] => format!("for plain text give the column: text_column: \"{only}\""),
        [] => "map each row to one of these shapes".to_owned(),
    }
}

fn field<'a>(row: &'a Row, name: &str) -> Result<&'a Value> {
    match row.get(name) {
        Some(Value::Null) | None => Err(Error::data(format!("column `{name}` is empty"))
            .with_hint(format!("leave such rows out: data.filter(|row| \"{name}\" in row && row.{name} != ())"))),
        Some(value) => Ok(value),
    }
}

fn string(value: &Value, name: &str) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        // A column of digits was read as numbers; text is what was meant, as Python writes it.
        Value::Number(number) if number.is_f64() => Ok(float_repr(number.as_f64().unwrap_or(f64::NAN))),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        other if number::not_finite(other).is_some() => {
            Err(Error::data(format!("column `{name}`: expected a string, found {}", number::text(other))))
        }
        other => Err(Error::data(format!("column `{name}`: expected a string, found {}", kind(other)))),
    }
}

/// The text of an optional column; null and absence are empty.
fn optional(row: &Row, name: &str) -> Result<String> {
    row.get(name).filter(|value| !value.is_null()).map_or(Ok(String::new()), |value| string(value, name))
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    match value.as_array() {
        Some(list) if !list.is_empty() => Ok(list),
        Some(_) => Err(Error::data(format!("column `{name}` is an empty list"))),
        None => Err(Error::data(format!("column `{name}`: expected a list of messages, found {}", kind(value)))
            .with_hint("a message is {\"role\": \"user\", \"content\": \"…\"}")),
    }
}

fn messages(value: &Value, name: &str) -> Result<Vec<Value>> {
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

fn with_context(row: &Row, messages: Vec<Value>) -> Result<Chat> {
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
                    "give a list of maps, or the whole list as one JSON text; a list of JSON texts would be written \
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
    let mut all = messages(prompt, "prompt")?;
    let count = all.len();
    all.extend(messages(completion, "completion")?);
    Ok(Example::Chat(Chat { prompt: Some(count), ..with_context(row, all)? }))
}

fn alpaca(row: &Row, chat: bool) -> Result<Example> {
    let (instruction, input) = (string(field(row, "instruction")?, "instruction")?, optional(row, "input")?);
    let (output, system) = (string(field(row, "output")?, "output")?, optional(row, "system")?);
    if !chat {
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

fn share_gpt(list: &[Value]) -> Result<Vec<Value>> {
    let convert = |(index, turn): (usize, &Value)| {
        if turn.get("role").is_some() {
            return Ok(turn.clone());
        }
        let (Some(from), Some(value)) = (turn.get("from").and_then(Value::as_str), turn.get("value")) else {
            return Err(Error::data(format!("column `conversations`, turn {index}: expected `from` and `value`")));
        };
        if value.is_null() {
            return Err(Error::data(format!("column `conversations`, turn {index} has no text: its `value` is null"))
                .with_hint("leave such rows out, or give the turn a text"));
        }
        let role = match from {
            "human" | "user" => "user",
            "gpt" | "assistant" | "chatgpt" | "model" | "function_call" => "assistant",
            "system" => "system",
            "tool" | "observation" => "tool",
            other => {
                let unknown = format!("column `conversations`, turn {index}: unknown speaker `{other}`");
                return Err(Error::data(unknown)
                    .with_hint("known: human, user, gpt, assistant, system, function_call, observation, tool"));
            }
        };
        let mut message = match from {
            "function_call" => calls(value).ok_or_else(|| {
                Error::data(format!("column `conversations`, turn {index}: expected JSON with `name` and `arguments`"))
            })?,
            _ => json!({"role": role, "content": value}),
        };
        // What says whether the turn is trained on.
        for key in WEIGHTS {
            turn.get(key).into_iter().for_each(|value| message[key] = value.clone());
        }
        Ok(message)
    };
    list.iter().enumerate().map(convert).collect()
}

fn calls(value: &Value) -> Option<Value> {
    let parsed: Value = serde_json::from_str(value.as_str()?).ok()?;
    let calls = if parsed.is_array() { parsed } else { json!([parsed]) };
    let wrap = |call: &Value| call.get("name").map(|_| json!({"type": "function", "function": call}));
    let calls: Option<Vec<Value>> = calls.as_array()?.iter().map(wrap).collect();
    Some(json!({"role": "assistant", "content": "", "tool_calls": calls?}))
}

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

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    fn read(value: Value, chat: bool) -> Result<Example> {
        let row = row(value);
        let columns: Vec<String> = row.keys().cloned().collect();
        Shape::recognise(&columns, None)?.example(&row, "text", chat)
    }

    #[test]
    fn every_shape_is_told_by_its_columns() {
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
    fn share_gpt_speakers_become_roles() {
        let turns = json!({"conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
            {"from": "observation", "value": "1"},
            {"from": "gpt", "value": "a"}], "system": "s"});
        let Example::Chat(chat) = read(turns, true).unwrap() else { panic!("a chat") };
        let roles: Vec<&str> = chat.messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant"]);
        assert_eq!(chat.messages[2]["tool_calls"][0]["function"]["arguments"]["x"], 1);
    }

    #[test]
    fn columns_are_explained_by_the_roles_that_their_names_say() {
        let hint = |columns: &[&str]| {
            let columns: Vec<String> = columns.iter().map(|&name| name.to_owned()).collect();
            Shape::recognise(&columns, None).unwrap_err().hint.unwrap()
        };
        for (columns, expected) in [
            (&["question", "answer"][..], "#{ instruction: row.question, output: row.answer }"),
            (&["id", "prompt", "response"], "#{ prompt: row.prompt, completion: row.response }"),
            (&["context", "instruction", "response"], "input: row.context, output: row.response }"),
            (
                &["instruction", "context", "response", "category"],
                "#{ instruction: row.instruction, input: row.context,",
            ),
            (&["input", "output"], "#{ instruction: row.input, output: row.output }"),
            (&["input", "target"], "#{ instruction: row.input, output: row.target }"),
            (&["question", "context", "answer"], "instruction: row.question, input: row.context, output: row.answer"),
            (&["prompt", "chosen", "rejected"], "#{ prompt: row.prompt, completion: row.chosen }"),
            (&["article", "summary", "question"], "instruction: row.question, input: row.article, output: row.summary"),
        ] {
            assert!(hint(columns).contains(expected), "{columns:?}: {}", hint(columns));
        }
        assert!(!hint(&["left", "right"]).contains("row.left"), "columns that say nothing are not guessed");
    }

    #[test]
    fn a_column_of_text_that_is_asked_for_comes_first() {
        let columns: Vec<String> = ["instruction", "input", "output", "text"].map(String::from).into();
        assert_eq!(Shape::recognise(&columns, Some("text")).unwrap(), Shape::Text);
        assert_eq!(Shape::recognise(&columns, None).unwrap(), Shape::Alpaca);
        let read = |shape: Shape, chat| shape.describe(&columns, "text", chat);
        assert_eq!(
            read(Shape::Text, true),
            "rows are read as plain text from text; not used: instruction, input, output"
        );
        assert!(
            read(Shape::Alpaca, true).contains("conversations for the chat template from instruction, input, output; ")
        );
        assert!(read(Shape::Alpaca, false).contains("text, for there is no chat template, from instruction"));
    }

    #[test]
    fn weights_of_turns_are_kept_and_empty_turns_named() {
        let turn = |value: Value, weight: Value| {
            json!({"conversations": [{"from": "human", "value": "q"},
            {"from": "gpt", "value": value, "weight": weight}]})
        };
        let Example::Chat(chat) = read(turn(json!("a"), json!(0)), true).unwrap() else { panic!("a chat") };
        assert_eq!(chat.messages[1], json!({"role": "assistant", "content": "a", "weight": 0}));
        let error = read(turn(Value::Null, json!(1)), true).unwrap_err();
        assert!(error.message.contains("turn 1 has no text"), "{error}");
    }

    #[test]
    fn what_is_not_recognised_is_listed() {
        let error = read(json!({"question": "q", "message": "m"}), true).unwrap_err();
        assert!(
            error.message.contains("found [question, message]") && error.message.contains("`prompt` + `completion`")
        );
        assert!(error.hint.unwrap().contains("`messages` for `message`"));
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
}
