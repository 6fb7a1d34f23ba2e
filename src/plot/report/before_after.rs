//! The page of answers side by side, which shows what an adapter changes.
//!
//! Its layout is in `before_after.html`. Words that the first answer does not have are highlighted.

use super::template;
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

/// The values of the template.
#[derive(Serialize)]
struct Page<'a> {
    when: &'a str,
    names: &'a [String],
    settings: &'a [(String, String)],
    rows: Vec<PromptRow<'a>>,
}

#[derive(Serialize)]
struct PromptRow<'a> {
    prompt: &'a str,
    reference: Option<&'a str>,
    answers: Vec<ShownAnswer<'a>>,
}

#[derive(Serialize)]
struct ShownAnswer<'a> {
    name: &'a str,
    runs: Vec<TextSpan<'a>>,
    tokens: usize,
    cut: bool,
    /// Whether it equals the first answer.
    same: bool,
    /// Whether it equals the reference.
    wanted: bool,
}

/// A stretch of text.
#[derive(Debug, PartialEq, Serialize)]
struct TextSpan<'a> {
    text: &'a str,
    is_new: bool,
}

impl BeforeAfter<'_> {
    pub fn to_html(&self) -> Result<String> {
        let Comparison { names, rows, settings } = self.comparison;
        let rows = rows.iter().map(|compared| row(names, compared)).collect();
        template::render(include_str!("before_after.html"), &Page { when: self.when, names, settings, rows })
    }

    /// Writes the page atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write_atomic(path, self.to_html()?.as_bytes())
    }
}

fn row<'a>(names: &'a [String], compared: &'a Compared) -> PromptRow<'a> {
    let reference = compared.reference.as_deref();
    let first = compared.answers.first();
    let shown = |(at, (name, answer)): (usize, (&'a String, &'a Answer))| {
        let first = first.filter(|_| at > 0).map(|first| first.text.trim());
        let text = answer.text.trim();
        ShownAnswer {
            name,
            runs: first.map_or_else(|| vec![TextSpan { text, is_new: false }], |first| highlighted(text, first)),
            tokens: answer.tokens,
            cut: answer.finish == Finish::Length,
            same: first == Some(text),
            wanted: reference.is_some_and(|reference| reference.trim() == text),
        }
    };
    let answers = names.iter().zip(&compared.answers).enumerate().map(shown).collect();
    PromptRow { prompt: &compared.prompt, reference, answers }
}

/// Longer texts are not compared: the work grows with the square of the number of words.
const MOST_WORDS: usize = 1000;

/// `text` in spans of words that `before` has in the same order, and of words that it does not; one span if
/// they have little in common.
fn highlighted<'a>(text: &'a str, before: &str) -> Vec<TextSpan<'a>> {
    let (words, old): (Vec<&str>, Vec<&str>) = (split(text), split(before));
    let is_long = words.len().max(old.len()) > MOST_WORDS;
    let kept = if is_long { vec![true; words.len()] } else { common(&words, &old) };
    // Highlighting nearly everything would be useless.
    if 2 * kept.iter().filter(|&&kept| kept).count() < words.len() {
        return vec![TextSpan { text, is_new: false }];
    }
    let mut runs: Vec<TextSpan> = Vec::new();
    let mut start = 0;
    for (word, kept) in words.iter().zip(kept) {
        let end = start + word.len();
        match runs.last_mut().filter(|run| run.is_new != kept) {
            Some(run) => run.text = &text[end - word.len() - run.text.len()..end],
            None => runs.push(TextSpan { text: &text[start..end], is_new: !kept }),
        }
        start = end;
    }
    runs
}

/// The words, each with the white space after it.
fn split(text: &str) -> Vec<&str> {
    text.split_inclusive(char::is_whitespace).collect()
}

/// Which of `words` belong to the longest common subsequence with `old`.
fn common(words: &[&str], old: &[&str]) -> Vec<bool> {
    let same = |i: usize, j: usize| words[i].trim() == old[j].trim();
    // The length of the longest common subsequence of words[i..] and old[j..].
    let mut length = vec![vec![0_u32; old.len() + 1]; words.len() + 1];
    for i in (0..words.len()).rev() {
        for j in (0..old.len()).rev() {
            length[i][j] = if same(i, j) { length[i + 1][j + 1] + 1 } else { length[i + 1][j].max(length[i][j + 1]) };
        }
    }
    let mut kept = vec![false; words.len()];
    let (mut i, mut j) = (0, 0);
    while i < words.len() && j < old.len() {
        if same(i, j) {
            kept[i] = true;
            (i, j) = (i + 1, j + 1);
        } else if length[i + 1][j] >= length[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(text: &str, before: &str) -> Vec<(String, bool)> {
        let runs: Vec<TextSpan> = highlighted(text, before);
        assert_eq!(runs.iter().map(|run| run.text).collect::<String>(), text);
        runs.iter().map(|run| (run.text.to_owned(), run.is_new)).collect()
    }

    #[test]
    fn new_words_are_highlighted() {
        let spans = runs("a small red fox ran", "the small fox ran");
        let expected = [("a ", true), ("small ", false), ("red ", true), ("fox ran", false)];
        assert_eq!(spans, expected.map(|(text, is_new)| (text.to_owned(), is_new)));
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
