//! The documents in the input, one after another: tokens see only tokens of their own document.
//!
//! If `native/` has no attention for documents in one row, attention works on them side by side,
//! `[documents, longest, …]`. Every other layer works on the tokens in one row.

use crate::error::Result;
use crate::native;
use std::cell::OnceCell;
use tch::{Device, Tensor};

#[derive(Debug)]
pub struct Documents {
    pub count: i64,
    /// The length of the longest.
    pub longest: i64,
    /// int32 `[documents + 1]`: the first token of each, then the number of tokens.
    pub(super) starts: Tensor,
    /// The number of tokens in each.
    pub lengths: Vec<i64>,
    /// Made on first use: attention for documents in one row does not need it.
    ragged: OnceCell<Ragged>,
    /// `None` if every document has tokens of its own only.
    pub(super) shared: Option<SharedTokens>,
}

/// The tokens of documents that begin alike, which only attention repeats.
#[derive(Debug)]
pub(super) struct SharedTokens {
    /// int64 `[cells]`: the token of each cell, document after document.
    token_of_cell: Tensor,
    /// int64 `[tokens]`: a cell of each token. All cells of a token hold the same.
    cell_of_token: Tensor,
    /// The same on the host.
    pub cells: Vec<i64>,
}

impl SharedTokens {
    /// `[tokens, …]` to `[cells, …]`.
    pub fn repeated(&self, x: &Tensor) -> Result<Tensor> {
        native::repeat_rows(x, &self.token_of_cell)
    }

    /// `[cells, …]` to `[tokens, …]`.
    pub fn once(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_index_select(0, &self.cell_of_token)?)
    }
}

#[derive(Debug)]
struct Ragged {
    /// int64 `[documents * longest]`: the token in each cell; any token beyond the end of a document.
    token_of_cell: Tensor,
    /// int64 `[tokens]`: the cell of each token.
    cell_of_token: Tensor,
}

impl Documents {
    /// From the first token of each document and the number of tokens.
    pub fn new(starts: &[usize], tokens: usize, device: Device) -> Result<Self> {
        let ends = starts.iter().skip(1).copied().chain([tokens]);
        let lengths: Vec<i64> = starts.iter().zip(ends).map(|(start, end)| (end - start) as i64).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let bounds: Vec<i32> = starts.iter().chain([&tokens]).map(|&token| token as i32).collect();
        let bounds = Tensor::f_from_slice(&bounds)?.f_to_device(device)?;
        let (count, ragged) = (starts.len() as i64, OnceCell::new());
        Ok(Documents { count, longest, lengths, starts: bounds, ragged, shared: None })
    }

    /// The documents as cells that hold these tokens, and a cell of each token.
    pub fn of_tokens(mut self, token_of_cell: &[i64], cell_of_token: &[i64]) -> Result<Self> {
        if token_of_cell.len() > cell_of_token.len() {
            let tensor = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(self.starts.device());
            self.shared = Some(SharedTokens {
                token_of_cell: tensor(token_of_cell)?,
                cell_of_token: tensor(cell_of_token)?,
                cells: cell_of_token.to_vec(),
            });
        }
        Ok(self)
    }

    /// Computes attention where every document has cells of its own: repeats the tokens that several share, and takes the
    /// result of each token once.
    pub(super) fn with_own_cells(
        &self,
        [q, k, v]: [&Tensor; 3],
        attend: impl FnOnce([&Tensor; 3]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        match &self.shared {
            None => attend([q, k, v]),
            Some(shared) => {
                let [q, k, v] = [shared.repeated(q)?, shared.repeated(k)?, shared.repeated(v)?];
                shared.once(&attend([&q, &k, &v])?)
            }
        }
    }

    /// `None` if all documents have the same length: then they lie side by side as a view.
    fn ragged(&self) -> Result<Option<&Ragged>> {
        if self.lengths.iter().all(|&length| length == self.longest) {
            return Ok(None);
        }
        if self.ragged.get().is_none() {
            let ragged = Ragged::new(&self.lengths, self.longest, self.starts.device())?;
            return Ok(Some(self.ragged.get_or_init(|| ragged)));
        }
        Ok(self.ragged.get())
    }

    /// `[tokens, …]` to `[documents, longest, …]`. Cells beyond the end of a document hold other tokens, which
    /// causal attention never sees because they are on the right.
    pub fn side_by_side(&self, x: &Tensor) -> Result<Tensor> {
        let mut shape = x.size();
        shape.splice(0..1, [self.count, self.longest]);
        Ok(match self.ragged()? {
            None => x.f_view(shape.as_slice())?,
            Some(Ragged { token_of_cell, cell_of_token }) => {
                native::take_rows(x, token_of_cell, cell_of_token)?.f_view(shape.as_slice())?
            }
        })
    }

    /// `[documents, longest, …]` to `[tokens, …]`.
    pub fn in_a_row(&self, x: &Tensor) -> Result<Tensor> {
        let flat = x.f_flatten(0, 1)?;
        Ok(match self.ragged()? {
            None => flat,
            Some(Ragged { cell_of_token, .. }) => flat.f_index_select(0, cell_of_token)?,
        })
    }
}

impl Ragged {
    fn new(lengths: &[i64], longest: i64, device: Device) -> Result<Self> {
        let (mut token_of_cell, mut cell_of_token) = (Vec::new(), Vec::new());
        let (mut token, mut cell) = (0, 0);
        for &length in lengths {
            token_of_cell.extend((0..longest).map(|column| token + column.min(length - 1)));
            cell_of_token.extend(cell..cell + length);
            (token, cell) = (token + length, cell + longest);
        }
        let tensor = |values: &[i64]| Tensor::f_from_slice(values).and_then(|values| values.f_to_device(device));
        Ok(Ragged { token_of_cell: tensor(&token_of_cell)?, cell_of_token: tensor(&cell_of_token)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_laid_side_by_side_and_back() {
        let x = Tensor::arange(6, (tch::Kind::Float, Device::Cpu)).view([6, 1]);
        for starts in [&[0, 1, 4][..], &[0, 2, 4], &[0]] {
            let documents = Documents::new(starts, 6, Device::Cpu).unwrap();
            let side_by_side = documents.side_by_side(&x).unwrap();
            assert_eq!(side_by_side.size(), [documents.count, documents.longest, 1]);
            assert!(documents.in_a_row(&side_by_side).unwrap().equal(&x));
        }
    }
}
