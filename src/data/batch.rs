//! One micro-batch in host memory: right-padded ids and labels.
//!
//! Leaves to others: the order of rows ([`super::TokenizedDataset::epoch_order`]), tensors (`train/`).

use serde::{Deserialize, Serialize};

/// The label of a position without a loss.
pub const IGNORE: i64 = -100;

/// Rows of equal length; row-major `[rows, seq_len]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    pub rows: usize,
    pub seq_len: usize,
    /// Token ids; padding has any valid id.
    pub input_ids: Vec<i64>,
    /// Not shifted: the label of position t is the token at t, or [`IGNORE`].
    /// The first token of every segment is [`IGNORE`].
    pub labels: Vec<i64>,
    /// Position within the segment; restarts at each document of a packed row. Padding has position 0.
    pub position_ids: Vec<i64>,
    /// Document number within the row, -1 for padding. `None` if no row is packed: then causal attention alone is right,
    /// because padding is on the right and has no label.
    pub segments: Option<Vec<i64>>,
    /// How much each label counts in a loss, at least 0; the cells without a label have any. `None` if all count 1.
    pub weights: Option<Vec<f32>>,
    /// Of samples that were rewarded.
    pub samples: Option<SampleTerms>,
    /// Whether documents that begin alike may go through the model once as far as they do. Not where dropout tells the
    /// tokens of each apart.
    pub shares_prefixes: bool,
    /// Of rows that were taken out of a larger batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<PartOf>,
}

/// The batch that rows were taken out of. Their numbers are those that they would have with all its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartOf {
    /// The number of each row there, for its dropout.
    pub rows: Vec<usize>,
    /// The longest document there, for rotary frequencies that depend on it.
    pub longest: i64,
}

/// What the loss of rewarded samples needs beside their tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleTerms {
    /// How much better each row is than the others of its group.
    pub advantages: Vec<f32>,
    /// Of each cell: by the model that drew the samples, where several steps train on them.
    pub old_logprobs: Option<Vec<f32>>,
    /// Of each cell: by the model that the trained one is held to.
    pub reference_logprobs: Option<Vec<f32>>,
    /// The tokens of all samples of the step, divided by its micro-batches.
    pub tokens: f64,
}

/// A document whose labels may be any tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelledDocument {
    pub input_ids: Vec<i64>,
    /// As long as `input_ids`: of each position the token to predict there, or [`IGNORE`].
    pub labels: Vec<i64>,
    /// As long as `input_ids`.
    pub weights: Option<Vec<f32>>,
}

impl Batch {
    /// Rows of one document each, without padding, trained on every token. `ids` is row-major `[rows, seq_len]`.
    pub fn of_rows(rows: usize, seq_len: usize, ids: Vec<i64>) -> Self {
        let column = |cell: usize| cell % seq_len;
        let label = |(cell, &id): (usize, &i64)| if column(cell) == 0 { IGNORE } else { id };
        Batch {
            rows,
            seq_len,
            labels: ids.iter().enumerate().map(label).collect(),
            position_ids: (0..ids.len()).map(|cell| column(cell) as i64).collect(),
            input_ids: ids,
            segments: None,
            weights: None,
            samples: None,
            shares_prefixes: false,
            part_of: None,
        }
    }

