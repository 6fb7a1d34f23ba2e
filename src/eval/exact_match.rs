//! Exact match: whether two texts are the same, apart from differences that are ignored.

use crate::options;
use crate::options::{Mismatch, OptionType, Value};
use regex::Regex;

options! {
    /// The differences that are ignored, in the order in which they are removed: the options of `exact_match` in
    /// Hugging Face's `evaluate`, with `strip` added.
    #[derive(Debug, Clone)]
    pub struct ExactMatch {
        /// Regular expressions; what they match is removed from both texts first.
        pub regexes_to_ignore: Patterns = Patterns::default();
        /// Compare in lower case.
        pub ignore_case: bool = false;
        /// Remove ASCII punctuation.
        pub ignore_punctuation: bool = false;
        /// Remove ASCII digits.
        pub ignore_numbers: bool = false;
        /// Remove white space at both ends.
        pub strip: bool = false;
    }
}

/// Regular expressions.
#[derive(Debug, Clone, Default)]
pub struct Patterns(pub Vec<Regex>);

impl OptionType for Patterns {
    fn type_name() -> String {
        "array of string".to_owned()
    }
    fn expected() -> String {
        "array of regular expressions".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let patterns: Vec<String> = Vec::from_value(value).map_err(|_| Mismatch::of::<Self>(value))?;
        let compiled = patterns.iter().map(|pattern| {
            Regex::new(pattern).map_err(|error| {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                Mismatch::of::<Self>(value).with_hint(format!("{pattern:?} is no regular expression: {reason}"))
            })
        });
        compiled.collect::<Result<_, _>>().map(Patterns)
    }
    fn to_value(&self) -> Value {
        Value::Array(self.0.iter().map(|pattern| Value::Text(pattern.as_str().to_owned())).collect())
    }
}

impl ExactMatch {
    /// 1 where both texts are the same, else 0.
    pub fn score(&self, output: &str, target: &str) -> f64 {
        f64::from(self.reduced(output) == self.reduced(target))
    }

    fn reduced(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for pattern in &self.regexes_to_ignore.0 {
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
        if self.strip {
            text = text.trim().to_owned();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_differences_of_the_options_are_ignored() {
        let strict = ExactMatch::default();
        assert_eq!(
            (strict.score("yes", "yes"), strict.score(" yes", "yes"), strict.score("Yes", "yes")),
            (1.0, 0.0, 0.0)
        );
        let lax = ExactMatch {
            ignore_case: true,
            ignore_punctuation: true,
            ignore_numbers: true,
            strip: true,
            ..ExactMatch::default()
        };
        assert_eq!(lax.score(" Yes, 12!", "YES"), 1.0);
        let patterns = |pattern: &str| Patterns::from_value(&Value::Array(vec![Value::Text(pattern.to_owned())]));
        let lax = ExactMatch { regexes_to_ignore: patterns("answer: *").unwrap(), ..lax };
        assert_eq!((lax.score("answer: yes", "yes"), lax.score("Answer: yes", "yes")), (1.0, 0.0), "patterns go first");
        let hint = patterns("(").unwrap_err().hint.unwrap();
        assert_eq!(hint, "\"(\" is no regular expression: unclosed group");
    }
}
