//! Texts written as their tokens come.

use super::config::GenerationConfig;
use super::generate::NewToken;
use super::text::{before_stop, may_begin_stop, TextStream};
use crate::error::Result;
use crate::hub::tokenizer::Tokenizer;

/// Writes the texts of several prompts one after another, each with a line break at its end: the first as its tokens
/// come, the others once those before them have ended.
pub struct TextWriter<'a> {
    write: &'a mut dyn FnMut(&str) -> Result<()>,
    texts: Vec<StreamedText>,
    /// The number of the text that is being written.
    current: usize,
    stops: Vec<String>,
}

struct StreamedText {
    stream: TextStream,
    unwritten: String,
    is_complete: bool,
}

impl<'a> TextWriter<'a> {
    /// For `prompts` prompts, continued as `config` says. `write` is called with pieces of text.
    pub fn new(
        tokenizer: &Tokenizer,
        config: &GenerationConfig,
        prompts: usize,
        write: &'a mut dyn FnMut(&str) -> Result<()>,
    ) -> Self {
        let text = || StreamedText {
            stream: TextStream::new(tokenizer.clone(), true),
            unwritten: String::new(),
            is_complete: false,
        };
        let texts = std::iter::repeat_with(text).take(prompts).collect();
        TextWriter { write, texts, current: 0, stops: config.stop.to_vec() }
    }

    pub fn on_token(&mut self, token: NewToken) -> Result<()> {
        let Some(text) = self.texts.get_mut(token.prompt) else { return Ok(()) };
        text.unwritten.push_str(&text.stream.push(token.id)?);
        if token.finish.is_some() {
            text.unwritten.push_str(&text.stream.finish()?);
            text.is_complete = true;
        }
        while let Some(text) = self.texts.get_mut(self.current) {
            if !text.is_complete {
                // The beginning of a stop string is held back.
                let held = may_begin_stop(&text.unwritten, &self.stops);
                let ready: String = text.unwritten.drain(..text.unwritten.len() - held).collect();
                return (self.write)(&ready);
            }
            (self.write)(&format!("{}\n", before_stop(&text.unwritten, &self.stops)))?;
            self.current += 1;
        }
        Ok(())
    }
}
