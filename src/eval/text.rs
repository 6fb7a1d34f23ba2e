//! Text of tokens that come one at a time: whole characters only, and where a stop string ends it.

use crate::error::Result;
use crate::hub::tokenizer::Tokenizer;

/// Turns tokens into pieces of text as they come. A piece never ends within a character.
///
/// Decoding a token alone loses what its neighbours decide (a leading space, the other bytes of a
/// character), so it is decoded behind those of the piece before.
#[derive(Debug)]
pub struct TextStream {
    tokenizer: Tokenizer,
    skip_special: bool,
    ids: Vec<u32>,
    /// The start and the end of the tokens of the previous piece.
    before: usize,
    read: usize,
}

impl TextStream {
    pub fn new(tokenizer: Tokenizer, skip_special: bool) -> Self {
        TextStream { tokenizer, skip_special, ids: Vec::new(), before: 0, read: 0 }
    }

    /// The text that `id` completes; empty while a character is incomplete.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let piece = self.pending()?;
        if piece.is_empty() || piece.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        (self.before, self.read) = (self.read, self.ids.len());
        Ok(piece)
    }

    /// The rest of the text: bytes that no token completed.
    pub fn finish(&mut self) -> Result<String> {
        let piece = self.pending()?;
        (self.before, self.read) = (self.ids.len(), self.ids.len());
        Ok(piece)
    }

    fn pending(&self) -> Result<String> {
        let known = self.tokenizer.decode(&self.ids[self.before..self.read], self.skip_special)?;
        let text = self.tokenizer.decode(&self.ids[self.before..], self.skip_special)?;
        Ok(text.strip_prefix(known.as_str()).unwrap_or_default().to_owned())
    }
}

/// Looks for stop strings in the text of tokens, special ones included.
#[derive(Debug)]
pub struct StopFinder {
    stream: TextStream,
    strings: Vec<String>,
    /// The end of the text, as long as the longest stop string.
    tail: String,
}

impl StopFinder {
    pub fn new(tokenizer: &Tokenizer, strings: &[String]) -> Self {
        let stream = TextStream::new(tokenizer.clone(), false);
        StopFinder { stream, strings: strings.to_vec(), tail: String::new() }
    }

    /// Whether `id` completes a stop string.
    pub fn push(&mut self, id: u32) -> Result<bool> {
        self.tail.push_str(&self.stream.push(id)?);
        if self.strings.iter().any(|stop| self.tail.contains(stop.as_str())) {
            return Ok(true);
        }
        let longest = self.strings.iter().map(String::len).max().unwrap_or(0);
        let mut cut = self.tail.len().saturating_sub(longest);
        while !self.tail.is_char_boundary(cut) {
            cut -= 1;
        }
        self.tail.drain(..cut);
        Ok(false)
    }
}

/// `text` up to the first stop string in it.
pub fn before_stop<'a>(text: &'a str, stops: &[String]) -> &'a str {
    let first = stops.iter().filter_map(|stop| text.find(stop.as_str())).min();
    &text[..first.unwrap_or(text.len())]
}

/// The number of bytes at the end of `text` that may begin a stop string.
pub fn may_begin_stop(text: &str, stops: &[String]) -> usize {
    let begins = |start: usize| stops.iter().any(|stop| stop.starts_with(&text[start..]));
    let start = text.char_indices().map(|(start, _)| start).find(|&start| begins(start));
    text.len() - start.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_stop_string_is_known_as_such() {
        let stops = ["\n\nQ:".to_owned(), "끝".to_owned()];
        assert_eq!(may_begin_stop("an answer\n", &stops), 1);
        assert_eq!(may_begin_stop("an answer\n\nQ", &stops), 3);
        assert_eq!(may_begin_stop("an answer\n\nA", &stops), 0);
        assert_eq!(before_stop("여기까지 끝 \n\nQ:", &stops), "여기까지 ");
        assert_eq!(before_stop("no end", &stops), "no end");
        assert_eq!(before_stop("four Q: five\n", &["\n".to_owned(), "Q:".to_owned()]), "four ");
    }
}
