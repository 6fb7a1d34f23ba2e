//! Where each turn of a rendered conversation begins and ends.
//!
//! A turn lies between the words of its neighbours, which marks prove (`marks.rs`). Within that stretch the
//! model writes from the end of the prompt that it is given: what the conversation up to the turn, rendered
//! with a generation prompt, has in common with the whole. It ends as the conversation up to the turn's end
//! does. The template's text between two turns is mostly the same all along, so each kind of it is rendered
//! once, and a long conversation costs few renderings.
//!
//! Leaves to others: which turns are trained on, and the proof of the result (`spans.rs`).

use super::example::Chat;
use super::marks::{edges, without_tags, Kind, Marked, Marks, Reach, Word};
use super::messages::is_assistant;
use super::spans::Habits;
use super::template::ChatTemplate;
use crate::error::{Error, Result};
use regex::Regex;
use serde_json::Value;
use std::ops::Range;
use std::sync::LazyLock;

/// Where the words of one message stand, and how far its turn can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    /// Where the words of other messages before it end.
    before: usize,
    /// The last of these words.
    anchor: Option<usize>,
    /// Its own words, from the first to the last in a row; `None` where the text holds none.
    words: Option<(usize, usize)>,
    /// The last of its own words.
    last: Option<usize>,
    /// Where the words of other messages after it begin.
    after: usize,
}

/// The template's text between two turns, as it was found once.
#[derive(Debug)]
struct Joint {
    text: String,
    /// How much of it belongs to the turn that ends.
    tail: usize,
    /// The token that ends the turn, and where it stands: what is before it may be of the answer, as the end
    /// of a call with numbers is.
    token: Option<(usize, String)>,
}

impl Joint {
    /// How much of a stretch between turns is not of the turn that ends, if this is such a stretch.
    fn rest(&self, stretch: &str) -> Option<usize> {
        let is_same = stretch.trim_start() == self.text;
        let ends_so = self.token.as_ref().is_some_and(|(at, token)| {
            stretch.strip_suffix(&self.text[*at..]).is_some_and(|before| !before.contains(token.as_str()))
        });
        (is_same || ends_so).then_some(self.text.len() - self.tail)
    }
}

/// A generation prompt, and the text before an answer where it was asked for.
#[derive(Debug)]
struct Opening {
    asked: bool,
    text: String,
    prompt: String,
}

/// What of a message's words the rendering lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// All of it.
    pub answer: bool,
    /// Its thoughts.
    pub thoughts: bool,
    /// Its tool calls, or the text beside them.
    pub part: bool,
}

/// A conversation as text, with the places of its words.
pub(super) struct Turns<'a> {
    template: &'a ChatTemplate,
    chat: &'a Chat,
    messages: &'a [Value],
    habits: &'a Habits,
    text: &'a str,
    marks: Marks,
    marked: Marked,
    pub words: Vec<Word>,
    stretches: Vec<Stretch>,
    lost: Vec<Lost>,
    joints: Vec<Joint>,
    openings: Vec<Opening>,
    /// Whether an answer follows another text than the prompt that generation begins with.
    pub recovered: bool,
}

impl<'a> Turns<'a> {
    /// `text` is the rendering of `messages`, those of `chat` as the template sees them.
    ///
    /// Fails where the words of the messages cannot be found in it.
    pub fn new(
        template: &'a ChatTemplate,
        chat: &'a Chat,
        messages: &'a [Value],
        habits: &'a Habits,
        text: &'a str,
    ) -> Result<Self> {
        let values = messages.iter().chain(chat.tools.iter()).chain(chat.variables.values());
        let marks = Marks::absent_from(values, [text, template.source()])?;
        let mut before = None;
        for reach in Reach::ALL {
            let marked = marks.place(messages, reach);
            if before.as_ref() == Some(&marked) {
                continue;
            }
            let rendered = template.render_messages(chat, &marked.messages, false);
            if let Ok((plain, words)) = rendered.map(|rendered| marks.take(&rendered, &marked.pieces)) {
                if plain == text {
                    let stretches = stretches(&words, messages.len(), text.len());
                    let lost = lost_parts(&marked, &words);
                    let (joints, openings) = Default::default();
                    return Ok(Turns {
                        template,
                        chat,
                        messages,
                        habits,
                        text,
                        marks,
                        marked,
                        words,
                        stretches,
                        lost,
                        joints,
                        openings,
                        recovered: false,
                    });
                }
            }
            before = Some(marked);
        }
        Err(Error::data(
            "the chat template rewrites the messages, so that the words of each cannot be found in its text",
        )
        .with_hint(
            "give another template by option `chat_template`, or set loss_on: \"everything\" to train on all of it",
        ))
    }

