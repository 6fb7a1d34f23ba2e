//! Where each turn of a rendered conversation begins and ends.
//!
//! A turn lies between the text of its neighbours (`bounds.rs`). It starts where the prompt ends: the conversation before
//! it is rendered with a generation prompt and compared with the whole. It ends where the conversation up to its end,
//! rendered alone, ends. The template writes the same few separators between turns, so each kind is rendered once, and a
//! long conversation costs few renderings.
//!
//! Leaves to others: which turns are trained on, and the check of the result (`spans.rs`).

use super::bounds::{lost_parts, message_bounds, LostParts, MessageBounds};
use super::common::{common_prefix, follows_prompt};
use super::example::Chat;
use super::marks::{edges, without_tags, Coverage, Marked, Marks, Occurrence};
use super::messages::is_assistant;
use super::profile::TemplateProfile;
use super::template::ChatTemplate;
use crate::error::{Error, Result};
use serde_json::Value;
use std::ops::Range;

/// The template's text between two turns, and where in it the first turn ends.
#[derive(Debug)]
struct Separator {
    text: String,
    /// How many bytes of it belong to the turn that ends.
    tail: usize,
    /// The token that ends the turn, and its position. The text before it may belong to the answer, as the closing
    /// brackets of a tool call do.
    end_token: Option<(usize, String)>,
}

impl Separator {
    /// How many bytes of `text` belong to the next turn; `None` unless `text` is this separator.
    fn next_turn(&self, text: &str) -> Option<usize> {
        let is_same = text.trim_start() == self.text;
        let ends_alike = self.end_token.as_ref().is_some_and(|(at, token)| {
            text.strip_suffix(&self.text[*at..]).is_some_and(|before| !before.contains(token.as_str()))
        });
        (is_same || ends_alike).then_some(self.text.len() - self.tail)
    }
}

/// A rendered prompt, and the text before a turn for which it was rendered.
#[derive(Debug)]
struct KnownPrompt {
    add_generation_prompt: bool,
    text: String,
    prompt: String,
}

/// A rendered conversation, with the text of each message located in it.
pub(super) struct Turns<'a> {
    template: &'a ChatTemplate,
    chat: &'a Chat,
    messages: &'a [Value],
    profile: &'a TemplateProfile,
    text: &'a str,
    marks: Marks,
    marked: Marked,
    pub occurrences: Vec<Occurrence>,
    bounds: Vec<MessageBounds>,
    lost: Vec<LostParts>,
    separators: Vec<Separator>,
    prompts: Vec<KnownPrompt>,
    /// Whether the text before an answer is not the prompt that generation starts from.
    pub prompt_differs: bool,
}

impl<'a> Turns<'a> {
    /// `text` is the rendering of `messages`, which are those of `chat` as the template sees them.
    ///
    /// Fails if the text of the messages cannot be located in it.
    pub fn new(
        template: &'a ChatTemplate,
        chat: &'a Chat,
        messages: &'a [Value],
        profile: &'a TemplateProfile,
        text: &'a str,
    ) -> Result<Self> {
        let values = messages.iter().chain(chat.tools.iter()).chain(chat.variables.values());
        let marks = Marks::absent_from(values, [text, template.source()])?;
        let mut previous = None;
        for coverage in Coverage::ALL {
            let marked = marks.insert(messages, coverage);
            if previous.as_ref() == Some(&marked) {
                continue;
            }
            let rendered = template.render_messages(chat, &marked.messages, false);
            if let Ok((unmarked, occurrences)) = rendered.map(|rendered| marks.remove(&rendered, &marked.pieces)) {
                if unmarked == text {
                    return Ok(Turns {
                        template,
                        chat,
                        messages,
                        profile,
                        text,
                        bounds: message_bounds(&occurrences, messages.len(), text.len()),
                        lost: lost_parts(&marked, &occurrences),
                        marks,
                        marked,
                        occurrences,
                        separators: Vec::new(),
                        prompts: Vec::new(),
                        prompt_differs: false,
                    });
                }
            }
            previous = Some(marked);
        }
        Err(Error::data(
            "the chat template rewrites the messages, so that the text of each cannot be found in its output",
        )
        .with_hint(
            "give another template by option `chat_template`, or set loss_on: \"everything\" to train on all of it",
        ))
    }

    /// The limits of a message's turn: from the text of the message before it to that of the next.
    pub fn limits(&self, message: usize) -> Range<usize> {
        let bounds = self.bounds[message];
        bounds.prev_end..bounds.next_start.max(bounds.prev_end)
    }

    /// What the rendering lacks of a message.
    pub fn lost(&self, message: usize) -> LostParts {
        self.lost[message]
    }

