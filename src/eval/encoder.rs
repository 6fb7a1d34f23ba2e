//! Texts to requests, by the rules of lm-evaluation-harness 0.4.13 (`TemplateLM.loglikelihood`
//! and `HFLM`), so that every log-likelihood is of the same tokens.

use super::likelihood::Request;
use crate::error::{Error, Result};
use crate::hub::tokenizer::{Token, Tokenizer};
use crate::lora::Model;

/// A model's tokenizer, the token that stands before a text, and the longest input.
#[derive(Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    prefix: Token,
    max_length: usize,
}

impl<'a> Encoder<'a> {
    /// `max_length` is the longest input in tokens; the model's `max_position_embeddings`
    /// if `None`.
    ///
    /// Fails on a length of 0, one beyond the model's, and a tokenizer with neither BOS nor EOS.
    pub fn new(model: &'a Model, max_length: Option<usize>) -> Result<Self> {
        let tokenizer = model.tokenizer()?;
        let longest = model.decoder().config.max_position_embeddings as usize;
        let max_length = max_length.unwrap_or(longest);
        if !(1..=longest).contains(&max_length) {
            return Err(Error::input(format!(
                "option `max_length`: expected 1 to {longest}, the model's max_position_embeddings, found {max_length}"
            )));
        }
        let prefix = tokenizer.bos().or(tokenizer.eos()).cloned().ok_or_else(|| {
            Error::data(
                "the tokenizer has neither `bos_token` nor `eos_token`: no token can stand before the first one",
            )
            .with_hint("name one of them in tokenizer_config.json")
        })?;
        Ok(Encoder { tokenizer, prefix, max_length })
    }

    /// The token that stands before a text: BOS, or EOS where the tokenizer has no BOS.
    pub fn prefix(&self) -> u32 {
        self.prefix.id
    }

    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The ids of a text, with what the tokenizer puts around it, unless the text begins
    /// with the prefix token already.
    pub fn text(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode(text, !text.starts_with(&self.prefix.text))
    }

    /// A continuation to be scored after a context.
    ///
    /// White space at the end of the context moves to the continuation; both are encoded together and split where the
    /// context alone would end. A context that is too long loses its first tokens. Fails where no token is left for
    /// the continuation.
    pub fn pair(&self, context: &str, continuation: &str) -> Result<Request> {
        let (before, scored) = if context.is_empty() {
            self.without_context(continuation)?
        } else {
            self.with_context(context, continuation)?
        };
        if scored.is_empty() {
            return Err(Error::data(format!("\"{continuation}\" adds no token to its context"))
                .with_hint("it is empty, or the tokenizer merges all of it with the end of the context"));
        }
        if scored.len() > self.max_length {
            return Err(Error::data(format!(
                "the continuation has {} tokens: expected at most {} (`max_length`)",
                scored.len(),
                self.max_length
            )));
        }
        let count = scored.len();
        let ids = [before, scored].concat();
        let cut = ids.len().saturating_sub(self.max_length + 1);
        Ok(Request { ids: ids[cut..].to_vec(), scored: count })
    }

    fn with_context(&self, context: &str, continuation: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let kept = context.trim_end_matches(is_space);
        let both = self.text(&format!("{context}{continuation}"))?;
        let before = self.text(kept)?;
        let scored = both.get(before.len()..).unwrap_or_default().to_vec();
        // A context of white space alone has no token of its own.
        let before = if before.is_empty() { vec![self.prefix.id] } else { before };
        Ok((before, scored))
    }

    /// The prefix token is the context, unless the continuation begins with it.
    fn without_context(&self, continuation: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let ids = self.tokenizer.encode(continuation, false)?;
        Ok(match ids.split_first() {
            Some((&first, rest)) if first == self.prefix.id => (vec![first], rest.to_vec()),
            _ => (vec![self.prefix.id], ids),
        })
    }
}

/// White space as in Python's `str.rstrip` and `\s`: Unicode's, and four separators.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