    /// How far the turn of a message can reach: from the words before it to those after it.
    pub fn reach(&self, message: usize) -> Range<usize> {
        let stretch = self.stretches[message];
        stretch.before..stretch.after.max(stretch.before)
    }

    /// What the text lacks of a message.
    pub fn lost(&self, message: usize) -> Lost {
        self.lost[message]
    }

    /// The turn of a message, from where the model writes to where the turn ends.
    pub fn turn(&mut self, message: usize) -> Result<Range<usize>> {
        let start = self.start(message)?;
        let end = self.end(message, start)?;
        match start <= end {
            true => Ok(start..end),
            false => Err(unclear(message, "end")),
        }
    }

    /// Where a turn begins: an answer behind the prompt for it, another message behind what is before it.
    pub fn start(&mut self, message: usize) -> Result<usize> {
        let stretch = self.stretches[message];
        let is_apart = |(start, end): (usize, usize)| stretch.before <= start && end <= stretch.after;
        if stretch.before > stretch.after || !stretch.words.is_none_or(is_apart) {
            return Err(unclear(message, "start"));
        }
        let first = stretch.words.map(|(start, _)| self.with_lead(message, start, stretch.before));
        // Most templates look at the first message, so none at all is no fair question.
        if message == 0 {
            return first.ok_or_else(|| unclear(message, "start"));
        }
        let is_answer = is_assistant(&self.messages[message]);
        let asked = is_answer && self.template.has_generation_prompt();
        let stops = stretch.words.map_or(stretch.after, |(start, _)| start);
        let prompt = self.prompt(message, asked, stretch, stops);
        let rest = &self.text[stretch.before..stretch.after];
        let matched = prompt.as_deref().map(|prompt| after_prompt(rest, prompt, &self.habits.tokens));
        let place = |length: usize| stretch.before + length;
        let gap = |from: usize| self.text.get(from..first.unwrap_or(stretch.after)).map(str::trim);
        // Whether all of the template's own header is behind, so that the model writes what follows.
        let headed = |length: usize| {
            let header = self.habits.header.as_str();
            (!header.is_empty() && rest[..length].contains(header))
                || gap(place(length)).is_some_and(|gap| !without_tags(gap).contains(char::is_alphanumeric))
        };
        match (matched, first) {
            // The prompt stands there as it is asked with.
            (Some((length, true)), _) if asked || !is_answer => Ok(place(length)),
            // A template without a generation prompt, as Llama 2's, may put a space before the answer that is
            // the model's to write. A header that it writes there is not.
            (Some((length, true)), Some(first)) => {
                Ok(if gap(place(length)) == Some("") { place(length) } else { first })
            }
            (Some((length, false)), Some(first)) => {
                self.recovered |= is_answer;
                Ok(if place(length) <= first && headed(length) { place(length) } else { first })
            }
            (None, Some(first)) => {
                self.recovered |= asked;
                Ok(first)
            }
            (Some((length, _)), None) if self.is_bare(&rest[length..]) => {
                self.recovered |= is_answer;
                Ok(place(length))
            }
            (_, None) => Err(unclear(message, "start")),
        }
    }

    /// The start of a message's words with what of its content no mark stands around.
    fn with_lead(&self, message: usize, start: usize, before: usize) -> usize {
        let [lead, _] = edges(&self.messages[message]);
        let head = self.text[before..start].trim_end();
        match !lead.is_empty() && head.ends_with(lead) {
            true => before + head.len() - lead.len(),
            false => start,
        }
    }

    /// The text behind the last words of the conversation up to a message, as a prompt for it.
    fn prompt(&mut self, message: usize, asked: bool, stretch: Stretch, stops: usize) -> Option<String> {
        let text = self.text[stretch.before..stops].trim_start();
        let known = self.openings.iter().find(|opening| opening.asked == asked && opening.text == text);
        if let Some(opening) = known.filter(|_| stretch.words.is_some()) {
            return Some(opening.prompt.clone());
        }
        let (prompt, last) = self.behind(message, asked)?;
        if last != stretch.anchor {
            return None;
        }
        if stretch.words.is_some() {
            self.openings.push(Opening { asked, text: text.to_owned(), prompt: prompt.clone() });
        }
        Some(prompt)
    }

    /// Renders the first messages: the text behind their last word, and that word.
    fn behind(&self, count: usize, prompt: bool) -> Option<(String, Option<usize>)> {
        let rendered = self.template.render_messages(self.chat, &self.marked.messages[..count], prompt).ok()?;
        let (plain, words) = self.marks.take(&rendered, &self.marked.pieces);
        let end = words.iter().map(|word| word.range.end).max().unwrap_or(0);
        Some((plain[end..].to_owned(), words.last().map(|word| word.piece)))
    }