    /// The turn of a message, from the first character that the model writes to the end of the turn.
    pub fn turn(&mut self, message: usize) -> Result<Range<usize>> {
        let start = self.start(message)?;
        let end = self.end(message, start)?;
        if start > end {
            return Err(not_located(message, "end"));
        }
        Ok(start..end)
    }

    /// Where a turn begins: for an answer after its prompt, for any other message after the turn before.
    pub fn start(&mut self, message: usize) -> Result<usize> {
        let bounds = self.bounds[message];
        let is_apart = |(start, end): (usize, usize)| bounds.prev_end <= start && end <= bounds.next_start;
        if bounds.prev_end > bounds.next_start || !bounds.text.is_none_or(is_apart) {
            return Err(not_located(message, "start"));
        }
        let text_start = bounds.text.map(|(start, _)| self.with_unmarked_start(message, start, bounds.prev_end));
        // Most templates read the first message, so they cannot be rendered without any.
        if message == 0 {
            return text_start.ok_or_else(|| not_located(message, "start"));
        }
        let is_answer = is_assistant(&self.messages[message]);
        let add_generation_prompt = is_answer && self.template.has_generation_prompt();
        let prompt = self.prompt(message, add_generation_prompt, bounds);
        let rest = &self.text[bounds.prev_end..bounds.next_start];
        let matched = prompt.as_deref().map(|prompt| follows_prompt(rest, prompt, &self.profile.added_tokens));
        let position = |length: usize| bounds.prev_end + length;
        let gap = |from: usize| self.text.get(from..text_start.unwrap_or(bounds.next_start)).map(str::trim);
        // Whether the prompt so far has all of the template's header, so that the model writes the rest.
        let has_header = |length: usize| {
            let header = self.profile.header.as_str();
            (!header.is_empty() && rest[..length].contains(header))
                || gap(position(length)).is_some_and(|gap| !without_tags(gap).contains(char::is_alphanumeric))
        };
        match (matched, text_start) {
            // The text before the turn is exactly the prompt.
            (Some((length, true)), _) if add_generation_prompt || !is_answer => Ok(position(length)),
            // A template without a generation prompt, such as Llama 2's, may put a space before the answer, which the
            // model writes. A header there is the template's.
            (Some((length, true)), Some(start)) => {
                Ok(if gap(position(length)) == Some("") { position(length) } else { start })
            }
            (Some((length, false)), Some(start)) => {
                self.prompt_differs |= is_answer;
                Ok(if position(length) <= start && has_header(length) { position(length) } else { start })
            }
            (None, Some(start)) => {
                self.prompt_differs |= add_generation_prompt;
                Ok(start)
            }
            (Some((length, _)), None) if self.is_end_of_turn(&rest[length..]) => {
                self.prompt_differs |= is_answer;
                Ok(position(length))
            }
            (_, None) => Err(not_located(message, "start")),
        }
    }

    /// The start of a message's text, including the tags at its start that have no marks.
    fn with_unmarked_start(&self, message: usize, start: usize, prev_end: usize) -> usize {
        let [lead, _] = edges(&self.messages[message]);
        let head = self.text[prev_end..start].trim_end();
        if !lead.is_empty() && head.ends_with(lead) {
            prev_end + head.len() - lead.len()
        } else {
            start
        }
    }

    /// The prompt for a message: what a rendering of the messages before it writes after their text.
    fn prompt(&mut self, message: usize, add_generation_prompt: bool, bounds: MessageBounds) -> Option<String> {
        let end = bounds.text.map_or(bounds.next_start, |(start, _)| start);
        let text = self.text[bounds.prev_end..end].trim_start();
        let is_known =
            |known: &&KnownPrompt| known.add_generation_prompt == add_generation_prompt && known.text == text;
        if let Some(known) = self.prompts.iter().find(is_known).filter(|_| bounds.text.is_some()) {
            return Some(known.prompt.clone());
        }
        let (prompt, last_piece) = self.render_end(message, add_generation_prompt)?;
        if last_piece != bounds.prev_piece {
            return None;
        }
        if bounds.text.is_some() {
            let (text, prompt) = (text.to_owned(), prompt.clone());
            self.prompts.push(KnownPrompt { add_generation_prompt, text, prompt });
        }
        Some(prompt)
    }

