//! Which parts of a rendered conversation are trained on.
//!
//! If the template has `{% generation %}` tags they decide, as in transformers and TRL. Otherwise a turn is what the model
//! has to write (`turns.rs`). Either way [`Spans`] are made only through a check: spans ascend, do not overlap, and contain
//! no text of another message. What cannot be shown is an error, never a guess.

use super::bounds::LostParts;
use super::example::Chat;
use super::marks::Occurrence;
use super::messages::{is_assistant, is_masked, normalise, says_something};
use super::options::{AssistantSpan, LossOn};
use super::profile::TemplateProfile;
use super::template::ChatTemplate;
use super::turns::Turns;
use crate::error::{Error, Result};
use serde_json::Value;
use std::ops::Range;

/// A conversation as text, and the parts to train on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spans {
    text: String,
    trained: Vec<Range<usize>>,
    /// Whether the text before an answer is not the prompt that generation starts from.
    pub prompt_differs: bool,
    /// Which parts of the answers the template leaves out.
    pub lost: LostParts,
}

/// A part to train on, and the limits it must stay within.
struct BoundedSpan {
    span: Range<usize>,
    limits: Range<usize>,
}

impl Spans {
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Byte ranges, ascending and disjoint.
    pub fn trained(&self) -> &[Range<usize>] {
        &self.trained
    }

    /// One span, the entire text.
    fn full_text(text: String) -> Self {
        let trained = Vec::from([Range { start: 0, end: text.len() }]);
        Spans { text, trained, prompt_differs: false, lost: LostParts::default() }
    }

    /// The only way to spans that are not the whole text. No span may contain any of the `foreign` text.
    ///
    /// Fails if spans do not ascend, overlap, exceed their limits, or contain foreign text.
    fn checked<'a>(
        text: String,
        spans: Vec<BoundedSpan>,
        foreign: impl IntoIterator<Item = &'a Occurrence>,
    ) -> Result<Self> {
        let mut trained: Vec<Range<usize>> = Vec::with_capacity(spans.len());
        for BoundedSpan { span, limits } in spans.into_iter().filter(|bounded| !bounded.span.is_empty()) {
            let prev_end = trained.last().map_or(0, |span| span.end);
            let is_inside = limits.start <= span.start && span.end <= limits.end && span.end <= text.len();
            let is_on_boundaries = text.is_char_boundary(span.start) && text.is_char_boundary(span.end);
            if !is_inside || span.start < prev_end || !is_on_boundaries {
                return Err(turns_overlap());
            }
            trained.push(span);
        }
        for Occurrence { range, .. } in foreign {
            let first = trained.partition_point(|span| span.end <= range.start);
            if trained.get(first).is_some_and(|span| span.start < range.end) {
                return Err(turns_overlap());
            }
        }
        Ok(Spans { text, trained, prompt_differs: false, lost: LostParts::default() })
    }
}

fn turns_overlap() -> Error {
    Error::data("the chat template mixes the turns: a part to train on would contain text of another message")
        .with_hint(
            "give another template by option `chat_template`, or set loss_on: \"everything\" to train on all of it",
        )
}

/// Finds the parts of a conversation that `loss_on` names, except the turns that the row masks.
pub fn find(
    template: &ChatTemplate,
    chat: &Chat,
    profile: &TemplateProfile,
    loss_on: LossOn,
    assistant_span: AssistantSpan,
) -> Result<Spans> {
    let messages: Vec<Value> = chat.messages.iter().cloned().map(normalise).collect();
    let mut masked = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let is_masked = is_masked(message).map_err(|error| error.context(format!("message {index}")))?;
        masked.push(is_masked && is_assistant(message));
    }
    let full = template.render(chat, messages.len(), false).map_err(|error| explain_failure(&messages, error))?;
    if loss_on == LossOn::Everything && !masked.contains(&true) {
        return Ok(Spans::full_text(full.text));
    }
    let turns = Turns::new(template, chat, &messages, profile, &full.text)?;
    let (text, lost) = (full.text.as_str(), LostParts::default());
    let mut finder = SpanFinder { messages: &messages, masked, profile, assistant_span, turns, text, lost };
    let spans = match (loss_on, chat.prompt) {
        (LossOn::Assistant, prompt) if template.has_generation_tags() => finder.tagged(&full.generated, prompt)?,
        (LossOn::Assistant, prompt) => finder.answers(prompt.unwrap_or(0))?,
        (LossOn::Completion, Some(count)) => finder.completion(count)?,
        (LossOn::Completion, None) => finder.last_answer()?,
        (LossOn::Everything, _) => finder.without_masked(0, 0..full.text.len())?,
    };
    let (prompt_differs, lost) = (finder.turns.prompt_differs, finder.lost);
    let spans = Spans::checked(full.text.clone(), spans, finder.foreign(loss_on, chat.prompt))?;
    Ok(Spans { prompt_differs, lost, ..spans })
}

/// The failure of a template, explained by the first message that has no text or a list of parts, if there is one.
fn explain_failure(messages: &[Value], error: Error) -> Error {
    if let Some(index) = messages.iter().position(|message| !says_something(message)) {
        return Error::data(format!("message {index} has no text: its `content` is null or missing"))
            .with_hint("leave such rows out, or give the message a text");
    }
    let has_parts = |message: &Value| message.get("content").is_some_and(Value::is_array);
    match messages.iter().position(has_parts) {
        Some(index) => Error::data(format!(
            "message {index} has a list of parts as `content`, which the chat template does not accept: {}",
            error.message
        ))
        .with_hint("map the messages so that each has one text, or give a template for parts by `chat_template`"),
        None => error,
    }
}

