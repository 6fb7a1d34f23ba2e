//! Where the words of each message stand in a rendered conversation.
//!
//! The messages are rendered a second time with marks around their words. Marks are characters that neither
//! the row nor the template nor the plain rendering holds, and the marked text counts only if it is the plain
//! text once the marks are taken out: so the data is never changed, and every place is proven. Leaves to
//! others: what of a turn is trained on (`turns.rs`, `spans.rs`).

use super::messages::{is_assistant, REASONING};
use crate::error::{Error, Result};
use regex::Regex;
use serde_json::Value;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

/// What a piece of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A content without text.
    Empty,
    /// Reasoning: a field of its own, or what stands before `</think>`.
    Thought,
    /// The name or an argument of a tool call.
    Call,
}

/// A piece of a message that marks stand around; its number is its place in [`Marked::pieces`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub message: usize,
    pub kind: Kind,
}

/// Where a piece stands in a rendering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub piece: usize,
    pub message: usize,
    pub range: Range<usize>,
    /// Whether the piece stands earlier in the text too.
    pub is_repeated: bool,
}

/// Which pieces get marks. Some templates look at what they are given (is the text empty, does a call have a
/// known name), and render it differently with marks in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// Contents without text too.
    pub empty: bool,
    pub arguments: bool,
    pub calls: bool,
    /// Answers too, not only what others say.
    pub answers: bool,
}

impl Reach {
    /// From the most to the least that is worth knowing.
    pub const ALL: [Self; 5] = [
        Self { empty: true, arguments: true, calls: true, answers: true },
        Self { empty: false, arguments: true, calls: true, answers: true },
        Self { empty: false, arguments: false, calls: true, answers: true },
        Self { empty: false, arguments: false, calls: false, answers: true },
        Self { empty: false, arguments: false, calls: false, answers: false },
    ];
}

/// Messages with marks in them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Marked {
    pub messages: Vec<Value>,
    pub pieces: Vec<Piece>,
}

/// Characters that stand for no text: one opens a piece, one closes it, ten are the digits of its number.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    open: char,
    close: char,
    digits: [char; 10],
}

impl Marks {
    /// Marks that none of the values and texts holds.
    ///
    /// Fails where these hold tens of thousands of characters that Unicode gives no meaning.
    pub fn absent_from<'a>(
        values: impl IntoIterator<Item = &'a Value>,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        let free: Vec<char> = free_characters(values, texts, 12);
        match free[..] {
            [open, close, ref digits @ ..] if digits.len() == 10 => {
                let mut own = ['0'; 10];
                own.copy_from_slice(digits);
                Ok(Marks { open, close, digits: own })
            }
            _ => Err(Error::data("the conversation holds every character that could mark its words")
                .with_hint("leave the row out: it holds more than a thousand kinds of hieroglyphs")),
        }
    }

    fn write(&self, mark: char, number: usize, text: &mut String) {
        text.push(mark);
        let digit = |digit: u8| self.digits[usize::from(digit - b'0')];
        text.extend(number.to_string().bytes().map(digit));
    }

    /// Puts marks into messages, as far as `reach` goes.
    pub fn place(&self, messages: &[Value], reach: Reach) -> Marked {
        let mut placing = Placing { marks: self, reach, pieces: Vec::new(), message: 0 };
        let place = |(index, message): (usize, &Value)| {
            placing.message = index;
            placing.message(message)
        };
        let messages = messages.iter().enumerate().map(place).collect();
        Marked { messages, pieces: placing.pieces }
    }

    /// Takes the marks out of a rendering: the text, and the words in the order of their places.
    pub fn take(&self, text: &str, pieces: &[Piece]) -> (String, Vec<Word>) {
        let mut plain = String::with_capacity(text.len());
        let mut words = Vec::new();
        let mut opened: Vec<Option<usize>> = vec![None; pieces.len()];
        let mut seen = vec![false; pieces.len()];
        let mut add = |words: &mut Vec<Word>, piece: usize, range: Range<usize>| {
            let is_repeated = std::mem::replace(&mut seen[piece], true);
            words.push(Word { piece, message: pieces[piece].message, range, is_repeated });
        };
        let mut rest = text.char_indices().peekable();
        while let Some((_, c)) = rest.next() {
            if c != self.open && c != self.close {
                plain.push(c);
                continue;
            }
            let mut number = 0_usize;
            while let Some(digit) = rest.peek().and_then(|(_, c)| self.digits.iter().position(|digit| digit == c)) {
                number = number.saturating_mul(10).saturating_add(digit);
                rest.next();
            }
            // A template that cuts texts may cut a mark: the number then means nothing, and the texts differ.
            let Some(place) = opened.get_mut(number) else { continue };
            let at = plain.len();
            match (c == self.open, place.take()) {
                (true, before) => {
                    before.into_iter().for_each(|start| add(&mut words, number, start..start));
                    *place = Some(at);
                }
                // Its start was cut off.
                (false, start) => add(&mut words, number, start.unwrap_or(at)..at),
            }
        }
        for (piece, start) in opened.into_iter().enumerate() {
            start.into_iter().for_each(|start| add(&mut words, piece, start..start));
        }
        words.sort_by_key(|word| (word.range.start, word.range.end));
        (plain, words)
    }
}

