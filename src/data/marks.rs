//! Where the text of each message appears in a rendered conversation.
//!
//! The messages are rendered a second time with marks around the pieces of their text. Marks are characters that
//! occur neither in the row nor in the template nor in the rendering. The marked rendering counts only if it equals the
//! unmarked one after the marks are removed, so every position is proven and the data is never changed. Leaves to others:
//! which part of a turn is trained on (`turns.rs`, `spans.rs`).

use super::messages::{is_assistant, REASONING};
use crate::error::{Error, Result};
use regex::Regex;
use serde_json::Value;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

/// What a piece of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceKind {
    Text,
    /// A content without text.
    Empty,
    /// Reasoning: the field for it, or the text before `</think>`.
    Thought,
    /// The name or an argument of a tool call.
    Call,
}

/// A piece of a message with marks around it; its number is its index in [`Marked::pieces`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub message: usize,
    pub kind: PieceKind,
}

/// A piece of a message in a rendering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Occurrence {
    pub piece: usize,
    pub message: usize,
    pub range: Range<usize>,
    /// Whether the same piece occurs earlier in the rendering.
    pub is_repeated: bool,
}

/// Which pieces get marks. Some templates branch on a value (whether a text is empty, whether a tool is known) and
/// would render it differently with marks in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coverage {
    /// Contents without text too.
    pub empty: bool,
    pub arguments: bool,
    pub calls: bool,
    /// The assistant's messages too.
    pub answers: bool,
}

impl Coverage {
    /// From the most to the least informative.
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

/// Characters that occur in no text: one opens a piece, one closes it, ten are the digits of its number.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    open: char,
    close: char,
    digits: [char; 10],
}

impl Marks {
    /// Marks that occur in none of the values and texts.
    ///
    /// Fails if these contain more than a thousand different hieroglyphs.
    pub fn absent_from<'a>(
        values: impl IntoIterator<Item = &'a Value>,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        let unused: Vec<char> = free_characters(values, texts, 12);
        let too_many = || {
            Error::data("the conversation uses every character that could mark its text")
                .with_hint("leave the row out: it holds more than a thousand different hieroglyphs")
        };
        let [open, close, digits @ ..] = &unused[..] else { return Err(too_many()) };
        let digits = digits.try_into().map_err(|_| too_many())?;
        Ok(Marks { open: *open, close: *close, digits })
    }

    fn write(&self, mark: char, number: usize, text: &mut String) {
        text.push(mark);
        let digit = |digit: u8| self.digits[usize::from(digit - b'0')];
        text.extend(number.to_string().bytes().map(digit));
    }

    /// Puts marks into messages, around the pieces that `coverage` names.
    pub fn insert(&self, messages: &[Value], coverage: Coverage) -> Marked {
        let mut marker = Marker { marks: self, coverage, pieces: Vec::new(), message: 0 };
        let mark = |(index, message): (usize, &Value)| {
            marker.message = index;
            marker.message(message)
        };
        let messages = messages.iter().enumerate().map(mark).collect();
        Marked { messages, pieces: marker.pieces }
    }

    /// Removes the marks from a rendering; also returns the occurrences of the pieces, in the order of the text.
    pub fn remove(&self, marked: &str, pieces: &[Piece]) -> (String, Vec<Occurrence>) {
        let mut text = String::with_capacity(marked.len());
        let mut occurrences = Vec::new();
        let mut starts: Vec<Option<usize>> = vec![None; pieces.len()];
        let mut seen = vec![false; pieces.len()];
        let mut add = |occurrences: &mut Vec<Occurrence>, piece: usize, range: Range<usize>| {
            let is_repeated = std::mem::replace(&mut seen[piece], true);
            occurrences.push(Occurrence { piece, message: pieces[piece].message, range, is_repeated });
        };
        let mut rest = marked.chars().peekable();
        while let Some(c) = rest.next() {
            if c != self.open && c != self.close {
                text.push(c);
                continue;
            }
            let mut number = 0_usize;
            while let Some(digit) = rest.peek().and_then(|c| self.digits.iter().position(|digit| digit == c)) {
                number = number.saturating_mul(10).saturating_add(digit);
                rest.next();
            }
            // A template that truncates texts may cut a mark in two. Its number is then meaningless, and the texts differ.
            let Some(start) = starts.get_mut(number) else { continue };
            let here = text.len();
            let unclosed = start.take();
            if c == self.open {
                *start = Some(here);
                unclosed.into_iter().for_each(|start| add(&mut occurrences, number, start..start));
            } else {
                // Without a start, the template cut it off.
                add(&mut occurrences, number, unclosed.unwrap_or(here)..here);
            }
        }
        for (piece, start) in starts.into_iter().enumerate() {
            start.into_iter().for_each(|start| add(&mut occurrences, piece, start..start));
        }
        occurrences.sort_by_key(|occurrence| (occurrence.range.start, occurrence.range.end));
        (text, occurrences)
    }
}