    /// Rows of one document each, padded on the right with `pad_id`. The first position of a row has no label, whatever
    /// its document says: nothing precedes it.
    pub fn of_documents(documents: &[LabelledDocument], pad_id: i64) -> Self {
        let (rows, seq_len) = (documents.len(), documents.iter().map(|row| row.input_ids.len()).max().unwrap_or(0));
        let mut batch = Batch {
            rows,
            seq_len,
            input_ids: vec![pad_id; rows * seq_len],
            labels: vec![IGNORE; rows * seq_len],
            position_ids: vec![0; rows * seq_len],
            segments: None,
            weights: documents.iter().any(|row| row.weights.is_some()).then(|| vec![1.0; rows * seq_len]),
            samples: None,
            shares_prefixes: false,
            part_of: None,
        };
        for (row, document) in documents.iter().enumerate() {
            let cells = row * seq_len..row * seq_len + document.input_ids.len();
            batch.input_ids[cells.clone()].copy_from_slice(&document.input_ids);
            for (position, (cell, &label)) in cells.zip(&document.labels).enumerate() {
                batch.position_ids[cell] = position as i64;
                batch.labels[cell] = if position == 0 { IGNORE } else { label };
                if let (Some(all), Some(weights)) = (&mut batch.weights, &document.weights) {
                    all[cell] = weights[position];
                }
            }
        }
        batch
    }

    /// Some of the rows, in this order, with their padding.
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        let cells = || rows.iter().flat_map(|row| row * self.seq_len..(row + 1) * self.seq_len);
        let of_cells = |values: &[f32]| cells().map(|cell| values[cell]).collect::<Vec<f32>>();
        let ids = |values: &[i64]| cells().map(|cell| values[cell]).collect::<Vec<i64>>();
        let samples = self.samples.as_ref().map(|samples| SampleTerms {
            advantages: rows.iter().map(|&row| samples.advantages[row]).collect(),
            old_logprobs: samples.old_logprobs.as_deref().map(of_cells),
            reference_logprobs: samples.reference_logprobs.as_deref().map(of_cells),
            tokens: samples.tokens,
        });
        Batch {
            rows: rows.len(),
            seq_len: self.seq_len,
            input_ids: ids(&self.input_ids),
            labels: ids(&self.labels),
            position_ids: ids(&self.position_ids),
            segments: self.segments.as_deref().map(ids),
            weights: self.weights.as_deref().map(of_cells),
            samples,
            shares_prefixes: self.shares_prefixes,
            part_of: None,
        }
    }

    /// Some of the rows, of which each counts as it does among all: with its dropout and its rotary frequencies.
    pub fn part(&self, rows: &[usize]) -> Self {
        let longest = self.position_ids.iter().map(|position| position + 1).max().unwrap_or(0);
        Batch { part_of: Some(PartOf { rows: rows.to_vec(), longest }), ..self.select_rows(rows) }
    }

    /// The number of positions with a loss.
    pub fn label_count(&self) -> usize {
        self.labels.iter().filter(|&&label| label != IGNORE).count()
    }

    /// Whether this cell, counted row after row, is a token and not padding.
    pub fn is_token(&self, cell: usize) -> bool {
        match &self.segments {
            Some(segments) => segments.get(cell).is_some_and(|&segment| segment >= 0),
            // In a row of one document, only the first token and padding have position 0.
            None => {
                cell.is_multiple_of(self.seq_len) || self.position_ids.get(cell).is_some_and(|&position| position != 0)
            }
        }
    }

    /// The number of tokens that are not padding.
    pub fn token_count(&self) -> usize {
        (0..self.cells()).filter(|&cell| self.is_token(cell)).count()
    }

    /// The number of positions including padding, which is what a forward pass costs.
    pub fn cells(&self) -> usize {
        self.rows * self.seq_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_not_a_token() {
        let batch = Batch {
            rows: 2,
            seq_len: 3,
            input_ids: vec![5, 6, 7, 8, 0, 0],
            labels: vec![IGNORE, 6, 7, IGNORE, IGNORE, IGNORE],
            position_ids: vec![0, 1, 2, 0, 0, 0],
            segments: None,
            weights: None,
            samples: None,
            shares_prefixes: false,
            part_of: None,
        };
        assert_eq!((batch.token_count(), batch.cells(), batch.label_count()), (4, 6, 2));
        assert_eq!(batch.select_rows(&[0, 1]), batch);
        let last = batch.select_rows(&[1]);
        assert_eq!((last.rows, last.input_ids.as_slice(), last.token_count()), (1, &[8, 0, 0][..], 1));
    }
}
