//! One micro-batch on the host: right-padded ids and labels, ready to become tensors.
//!
//! Leaves to others: choosing the rows ([`super::TokenizedDataset::epoch_order`]) and
//! making tensors of them (`train/`).

/// The label of a position that no loss is taken at.
pub const IGNORE: i64 = -100;

/// Rows of equal length; row-major `[rows, seq_len]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub rows: usize,
    pub seq_len: usize,
    /// Token ids; padding holds any valid id.
    pub input_ids: Vec<i64>,
    /// Not shifted: the label of position t is the token at t, or [`IGNORE`].
    /// The first token of every segment is [`IGNORE`].
    pub labels: Vec<i64>,
    /// Position within the segment; restarts where a packed row starts a new document.
    /// Padding has position 0.
    pub position_ids: Vec<i64>,
    /// Document number within the row, -1 for padding; `None` where no row is packed, so
    /// that causal attention alone is right (padding is on the right and has no label).
    pub segments: Option<Vec<i64>>,
}

impl Batch {
    /// Rows of one document each, without padding, that learn every token: `ids` is row-major
    /// `[rows, seq_len]`.
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
        }
    }

    /// The number of positions that a loss is taken at.
    pub fn label_count(&self) -> usize {
        self.labels.iter().filter(|&&label| label != IGNORE).count()
    }

    /// Is there a token at this position, counted row after row, and no padding?
    pub fn is_token(&self, cell: usize) -> bool {
        match &self.segments {
            Some(segments) => segments.get(cell).is_some_and(|&segment| segment >= 0),
            // In a row of one document only the first token and padding have position 0.
            None => {
                cell.is_multiple_of(self.seq_len) || self.position_ids.get(cell).is_some_and(|&position| position != 0)
            }
        }
    }

    /// The number of tokens that are not padding.
    pub fn token_count(&self) -> usize {
        (0..self.cells()).filter(|&cell| self.is_token(cell)).count()
    }

    /// The number of positions, padding included: what the forward pass costs.
    pub fn cells(&self) -> usize {
        self.rows * self.seq_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_no_token() {
        let batch = Batch {
            rows: 2,
            seq_len: 3,
            input_ids: vec![5, 6, 7, 8, 0, 0],
            labels: vec![IGNORE, 6, 7, IGNORE, IGNORE, IGNORE],
            position_ids: vec![0, 1, 2, 0, 0, 0],
            segments: None,
        };
        assert_eq!((batch.token_count(), batch.cells(), batch.label_count()), (4, 6, 2));
    }
}
