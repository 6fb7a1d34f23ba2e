//! Which parts of a rendered conversation are trained on.
//!
//! Where the template has `{% generation %}` tags they decide, as in transformers and TRL. Where it has none,
//! a turn is what the model has to write (`turns.rs`). Either way [`Spans`] can be made only through a check:
//! spans ascend, are disjoint, and hold no word of another message. What cannot be shown is an error, never a
//! guess.

use super::example::Chat;
use super::marks::Word;
use super::messages::{is_assistant, is_masked, normalise, says_something};
use super::options::{AssistantSpan, LossOn};
use super::template::{ChatTemplate, Rendered};
use super::turns::{Lost, Turns};
use crate::error::{Error, Result};
use crate::hub::tokenizer::Tokenizer;
use serde_json::{json, Value};
use std::ops::Range;

/// A conversation as text, and its parts to train on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spans {
    text: String,
    trained: Vec<Range<usize>>,
    /// Whether an answer follows another text than the prompt that generation begins with.
    pub recovered: bool,
    /// What of the answers the template leaves out.
    pub lost: Lost,
}

/// A part to train on, and how far it could reach.
struct Part {
    span: Range<usize>,
    reach: Range<usize>,
}

impl Spans {
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Byte ranges, ascending and disjoint.
    pub fn trained(&self) -> &[Range<usize>] {
        &self.trained
    }

    /// All of a text.
    fn whole(text: String) -> Self {
        let trained = Vec::from([Range { start: 0, end: text.len() }]);
        Spans { text, trained, recovered: false, lost: Lost::default() }
    }

    /// The one way to spans that are not the whole text. `foreign` are the words that no span may hold.
    ///
    /// Fails where spans do not ascend, overlap, leave their turn, or hold a foreign word.
    fn checked<'w>(text: String, parts: Vec<Part>, foreign: impl IntoIterator<Item = &'w Word>) -> Result<Self> {
        let mut trained: Vec<Range<usize>> = Vec::with_capacity(parts.len());
        for Part { span, reach } in parts.into_iter().filter(|part| !part.span.is_empty()) {
            let before = trained.last().map_or(0, |span| span.end);
            let inside = reach.start <= span.start && span.end <= reach.end && span.end <= text.len();
            if !inside || span.start < before || !text.is_char_boundary(span.start) || !text.is_char_boundary(span.end)
            {
                return Err(not_apart());
            }
            trained.push(span);
        }
        for word in foreign {
            let first = trained.partition_point(|span| span.end <= word.range.start);
            if trained.get(first).is_some_and(|span| span.start < word.range.end) {
                return Err(not_apart());
            }
        }
        Ok(Spans { text, trained, recovered: false, lost: Lost::default() })
    }
}

fn not_apart() -> Error {
    Error::data("the chat template mixes the turns: a part to train on would hold words of another message").with_hint(
        "give another template by option `chat_template`, or set loss_on: \"everything\" to train on all of it",
    )
}

/// What is known of a template before any row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Habits {
    /// The token that ends an assistant's turn (`<|im_end|>`, `<|eot_id|>`).
    pub turn_end: Option<(u32, String)>,
    /// The system prompt that is written though none was given.
    pub added_system: Option<String>,
    /// The tokenizer's added tokens, as text.
    pub tokens: Vec<String>,
    /// Those that the generation prompt holds: no turn ends with them.
    pub opening: Vec<String>,
    /// Those that generation stops at.
    pub stops: Vec<String>,
    /// The first line of the generation prompt, which says whose turn it is.
    pub header: String,
}

impl Habits {
    /// The tokens that may end a turn.
    pub(super) fn ends(&self) -> impl Iterator<Item = &str> {
        let known = self.turn_end.iter().map(|(_, token)| token.as_str());
        known.chain(self.tokens.iter().map(String::as_str)).filter(|token| !token.is_empty())
    }
}