    fn end(&mut self, message: usize, start: usize) -> Result<usize> {
        let stretch = self.stretches[message];
        if message + 1 == self.messages.len() && stretch.after == self.text.len() {
            return Ok(self.text.len());
        }
        let Some((_, end)) = stretch.words else { return self.silent_end(message, start, stretch) };
        let region = &self.text[end..stretch.after];
        let trimmed = region.trim_start();
        if let Some(rest) = self.joints.iter().find_map(|joint| joint.rest(region)) {
            return Ok(stretch.after - rest);
        }
        let behind = self.behind(message + 1, false).filter(|(_, last)| *last == stretch.last);
        let tail = behind.as_ref().map_or("", |(tail, _)| tail.as_str());
        let mut length = common(region, tail, &self.habits.tokens);
        // The last turn may end with another token than the earlier ones do.
        if !self.holds_token(&region[..length]) {
            let [_, trail] = edges(&self.messages[message]);
            let own = if !trail.is_empty() && trimmed.starts_with(trail) {
                region.len() - trimmed.len() + trail.len()
            } else {
                0
            };
            length = length.max(own);
            let is_cut = behind.is_none() || self.holds_token(tail);
            length += self.end_token(&region[length..], is_cut).unwrap_or(0);
        }
        let before_joint = region.len() - trimmed.len();
        let tail = length.saturating_sub(before_joint);
        let tokens = self.habits.ends().filter_map(|token| Some((trimmed[..tail].rfind(token)?, token)));
        let last = tokens.max_by_key(|(at, token)| (*at, token.len()));
        let token = last.map(|(at, token)| (at, token.to_owned()));
        self.joints.push(Joint { text: trimmed.to_owned(), tail, token });
        Ok(end + length)
    }

    /// The end of a turn that has no words: an answer without text is its end token.
    fn silent_end(&self, message: usize, start: usize, stretch: Stretch) -> Result<usize> {
        let region = &self.text[stretch.before..stretch.after];
        let (tail, last) = self.behind(message + 1, false).ok_or_else(|| unclear(message, "end"))?;
        let length = common(region, &tail, &self.habits.tokens);
        let from = start - stretch.before;
        let holds = region.get(from..length).is_some_and(|end| self.holds_token(end));
        match last == stretch.anchor && (length == tail.len() && length >= from || holds) {
            true => Ok(stretch.before + length),
            false => Err(unclear(message, "end")),
        }
    }

    fn holds_token(&self, text: &str) -> bool {
        self.habits.ends().any(|token| text.contains(token))
    }

    /// The end of the token that a stretch between turns begins with: where the end of the turn `is_cut`, any
    /// but one that opens an answer; else one that generation stops at, though the template writes it as the
    /// start of the next turn.
    fn end_token(&self, region: &str, is_cut: bool) -> Option<usize> {
        let found = self.habits.ends().filter_map(|token| Some((region.find(token)?, token)));
        let (at, token) = found.min_by_key(|(at, token)| (*at, std::cmp::Reverse(token.len())))?;
        let is_among = |tokens: &[String]| tokens.iter().any(|other| other == token);
        let is_end = is_among(&self.habits.stops) || (is_cut && !is_among(&self.habits.opening));
        let rest = &region[at + token.len()..];
        (is_end && region[..at].trim().is_empty()).then_some(at + token.len() + rest.len() - rest.trim_start().len())
    }

    /// Whether nothing but the template's own tokens may follow.
    fn is_bare(&self, rest: &str) -> bool {
        let rest = rest.trim_start();
        rest.is_empty() || self.habits.ends().any(|token| rest.starts_with(token))
    }
}

fn unclear(message: usize, what: &str) -> Error {
    Error::data(format!(
        "message {message}: the chat template renders earlier messages differently once others follow, so that the \
         {what} of this turn cannot be found"
    ))
    .with_hint("give a template with {% generation %} tags by option `chat_template`, or set loss_on: \"everything\"")
}

