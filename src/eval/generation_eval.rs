//! Scoring the texts that candidates write: which part of a row is the prompt, which the expected answer, and the
//! score of each text.

use super::candidate::{adapter_set, Candidate};
use super::config::GenerationConfig;
use super::field::in_row;
use super::generate::{generate, Continuation};
use super::prompt::{Prompt, PromptReader};
use super::text::before_stop;
use crate::data::example::{Chat, Example};
use crate::data::row_format::TEXT;
use crate::data::{Dataset, RowFormat};
use crate::error::{Error, Result};
use crate::lora::Model;
use serde_json::Value;

/// What one candidate wrote, and how it was scored.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredTexts {
    pub outputs: Vec<String>,
    pub scores: Vec<f64>,
}

/// Continues every prompt with every candidate, and scores each text: `score` is called with the number of the
/// prompt and the text.
pub fn score_texts(
    model: &Model,
    candidates: &[Candidate],
    prompts: &[Prompt],
    config: &GenerationConfig,
    score: &mut dyn FnMut(usize, &str) -> Result<f64>,
) -> Result<Vec<ScoredTexts>> {
    let texts = texts(model, candidates, prompts, config)?;
    let scored = texts.into_iter().map(|outputs| {
        let scores = outputs.iter().enumerate().map(|(number, output)| score(number, output));
        Ok(ScoredTexts { scores: scores.collect::<Result<_>>()?, outputs })
    });
    scored.collect()
}

/// The continuation of every prompt by every candidate: `[candidates][prompts]`.
fn texts(
    model: &Model,
    candidates: &[Candidate],
    prompts: &[Prompt],
    config: &GenerationConfig,
) -> Result<Vec<Vec<String>>> {
    let tokenizer = model.tokenizer()?;
    let ids: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.ids.clone()).collect();
    let set = adapter_set(candidates);
    let parts = generate(model.decoder(), &set, candidates.len(), &ids, config, &mut |_| Ok(()))?;
    let text = |one: Continuation| Ok(before_stop(&tokenizer.decode(&one.ids, true)?, &config.stop).to_owned());
    parts.into_iter().map(|part| part.into_iter().map(text).collect()).collect()
}

/// The prompts of rows, and their expected answers where these are read.
#[derive(Debug, Clone, Default)]
pub struct Exercises {
    pub prompts: Vec<Prompt>,
    pub targets: Vec<String>,
}

impl Exercises {
    /// Reads rows in a format of training: the last turn is the expected answer.
    pub fn of_format(rows: &Dataset, format: RowFormat, reader: &PromptReader, has_template: bool) -> Result<Self> {
        let mut exercises = Exercises::default();
        for (number, row) in rows.iter().enumerate() {
            let row = row?;
            let exercise = Example::read(&row, format, TEXT, has_template).and_then(Exercise::of);
            let pair = exercise.and_then(|exercise| match exercise {
                Exercise::Text { prompt, target } => Ok((reader.read(&prompt)?, target)),
                Exercise::Chat { chat, target } => Ok((reader.chat(&chat)?, target)),
            });
            let (prompt, target) = pair.map_err(|error| in_row(number, error))?;
            exercises.prompts.push(prompt);
            exercises.targets.push(target);
        }
        Ok(exercises)
    }
}

/// How training reads rows that hold prompt and answer in another way than as two texts.
pub fn format_of(rows: &Dataset) -> Option<RowFormat> {
    let columns = rows.columns();
    if columns.iter().any(|column| column == "prompt") {
        let first = rows.row(0).ok();
        let is_list = |name: &str| first.as_ref().and_then(|row| row.get(name)).is_some_and(Value::is_array);
        return Some(RowFormat::PromptCompletion).filter(|_| is_list("prompt") && is_list("completion"));
    }
    RowFormat::recognise(&columns, None).ok().filter(|format| *format != RowFormat::Text)
}

/// The prompt of a row, and the expected answer.
#[derive(Debug, Clone, PartialEq)]
enum Exercise {
    Text { prompt: String, target: String },
    Chat { chat: Chat, target: String },
}

impl Exercise {
    /// Splits an example into prompt and expected answer, which is the last turn of the assistant.
    fn of(example: Example) -> Result<Self> {
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
    fn the_last_turn_of_an_assistant_is_the_expected_answer() {
        let turn = |role: &str, content: Value| json!({ "role": role, "content": content });
        let chat = |messages: Vec<Value>| Example::Chat(Chat { messages, ..Chat::default() });
        let parts = json!([{ "type": "text", "text": "4" }, { "type": "text", "text": "2" }]);
        let question = vec![turn("user", json!("6 * 7?"))];
        let exercise = Exercise::of(chat([question.clone(), vec![turn("assistant", parts)]].concat())).unwrap();
        assert_eq!(
            exercise,
            Exercise::Chat { chat: Chat { messages: question.clone(), ..Chat::default() }, target: "42".into() }
        );
        assert!(Exercise::of(chat(question)).unwrap_err().message.contains("found role \"user\""));
        assert!(content(&turn("assistant", Value::Null)).is_err(), "a tool call is no text");
    }
}
