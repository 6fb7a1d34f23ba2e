//! What a model is asked: a text to continue, or a conversation by its chat template.

use crate::data::shape::Chat;
use crate::data::template::ChatTemplate;
use crate::error::{Error, Result};
use crate::hub::tokenizer::Tokenizer;
use serde_json::Value;

/// A prompt as people read it and as the model does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The text; of a conversation its turns, without the template's markup.
    pub shown: String,
    pub ids: Vec<u32>,
}

impl Prompt {
    /// A text to be continued.
    pub fn text(tokenizer: &Tokenizer, text: &str) -> Result<Self> {
        let ids = tokenizer.encode(text, true)?;
        match ids.is_empty() {
            true => Err(Error::input("the prompt is empty: expected at least one token")),
            false => Ok(Prompt { shown: text.to_owned(), ids }),
        }
    }

    /// A conversation as the template writes it, up to where the assistant's answer begins.
    pub fn chat(tokenizer: &Tokenizer, messages: Vec<Value>) -> Result<Self> {
        if messages.is_empty() {
            return Err(Error::input("expected at least one message, found none"));
        }
        if let Some(other) = messages.iter().find(|message| !message["role"].is_string()) {
            return Err(Error::input(format!("expected messages with a `role`, found {other}"))
                .with_hint("a message is #{ role: \"user\", content: \"…\" }"));
        }
        let template = ChatTemplate::of(tokenizer, false)?.ok_or_else(|| {
            Error::data("the tokenizer has no chat template").with_hint("continue a plain text with generate(…)")
        })?;
        let shown = shown(&messages);
        let chat = Chat { messages, ..Chat::default() };
        let text = template.render(&chat, chat.messages.len(), true)?.text;
        // The template writes every special token itself.
        Ok(Prompt { shown, ids: tokenizer.encode(&text, false)? })
    }
}

/// A single question as it is; several turns each behind its role.
fn shown(messages: &[Value]) -> String {
    let content = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    match messages {
        [one] => content(one),
        _ => {
            let turn =
                |message: &Value| format!("{}: {}", message["role"].as_str().unwrap_or_default(), content(message));
            messages.iter().map(turn).collect::<Vec<_>>().join("\n")
        }
    }
}
