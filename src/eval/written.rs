//! What candidates write after prompts, for metrics over text; and what of a row is the prompt, what the answer.

use super::candidate::{adapter_set, Candidate};
use super::config::GenerationConfig;
use super::generate::{generate, Continuation};
use super::prompt::Prompt;
use super::text::before_stop;
use crate::data::example::{Chat, Example};
use crate::error::{Error, Result};
use crate::lora::Model;
use serde_json::Value;

/// The continuation of every prompt by every candidate: `[candidates][prompts]`.
pub fn texts(
    model: &Model,
    candidates: &[Candidate],
    prompts: &[Prompt],
    config: &GenerationConfig,
) -> Result<Vec<Vec<String>>> {
    let tokenizer = model.tokenizer()?;
    let ids: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.ids.clone()).collect();
    let set = adapter_set(candidates);
    let stops = config.stop.as_ref().map(|stop| stop.strings.as_slice()).unwrap_or_default();
    let parts = generate(model.decoder(), &set, candidates.len(), &ids, config, &mut |_| Ok(()))?;
    let text = |one: Continuation| Ok(before_stop(&tokenizer.decode(&one.ids, true)?, stops).to_owned());
    parts.into_iter().map(|part| part.into_iter().map(text).collect()).collect()
}

/// What is asked in a row, and what is to be answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Exercise {
    Text { prompt: String, target: String },
    Chat { chat: Chat, target: String },
}

impl Exercise {
    /// Of a row as training reads it: the last turn, which is the assistant's, is the wanted answer.
    pub fn of(example: Example) -> Result<Self> {
        match example {
            Example::Pair { prompt, completion } => Ok(Exercise::Text { prompt, target: completion }),
            Example::Text(_) => Err(Error::data("a text has no prompt and no answer")),
            Example::Chat(mut chat) => {
                let target = match chat.messages.pop() {
                    Some(last) if last["role"] == "assistant" => content(&last)?,
                    last => {
                        let role = last.as_ref().and_then(|last| last["role"].as_str()).unwrap_or("none");
                        let error =
                            format!("expected the assistant's answer as the last message, found role \"{role}\"");
                        return Err(Error::data(error).with_hint("it is what the model's answer is compared with"));
                    }
                };
                Ok(Exercise::Chat { chat, target })
            }
        }
    }
}

/// The text of a message: a string, or parts of which each is a text.
pub fn content(message: &Value) -> Result<String> {
    let part = |part: &Value| part["text"].as_str().map(str::to_owned);
    let text = match &message["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => parts.iter().map(part).collect(),
        _ => None,
    };
    text.ok_or_else(|| Error::data(format!("expected a message whose `content` is a text, found {message}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_turn_of_an_assistant_is_the_wanted_answer() {
        let turn = |role: &str, content: Value| json!({ "role": role, "content": content });
        let chat = |messages: Vec<Value>| Example::Chat(Chat { messages, ..Chat::default() });
        let parts = json!([{ "type": "text", "text": "4" }, { "type": "text", "text": "2" }]);
        let asked = vec![turn("user", json!("6 * 7?"))];
        let exercise = Exercise::of(chat([asked.clone(), vec![turn("assistant", parts)]].concat())).unwrap();
        assert_eq!(
            exercise,
            Exercise::Chat { chat: Chat { messages: asked.clone(), ..Chat::default() }, target: "42".into() }
        );
        assert!(Exercise::of(chat(asked)).unwrap_err().message.contains("found role \"user\""));
        assert!(content(&turn("assistant", Value::Null)).is_err(), "a tool call is no text");
    }
}
