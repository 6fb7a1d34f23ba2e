//! The input of the decoder: the tokens of one or more batches in one row, without padding, as tensors on its
//! device.
//!
//! Padding is dropped here, so that no layer computes it. [`Documents`] says which tokens see one another,
//! [`Tokens`] which batch they belong to.

use super::documents::Documents;
use crate::error::{Error, Result};
use std::ops::Range;
use tch::{Device, Tensor};

/// The padded ids of one batch, on the host, row-major `[rows, time]`.
#[derive(Debug, Clone, Copy)]
pub struct Grid<'a> {
    pub rows: usize,
    pub time: usize,
    pub input_ids: &'a [i64],
    pub position_ids: &'a [i64],
    /// The number of the document within a packed row, -1 for padding. `None` if no row is packed; then
    /// position 0 after the first column is padding.
    pub segments: Option<&'a [i64]>,
}

#[derive(Debug)]
pub struct Input {
    /// int64 `[tokens]`
    pub token_ids: Tensor,
    /// int64 `[tokens]`
    pub position_ids: Tensor,
    pub documents: Documents,
    pub tokens: Tokens,
    /// For each document, the length that rotary frequencies may depend on: as in transformers, that of the
    /// longest document in its batch.
    pub sequence_lengths: Vec<i64>,
    /// The last position of each document, plus 1.
    document_ends: Vec<i64>,
    /// For each batch, the cell of each token in its grid.
    cells: Vec<Vec<i64>>,
    shapes: Vec<[usize; 2]>,
}

/// The tokens that go through a layer together: their batches, and their dropout keys.
#[derive(Debug)]
pub struct Tokens {
    /// int64 `[tokens]`: `row << 40 | column << 20`, rows counted within the batch. Identifies a token for its
    /// dropout, independently of the other tokens.
    pub keys: Tensor,
    /// The range of tokens of each batch.
    parts: Vec<Range<i64>>,
    count: i64,
}

impl Grid<'_> {
    fn is_token(&self, cell: usize) -> bool {
        match self.segments {
            Some(segments) => segments[cell] >= 0,
            None => cell.is_multiple_of(self.time) || self.position_ids[cell] != 0,
        }
    }

    /// Whether a document begins at this token.
    fn begins(&self, cell: usize) -> bool {
        let column = cell % self.time;
        column == 0 || self.segments.is_some_and(|segments| segments[cell] != segments[cell - 1])
    }
}

impl Input {
    /// The tokens of several batches, each of which becomes a part of [`Tokens`].
    ///
    /// Checks the ids: on a GPU an id outside the vocabulary would end the process, not just the call.
    pub fn new(batches: &[Grid], vocab_size: i64, device: Device) -> Result<Self> {
        let (mut ids, mut positions, mut token_keys) = (Vec::new(), Vec::new(), Vec::new());
        let (mut starts, mut parts, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        let (mut document_ends, mut sequence_lengths) = (Vec::new(), Vec::new());
        for grid in batches {
            let first = ids.len();
            let mut batch_cells = Vec::new();
            for cell in (0..grid.rows * grid.time).filter(|&cell| grid.is_token(cell)) {
                if grid.begins(cell) {
                    starts.push(ids.len());
                    document_ends.push(0);
                }
                if let Some(end) = document_ends.last_mut() {
                    *end = grid.position_ids[cell].max(*end - 1) + 1;
                }
                ids.push(grid.input_ids[cell]);
                positions.push(grid.position_ids[cell]);
                token_keys.push(((cell / grid.time) as i64) << 40 | ((cell % grid.time) as i64) << 20);
                batch_cells.push(cell as i64);
            }
            let longest = document_ends.iter().skip(sequence_lengths.len()).copied().max().unwrap_or(0);
            sequence_lengths.resize(document_ends.len(), longest);
            parts.push(first as i64..ids.len() as i64);
            cells.push(batch_cells);
        }
        if ids.is_empty() {
            return Err(Error::data("the batch is empty: expected at least one row with one token"));
        }
        if let Some(id) = ids.iter().find(|&&id| !(0..vocab_size).contains(&id)) {
            return Err(Error::data(format!("token id {id} is outside the model's vocabulary of {vocab_size}"))
                .with_hint("tokenize the data with this model's own tokenizer"));
        }
        Ok(Input {
            token_ids: Tensor::f_from_slice(&ids)?.f_to_device(device)?,
            position_ids: Tensor::f_from_slice(&positions)?.f_to_device(device)?,
            documents: Documents::new(&starts, ids.len(), device)?,
            tokens: Tokens {
                keys: Tensor::f_from_slice(&token_keys)?.f_to_device(device)?,
                parts,
                count: ids.len() as i64,
            },
            sequence_lengths,
            document_ends,
            cells,
            shapes: batches.iter().map(|grid| [grid.rows, grid.time]).collect(),
        })
    }

    /// A single row, such as a prompt.
    pub fn from_ids(ids: &[i64], vocab_size: i64, device: Device) -> Result<Self> {
        let positions: Vec<i64> = (0..ids.len() as i64).collect();
        let grid = Grid { rows: 1, time: ids.len(), input_ids: ids, position_ids: &positions, segments: None };
        Self::new(&[grid], vocab_size, device)
    }

    /// Treats every document as a separate batch, for work whose result must not depend on the other documents:
    /// generation and scoring.
    pub fn each_alone(mut self) -> Self {
        self.sequence_lengths.clone_from(&self.document_ends);
        self
    }

    /// The number of columns in the grid of batch `part`.
    pub fn grid_time(&self, part: usize) -> usize {
        self.shapes[part][1]
    }

    /// The token in each cell of the grid of batch `part`; `None` for padding.
    pub fn tokens_by_cell(&self, part: usize) -> Vec<Option<i64>> {
        let [rows, time] = self.shapes[part];
        let mut tokens = vec![None; rows * time];
        let first = self.tokens.parts[part].start;
        for (at, &cell) in self.cells[part].iter().enumerate() {
            tokens[cell as usize] = Some(first + at as i64);
        }
        tokens
    }

    /// Values `[tokens, …]` of the first batch as its grid, `[rows, time, …]`, with 0 for padding.
    pub fn padded(&self, values: &Tensor) -> Result<Tensor> {
        let [rows, time] = self.shapes[0];
        let cells = Tensor::f_from_slice(&self.cells[0])?.f_to_device(values.device())?;
        let mut shape = values.size();
        shape[0] = (rows * time) as i64;
        let zeros = Tensor::f_zeros(&shape, (values.f_kind()?, values.device()))?;
        let filled = zeros.f_index_copy(0, &cells, values)?;
        shape.splice(0..1, [rows as i64, time as i64]);
        Ok(filled.f_reshape(&shape)?)
    }
}

impl Tokens {
    /// The number of batches.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The range of tokens of a batch, or of all batches.
    pub fn of(&self, part: Option<usize>) -> Range<i64> {
        match part {
            Some(part) => self.parts.get(part).cloned().unwrap_or(0..0),
            None => 0..self.count,
        }
    }