    /// Renders the first `count` messages: the output after their last piece, and that piece.
    fn render_end(&self, count: usize, add_generation_prompt: bool) -> Option<(String, Option<usize>)> {
        let messages = &self.marked.messages[..count];
        let rendered = self.template.render_messages(self.chat, messages, add_generation_prompt).ok()?;
        let (text, occurrences) = self.marks.remove(&rendered, &self.marked.pieces);
        let end = occurrences.iter().map(|occurrence| occurrence.range.end).max().unwrap_or(0);
        Some((text[end..].to_owned(), occurrences.last().map(|occurrence| occurrence.piece)))
    }

    fn end(&mut self, message: usize, start: usize) -> Result<usize> {
        let bounds = self.bounds[message];
        if message + 1 == self.messages.len() && bounds.next_start == self.text.len() {
            return Ok(self.text.len());
        }
        let Some((_, text_end)) = bounds.text else { return self.end_without_text(message, start, bounds) };
        let region = &self.text[text_end..bounds.next_start];
        let trimmed = region.trim_start();
        if let Some(next_turn) = self.separators.iter().find_map(|separator| separator.next_turn(region)) {
            return Ok(bounds.next_start - next_turn);
        }
        let rendered = self.render_end(message + 1, false).filter(|(_, last_piece)| *last_piece == bounds.last_piece);
        let alone = rendered.as_ref().map_or("", |(end, _)| end.as_str());
        let mut length = common_prefix(region, alone, &self.profile.added_tokens);
        // The last turn of a rendering may end with another token than the earlier ones do.
        if !self.has_end_token(&region[..length]) {
            let [_, trail] = edges(&self.messages[message]);
            if !trail.is_empty() && trimmed.starts_with(trail) {
                length = length.max(region.len() - trimmed.len() + trail.len());
            }
            let is_cut = rendered.is_none() || self.has_end_token(alone);
            length += self.end_token(&region[length..], is_cut).unwrap_or(0);
        }
        let tail = length.saturating_sub(region.len() - trimmed.len());
        let tokens = self.profile.end_tokens().filter_map(|token| Some((trimmed[..tail].rfind(token)?, token)));
        let last = tokens.max_by_key(|(at, token)| (*at, token.len()));
        let end_token = last.map(|(at, token)| (at, token.to_owned()));
        self.separators.push(Separator { text: trimmed.to_owned(), tail, end_token });
        Ok(text_end + length)
    }

    /// The end of a turn without text, such as an empty answer, which consists of its end token.
    fn end_without_text(&self, message: usize, start: usize, bounds: MessageBounds) -> Result<usize> {
        let region = &self.text[bounds.prev_end..bounds.next_start];
        let (alone, last_piece) = self.render_end(message + 1, false).ok_or_else(|| not_located(message, "end"))?;
        let length = common_prefix(region, &alone, &self.profile.added_tokens);
        let from = start - bounds.prev_end;
        let is_ended = region.get(from..length).is_some_and(|turn| self.has_end_token(turn));
        let is_whole = length == alone.len() && length >= from;
        if last_piece == bounds.prev_piece && (is_whole || is_ended) {
            Ok(bounds.prev_end + length)
        } else {
            Err(not_located(message, "end"))
        }
    }

    fn has_end_token(&self, text: &str) -> bool {
        self.profile.end_tokens().any(|token| text.contains(token))
    }

    /// The length of the end token at the start of `region`, with the white space around it.
    ///
    /// If the end of the turn `is_cut`, that is any token but one of the generation prompt. Otherwise it must be one that
    /// generation stops at, even if the template writes it as the start of the next turn.
    fn end_token(&self, region: &str, is_cut: bool) -> Option<usize> {
        let tokens = self.profile.end_tokens().filter_map(|token| Some((region.find(token)?, token)));
        let (at, token) = tokens.min_by_key(|(at, token)| (*at, std::cmp::Reverse(token.len())))?;
        let is_one_of = |tokens: &[String]| tokens.iter().any(|other| other == token);
        let is_end = is_one_of(&self.profile.stop_tokens) || (is_cut && !is_one_of(&self.profile.prompt_tokens));
        let rest = &region[at + token.len()..];
        (is_end && region[..at].trim().is_empty()).then_some(at + token.len() + rest.len() - rest.trim_start().len())
    }

    /// Whether a turn ends at `rest`, with no text before its end token.
    fn is_end_of_turn(&self, rest: &str) -> bool {
        let rest = rest.trim_start();
        rest.is_empty() || self.profile.end_tokens().any(|token| rest.starts_with(token))
    }
}

fn not_located(message: usize, edge: &str) -> Error {
    Error::data(format!(
        "message {message}: the chat template renders earlier messages differently when others follow, so the {edge} \
         of this turn cannot be found"
    ))
    .with_hint("give a template with {% generation %} tags by option `chat_template`, or set loss_on: \"everything\"")
}
