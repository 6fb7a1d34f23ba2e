//! The page of answers side by side: what an adapter changes, for a person to read and pass on.
//!
//! Its look is in `before_after.html`. Words that the first answer does not have are marked.

use super::page;
use crate::error::Result;
use crate::eval::compare::{Answer, Compared, Comparison};
use crate::eval::generate::Finish;
use crate::files;
use serde::Serialize;
use std::path::Path;

#[derive(Debug, Clone, Copy)]
pub struct BeforeAfter<'a> {
    pub comparison: &'a Comparison,
    /// The day and time.
    pub when: &'a str,
}

/// What the template sees.
#[derive(Serialize)]
struct Page<'a> {
    when: &'a str,
    names: &'a [String],
    settings: &'a [(String, String)],
    rows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    prompt: &'a str,
    reference: Option<&'a str>,
    answers: Vec<Shown<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    runs: Vec<Run<'a>>,
    tokens: usize,
    cut: bool,
    /// Word for word the first answer.
    same: bool,
    /// Word for word what was wanted.
    wanted: bool,
}

/// A stretch of text.
#[derive(Debug, PartialEq, Serialize)]
struct Run<'a> {
    text: &'a str,
    is_new: bool,
}

impl BeforeAfter<'_> {
    pub fn to_html(&self) -> Result<String> {
        let Comparison { names, rows, settings } = self.comparison;
        let rows = rows.iter().map(|own| row(names, own)).collect();
        page::render(include_str!("before_after.html"), &Page { when: self.when, names, settings, rows })
    }

    /// Writes the page, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write_whole(path, self.to_html()?.as_bytes())
    }
}

fn row<'a>(names: &'a [String], compared: &'a Compared) -> Row<'a> {
    let reference = compared.reference.as_deref();
    let first = compared.answers.first();
    let shown = |(at, (name, answer)): (usize, (&'a String, &'a Answer))| {
        let first = first.filter(|_| at > 0).map(|first| first.text.trim());
        let text = answer.text.trim();
        Shown {
            name,
            runs: first.map_or_else(|| vec![Run { text, is_new: false }], |first| marked(text, first)),
            tokens: answer.tokens,
            cut: answer.finish == Finish::Length,
            same: first == Some(text),
            wanted: reference.is_some_and(|wanted| wanted.trim() == text),
        }
    };
    let answers = names.iter().zip(&compared.answers).enumerate().map(shown).collect();
    Row { prompt: &compared.prompt, reference, answers }
}

/// More words than this are not compared: the work grows with the square.
const MOST_WORDS: usize = 1000;

/// `text` in runs of words that `before` has in this order, and words that it has not; in one
/// where they have little in common.
fn marked<'a>(text: &'a str, before: &str) -> Vec<Run<'a>> {
    let (words, old): (Vec<&str>, Vec<&str>) = (split(text), split(before));
    let kept = match words.len().max(old.len()) > MOST_WORDS {
        true => vec![true; words.len()],
        false => common(&words, &old),
    };
    // Marks that cover nearly everything would point at nothing.
    if 2 * kept.iter().filter(|&&kept| kept).count() < words.len() {
        return vec![Run { text, is_new: false }];
    }
    let mut runs: Vec<Run> = Vec::new();
    let mut start = 0;
    for (word, kept) in words.iter().zip(kept) {
        let end = start + word.len();
        match runs.last_mut().filter(|run| run.is_new != kept) {
            Some(run) => run.text = &text[end - word.len() - run.text.len()..end],
            None => runs.push(Run { text: &text[start..end], is_new: !kept }),
        }
        start = end;
    }
    runs
}

/// Words with the spaces behind them.
fn split(text: &str) -> Vec<&str> {
    text.split_inclusive(char::is_whitespace).collect()
}

/// Which of `words` belong to the longest common subsequence with `old`.
fn common(words: &[&str], old: &[&str]) -> Vec<bool> {
    let same = |i: usize, j: usize| words[i].trim() == old[j].trim();
    // The length that is common to the words from i on and the old ones from j on.
    let mut length = vec![vec![0_u32; old.len() + 1]; words.len() + 1];
    for i in (0..words.len()).rev() {
        for j in (0..old.len()).rev() {
            length[i][j] = match same(i, j) {
                true => length[i + 1][j + 1] + 1,
                false => length[i + 1][j].max(length[i][j + 1]),
            };
        }
    }
    let mut kept = vec![false; words.len()];
    let (mut i, mut j) = (0, 0);
    while i < words.len() && j < old.len() {
        match () {
            () if same(i, j) => {
                kept[i] = true;
                (i, j) = (i + 1, j + 1);
            }
            () if length[i + 1][j] >= length[i][j + 1] => i += 1,
            () => j += 1,
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(text: &str, before: &str) -> Vec<(String, bool)> {
        let runs: Vec<Run> = marked(text, before);
        assert_eq!(runs.iter().map(|run| run.text).collect::<String>(), text);
        runs.iter().map(|run| (run.text.to_owned(), run.is_new)).collect()
    }

    #[test]
    fn words_that_are_new_are_marked() {
        let found = runs("a small red fox ran", "the small fox ran");
        let expected = [("a ", true), ("small ", false), ("red ", true), ("fox ran", false)];
        assert_eq!(found, expected.map(|(text, is_new)| (text.to_owned(), is_new)));
        assert_eq!(runs("같은 말", "같은 말"), [("같은 말".to_owned(), false)]);
        assert_eq!(runs("", "x"), []);
        assert_eq!(runs("all new words", "no"), [("all new words".to_owned(), false)]);
    }

    #[test]
    fn text_is_escaped_and_nothing_is_loaded() {
        let answer = |text: &str, finish| Answer { text: text.to_owned(), tokens: 2, finish };
        let comparison = Comparison {
            names: vec!["base".to_owned(), "<b>tuned".to_owned()],
            rows: vec![Compared {
                prompt: "<script>alert(1)</script>".to_owned(),
                reference: Some("한국어 & more".to_owned()),
                answers: vec![answer("</p><img src=x>", Finish::Length), answer("한국어 & more", Finish::Eos)],
            }],
            settings: vec![("model".to_owned(), "a\"b".to_owned())],
        };
        let html = BeforeAfter { comparison: &comparison, when: "today" }.to_html().unwrap();
        for raw in ["<script", "<img", "<b>tuned", "http:", "https:"] {
            assert!(!html.contains(raw), "{raw}");
        }
        assert!(html.contains("한국어 &amp; more") && html.contains("default-src 'none'"));
        assert!(html.contains("cut at max_new_tokens") && html.contains("as wanted"));
    }
}