/// Characters that none of the values and texts holds: Egyptian hieroglyphs, or else the signs of Linear A. They are
/// letters without case, so that a template prints them as they are: in `repr`, Python escapes what is no character.
pub(super) fn free_characters<'a>(
    values: impl IntoIterator<Item = &'a Value>,
    texts: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> Vec<char> {
    let mut used = HashSet::new();
    let mut note = |text: &str| used.extend(text.chars().filter(|&c| c >= '\u{10600}'));
    texts.into_iter().for_each(&mut note);
    let mut values: Vec<&Value> = values.into_iter().collect();
    while let Some(value) = values.pop() {
        match value {
            Value::String(text) => note(text),
            Value::Array(list) => values.extend(list),
            Value::Object(map) => {
                map.keys().for_each(|key| note(key));
                values.extend(map.values());
            }
            _ => {}
        }
    }
    let candidates = ('\u{13000}'..='\u{1342e}').chain('\u{10600}'..='\u{10736}');
    candidates.filter(|c| !used.contains(c)).take(count).collect()
}

/// What stands around parts of a text and may decide how a template renders them: `<think>`, `[/THINK]`.
static TAG: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"<[/|]?[A-Za-z][^<>]{0,60}>|\[/?[A-Z_]{2,20}\]").ok());

/// The parts of a text between tags, without the white space around them, and which of them are thoughts.
fn parts(text: &str) -> Vec<(Range<usize>, bool)> {
    let mut parts = Vec::new();
    let mut thoughts_end = 0;
    let mut add = |range: Range<usize>| {
        let part = &text[range.clone()];
        let start = range.start + part.len() - part.trim_start().len();
        let end = range.start + part.trim_end().len();
        if start < end {
            parts.push((start..end, false));
        }
    };
    let mut at = 0;
    for tag in TAG.iter().flat_map(|tag| tag.find_iter(text)) {
        add(at..tag.start());
        at = tag.end();
        let name = tag.as_str().trim_matches(['<', '>', '[', ']', '/', '|']).to_ascii_lowercase();
        if tag.as_str()[1..].starts_with('/') && name.starts_with("think") {
            thoughts_end = tag.end();
        }
    }
    add(at..text.len());
    if parts.is_empty() {
        let start = text.len() - text.trim_start().len();
        let end = text.trim_end().len();
        parts.extend((start < end).then_some((start..end, false)));
    }
    parts.iter_mut().for_each(|(range, is_thought)| *is_thought = range.end <= thoughts_end);
    parts
}

/// What of a message's content stands before its first marked part, and what behind its last: `<think>`,
/// `</answer>`.
pub(super) fn edges(message: &Value) -> [&str; 2] {
    let Some(text) = message.get("content").and_then(Value::as_str) else { return [""; 2] };
    let parts = parts(text);
    let lead = parts.first().map_or("", |(range, _)| text[..range.start].trim());
    let trail = parts.last().map_or("", |(range, _)| text[range.end..].trim());
    [lead, trail]
}

/// A text without its tags, and without one that is open at its end.
pub(super) fn without_tags(text: &str) -> String {
    let bare = TAG.as_ref().map_or_else(|| text.into(), |tag| tag.replace_all(text, ""));
    let open = bare.rfind('<').filter(|&at| !bare[at..].contains('>'));
    bare[..open.unwrap_or(bare.len())].to_owned()
}

struct Placing<'a> {
    marks: &'a Marks,
    reach: Reach,
    pieces: Vec<Piece>,
    message: usize,
}