    /// The tokens at `positions`, which are ascending.
    pub fn select(&self, positions: &[i64]) -> Result<Self> {
        let before = |token: i64| positions.partition_point(|&position| position < token) as i64;
        Ok(Tokens {
            keys: self.keys.f_index_select(0, &Tensor::f_from_slice(positions)?.f_to_device(self.keys.device())?)?,
            parts: self.parts.iter().map(|part| before(part.start)..before(part.end)).collect(),
            count: positions.len() as i64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_dropped_and_put_back() {
        let ids = [5, 6, 7, 8, 0, 0];
        let grid = Grid { rows: 2, time: 3, input_ids: &ids, position_ids: &[0, 1, 2, 0, 0, 0], segments: None };
        let input = Input::new(&[grid, grid], 10, Device::Cpu).unwrap();
        assert_eq!(Vec::<i64>::try_from(&input.token_ids).unwrap(), [5, 6, 7, 8, 5, 6, 7, 8]);
        assert_eq!((input.tokens.of(Some(1)), input.tokens.of(None)), (4..8, 0..8));
        assert_eq!((input.documents.count, input.documents.longest), (4, 3));
        assert_eq!(input.tokens_by_cell(1), [Some(4), Some(5), Some(6), Some(7), None, None]);
        let padded = Input::new(&[grid], 10, Device::Cpu).unwrap().padded(&input.token_ids.narrow(0, 0, 4)).unwrap();
        assert_eq!(Vec::<i64>::try_from(padded.flatten(0, -1)).unwrap(), ids);
        let token_keys = Vec::<i64>::try_from(&input.tokens.keys).unwrap();
        assert_eq!(token_keys[..4], token_keys[4..], "rows are counted within their batch");
        let labelled = input.tokens.select(&[1, 3, 4, 7]).unwrap();
        assert_eq!((labelled.of(Some(0)), labelled.of(Some(1))), (0..2, 2..4));
    }

    #[test]
    fn packed_rows_hold_several_documents() {
        let (ids, positions, segments) = ([1, 2, 3, 4, 5, 0], [0, 1, 0, 1, 2, 0], [0, 0, 1, 1, 1, -1]);
        let grid = Grid { rows: 1, time: 6, input_ids: &ids, position_ids: &positions, segments: Some(&segments) };
        let documents = Input::new(&[grid], 10, Device::Cpu).unwrap().documents;
        assert_eq!((documents.count, documents.longest), (2, 3));
    }
}
