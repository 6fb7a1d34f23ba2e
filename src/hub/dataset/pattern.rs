//! Patterns of file names, as `datasets` understands them in `data_files`.
//!
//! The crate `globset` lets `**` cross folders only where it is a whole part of the path; `datasets` also in `**.csv`.

use crate::error::{Error, Result};
use regex::Regex;

/// Which files of a folder: `*` stands for any characters but `/`, `**` for any, `?` for one,
/// `[0-9]` for one of these, `{a,b}` for one of these texts.
#[derive(Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self> {
        let regex =
            Regex::new(&expression(text)).map_err(|error| Error::input(format!("pattern `{text}`: {error}")))?;
        Ok(Pattern { text: text.to_owned(), regex })
    }

    /// Whether it matches a path relative to the folder.
    pub fn fits(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }

    /// The error if it matches none of `names`.
    pub fn fits_none(&self, names: &[impl AsRef<str>]) -> Error {
        let some: Vec<&str> = names.iter().take(5).map(AsRef::as_ref).collect();
        Error::input(format!("expected files that match `{}`, found none", self.text))
            .with_hint(format!("it has {}", some.join(", ")))
    }
}

/// A pattern as a regular expression.
fn expression(text: &str) -> String {
    let mut regex = String::from("^");
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let class =
            rest.strip_prefix('[').and_then(|inner| inner.split_once(']')).filter(|(class, _)| !class.is_empty());
        if let Some((class, after)) = class {
            let (negated, class) = class.strip_prefix('!').map_or(("", class), |class| ("^", class));
            regex.push_str(&format!("[{negated}{}]", class.replace('\\', "\\\\").replace('[', "\\[")));
            rest = after;
            continue;
        }
        let choice = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        if let Some((choice, after)) = choice {
            let parts: Vec<String> = choice.split(',').map(regex::escape).collect();
            regex.push_str(&format!("({})", parts.join("|")));
            rest = after;
            continue;
        }
        let (written, length) = match next {
            '*' if rest.starts_with("**/") => ("(.*/)?".to_owned(), 3),
            '*' if rest.starts_with("**") => (".*".to_owned(), 2),
            '*' => ("[^/]*".to_owned(), 1),
            '?' => ("[^/]".to_owned(), 1),
            other => (regex::escape(other.encode_utf8(&mut [0; 4])), other.len_utf8()),
        };
        regex.push_str(&written);
        rest = &rest[length..];
    }
    regex + "$"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stop_at_folders() {
        let matches = |pattern: &str, name: &str| Pattern::new(pattern).unwrap().fits(name);
        assert!(matches("*.csv", "a.csv") && !matches("*.csv", "b/a.csv") && matches("**.csv", "b/a.csv"));
        assert!(matches("d-[0-9].csv", "d-1.csv") && !matches("d-[!0-9].csv", "d-1.csv") && matches("**/a", "a"));
        assert!(matches("**.json{,.gz}", "b/a.json.gz") && !matches("**.json{,.gz}", "a.jsonl"));
        assert!(matches("tra?n/*", "train/x.csv") && !matches("train/*", "train/y/x.csv"));
    }
}
