//! Prints tokens and labels of a row.

use super::store::RowView;
use super::tokenized::TokenizedDataset;
use crate::foreign;
use crate::hub::tokenizer::Tokenizer;
use std::fmt::Write;

impl TokenizedDataset {
    /// A row as runs of tokens with `│` between them; runs that are trained on are marked `train`.
    pub fn show(&self, row: usize, tokenizer: &Tokenizer) -> String {
        self.show_part(row, tokenizer, usize::MAX)
    }

    /// As [`show`](Self::show), but with at most `max_tokens` tokens of a run, and at most [`MAX_RUNS`] runs.
    pub fn show_part(&self, row: usize, tokenizer: &Tokenizer, max_tokens: usize) -> String {
        match self.row(row) {
            Some(view) => print(row, view, tokenizer, max_tokens),
            None => format!("row {row} does not exist: the data set has {} rows, from 0\n", self.len()),
        }
    }
}

/// The most runs of a document that [`TokenizedDataset::show_part`] shows.
const MAX_RUNS: usize = 12;

fn print(number: usize, row: RowView, tokenizer: &Tokenizer, max_tokens: usize) -> String {
    let mut text = format!("row {number}: {} tokens, {} trained on\n", row.len(), row.label_count());
    let count = row.documents().len();
    for (index, document) in row.documents().enumerate() {
        if count > 1 {
            let _ = writeln!(text, "  document {index}");
        }
        let trained: Vec<bool> = document.trained().collect();
        let (mut at, mut runs) = (0, 0);
        while at < trained.len() {
            if runs == MAX_RUNS && max_tokens < usize::MAX {
                let _ = writeln!(text, "  … {} more tokens", trained.len() - at);
                break;
            }
            runs += 1;
            let end = (at..trained.len()).find(|&next| trained[next] != trained[at]).unwrap_or(trained.len());
            let label = if trained[at] { "train" } else { "  -  " };
            let _ = writeln!(text, "  {label} {}", run(&document.ids()[at..end], tokenizer, max_tokens));
            at = end;
        }
    }
    text
}

fn run(ids: &[u32], tokenizer: &Tokenizer, max_tokens: usize) -> String {
    let piece = |&id: &u32| visible(&text_of(id, tokenizer));
    let join = |ids: &[u32]| ids.iter().map(piece).collect::<Vec<_>>().join("│");
    if ids.len() <= max_tokens {
        return join(ids);
    }
    let (head, tail) = (max_tokens - max_tokens / 2, max_tokens / 2);
    format!("{}│… {} more …│{}", join(&ids[..head]), ids.len() - max_tokens, join(&ids[ids.len() - tail..]))
}

/// The text of one token. Decoding a single token loses the space that SentencePiece writes as `▁`, and gives half a
/// character for a token of bytes: then the entry of the vocabulary is shown.
fn text_of(id: u32, tokenizer: &Tokenizer) -> String {
    let Some(entry) = tokenizer.token(id) else { return format!("<id {id}>") };
    if entry.contains('▁') {
        return entry.replace('▁', " ");
    }
    match tokenizer.decode(&[id], false) {
        Ok(text) if !text.contains('\u{fffd}') && !text.is_empty() => text,
        _ => entry,
    }
}

fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            // Escaped, so that a backslash and an n are not mistaken for a line break.
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            c if foreign::is_harmful(c) => format!("\\u{{{:x}}}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}
