//! The input of the decoder: the tokens of one or more batches in one row, without padding, as tensors on its
//! device.
//!
//! Padding is dropped here, so that no layer computes it, and so are the copies of a prefix that several documents begin
//! with. [`Documents`] says which tokens see one another, [`Tokens`] which batch they belong to.

use super::documents::Documents;
use super::prefixes::{common_prefixes, Prefix};
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
    /// Whether documents that begin alike share these tokens, where nothing else than ids and positions tells them
    /// apart: without dropout.
    pub shares_prefixes: bool,
    /// Where the rows are a part of a larger batch.
    pub part_of: Option<LargerBatch<'a>>,
}

/// The batch that the rows of a [`Grid`] are a part of.
#[derive(Debug, Clone, Copy)]
pub struct LargerBatch<'a> {
    /// The number of each row there.
    pub rows: &'a [usize],
    /// The length of the longest document there.
    pub longest: i64,
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
    /// For each batch, the cells of its grid that are no padding.
    cells: Vec<Vec<i64>>,
    /// The token of each of these cells, batch after batch: several have the same one if documents share a prefix.
    token_of_cell: Vec<i64>,
    shapes: Vec<[usize; 2]>,
}

/// The tokens that go through a layer together: their batches, and their dropout keys.
#[derive(Debug)]
pub struct Tokens {
    /// int64 `[tokens]`: `row << 40 | column << 20`, rows counted within the batch that they are from. Identifies a token for its
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

    fn row_number(&self, row: usize) -> usize {
        self.part_of.and_then(|larger| larger.rows.get(row).copied()).unwrap_or(row)
    }

    /// Whether a document begins at this token.
    fn begins(&self, cell: usize) -> bool {
        let column = cell % self.time;
        column == 0 || self.segments.is_some_and(|segments| segments[cell] != segments[cell - 1])
    }

    /// The cells of each document.
    fn documents(&self) -> Vec<Vec<usize>> {
        let mut documents: Vec<Vec<usize>> = Vec::new();
        for cell in (0..self.rows * self.time).filter(|&cell| self.is_token(cell)) {
            match documents.last_mut() {
                Some(document) if !self.begins(cell) => document.push(cell),
                _ => documents.push(vec![cell]),
            }
        }
        documents
    }