/// Characters that occur in none of the values and texts: Egyptian hieroglyphs, then the signs of Linear A. They are
/// letters without case, so a template prints them unchanged, even by `repr`, which escapes unassigned characters.
pub(super) fn free_characters<'a>(
    values: impl IntoIterator<Item = &'a Value>,
    texts: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> Vec<char> {
    let mut used = HashSet::new();
    let mut add = |text: &str| used.extend(text.chars().filter(|&c| c >= '\u{10600}'));
    texts.into_iter().for_each(&mut add);
    let mut values: Vec<&Value> = values.into_iter().collect();
    while let Some(value) = values.pop() {
        match value {
            Value::String(text) => add(text),
            Value::Array(list) => values.extend(list),
            Value::Object(map) => {
                map.keys().for_each(|key| add(key));
                values.extend(map.values());
            }
            _ => {}
        }
    }
    let candidates = ('\u{13000}'..='\u{1342e}').chain('\u{10600}'..='\u{10736}');
    candidates.filter(|c| !used.contains(c)).take(count).collect()
}

/// Tags inside a text, by which a template may decide how to render it: `<think>`, `[/THINK]`.
static TAG: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"<[/|]?[A-Za-z][^<>]{0,60}>|\[/?[A-Z_]{2,20}\]").ok());

/// The parts of a text between tags, without the white space around them, and whether each is a thought.
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

/// The text of a message before its first marked part and after its last one, such as `<think>` and `</answer>`.
pub(super) fn edges(message: &Value) -> [&str; 2] {
    let Some(text) = message.get("content").and_then(Value::as_str) else { return [""; 2] };
    let parts = parts(text);
    let lead = parts.first().map_or("", |(range, _)| text[..range.start].trim());
    let trail = parts.last().map_or("", |(range, _)| text[range.end..].trim());
    [lead, trail]
}

/// A text without its tags, and without an unfinished tag at its end.
pub(super) fn without_tags(text: &str) -> String {
    let untagged = TAG.as_ref().map_or_else(|| text.into(), |tag| tag.replace_all(text, ""));
    let unfinished = untagged.rfind('<').filter(|&at| !untagged[at..].contains('>'));
    untagged[..unfinished.unwrap_or(untagged.len())].to_owned()
}

/// Puts marks into one message after the other.
struct Marker<'a> {
    marks: &'a Marks,
    coverage: Coverage,
    pieces: Vec<Piece>,
    /// The index of the current message.
    message: usize,
}

