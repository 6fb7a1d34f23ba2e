//! Where the text of each message lies in a rendered conversation, how far its turn can extend, and which parts of it the
//! template left out. All of it follows from the occurrences of marked pieces (`marks.rs`).

use super::marks::{Marked, Occurrence, PieceKind};

/// The text of one message, between that of its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MessageBounds {
    /// Where the text of the messages before it ends.
    pub prev_end: usize,
    /// The piece that ends there.
    pub prev_piece: Option<usize>,
    /// The message's own text, from its first piece to the last; `None` if the rendering has none of it.
    pub text: Option<(usize, usize)>,
    /// Its last piece.
    pub last_piece: Option<usize>,
    /// Where the text of the messages after it begins.
    pub next_start: usize,
}

/// What the rendering lacks of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LostParts {
    /// All of it.
    pub answer: bool,
    /// Its reasoning.
    pub thoughts: bool,
    /// Its tool calls, or the text beside them.
    pub calls_or_text: bool,
}

/// What a rendering lacks of each message.
pub(super) fn lost_parts(marked: &Marked, occurrences: &[Occurrence]) -> Vec<LostParts> {
    let mut kept = vec![false; marked.pieces.len()];
    occurrences.iter().for_each(|occurrence| kept[occurrence.piece] = true);
    // For text, calls and thoughts: whether the message has any, and whether the rendering keeps any.
    let mut kinds = vec![[(false, false); 3]; marked.messages.len()];
    for (piece, is_kept) in marked.pieces.iter().zip(kept) {
        let kind = match piece.kind {
            PieceKind::Text => 0,
            PieceKind::Call => 1,
            PieceKind::Thought => 2,
            PieceKind::Empty => continue,
        };
        let (has, keeps) = &mut kinds[piece.message][kind];
        (*has, *keeps) = (true, *keeps || is_kept);
    }
    let lost = |kinds: [(bool, bool); 3]| {
        let answer = kinds.iter().any(|(has, _)| *has) && !kinds.iter().any(|(_, keeps)| *keeps);
        let [text, call, thoughts] = kinds.map(|(has, keeps)| has && !keeps && !answer);
        LostParts { answer, thoughts, calls_or_text: text || call }
    };
    kinds.into_iter().map(lost).collect()
}

/// The bounds of every message, from the occurrences in the order of the text.
pub(super) fn message_bounds(occurrences: &[Occurrence], messages: usize, length: usize) -> Vec<MessageBounds> {
    let unbounded = MessageBounds { prev_end: 0, prev_piece: None, text: None, last_piece: None, next_start: length };
    let mut bounds = vec![unbounded; messages];
    let mut first = vec![None; messages];
    for (index, occurrence) in occurrences.iter().enumerate() {
        first[occurrence.message].get_or_insert(index);
    }
    // For messages without text: where the text of all messages before them ends.
    let mut by_message: Vec<Vec<&Occurrence>> = vec![Vec::new(); messages];
    let new = occurrences.iter().filter(|occurrence| !occurrence.is_repeated);
    new.for_each(|occurrence| by_message[occurrence.message].push(occurrence));
    let (mut prev_end, mut prev_piece) = (0, None);
    for (message, occurrences) in by_message.iter().enumerate() {
        (bounds[message].prev_end, bounds[message].prev_piece) = (prev_end, prev_piece);
        let last = occurrences.iter().max_by_key(|occurrence| occurrence.range.end);
        if let Some(last) = last.filter(|last| last.range.end >= prev_end) {
            (prev_end, prev_piece) = (last.range.end, Some(last.piece));
        }
    }
    let mut ends_before = Vec::with_capacity(occurrences.len());
    occurrences.iter().fold(0, |end, occurrence| {
        ends_before.push(end);
        end.max(occurrence.range.end)
    });
    let mut next_start = length;
    for message in (0..messages).rev() {
        bounds[message] = match first[message] {
            None => MessageBounds { next_start, ..bounds[message] },
            Some(index) => {
                let run: Vec<&Occurrence> =
                    occurrences[index..].iter().take_while(|occurrence| occurrence.message == message).collect();
                // Up to the last new piece. Repeated ones after it, such as the name of a tool before its result,
                // belong to the text of another message.
                let count = run.iter().rposition(|occurrence| !occurrence.is_repeated).map_or(0, |last| last + 1);
                let run = &run[..count];
                let end = run.iter().map(|occurrence| occurrence.range.end).max();
                let end = end.unwrap_or(occurrences[index].range.end);
                let next = occurrences[index..].iter().find(|occurrence| occurrence.message != message);
                MessageBounds {
                    prev_end: ends_before[index],
                    prev_piece: index.checked_sub(1).map(|before| occurrences[before].piece),
                    text: Some((occurrences[index].range.start, end)),
                    last_piece: run.last().map(|occurrence| occurrence.piece),
                    next_start: next.map_or(length, |occurrence| occurrence.range.start.max(end)),
                }
            }
        };
        by_message[message].iter().for_each(|occurrence| next_start = next_start.min(occurrence.range.start));
    }
    bounds
}
