//! The flat storage of tokenised documents, and views of its rows.
//!
//! Ids are stored one after the other, with one bit per label, and the ends of documents and rows. Many of them are in a
//! mapped file (`array.rs`).
//! Leaves to others: selecting and batching rows (`tokenized.rs`).

use super::array::{Array, ArrayWriter};
use crate::error::Result;
use std::ops::Range;

/// What tokenisation noticed about a document, one bit each.
pub mod flag {
    /// Cut to `max_length`.
    pub const TRUNCATED: u16 = 1;
    /// One token spans the end of the prompt (white space or punctuation) and the start of the answer.
    pub const MERGED: u16 = 2;
    /// The template writes a system prompt that the row does not have.
    pub const SYSTEM_ADDED: u16 = 4;
    /// The text before an answer is not the prompt that generation starts from; see `turns.rs`.
    pub const PROMPT_DIFFERS: u16 = 8;
    /// One token spans characters of a word of the prompt and the start of the answer.
    pub const MERGED_WORDS: u16 = 16;
    /// The template leaves out an answer, which is then not trained on.
    pub const ANSWER_LOST: u16 = 32;
    /// The template leaves out the reasoning of an answer.
    pub const THOUGHTS_LOST: u16 = 64;
    /// The template leaves out the tool calls of an answer, or the text beside them.
    pub const PART_LOST: u16 = 128;
    /// The text contains a backslash and an n, where the user probably meant a line break.
    pub const LITERAL_NEWLINE: u16 = 256;
    /// A completion that is labelled as desirable.
    pub const DESIRABLE: u16 = 512;
    /// The chosen and the rejected conversation differ before their answers.
    pub const PROMPTS_DIFFER: u16 = 1024;
}

/// The tokens of one example, as tokenisation makes them and [`super::TokenizedDataset::from_rows`] takes them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenizedRow {
    pub ids: Vec<u32>,
    /// Which tokens are trained on; as long as `ids`. The first token never is: nothing
    /// precedes it that could predict it.
    pub trained: Vec<bool>,
    /// Bits of [`flag`].
    pub flags: u16,
    /// How much each token counts in the loss, where it is trained on; as long as `ids`. `None` if all count 1.
    pub weights: Option<Vec<f32>>,
}

/// What the rows are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// Text to learn.
    #[default]
    Examples,
    /// Two documents each: a prompt with the chosen answer, and with the rejected one.
    Pairs,
    /// A prompt with an answer that is desirable ([`flag::DESIRABLE`]) or not.
    Labelled,
    /// Prompts whose samples are rewarded.
    Prompts,
    /// Rows of several kinds, which cannot be trained on.
    Mixed,
}

impl RowKind {
    fn is_examples(&self) -> bool {
        *self == RowKind::Examples
    }
}

/// How the tokens were made, for the audit and the user; cached with them.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TokenizedInfo {
    /// The id of padding.
    pub pad_id: u32,
    /// Ids that end an answer: those the tokenizer stops at, and the token by which the template ends a turn.
    pub end_ids: Vec<u32>,
    /// Whether an end token is expected among the labels.
    pub end_expected: bool,
    /// The system prompt that the template writes when the conversation has none.
    pub added_system: Option<String>,
    /// Whether the template writes today's date.
    pub dated: bool,
    /// How many rows were dropped because they have nothing to train on.
    pub dropped: usize,
    pub max_length: Option<usize>,
    /// What the rows were read as, and from which columns: one line for the user.
    pub read_as: String,
    #[serde(default, skip_serializing_if = "RowKind::is_examples")]
    pub kind: RowKind,
}

/// Rows of documents of tokens. A row has one document, or several where rows were packed or are pairs.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub ids: Array<u32>,
    /// One bit per token, least significant first.
    pub trained: Array<u8>,
    /// Per document: where its tokens end in `ids`.
    pub document_ends: Vec<u64>,
    /// Per document: bits of [`flag`].
    pub flags: Vec<u16>,
    /// Per row: where its documents end in `document_ends`.
    pub row_ends: Vec<u32>,
    /// Per token; empty if no document has weights.
    pub weights: Array<f32>,
    pub info: TokenizedInfo,
}

impl Store {
    pub fn has_weights(&self) -> bool {
        !self.weights.is_empty()
    }

    /// Whether each of these tokens is trained on.
    fn trained(&self, tokens: Range<usize>) -> impl Iterator<Item = bool> + '_ {
        let first = tokens.start / 8;
        let bytes = self.trained.slice(first..tokens.end.div_ceil(8));
        tokens.map(move |token| bytes.get(token / 8 - first).is_some_and(|byte| byte >> (token % 8) & 1 == 1))
    }

    fn label_count(&self, tokens: Range<usize>) -> usize {
        if tokens.is_empty() {
            return 0;
        }
        let bytes = self.trained.slice(tokens.start / 8..tokens.end.div_ceil(8));
        let all: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        // Bits of the tokens before the first and after the last.
        let before = bytes.first().map_or(0, |byte| byte & ((1 << (tokens.start % 8)) - 1));
        let after = match tokens.end % 8 {
            0 => 0,
            used => bytes.last().map_or(0, |byte| byte >> used),
        };
        (all - before.count_ones() - after.count_ones()) as usize
    }

    fn documents(&self, row: usize) -> Range<usize> {
        let start = if row == 0 { 0 } else { self.row_ends[row - 1] as usize };
        start..self.row_ends[row] as usize
    }

    fn tokens(&self, document: usize) -> Range<usize> {
        let start = if document == 0 { 0 } else { self.document_ends[document - 1] as usize };
        start..self.document_ends[document] as usize
    }
}