/// What a rendering lacks of each message.
fn lost_parts(marked: &Marked, words: &[Word]) -> Vec<Lost> {
    let mut kept = vec![false; marked.pieces.len()];
    words.iter().for_each(|word| kept[word.piece] = true);
    // Of text, calls and thoughts: whether there is any, and whether any is kept.
    let mut counts = vec![[(false, false); 3]; marked.messages.len()];
    for (piece, kept) in marked.pieces.iter().zip(kept) {
        let kind = match piece.kind {
            Kind::Text => 0,
            Kind::Call => 1,
            Kind::Thought => 2,
            Kind::Empty => continue,
        };
        let (has, has_kept) = &mut counts[piece.message][kind];
        (*has, *has_kept) = (true, *has_kept || kept);
    }
    let lost = |kinds: [(bool, bool); 3]| {
        let answer = kinds.iter().any(|(has, _)| *has) && !kinds.iter().any(|(_, kept)| *kept);
        let [text, call, thought] = kinds.map(|(has, kept)| has && !kept && !answer);
        Lost { answer, thoughts: thought, part: text || call }
    };
    counts.into_iter().map(lost).collect()
}

/// The stretch of every message, from words in the order of their places.
fn stretches(words: &[Word], messages: usize, length: usize) -> Vec<Stretch> {
    let nothing = Stretch { before: 0, anchor: None, words: None, last: None, after: length };
    let mut stretches = vec![nothing; messages];
    let mut first = vec![None; messages];
    for (index, word) in words.iter().enumerate() {
        first[word.message].get_or_insert(index);
    }
    // The words of all messages before the one at hand, and of all after it.
    let (mut reached, mut anchor) = (0, None);
    let mut ends = vec![(0, None); messages];
    let mut by_message: Vec<Vec<&Word>> = vec![Vec::new(); messages];
    words.iter().filter(|word| !word.is_repeated).for_each(|word| by_message[word.message].push(word));
    for (message, own) in by_message.iter().enumerate() {
        ends[message] = (reached, anchor);
        if let Some(last) = own.iter().max_by_key(|word| word.range.end).filter(|last| last.range.end >= reached) {
            (reached, anchor) = (last.range.end, Some(last.piece));
        }
    }
    let mut begins = length;
    let mut ended_before = Vec::with_capacity(words.len());
    words.iter().fold(0, |most, word| {
        ended_before.push(most);
        most.max(word.range.end)
    });
    for message in (0..messages).rev() {
        stretches[message] = match first[message] {
            None => Stretch { before: ends[message].0, anchor: ends[message].1, after: begins, ..nothing },
            Some(index) => {
                // Up to the last that stands there for the first time: what is repeated behind it, as the name
                // of a tool before what the tool says, is no longer said by this message.
                let own = words[index..].iter().take_while(|word| word.message == message);
                let run: Vec<&Word> = own.collect();
                let first_times = run.iter().rposition(|word| !word.is_repeated).map_or(0, |last| last + 1);
                let run = &run[..first_times];
                let end = run.iter().map(|word| word.range.end).max().unwrap_or(words[index].range.end);
                let others = words[index..].iter().find(|word| word.message != message);
                Stretch {
                    before: ended_before[index],
                    anchor: index.checked_sub(1).map(|before| words[before].piece),
                    words: Some((words[index].range.start, end)),
                    last: run.last().map(|word| word.piece),
                    after: others.map_or(length, |word| word.range.start.max(end)),
                }
            }
        };
        by_message[message].iter().for_each(|word| begins = begins.min(word.range.start));
    }
    stretches
}

/// How far `text` follows the prompt, and whether to its end. White space at the start of both may differ: it
/// is that of the message before.
fn after_prompt(text: &str, prompt: &str, tokens: &[String]) -> (usize, bool) {
    if text.starts_with(prompt) {
        return (prompt.len(), true);
    }
    let (core, expected) = (text.trim_start(), prompt.trim_start());
    let length = common(core, expected, tokens);
    (text.len() - core.len() + length, length == expected.len() && length > 0)
}

/// A tag that is cut nowhere: `<|im_start|>`, `[INST]`.
static UNIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^(?:<[^<>\s]{1,60}>|\[/?[A-Z_]{2,20}\])").ok());

/// The bytes that two texts begin with alike, up to a place where neither is inside a token or a tag.
fn common(left: &str, right: &str, tokens: &[String]) -> usize {
    let mut length = left.bytes().zip(right.bytes()).take_while(|(left, right)| left == right).count();
    while !left.is_char_boundary(length) || !right.is_char_boundary(length) {
        length -= 1;
    }
    if length == left.len() || length == right.len() {
        return length;
    }
    for text in [left, right] {
        let starts = (length.saturating_sub(80)..length).filter(|&at| text.is_char_boundary(at));
        for at in starts {
            let rest = &text[at..];
            let reach = |unit: usize| at + unit > length;
            let is_inside = tokens.iter().any(|token| rest.starts_with(token.as_str()) && reach(token.len()))
                || UNIT.as_ref().and_then(|unit| unit.find(rest)).is_some_and(|unit| reach(unit.end()));
            if is_inside {
                length = at;
                break;
            }
        }
    }
    length
}
