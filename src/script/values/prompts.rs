//! Prompts and answers as a script writes them: texts, messages, conversations.

use crate::eval::generation_eval::content;
use crate::eval::generator::Generator;
use crate::eval::prompt::{Prompt, PromptReader};
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::json::to_json;
use crate::{Error, Result};
use rhai::Dynamic;
use serde_json::Value;

/// The prompts, and whether it is a single one: a text, a message (a map), a conversation (an array of maps), or an
/// array of texts and conversations.
pub fn read_prompts(generator: &Generator, value: &Dynamic) -> Result<(Vec<Prompt>, bool)> {
    let one = || read_prompt(&generator.prompts, value).map_err(|error| generator.context(error));
    let Ok(items) = value.as_array_ref() else { return Ok((vec![one()?], true)) };
    if items.is_empty() {
        return Err(generator.context(Error::input("expected at least one text or message, found an empty array")));
    }
    if items.iter().all(Dynamic::is_map) {
        return Ok((vec![one()?], true));
    }
    let read = |(number, item): (usize, &Dynamic)| {
        let prompt = read_prompt(&generator.prompts, item);
        prompt.map_err(|error| generator.context(error.context(format!("prompt {number}"))))
    };
    Ok((items.iter().enumerate().map(read).collect::<Result<_>>()?, false))
}

/// A text, a message or a conversation.
pub fn read_prompt(prompts: &PromptReader, value: &Dynamic) -> Result<Prompt> {
    if let Some(text) = String::from_script(value) {
        return prompts.read(&text);
    }
    if value.is_map() {
        return prompts.messages(vec![to_json(value)?]);
    }
    if value.is_array() {
        return match to_json(value)? {
            Value::Array(messages) => prompts.messages(messages),
            other => Err(Error::bug(format!("an array became {other}"))),
        };
    }
    Err(Error::input(format!("expected a text, a message or an array of messages, found {}", describe(value)))
        .with_hint("a message is #{ role: \"user\", content: \"…\" }, a conversation an array of them"))
}

/// The text of an expected answer: a text, or that of the last of some messages.
pub fn read_answer(value: &Dynamic) -> Result<String> {
    if let Some(text) = String::from_script(value) {
        return Ok(text);
    }
    let message = match to_json(value)? {
        Value::Array(mut messages) => messages.pop().unwrap_or_default(),
        other => other,
    };
    if message.is_object() {
        return content(&message);
    }
    Err(Error::input(format!("the target: expected a text or a message, found {}", describe(value))))
}