    /// The prefixes of these documents that go through the model once.
    fn prefixes(&self, documents: &[Vec<usize>]) -> Vec<Prefix> {
        if !self.shares_prefixes {
            return vec![Prefix::default(); documents.len()];
        }
        let token = |&cell: &usize| (self.input_ids[cell], self.position_ids[cell]);
        let tokens: Vec<Vec<(i64, i64)>> = documents.iter().map(|cells| cells.iter().map(token).collect()).collect();
        common_prefixes(&tokens)
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
        let (mut token_of_cell, mut cell_of_token): (Vec<i64>, Vec<i64>) = (Vec::new(), Vec::new());
        for grid in batches {
            let (first, first_document) = (ids.len(), starts.len());
            // On a GPU the sum over the copies of a token would depend on the order of its threads.
            let grid = Grid { shares_prefixes: grid.shares_prefixes && device == Device::Cpu, ..*grid };
            let documents = grid.documents();
            for (document, prefix) in documents.iter().zip(grid.prefixes(&documents)) {
                starts.push(token_of_cell.len());
                let shared: usize = starts.get(first_document + prefix.of).copied().unwrap_or(0);
                let mut end = 0;
                for (column, &cell) in document.iter().enumerate() {
                    end = grid.position_ids[cell].max(end - 1) + 1;
                    if column < prefix.length {
                        token_of_cell.push(token_of_cell[shared + column]);
                        continue;
                    }
                    cell_of_token.push(token_of_cell.len() as i64);
                    token_of_cell.push(ids.len() as i64);
                    ids.push(grid.input_ids[cell]);
                    positions.push(grid.position_ids[cell]);
                    let row = grid.row_number(cell / grid.time);
                    token_keys.push((row as i64) << 40 | ((cell % grid.time) as i64) << 20);
                }
                document_ends.push(end);
            }
            let longest = document_ends.iter().skip(sequence_lengths.len()).copied().max().unwrap_or(0);
            let longest = grid.part_of.map_or(longest, |larger| longest.max(larger.longest));
            sequence_lengths.resize(document_ends.len(), longest);
            parts.push(first as i64..ids.len() as i64);
            cells.push(documents.concat().into_iter().map(|cell| cell as i64).collect());
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
            documents: Documents::new(&starts, token_of_cell.len(), device)?
                .of_tokens(&token_of_cell, &cell_of_token)?,
            tokens: Tokens {
                keys: Tensor::f_from_slice(&token_keys)?.f_to_device(device)?,
                parts,
                count: ids.len() as i64,
            },
            sequence_lengths,
            document_ends,
            cells,
            token_of_cell,
            shapes: batches.iter().map(|grid| [grid.rows, grid.time]).collect(),
        })
    }

    /// A single row, such as a prompt.
    pub fn from_ids(ids: &[i64], vocab_size: i64, device: Device) -> Result<Self> {
        let positions: Vec<i64> = (0..ids.len() as i64).collect();
        let grid = Grid {
            rows: 1,
            time: ids.len(),
            input_ids: ids,
            position_ids: &positions,
            segments: None,
            shares_prefixes: false,
            part_of: None,
        };
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
        for (&cell, &token) in self.cells[part].iter().zip(self.tokens_of_cells(part)) {
            tokens[cell as usize] = Some(token);
        }
        tokens
    }

    /// The token of each cell in `cells`.
    fn tokens_of_cells(&self, part: usize) -> &[i64] {
        let before: usize = self.cells.iter().take(part).map(Vec::len).sum();
        &self.token_of_cell[before..before + self.cells[part].len()]
    }

    /// Values `[tokens, …]` of the first batch as its grid, `[rows, time, …]`, with 0 for padding.
    pub fn padded(&self, values: &Tensor) -> Result<Tensor> {
        let [rows, time] = self.shapes[0];
        let cells = Tensor::f_from_slice(&self.cells[0])?.f_to_device(values.device())?;
        let tokens = Tensor::f_from_slice(self.tokens_of_cells(0))?.f_to_device(values.device())?;
        let mut shape = values.size();
        shape[0] = (rows * time) as i64;
        let zeros = Tensor::f_zeros(&shape, (values.f_kind()?, values.device()))?;
        let filled = zeros.f_index_copy(0, &cells, &values.f_index_select(0, &tokens)?)?;
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
        let grid = Grid {
            rows: 2,
            time: 3,
            input_ids: &ids,
            position_ids: &[0, 1, 2, 0, 0, 0],
            segments: None,
            shares_prefixes: false,
            part_of: None,
        };
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
    fn rows_of_a_larger_batch_are_what_they_are_in_it() {
        let (ids, positions) = ([1, 2, 0, 3, 0, 0, 4, 5, 6], [0, 1, 0, 0, 0, 0, 0, 1, 2]);
        let grid = |rows: usize, part_of| Grid {
            rows,
            time: 3,
            input_ids: &ids[..3 * rows],
            position_ids: &positions[..3 * rows],
            segments: None,
            shares_prefixes: false,
            part_of,
        };
        let keys = |input: &Input| Vec::<i64>::try_from(&input.tokens.keys).unwrap();
        let all = Input::new(&[grid(3, None)], 10, Device::Cpu).unwrap();
        let part = |rows| Some(LargerBatch { rows, longest: 3 });
        let same = Input::new(&[grid(2, part(&[0, 1]))], 10, Device::Cpu).unwrap();
        assert_eq!(keys(&same), keys(&all)[..3]);
        assert_eq!((&same.sequence_lengths, &all.sequence_lengths[..2]), (&vec![3, 3], &[3, 3][..]));
        let later = Input::new(&[grid(1, part(&[2]))], 10, Device::Cpu).unwrap();
        assert_eq!(keys(&later), keys(&all)[3..5]);
    }

    #[test]
    fn documents_share_the_tokens_that_they_begin_with() {
        let ids = [5, 6, 7, 5, 6, 8, 9, 9, 4, 0, 0, 0];
        let positions = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 0];
        let segments = [0, 0, 0, 1, 1, 1, 0, 0, 0, -1, -1, -1];
        let grid = Grid {
            rows: 2,
            time: 6,
            input_ids: &ids,
            position_ids: &positions,
            segments: Some(&segments),
            shares_prefixes: true,
            part_of: None,
        };
        let input = Input::new(&[grid, grid], 10, Device::Cpu).unwrap();
        // 5 6 7 and 8, then 9 9 4; nothing is shared between batches.
        assert_eq!(Vec::<i64>::try_from(&input.token_ids).unwrap(), [5, 6, 7, 8, 9, 9, 4, 5, 6, 7, 8, 9, 9, 4]);
        assert_eq!(Vec::<i64>::try_from(&input.position_ids).unwrap()[..7], [0, 1, 2, 2, 0, 1, 2]);
        assert_eq!((input.tokens.of(Some(0)), input.tokens.of(Some(1))), (0..7, 7..14));
        assert_eq!((input.documents.lengths.as_slice(), input.documents.longest), ([3; 6].as_slice(), 3));
        let tokens = [Some(7), Some(8), Some(9), Some(7), Some(8), Some(10)];
        assert_eq!(input.tokens_by_cell(1)[..6], tokens);
        let padded = input.padded(&input.token_ids.narrow(0, 0, 7)).unwrap();
        assert_eq!(Vec::<i64>::try_from(padded.flatten(0, -1)).unwrap(), ids);
    }

    #[test]
    fn packed_rows_hold_several_documents() {
        let (ids, positions, segments) = ([1, 2, 3, 4, 5, 0], [0, 1, 0, 1, 2, 0], [0, 0, 1, 1, 1, -1]);
        let grid = Grid {
            rows: 1,
            time: 6,
            input_ids: &ids,
            position_ids: &positions,
            segments: Some(&segments),
            shares_prefixes: false,
            part_of: None,
        };
        let documents = Input::new(&[grid], 10, Device::Cpu).unwrap().documents;
        assert_eq!((documents.count, documents.longest), (2, 3));
    }
}