/// Makes a store, one document after the other.
#[derive(Debug, Default)]
pub(super) struct StoreWriter {
    ids: ArrayWriter<u32>,
    /// Whole bytes; the bits of the last tokens are in `bits`.
    trained: ArrayWriter<u8>,
    bits: u8,
    document_ends: Vec<u64>,
    flags: Vec<u16>,
    row_ends: Vec<u32>,
    weights: ArrayWriter<f32>,
    pub info: TokenizedInfo,
}

impl StoreWriter {
    pub fn new(info: TokenizedInfo) -> Self {
        StoreWriter { info, ..StoreWriter::default() }
    }

    /// # Errors
    /// A disk that is full or fails.
    pub fn push_document(&mut self, row: &TokenizedRow) -> Result<()> {
        let start = self.ids.len();
        let mut bytes = Vec::with_capacity(row.ids.len() / 8 + 1);
        for position in 0..row.ids.len() {
            let bit = (start + position) % 8;
            let is_trained = position > 0 && row.trained.get(position).copied().unwrap_or(false);
            self.bits |= u8::from(is_trained) << bit;
            if bit == 7 {
                bytes.push(std::mem::take(&mut self.bits));
            }
        }
        self.trained.extend(bytes)?;
        self.ids.extend(row.ids.iter().copied())?;
        if let Some(weights) = &row.weights {
            self.weights.extend(std::iter::repeat_n(1.0, start - self.weights.len()))?;
            self.weights.extend(weights.iter().copied())?;
        } else if self.weights.len() > 0 {
            self.weights.extend(std::iter::repeat_n(1.0, row.ids.len()))?;
        }
        self.document_ends.push(self.ids.len() as u64);
        self.flags.push(row.flags);
        Ok(())
    }

    pub fn end_row(&mut self) {
        self.row_ends.push(self.document_ends.len() as u32);
    }

    pub fn finish(mut self) -> Result<Store> {
        if !self.ids.len().is_multiple_of(8) {
            self.trained.extend([self.bits])?;
        }
        Ok(Store {
            ids: self.ids.finish()?,
            trained: self.trained.finish()?,
            document_ends: self.document_ends,
            flags: self.flags,
            row_ends: self.row_ends,
            weights: self.weights.finish()?,
            info: self.info,
        })
    }
}

/// One row of a [`super::TokenizedDataset`].
#[derive(Debug, Clone, Copy)]
pub struct RowView<'a> {
    pub(super) store: &'a Store,
    pub(super) row: usize,
}

/// One document of a row.
#[derive(Debug, Clone, Copy)]
pub struct DocumentView<'a> {
    store: &'a Store,
    document: usize,
}

impl<'a> DocumentView<'a> {
    pub fn ids(self) -> &'a [u32] {
        self.store.ids.slice(self.store.tokens(self.document))
    }
    /// Whether each token is trained on.
    pub fn trained(self) -> impl Iterator<Item = bool> + 'a {
        self.store.trained(self.store.tokens(self.document))
    }
    /// How much each token counts in the loss; `None` if all count 1.
    pub fn weights(self) -> Option<&'a [f32]> {
        self.store.has_weights().then(|| self.store.weights.slice(self.store.tokens(self.document)))
    }
    /// Bits of [`flag`].
    pub fn flags(self) -> u16 {
        self.store.flags[self.document]
    }

    pub(super) fn to_row(self) -> TokenizedRow {
        TokenizedRow {
            ids: self.ids().to_vec(),
            trained: self.trained().collect(),
            flags: self.flags(),
            weights: self.weights().map(<[f32]>::to_vec),
        }
    }
}

impl<'a> RowView<'a> {
    pub fn documents(self) -> impl ExactSizeIterator<Item = DocumentView<'a>> {
        self.store.documents(self.row).map(move |document| DocumentView { store: self.store, document })
    }
    /// The ids of all documents, one after the other.
    pub fn ids(self) -> &'a [u32] {
        self.store.ids.slice(self.tokens())
    }
    /// Whether each token is trained on; as long as [`ids`](Self::ids).
    pub fn trained(self) -> Vec<bool> {
        self.store.trained(self.tokens()).collect()
    }
    pub fn len(self) -> usize {
        self.tokens().len()
    }
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
    pub fn label_count(self) -> usize {
        self.store.label_count(self.tokens())
    }
    fn tokens(self) -> Range<usize> {
        let documents = self.store.documents(self.row);
        if documents.is_empty() {
            return 0..0;
        }
        self.store.tokens(documents.start).start..self.store.tokens(documents.end - 1).end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_counted_across_bytes() {
        let trained = |row: usize, at: usize| !(at + row).is_multiple_of(3);
        let rows: Vec<TokenizedRow> = (0..40)
            .map(|row| TokenizedRow {
                ids: (0..row as u32 * 7 % 30).collect(),
                trained: (0..row * 7 % 30).map(|at| trained(row, at)).collect(),
                ..TokenizedRow::default()
            })
            .collect();
        let mut writer = StoreWriter::default();
        for row in &rows {
            writer.push_document(row).unwrap();
            writer.end_row();
        }
        let store = writer.finish().unwrap();
        for (row, expected) in rows.iter().enumerate() {
            let view = RowView { store: &store, row };
            let labels: Vec<bool> = (0..expected.ids.len()).map(|at| at > 0 && trained(row, at)).collect();
            assert_eq!(view.ids(), expected.ids);
            assert_eq!(view.label_count(), labels.iter().filter(|&&on| on).count(), "row {row}");
            assert_eq!(view.trained(), labels, "row {row}");
        }
    }
}