struct SpanFinder<'a> {
    messages: &'a [Value],
    /// Which messages are answers that the row masks.
    masked: Vec<bool>,
    profile: &'a TemplateProfile,
    assistant_span: AssistantSpan,
    turns: Turns<'a>,
    text: &'a str,
    lost: LostParts,
}

impl SpanFinder<'_> {
    /// The text that no span may contain: that of other speakers, and of answers that the row masks.
    fn foreign(&self, loss_on: LossOn, prompt: Option<usize>) -> Vec<&Occurrence> {
        let is_foreign = |message: usize| match (loss_on, prompt) {
            (LossOn::Everything, _) => self.masked[message],
            // A completion is everything after the prompt, whoever the speaker.
            (LossOn::Completion, Some(count)) => message < count || self.masked[message],
            _ => self.masked[message] || !is_assistant(&self.messages[message]),
        };
        self.turns.occurrences.iter().filter(|occurrence| is_foreign(occurrence.message)).collect()
    }

    /// Whether an answer is trained on. One that the template leaves out is not: it would teach the model to write
    /// nothing.
    fn is_trained(&mut self, index: usize) -> bool {
        if !is_assistant(&self.messages[index]) || self.masked[index] {
            return false;
        }
        let lost = self.turns.lost(index);
        let answer = lost.answer || !says_something(&self.messages[index]);
        self.lost.answer |= answer;
        self.lost.thoughts |= lost.thoughts;
        self.lost.calls_or_text |= lost.calls_or_text;
        !answer
    }

    /// All answers, from message `first` on.
    fn answers(&mut self, first: usize) -> Result<Vec<BoundedSpan>> {
        let mut spans: Vec<BoundedSpan> = Vec::new();
        for index in first..self.messages.len() {
            if self.is_trained(index) {
                let turn = self.turns.turn(index)?;
                let prev_end = spans.last().map_or(0, |bounded| bounded.span.end);
                spans.push(self.answer(index, turn, prev_end));
            }
        }
        Ok(spans)
    }

    fn last_answer(&mut self) -> Result<Vec<BoundedSpan>> {
        match self.messages.iter().rposition(is_assistant) {
            Some(last) if self.is_trained(last) => {
                let turn = self.turns.turn(last)?;
                Ok(vec![self.answer(last, turn, 0)])
            }
            Some(_) => Ok(Vec::new()),
            None => Err(Error::data("no message has the role `assistant`: nothing to train on")),
        }
    }

    /// Everything after a prompt of `count` messages.
    fn completion(&mut self, count: usize) -> Result<Vec<BoundedSpan>> {
        let start = self.prompt_end(count)?;
        for index in count..self.messages.len() {
            // An answer that the template leaves out is not trained on either.
            self.masked[index] |= is_assistant(&self.messages[index]) && !self.is_trained(index);
        }
        let span = self.adjust(start..self.text.len(), 0);
        self.without_masked(count, span)
    }

    /// A span without the masked turns in it, which are those of message `first` and later ones.
    fn without_masked(&mut self, first: usize, span: Range<usize>) -> Result<Vec<BoundedSpan>> {
        let mut spans = Vec::new();
        let mut start = span.start;
        let mut add = |span: Range<usize>| spans.push(BoundedSpan { limits: span.clone(), span });
        for index in (first..self.messages.len()).filter(|&index| self.masked[index]).collect::<Vec<_>>() {
            let turn = self.turns.turn(index)?;
            let turn = turn.start.clamp(start, span.end)..turn.end.clamp(start, span.end);
            add(start..turn.start);
            start = turn.end;
        }
        add(start..span.end);
        Ok(spans)
    }

    /// The text inside generation tags. Answers of a prompt are context, as in TRL, which combines both masks.
    fn tagged(&mut self, generated: &[Range<usize>], prompt: Option<usize>) -> Result<Vec<BoundedSpan>> {
        let prompt_end = prompt.map_or(Ok(0), |count| self.prompt_end(count))?;
        let all = 0..self.text.len();
        let answers = (prompt.unwrap_or(0)..self.messages.len()).filter(|&index| is_assistant(&self.messages[index]));
        let untrained: Vec<usize> = answers.filter(|&index| !self.is_trained(index)).collect();
        let untrained: Vec<Range<usize>> = untrained.into_iter().map(|index| self.turns.limits(index)).collect();
        let is_untrained =
            |span: &Range<usize>| untrained.iter().any(|turn| turn.start <= span.start && span.end <= turn.end);
        let spans = generated.iter().filter(|span| !is_untrained(span) && span.end > prompt_end);
        let spans = spans.map(|span| span.start.max(prompt_end)..span.end);
        Ok(spans.map(|span| BoundedSpan { span, limits: all.clone() }).collect())
    }

    /// Where the prompt of `count` messages ends.
    fn prompt_end(&mut self, count: usize) -> Result<usize> {
        if count < self.messages.len() {
            self.turns.start(count)
        } else {
            Ok(self.text.len())
        }
    }

    fn answer(&self, index: usize, turn: Range<usize>, prev_end: usize) -> BoundedSpan {
        let limits = self.turns.limits(index);
        BoundedSpan { span: self.adjust(turn, limits.start.max(prev_end)), limits }
    }

    /// Adjusts a turn to the option `assistant_span`, without starting before `min_start`.
    fn adjust(&self, turn: Range<usize>, min_start: usize) -> Range<usize> {
        match self.assistant_span {
            AssistantSpan::Generated => {
                let trimmed = self.text[turn.clone()].trim_end();
                // White space at the end belongs to the answer, unless it follows an end token.
                let is_ended = self.profile.end_tokens().any(|token| trimmed.ends_with(token));
                turn.start..if is_ended { turn.start + trimmed.len() } else { turn.end }
            }
            AssistantSpan::Turn => self.text[..turn.start].trim_end().len().max(min_start)..turn.end,
        }
    }
}
