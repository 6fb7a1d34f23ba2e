//! Which parts of a rendered conversation are trained on.
//!
//! Where the template has `{% generation %}` tags they decide, as in transformers and TRL.
//! Where it has none, a turn is found by rendering the conversation up to it: the text
//! that the model is prompted with is the start, and the end is where the rendering with
//! the turn ends. Both hold only if the longer rendering begins with the shorter one; where
//! a template breaks this (Qwen3 drops the thoughts of earlier turns) the start is found by
//! a mark in the message, the end by the token that ends a turn, and [`Spans::recovered`]
//! says so. What cannot be found is an error, never a guess.

use super::options::{AssistantSpan, LossOn};
use super::shape::Chat;
use super::template::{ChatTemplate, Rendered};
use crate::error::{Error, Result};
use crate::hub::tokenizer::Tokenizer;
use serde_json::{json, Value};
use std::ops::Range;

/// A conversation as text, and its parts to train on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spans {
    pub text: String,
    /// Byte ranges, in order.
    pub trained: Vec<Range<usize>>,
    /// Whether a part had to be found without the prefix property.
    pub recovered: bool,
}

/// What is known of a template before any row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Habits {
    /// The token that ends an assistant's turn (`<|im_end|>`, `<|eot_id|>`).
    pub turn_end: Option<(u32, String)>,
    /// The system prompt that is written though none was given.
    pub added_system: Option<String>,
}

/// Renders two small conversations to learn how the template ends a turn and whether it
/// writes a system prompt of its own. A template that refuses them has no known habits.
pub fn habits(template: &ChatTemplate, tokenizer: &Tokenizer) -> Habits {
    const QUESTION: &str = "qqqqqqqq";
    const ANSWER: &str = "aaaaaaaa";
    let user = json!({"role": "user", "content": QUESTION});
    let chat = Chat { messages: vec![user, json!({"role": "assistant", "content": ANSWER})], ..Chat::default() };
    let Ok(Rendered { text, .. }) = template.render(&chat, 2, false) else { return Habits::default() };
    let mut habits = Habits::default();
    if let Some((_, tail)) = text.split_once(ANSWER) {
        let found = tokenizer.added_tokens().into_iter().filter_map(|token| Some((tail.find(&token.text)?, token)));
        // The earliest; of two at one place the longer is the real one.
        let first = found.min_by_key(|(place, token)| (*place, std::cmp::Reverse(token.text.len())));
        habits.turn_end = first.map(|(_, token)| (token.id, token.text));
    }
    if let Some((head, _)) = text.split_once(QUESTION) {
        habits.added_system = head.contains("system").then(|| head.to_owned());
    }
    habits
}

/// Finds the parts of a conversation that `loss_on` names.
pub fn find(
    template: &ChatTemplate,
    chat: &Chat,
    habits: &Habits,
    loss_on: LossOn,
    extent: AssistantSpan,
) -> Result<Spans> {
    let full = template.render(chat, chat.messages.len(), false)?;
    let mut finder = Finder { template, chat, habits, extent, full: &full.text, recovered: false };
    let trained = match loss_on {
        LossOn::Everything => Vec::from([Range { start: 0, end: full.text.len() }]),
        LossOn::Assistant if template.has_generation_tags() => full.generated.clone(),
        LossOn::Assistant => finder.assistant_turns()?,
        LossOn::Completion => vec![finder.completion()?],
    };
    // Assistant turns of a prompt are context, as in TRL, which takes both masks together.
    let prompt_end = match (loss_on, chat.prompt) {
        (LossOn::Assistant, Some(count)) if template.has_generation_tags() => finder.prompt_end(count)?,
        _ => 0,
    };
    let recovered = finder.recovered;
    let own = trained.into_iter().map(|span| span.start.max(prompt_end)..span.end);
    let trained = own.filter(|span| !span.is_empty()).collect();
    Ok(Spans { text: full.text, trained, recovered })
}

struct Finder<'a> {
    template: &'a ChatTemplate,
    chat: &'a Chat,
    habits: &'a Habits,
    extent: AssistantSpan,
    full: &'a str,
    recovered: bool,
}