/// Renders small conversations to learn how the template ends a turn and whether it writes a system prompt of
/// its own. A template that refuses them has no known habits.
pub fn habits(template: &ChatTemplate, tokenizer: &Tokenizer) -> Habits {
    const QUESTION: &str = "qqqqqqqq";
    const ANSWER: &str = "aaaaaaaa";
    let tokens = tokenizer.added_tokens();
    let stops = tokenizer.end_ids().iter().filter_map(|&id| tokenizer.token(id)).collect();
    let mut habits =
        Habits { tokens: tokens.iter().map(|token| token.text.clone()).collect(), stops, ..Habits::default() };
    let user = json!({"role": "user", "content": QUESTION});
    let chat = Chat { messages: vec![user, json!({"role": "assistant", "content": ANSWER})], ..Chat::default() };
    if let Ok(Rendered { text, .. }) = template.render(&chat, 1, true) {
        let opening = text.split_once(QUESTION).map_or("", |(_, opening)| opening);
        let plain = template.render(&chat, 1, false).map(|plain| plain.text).unwrap_or_default();
        let tail = plain.split_once(QUESTION).map_or("", |(_, tail)| tail);
        let opening = opening.strip_prefix(tail).unwrap_or("");
        let line = opening.split_inclusive('\n').find(|line| line.contains(char::is_alphanumeric)).unwrap_or("");
        habits.header = line.to_owned();
        habits.opening = habits.tokens.iter().filter(|token| opening.contains(token.as_str())).cloned().collect();
    }
    let Ok(Rendered { text, .. }) = template.render(&chat, 2, false) else { return habits };
    if let Some((_, tail)) = text.split_once(ANSWER) {
        let found = tokens.into_iter().filter_map(|token| Some((tail.find(&token.text)?, token)));
        // The earliest; of two at one place the longer is the real one.
        let first = found.min_by_key(|(place, token)| (*place, std::cmp::Reverse(token.text.len())));
        habits.turn_end = first.map(|(_, token)| (token.id, token.text));
    }
    if let Some((head, _)) = text.split_once(QUESTION) {
        habits.added_system = head.contains("system").then(|| head.to_owned());
    }
    habits
}

/// Finds the parts of a conversation that `loss_on` names, without the turns that the row masks.
pub fn find(
    template: &ChatTemplate,
    chat: &Chat,
    habits: &Habits,
    loss_on: LossOn,
    extent: AssistantSpan,
) -> Result<Spans> {
    let messages: Vec<Value> = chat.messages.iter().cloned().map(normalise).collect();
    let mut masked = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let is_masked = is_masked(message).map_err(|error| error.context(format!("message {index}")))?;
        masked.push(is_masked && is_assistant(message));
    }
    let full = template.render(chat, messages.len(), false).map_err(|error| without_text(&messages, error))?;
    if loss_on == LossOn::Everything && !masked.contains(&true) {
        return Ok(Spans::whole(full.text));
    }
    let turns = Turns::new(template, chat, &messages, habits, &full.text)?;
    let mut finder =
        Finder { messages: &messages, masked, habits, extent, turns, text: &full.text, lost: Lost::default() };
    let parts = match (loss_on, chat.prompt) {
        (LossOn::Assistant, prompt) if template.has_generation_tags() => finder.tagged(&full.generated, prompt)?,
        (LossOn::Assistant, prompt) => finder.answers(prompt.unwrap_or(0))?,
        (LossOn::Completion, Some(count)) => finder.completion(count)?,
        (LossOn::Completion, None) => finder.last_answer()?,
        (LossOn::Everything, _) => finder.without_masked(0, 0..full.text.len())?,
    };
    let (recovered, lost) = (finder.turns.recovered, finder.lost);
    let foreign = finder.foreign(loss_on, chat.prompt);
    let spans = Spans::checked(full.text.clone(), parts, foreign.iter())?;
    Ok(Spans { recovered, lost, ..spans })
}

/// The failure of a template, which a message without a text may have caused.
fn without_text(messages: &[Value], error: Error) -> Error {
    if let Some(index) = messages.iter().position(|message| !says_something(message)) {
        return Error::data(format!("message {index} has no text: its `content` is null or missing"))
            .with_hint("leave such rows out, or give the message a text");
    }
    let is_list = |message: &Value| message.get("content").is_some_and(Value::is_array);
    match messages.iter().position(is_list) {
        Some(index) => Error::data(format!(
            "message {index} has a list of parts as `content`, which the chat template does not accept: {}",
            error.message
        ))
        .with_hint("map the messages so that each has one text, or give a template for parts by `chat_template`"),
        None => error,
    }
}

struct Finder<'a> {
    messages: &'a [Value],
    masked: Vec<bool>,
    habits: &'a Habits,
    extent: AssistantSpan,
    turns: Turns<'a>,
    text: &'a str,
    lost: Lost,
}