impl Marker<'_> {
    fn add_piece(&mut self, kind: PieceKind) -> usize {
        self.pieces.push(Piece { message: self.message, kind });
        self.pieces.len() - 1
    }

    /// A text with marks around all of it except the white space at its ends.
    fn mark_trimmed(&mut self, text: &str, kind: PieceKind) -> String {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return text.to_owned();
        }
        let start = text.len() - text.trim_start().len();
        self.mark_parts(text, [(start..start + trimmed.len(), kind)])
    }

    fn mark_parts(&mut self, text: &str, parts: impl IntoIterator<Item = (Range<usize>, PieceKind)>) -> String {
        let mut marked = String::with_capacity(text.len() + 16);
        let mut at = 0;
        for (range, kind) in parts {
            let piece = self.add_piece(kind);
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
        if parts.is_empty() && self.coverage.empty {
            return self.mark_parts(text, [(text.len()..text.len(), PieceKind::Empty)]);
        }
        let kind = |is_thought| if is_thought { PieceKind::Thought } else { PieceKind::Text };
        self.mark_parts(text, parts.into_iter().map(|(range, is_thought)| (range, kind(is_thought))))
    }

    fn message(&mut self, message: &Value) -> Value {
        let Value::Object(fields) = message else { return message.clone() };
        let is_answer = is_assistant(message);
        if is_answer && !self.coverage.answers {
            return message.clone();
        }
        let reasoning = REASONING.iter().find(|name| fields.get(**name).is_some_and(|value| !value.is_null()));
        let mut marked = fields.clone();
        // In the order in which templates write the fields, so that numbers ascend in the rendering.
        if let Some(Value::String(text)) = reasoning.and_then(|name| marked.get_mut(*name)) {
            *text = self.mark_trimmed(text, PieceKind::Thought);
        }
        if let Some(content) = marked.get_mut("content") {
            *content = match &*content {
                Value::String(text) => self.content(text).into(),
                other => self.mark_strings(other, PieceKind::Text),
            };
        }
        if !self.coverage.calls {
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
            *name = self.mark_trimmed(name, PieceKind::Call);
        }
        if let Some(arguments) = fields.get_mut("arguments").filter(|_| self.coverage.arguments) {
            *arguments = self.mark_strings(arguments, PieceKind::Call);
        }
    }

    /// A value with marks around its strings, except the `type` of a part of the content, which templates compare.
    fn mark_strings(&mut self, value: &Value, kind: PieceKind) -> Value {
        match value {
            Value::String(text) => self.mark_trimmed(text, kind).into(),
            Value::Array(list) => list.iter().map(|value| self.mark_strings(value, kind)).collect(),
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(key, value)| match (key.as_str(), kind) {
                        ("type", PieceKind::Text) => (key.clone(), value.clone()),
                        _ => (key.clone(), self.mark_strings(value, kind)),
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
    fn marks_do_not_occur_in_the_texts() {
        let data = json!({"a": ["\u{13000}", {"\u{13001}": 1}]});
        let free = free_characters([&data], ["\u{13002}"], 3);
        assert_eq!(free, ['\u{13003}', '\u{13004}', '\u{13005}']);
        let all: String = ('\u{13000}'..='\u{1342e}').chain('\u{10600}'..='\u{10736}').collect();
        assert!(Marks::absent_from([], [all.as_str()]).is_err());
        assert!(Marks::absent_from([], [&all[..4 * 30]]).is_ok());
    }

    #[test]
    fn marks_are_inserted_and_removed() {
        let messages = [
            json!({"role": "user", "content": "  one <b>two</b>\n"}),
            json!({"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes", "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": {"x": "y", "n": 1}}}]}),
        ];
        let marks = Marks::absent_from(&messages, []).unwrap();
        let marked = marks.insert(&messages, Coverage::ALL[0]);
        let text: String = marked.messages.iter().map(|message| message["content"].as_str().unwrap()).collect();
        let (unmarked, occurrences) = marks.remove(&text, &marked.pieces);
        assert_eq!(unmarked, "  one <b>two</b>\n<think>\nhm\n</think>\n\nyes");
        let texts: Vec<(&str, usize)> =
            occurrences.iter().map(|occurrence| (&unmarked[occurrence.range.clone()], occurrence.message)).collect();
        assert_eq!(texts, [("one", 0), ("two", 0), ("hm", 1), ("yes", 1)]);
        let kinds: Vec<PieceKind> = marked.pieces.iter().map(|piece| piece.kind).collect();
        assert_eq!(
            kinds,
            [PieceKind::Text, PieceKind::Text, PieceKind::Thought, PieceKind::Text, PieceKind::Call, PieceKind::Call]
        );
        assert_eq!((edges(&messages[1]), edges(&messages[0])), (["<think>", ""], ["", "</b>"]));
        assert_eq!(without_tags("</think>\n<tool_call>\n<function="), "\n\n");
        // A template that drops thoughts by `split("</think>")` leaves the rest.
        let cut = text.split("</think>").last().unwrap();
        let (unmarked, occurrences) = marks.remove(cut, &marked.pieces);
        assert_eq!((unmarked.as_str(), occurrences.len(), occurrences[0].range.clone()), ("\n\nyes", 1, 2..5));
    }
}