impl Placing<'_> {
    fn piece(&mut self, kind: Kind) -> usize {
        self.pieces.push(Piece { message: self.message, kind });
        self.pieces.len() - 1
    }

    /// A text with marks around all of it but the white space at its ends.
    fn whole(&mut self, text: &str, kind: Kind) -> String {
        let core = text.trim();
        if core.is_empty() {
            return text.to_owned();
        }
        let lead = text.len() - text.trim_start().len();
        self.around(text, [(lead..lead + core.len(), kind)])
    }

    fn around(&mut self, text: &str, parts: impl IntoIterator<Item = (Range<usize>, Kind)>) -> String {
        let mut marked = String::with_capacity(text.len() + 16);
        let mut at = 0;
        for (range, kind) in parts {
            let piece = self.piece(kind);
            marked.push_str(&text[at..range.start]);
            self.marks.write(self.marks.open, piece, &mut marked);
            marked.push_str(&text[range.clone()]);
            self.marks.write(self.marks.close, piece, &mut marked);
            at = range.end;
        }
        marked.push_str(&text[at..]);
        marked
    }

    fn content(&mut self, text: &str) -> String {
        let parts = parts(text);
        if parts.is_empty() && self.reach.empty {
            return self.around(text, [(text.len()..text.len(), Kind::Empty)]);
        }
        let kind = |is_thought| if is_thought { Kind::Thought } else { Kind::Text };
        self.around(text, parts.into_iter().map(|(range, is_thought)| (range, kind(is_thought))))
    }

    fn message(&mut self, message: &Value) -> Value {
        let Value::Object(fields) = message else { return message.clone() };
        let is_answer = is_assistant(message);
        if is_answer && !self.reach.answers {
            return message.clone();
        }
        let reasoning = REASONING.iter().find(|name| fields.get(**name).is_some_and(|value| !value.is_null()));
        let mut marked = fields.clone();
        // In the order in which templates write them, so that the numbers rise with the places.
        if let Some(Value::String(text)) = reasoning.and_then(|name| marked.get_mut(*name)) {
            *text = self.whole(text, Kind::Thought);
        }
        if let Some(content) = marked.get_mut("content") {
            *content = match &*content {
                Value::String(text) => self.content(text).into(),
                other => self.leaves(other, Kind::Text),
            };
        }
        if !self.reach.calls {
            return Value::Object(marked);
        }
        if let Some(Value::Array(calls)) = marked.get_mut("tool_calls") {
            for call in calls {
                let function = if call["function"].is_object() { &mut call["function"] } else { call };
                self.call(function);
            }
        }
        if let Some(function) = marked.get_mut("function_call") {
            self.call(function);
        }
        Value::Object(marked)
    }

    fn call(&mut self, function: &mut Value) {
        let Value::Object(fields) = function else { return };
        if let Some(Value::String(name)) = fields.get_mut("name") {
            *name = self.whole(name, Kind::Call);
        }
        if let Some(arguments) = fields.get_mut("arguments").filter(|_| self.reach.arguments) {
            *arguments = self.leaves(arguments, Kind::Call);
        }
    }

    /// A value with marks around its texts. What says of which kind a part of the content is stays.
    fn leaves(&mut self, value: &Value, kind: Kind) -> Value {
        match value {
            Value::String(text) => self.whole(text, kind).into(),
            Value::Array(list) => list.iter().map(|value| self.leaves(value, kind)).collect(),
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(key, value)| match (key.as_str(), kind) {
                        ("type", Kind::Text) => (key.clone(), value.clone()),
                        _ => (key.clone(), self.leaves(value, kind)),
                    })
                    .collect(),
            ),
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn marks_are_none_of_the_characters_at_hand() {
        let data = json!({"a": ["\u{13000}", {"\u{13001}": 1}]});
        let free = free_characters([&data], ["\u{13002}"], 3);
        assert_eq!(free, ['\u{13003}', '\u{13004}', '\u{13005}']);
        let all: String = ('\u{13000}'..='\u{1342e}').chain('\u{10600}'..='\u{10736}').collect();
        assert!(Marks::absent_from([], [all.as_str()]).is_err());
        assert!(Marks::absent_from([], [&all[..4 * 30]]).is_ok());
    }

    #[test]
    fn what_is_placed_is_taken_out_again() {
        let messages = [
            json!({"role": "user", "content": "  one <b>two</b>\n"}),
            json!({"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes", "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": {"x": "y", "n": 1}}}]}),
        ];
        let marks = Marks::absent_from(&messages, []).unwrap();
        let marked = marks.place(&messages, Reach::ALL[0]);
        let text: String = marked.messages.iter().map(|message| message["content"].as_str().unwrap()).collect();
        let (plain, words) = marks.take(&text, &marked.pieces);
        assert_eq!(plain, "  one <b>two</b>\n<think>\nhm\n</think>\n\nyes");
        let texts: Vec<(&str, usize)> = words.iter().map(|word| (&plain[word.range.clone()], word.message)).collect();
        assert_eq!(texts, [("one", 0), ("two", 0), ("hm", 1), ("yes", 1)]);
        let kinds: Vec<Kind> = marked.pieces.iter().map(|piece| piece.kind).collect();
        assert_eq!(kinds, [Kind::Text, Kind::Text, Kind::Thought, Kind::Text, Kind::Call, Kind::Call]);
        assert_eq!((edges(&messages[1]), edges(&messages[0])), (["<think>", ""], ["", "</b>"]));
        assert_eq!(without_tags("</think>\n<tool_call>\n<function="), "\n\n");
        // A template that cuts thoughts off leaves the rest in its place.
        let cut = text.split("</think>").last().unwrap();
        let (plain, words) = marks.take(cut, &marked.pieces);
        assert_eq!((plain.as_str(), words.len(), words[0].range.clone()), ("\n\nyes", 1, 2..5));
    }
}
