//! Perplexity of texts per token, word and byte.

use super::candidate::Candidate;
use super::encoder::{is_space, Encoder};
use super::likelihood::{log_likelihoods, ScoringOptions};
use super::rolling::windows;
use crate::data::Pace;
use crate::error::{Error, Result};
use crate::lora::Model;
use crate::options;

options! {
    /// How texts are read.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct PerplexityOptions {
        pub scoring: ScoringOptions = ScoringOptions::default(), is set;
        /// The tokens that each window after the first scores.
        pub stride: Option<usize> = None, range at_least(1.0), words "max_length";
    }
}

/// One text, scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredText {
    /// In nats, of all tokens given those before them.
    pub log_likelihood: f64,
    pub tokens: usize,
    /// Pieces between runs of white space, as `re.split(r"\s+", text)` counts them.
    pub words: usize,
    /// Of UTF-8.
    pub bytes: usize,
}

/// The texts of one candidate, scored. The formulas are those of lm-evaluation-harness.
#[derive(Debug, Clone, PartialEq)]
pub struct Perplexity {
    pub texts: Vec<ScoredText>,
}

impl ScoredText {
    /// Nats per token.
    pub fn loss(&self) -> f64 {
        -self.log_likelihood / self.tokens as f64
    }
}

impl Perplexity {
    /// Scores every text with every candidate.
    ///
    /// # Errors
    /// No text, an empty text, or a stride beyond the window.
    pub fn measure(
        model: &Model,
        candidates: &[Candidate],
        texts: &[String],
        options: &PerplexityOptions,
    ) -> Result<Vec<Perplexity>> {
        let encoder = Encoder::new(model, options.scoring.max_length)?;
        let stride = options.stride.unwrap_or(encoder.max_length());
        if !(1..=encoder.max_length()).contains(&stride) {
            return Err(Error::input(format!(
                "option `stride`: expected 1 to {}, the length of a window, found {stride}",
                encoder.max_length()
            )));
        }
        let ids = encoded(&encoder, texts)?;
        let windows: Vec<Vec<_>> =
            ids.iter().map(|ids| windows(ids, encoder.prefix(), encoder.max_length(), stride)).collect();
        let scores = log_likelihoods(model.decoder(), candidates, &windows.concat(), options.scoring.batch)?;
        let counts: Vec<usize> = windows.iter().map(Vec::len).collect();
        Ok(scores.iter().map(|scores| Perplexity { texts: summed(texts, &ids, &counts, scores) }).collect())
    }

    /// Of all texts, in nats.
    pub fn log_likelihood(&self) -> f64 {
        self.texts.iter().map(|text| text.log_likelihood).sum()
    }

    pub fn tokens(&self) -> usize {
        self.texts.iter().map(|text| text.tokens).sum()
    }

    pub fn words(&self) -> usize {
        self.texts.iter().map(|text| text.words).sum()
    }

    pub fn bytes(&self) -> usize {
        self.texts.iter().map(|text| text.bytes).sum()
    }

    /// Nats per token.
    pub fn loss(&self) -> f64 {
        -self.log_likelihood() / self.tokens() as f64
    }

    /// e to the loss per token.
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// e to the loss per word.
    pub fn word_perplexity(&self) -> f64 {
        (-self.log_likelihood() / self.words() as f64).exp()
    }

    /// e to the loss per byte.
    pub fn byte_perplexity(&self) -> f64 {
        (-self.log_likelihood() / self.bytes() as f64).exp()
    }

    /// The loss per byte in bits.
    pub fn bits_per_byte(&self) -> f64 {
        -self.log_likelihood() / self.bytes() as f64 / std::f64::consts::LN_2
    }

    /// The perplexity per token of the texts with the numbers `chosen`, for resampling.
    pub fn perplexity_of(&self, chosen: &[u32]) -> f64 {
        let texts = chosen.iter().map(|&text| self.texts[text as usize]).collect();
        Perplexity { texts }.perplexity()
    }
}

/// The texts that are measured: in a rehearsal the beginnings of the first ones.
pub fn first(texts: Vec<String>, pace: Pace) -> Vec<String> {
    const CHARACTERS: usize = 200;
    match pace.cap() {
        Some(cap) => texts.iter().take(cap).map(|text| text.chars().take(CHARACTERS).collect()).collect(),
        None => texts,
    }
}

fn encoded(encoder: &Encoder, texts: &[String]) -> Result<Vec<Vec<u32>>> {
    if texts.is_empty() {
        return Err(Error::data("expected at least one text, found none"));
    }
    let encoded = texts.iter().enumerate().map(|(at, text)| {
        let ids = encoder.text(text).map_err(|error| error.context(format!("text {at}")))?;
        if text.is_empty() || ids.is_empty() {
            return Err(Error::data(format!("text {at} is empty: there is nothing to score"))
                .with_hint("leave empty rows out: data.filter(|row| row.text != \"\")"));
        }
        Ok(ids)
    });
    encoded.collect()
}

fn summed(texts: &[String], ids: &[Vec<u32>], windows: &[usize], scores: &[f64]) -> Vec<ScoredText> {
    let mut rest = scores;
    let each = texts.iter().zip(ids).zip(windows).map(|((text, ids), &count)| {
        let (scores, others) = rest.split_at(count.min(rest.len()));
        rest = others;
        let log_likelihood = scores.iter().sum();
        ScoredText { log_likelihood, tokens: ids.len(), words: count_words(text), bytes: text.len() }
    });
    each.collect()
}

/// White space at either end leaves an empty piece there, which counts.
fn count_words(text: &str) -> usize {
    let mut after_space = false;
    let mut gaps = 0;
    for c in text.chars() {
        let space = is_space(c);
        gaps += usize::from(space && !after_space);
        after_space = space;
    }
    gaps + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_as_python_splits_them() {
        // len(re.split(r"\s+", text)) in Python 3.11.
        for (text, count) in [("a b", 2), (" a  b\n", 4), ("a\u{1c}b\u{3000}c\u{200b}d", 3), ("\n", 2), ("a", 1)] {
            assert_eq!(count_words(text), count, "{text:?}");
        }
    }

    #[test]
    fn each_unit_has_its_own_mean() {
        let text = |log_likelihood, tokens, words, bytes| ScoredText { log_likelihood, tokens, words, bytes };
        let perplexity = Perplexity { texts: vec![text(-6.0, 3, 2, 10), text(-2.0, 1, 2, 6)] };
        assert_eq!((perplexity.loss(), perplexity.perplexity()), (2.0, 2.0_f64.exp()));
        assert_eq!((perplexity.word_perplexity(), perplexity.byte_perplexity()), (2.0_f64.exp(), 0.5_f64.exp()));
        assert_eq!(perplexity.bits_per_byte(), 0.5 / std::f64::consts::LN_2);
        assert_eq!(perplexity.perplexity_of(&[1, 1]), 2.0_f64.exp());
    }
}