impl Finder<'_> {
    fn assistant_turns(&mut self) -> Result<Vec<Range<usize>>> {
        let first = self.chat.prompt.unwrap_or(0);
        let turns = (first..self.chat.messages.len()).filter(|&index| is_assistant(&self.chat.messages[index]));
        turns.map(|index| self.turn(index)).collect()
    }

    /// From the end of the prompt to the end; the last assistant turn where the row does
    /// not say what its prompt is.
    fn completion(&mut self) -> Result<Range<usize>> {
        match self.chat.prompt {
            Some(count) => {
                let start = self.prompt_end(count)?;
                Ok(self.fit(start, self.full.len()))
            }
            None => match self.chat.messages.iter().rposition(is_assistant) {
                Some(last) => self.turn(last),
                None => Err(Error::data("no message has the role `assistant`: nothing to train on")),
            },
        }
    }

    fn turn(&mut self, index: usize) -> Result<Range<usize>> {
        let start = self.start(index)?;
        let end = self.end(index, start)?;
        Ok(self.fit(start, end))
    }

    /// Where the prompt of `count` messages ends.
    fn prompt_end(&mut self, count: usize) -> Result<usize> {
        match self.chat.messages.get(count) {
            Some(_) => self.start(count),
            None => Ok(self.full.len()),
        }
    }

    fn start(&mut self, index: usize) -> Result<usize> {
        // Most templates look at the first message, so none at all is no fair question.
        if index > 0 && (self.template.has_generation_prompt() || !is_assistant(&self.chat.messages[index])) {
            let asked = is_assistant(&self.chat.messages[index]);
            if let Ok(prompt) = self.template.render(self.chat, index, asked) {
                if self.full.starts_with(&prompt.text) {
                    return Ok(prompt.text.len());
                }
            }
            self.recovered = true;
        }
        match self.template.render_with_mark(self.chat, index)? {
            Some((text, place)) if text == self.full => Ok(self.after_prompt(index, place)),
            _ => Err(self.lost(index, "start")),
        }
    }

    /// A template without a generation prompt, as Llama 2's, may put a space before the answer that is the
    /// model's to write: generation begins before it, and one token holds it with the first letters.
    fn after_prompt(&self, index: usize, place: usize) -> usize {
        let prompt = (index > 0).then(|| self.template.render(self.chat, index, false).ok()).flatten();
        let end = prompt.filter(|prompt| self.full.starts_with(&prompt.text)).map(|prompt| prompt.text.len());
        let is_space = |end: &usize| self.full.get(*end..place).is_some_and(|between| between.trim().is_empty());
        end.filter(is_space).unwrap_or(place)
    }

    fn end(&mut self, index: usize, start: usize) -> Result<usize> {
        if index + 1 == self.chat.messages.len() {
            return Ok(self.full.len());
        }
        if let Ok(shorter) = self.template.render(self.chat, index + 1, false) {
            if self.full.starts_with(&shorter.text) && shorter.text.len() >= start {
                return Ok(shorter.text.len());
            }
        }
        self.recovered = true;
        let Some((_, token)) = &self.habits.turn_end else { return Err(self.lost(index, "end")) };
        let rest = &self.full[start..];
        let place = rest.find(token.as_str()).ok_or_else(|| self.lost(index, "end"))?;
        let after = &rest[place + token.len()..];
        Ok(start + place + token.len() + (after.len() - after.trim_start().len()))
    }

    /// Widens or narrows a turn to what the option asks for.
    fn fit(&self, start: usize, end: usize) -> Range<usize> {
        match self.extent {
            AssistantSpan::Generated => {
                let turn = &self.full[start..end];
                let core = turn.trim_end();
                let token = self.habits.turn_end.as_ref().map(|(_, token)| token.as_str());
                // White space belongs to the answer unless an end token stands before it.
                let ended = token.is_some_and(|token| core.ends_with(token));
                start..if ended { start + core.len() } else { end }
            }
            AssistantSpan::Turn => self.full[..start].trim_end().len()..end,
        }
    }

    fn lost(&self, index: usize, what: &str) -> Error {
        Error::data(format!(
            "message {index}: the chat template renders earlier messages differently once others follow, so \
             that the {what} of this turn cannot be told"
        ))
        .with_hint(
            "give a template with {% generation %} tags by option `chat_template`, or set loss_on: \"everything\"",
        )
    }
}

fn is_assistant(message: &Value) -> bool {
    message.get("role").and_then(Value::as_str) == Some("assistant")
}