impl Finder<'_> {
    /// The words that no span may hold: those of others, and of answers that the row masks.
    fn foreign(&self, loss_on: LossOn, prompt: Option<usize>) -> Vec<Word> {
        let is_foreign = |message: usize| match (loss_on, prompt) {
            (LossOn::Everything, _) => self.masked[message],
            // A completion is all that follows the prompt, whoever says it: the row says so.
            (LossOn::Completion, Some(count)) => message < count || self.masked[message],
            _ => self.masked[message] || !is_assistant(&self.messages[message]),
        };
        self.turns.words.iter().filter(|word| is_foreign(word.message)).cloned().collect()
    }

    /// Whether an answer is to be trained on. One of which the template writes nothing is not: it would
    /// teach the model to say nothing.
    fn is_trained(&mut self, index: usize) -> bool {
        if !is_assistant(&self.messages[index]) || self.masked[index] {
            return false;
        }
        let lost = self.turns.lost(index);
        let answer = lost.answer || !says_something(&self.messages[index]);
        self.lost.answer |= answer;
        self.lost.thoughts |= lost.thoughts;
        self.lost.part |= lost.part;
        !answer
    }

    fn answers(&mut self, first: usize) -> Result<Vec<Part>> {
        let mut parts: Vec<Part> = Vec::new();
        for index in first..self.messages.len() {
            if self.is_trained(index) {
                let turn = self.turns.turn(index)?;
                let before = parts.last().map_or(0, |part| part.span.end);
                parts.push(self.part(index, turn, before));
            }
        }
        Ok(parts)
    }

    fn last_answer(&mut self) -> Result<Vec<Part>> {
        match self.messages.iter().rposition(is_assistant) {
            Some(last) if self.is_trained(last) => {
                let turn = self.turns.turn(last)?;
                Ok(vec![self.part(last, turn, 0)])
            }
            Some(_) => Ok(Vec::new()),
            None => Err(Error::data("no message has the role `assistant`: nothing to train on")),
        }
    }

    /// From the end of the prompt to the end.
    fn completion(&mut self, count: usize) -> Result<Vec<Part>> {
        let start = self.prompt_end(count)?;
        for index in count..self.messages.len() {
            // Nor is an answer trained on of which the template writes nothing.
            self.masked[index] |= is_assistant(&self.messages[index]) && !self.is_trained(index);
        }
        let span = self.fit(start..self.text.len(), 0);
        self.without_masked(count, span)
    }

    /// A stretch of the text without the turns that the row masks, from message `first` on.
    fn without_masked(&mut self, first: usize, span: Range<usize>) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        let mut start = span.start;
        let mut add = |range: Range<usize>| parts.push(Part { reach: range.clone(), span: range });
        for index in (first..self.messages.len()).filter(|&index| self.masked[index]).collect::<Vec<_>>() {
            let turn = self.turns.turn(index)?;
            let turn = turn.start.clamp(start, span.end)..turn.end.clamp(start, span.end);
            add(start..turn.start);
            start = turn.end;
        }
        add(start..span.end);
        Ok(parts)
    }

    /// What generation tags stand around. Answers of a prompt are context, as in TRL, which takes both masks
    /// together.
    fn tagged(&mut self, generated: &[Range<usize>], prompt: Option<usize>) -> Result<Vec<Part>> {
        let prompt_end = prompt.map_or(Ok(0), |count| self.prompt_end(count))?;
        let all = 0..self.text.len();
        let answers = (prompt.unwrap_or(0)..self.messages.len()).filter(|&index| is_assistant(&self.messages[index]));
        let left_out: Vec<usize> = answers.filter(|&index| !self.is_trained(index)).collect();
        let left_out: Vec<Range<usize>> = left_out.into_iter().map(|index| self.turns.reach(index)).collect();
        let is_left_out =
            |span: &Range<usize>| left_out.iter().any(|reach| reach.start <= span.start && span.end <= reach.end);
        let spans = generated.iter().filter(|span| !is_left_out(span));
        let parts = spans.filter(|span| span.end > prompt_end).map(|span| span.start.max(prompt_end)..span.end);
        Ok(parts.map(|span| Part { span, reach: all.clone() }).collect())
    }

    /// Where the prompt of `count` messages ends.
    fn prompt_end(&mut self, count: usize) -> Result<usize> {
        match count < self.messages.len() {
            true => self.turns.start(count),
            false => Ok(self.text.len()),
        }
    }

    fn part(&self, index: usize, turn: Range<usize>, before: usize) -> Part {
        let reach = self.turns.reach(index);
        Part { span: self.fit(turn, reach.start.max(before)), reach }
    }

    /// Widens or narrows a turn to what the option asks for, from `first` on.
    fn fit(&self, turn: Range<usize>, first: usize) -> Range<usize> {
        match self.extent {
            AssistantSpan::Generated => {
                let core = self.text[turn.clone()].trim_end();
                // White space belongs to the answer unless an end token stands before it.
                let ended = self.habits.ends().any(|token| core.ends_with(token));
                turn.start..if ended { turn.start + core.len() } else { turn.end }
            }
            AssistantSpan::Turn => self.text[..turn.start].trim_end().len().max(first)..turn.end,
        }
    }
}
