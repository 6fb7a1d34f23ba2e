//! Exact match: is the text that was written the text that was wanted?

use crate::error::{Error, Result};
use regex::Regex;

/// What does not count, in the order in which it is taken away: the options of `exact_match`
/// in Hugging Face's `evaluate`, with `strip` added.
#[derive(Debug, Clone, Default)]
pub struct ExactMatch {
    pub regexes_to_ignore: Vec<Regex>,
    pub ignore_case: bool,
    /// ASCII punctuation.
    pub ignore_punctuation: bool,
    /// ASCII digits.
    pub ignore_numbers: bool,
    /// White space at both ends.
    pub strip: bool,
}

impl ExactMatch {
    /// Compiles the patterns. Fails on one that is no regular expression.
    pub fn ignoring(mut self, patterns: &[String]) -> Result<Self> {
        let compiled = patterns.iter().map(|pattern| {
            Regex::new(pattern)
                .map_err(|error| Error::input(format!("`regexes_to_ignore`: \"{pattern}\" is no pattern: {error}")))
        });
        self.regexes_to_ignore = compiled.collect::<Result<_>>()?;
        Ok(self)
    }

    /// 1 where both texts are the same, else 0.
    pub fn score(&self, written: &str, wanted: &str) -> f64 {
        f64::from(self.reduced(written) == self.reduced(wanted))
    }

    fn reduced(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for pattern in &self.regexes_to_ignore {
            text = pattern.replace_all(&text, "").into_owned();
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        match self.strip {
            true => text.trim().to_owned(),
            false => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_does_not_count() {
        let strict = ExactMatch::default();
        assert_eq!(
            (strict.score("yes", "yes"), strict.score(" yes", "yes"), strict.score("Yes", "yes")),
            (1.0, 0.0, 0.0)
        );
        let lax =
            ExactMatch { ignore_case: true, ignore_punctuation: true, ignore_numbers: true, strip: true, ..strict };
        assert_eq!(lax.score(" Yes, 12!", "YES"), 1.0);
        let lax = lax.ignoring(&["answer: *".to_owned()]).unwrap();
        assert_eq!((lax.score("answer: yes", "yes"), lax.score("Answer: yes", "yes")), (1.0, 0.0), "patterns go first");
        assert!(ExactMatch::default().ignoring(&["(".to_owned()]).is_err());
    }
}
