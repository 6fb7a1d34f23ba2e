//! Tokens and labels for people to read.

use super::store::RowView;
use super::tokenized::TokenizedDataset;
use crate::hub::tokenizer::Tokenizer;
use std::fmt::Write;

impl TokenizedDataset {
    /// A row as runs of tokens, split by `│`; runs that are trained on are marked `train`.
    pub fn show(&self, row: usize, tokenizer: &Tokenizer) -> String {
        self.show_part(row, tokenizer, usize::MAX)
    }

    /// As [`show`](Self::show), with all but `most` tokens of a run left out in the middle, and runs left out
    /// behind the first [`RUNS`].
    pub fn show_part(&self, row: usize, tokenizer: &Tokenizer, most: usize) -> String {
        match self.row(row) {
            Some(view) => print(row, view, tokenizer, most),
            None => format!("row {row} does not exist: the data set has {} rows, from 0\n", self.len()),
        }
    }
}

/// How many runs of a document are shown where a part of it is.
const RUNS: usize = 12;

fn print(number: usize, row: RowView, tokenizer: &Tokenizer, most: usize) -> String {
    let mut text = format!("row {number}: {} tokens, {} trained on\n", row.len(), row.label_count());
    let count = row.documents().len();
    for (index, document) in row.documents().enumerate() {
        if count > 1 {
            let _ = writeln!(text, "  document {index}");
        }
        let trained: Vec<bool> = document.trained().collect();
        let (mut at, mut runs) = (0, 0);
        while at < trained.len() {
            if runs == RUNS && most < usize::MAX {
                let _ = writeln!(text, "  … {} more tokens", trained.len() - at);
                break;
            }
            runs += 1;
            let end = (at..trained.len()).find(|&next| trained[next] != trained[at]).unwrap_or(trained.len());
            let label = if trained[at] { "train" } else { "  -  " };
            let _ = writeln!(text, "  {label} {}", run(&document.ids()[at..end], tokenizer, most));
            at = end;
        }
    }
    text
}

fn run(ids: &[u32], tokenizer: &Tokenizer, most: usize) -> String {
    let piece = |&id: &u32| visible(&text_of(id, tokenizer));
    let join = |ids: &[u32]| ids.iter().map(piece).collect::<Vec<_>>().join("│");
    if ids.len() <= most {
        return join(ids);
    }
    let (head, tail) = (most - most / 2, most / 2);
    format!("{}│… {} more …│{}", join(&ids[..head]), ids.len() - most, join(&ids[ids.len() - tail..]))
}

/// One token's text. Decoding a token alone loses the space that SentencePiece keeps in
/// `▁`, and gives half a character for a token of bytes: then the vocabulary's entry says more.
fn text_of(id: u32, tokenizer: &Tokenizer) -> String {
    let Some(raw) = tokenizer.token(id) else { return format!("<id {id}>") };
    if raw.contains('▁') {
        return raw.replace('▁', " ");
    }
    match tokenizer.decode(&[id], false) {
        Ok(text) if !text.contains('\u{fffd}') && !text.is_empty() => text,
        _ => raw,
    }
}

fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            // A backslash of the text itself is not to be taken for the line break below.
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            c if c.is_control() => format!("\\u{{{:x}}}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}
