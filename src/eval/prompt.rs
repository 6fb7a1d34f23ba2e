//! Prompts: a text to continue, or a conversation that the chat template writes.

use crate::data::example::Chat;
use crate::data::template::ChatTemplate;
use crate::error::{Error, Result};
use crate::hub::tokenizer::Tokenizer;
use crate::options;
use serde_json::{json, Value};
use std::cell::OnceCell;

options! {
    /// How prompts are read.
    #[derive(Debug, Clone, Copy)]
    pub struct PromptOptions {
        /// Take a text as a user's message, which the model answers by its chat template.
        pub chat: bool = false, words "false; true for `chat`";
    }
}

/// A prompt as people read it and as the model does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The text; of a conversation its turns, without the template's markup.
    pub shown: String,
    pub ids: Vec<u32>,
}

/// Turns texts and conversations into prompts. Compiles the chat template once, when it is first needed.
#[derive(Debug)]
pub struct PromptReader<'a> {
    tokenizer: &'a Tokenizer,
    options: PromptOptions,
    template: OnceCell<ChatTemplate>,
    tool_template: OnceCell<ChatTemplate>,
}

impl<'a> PromptReader<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let options = PromptOptions::default();
        PromptReader { tokenizer, options, template: OnceCell::new(), tool_template: OnceCell::new() }
    }

    #[must_use]
    pub fn with(self, options: PromptOptions) -> Self {
        PromptReader { options, ..self }
    }

    /// A text as the options say: to be continued, or a user's message.
    pub fn read(&self, text: &str) -> Result<Prompt> {
        if self.options.chat {
            self.question(text)
        } else {
            self.text(text)
        }
    }

    /// A text to be continued.
    pub fn text(&self, text: &str) -> Result<Prompt> {
        let ids = self.tokenizer.encode(text, true)?;
        if ids.is_empty() {
            return Err(Error::input("the prompt is empty: expected at least one token"));
        }
        Ok(Prompt { shown: text.to_owned(), ids })
    }

    /// A user's message to be answered.
    pub fn question(&self, text: &str) -> Result<Prompt> {
        self.messages(vec![json!({ "role": "user", "content": text })])
    }

    /// Messages to be answered.
    pub fn messages(&self, messages: Vec<Value>) -> Result<Prompt> {
        self.chat(&Chat { messages, ..Chat::default() })
    }

    /// A conversation as the template writes it, up to where the assistant's answer begins.
    pub fn chat(&self, chat: &Chat) -> Result<Prompt> {
        if chat.messages.is_empty() {
            return Err(Error::input("expected at least one message, found none"));
        }
        if let Some(other) = chat.messages.iter().find(|message| !message["role"].is_string()) {
            return Err(Error::input(format!("expected messages with a `role`, found {other}"))
                .with_hint("a message is #{ role: \"user\", content: \"…\" }"));
        }
        let text = self.template(chat.tools.is_some())?.render(chat, chat.messages.len(), true)?.text;
        // The template writes every special token itself.
        let ids = self.tokenizer.encode(&text, false)?;
        if ids.is_empty() {
            return Err(Error::data("the chat template writes nothing for this conversation"));
        }
        Ok(Prompt { shown: shown(&chat.messages), ids })
    }

    /// The token that ends an assistant's turn, in a template that was set on the model: no file names it as an end
    /// token.
    pub fn turn_end(&self) -> Result<Option<u32>> {
        if !self.tokenizer.is_template_assigned() {
            return Ok(None);
        }
        let answer = "answer";
        let messages =
            vec![json!({ "role": "user", "content": "question" }), json!({ "role": "assistant", "content": answer })];
        let chat = Chat { messages, ..Chat::default() };
        // A template that refuses this conversation shows no end.
        let Ok(rendered) = self.template(false)?.render(&chat, chat.messages.len(), false) else { return Ok(None) };
        let Some((_, end)) = rendered.text.rsplit_once(answer) else { return Ok(None) };
        let ids = self.tokenizer.encode(end, false)?;
        let is_single = |id: &u32| self.tokenizer.added_tokens().iter().any(|token| token.id == *id);
        Ok(ids.into_iter().find(is_single))
    }

    fn template(&self, with_tools: bool) -> Result<&ChatTemplate> {
        let is_for_tools = with_tools && self.tokenizer.chat_template_named("tool_use").is_some();
        let cell = if is_for_tools { &self.tool_template } else { &self.template };
        if let Some(template) = cell.get() {
            return Ok(template);
        }
        let template = ChatTemplate::of(self.tokenizer, is_for_tools)?.ok_or_else(|| {
            Error::data("the tokenizer has no chat template")
                .with_hint("give one, model.chat_template = \"…\", or continue a plain text with generate(…)")
        })?;
        Ok(cell.get_or_init(|| template))
    }
}

/// The text of a single message; of several each behind its role.
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
