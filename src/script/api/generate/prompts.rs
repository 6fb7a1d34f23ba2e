//! Prompts as a script gives them: texts, messages, conversations.

use crate::eval::prompt::{Prompt, PromptReader};
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::json::to_json;
use crate::{lora, Error, Result};
use rhai::Dynamic;
use serde_json::Value;

/// Reads the prompts of a call of `function`.
pub struct Reader<'a> {
    function: &'a str,
    pub model: &'a lora::Model,
    pub prompts: PromptReader<'a>,
    /// Whether a text is a user's message.
    chat: bool,
}

impl<'a> Reader<'a> {
    pub fn new(function: &'a str, model: &'a lora::Model, chat: bool) -> Result<Self> {
        Ok(Reader { function, model, prompts: PromptReader::new(model.tokenizer()?), chat })
    }

    pub fn within(&self, error: Error) -> Error {
        error.context(self.function)
    }

    /// The prompts, and whether it is a single one: a text, a message (a map), a conversation (an array of maps), or
    /// an array of texts and conversations.
    pub fn prompts(&self, value: &Dynamic) -> Result<(Vec<Prompt>, bool)> {
        let Ok(items) = value.as_array_ref() else {
            return Ok((vec![self.prompt(value).map_err(|error| self.within(error))?], true));
        };
        if items.is_empty() {
            return Err(self.within(Error::input("expected at least one text or message, found an empty array")));
        }
        if items.iter().all(Dynamic::is_map) {
            return Ok((vec![self.prompt(value).map_err(|error| self.within(error))?], true));
        }
        let read = |(number, item): (usize, &Dynamic)| {
            self.prompt(item).map_err(|error| self.within(error.context(format!("prompt {number}"))))
        };
        Ok((items.iter().enumerate().map(read).collect::<Result<_>>()?, false))
    }

    /// A text, a message or a conversation.
    pub fn prompt(&self, value: &Dynamic) -> Result<Prompt> {
        match String::from_script(value) {
            Some(text) => self.text(&text),
            None if value.is_array() => match to_json(value)? {
                Value::Array(messages) => self.prompts.messages(messages),
                other => Err(Error::bug(format!("an array became {other}"))),
            },
            None if value.is_map() => self.prompts.messages(vec![to_json(value)?]),
            None => Err(Error::input(format!(
                "expected a text, a message or an array of messages, found {}",
                describe(value)
            ))
            .with_hint("a message is #{ role: \"user\", content: \"…\" }, a conversation an array of them")),
        }
    }

    /// A text to continue, or as a user's message.
    pub fn text(&self, text: &str) -> Result<Prompt> {
        if self.chat {
            self.prompts.question(text)
        } else {
            self.prompts.text(text)
        }
    }
}
