//! Keys and values of tokens that were read before, so that a new token costs the work of one.
//!
//! A row of the cache is a document of the input, in the same order. Rows may be of different
//! lengths and are not padded: a mask says how far each one reaches.

use super::attention::{attend, attend_to, Window};
use super::config::Config;
use super::documents::Documents;
use crate::error::{Error, Result};
use tch::{Device, Kind as Dtype, Tensor};

/// Room is made for a multiple of so many tokens.
const BLOCK: i64 = 64;

#[derive(Debug)]
pub struct KeyValueCache {
    pub(super) layers: Vec<LayerCache>,
    /// The tokens read of each row.
    lengths: Vec<i64>,
    /// Tokens that a row has room for.
    capacity: i64,
}

/// `[rows, capacity, key-value heads, head_dim]` each; nothing before the first pass.
#[derive(Debug, Default)]
pub(super) struct LayerCache {
    keys_values: Option<[Tensor; 2]>,
}

/// What the layers of one forward pass over new tokens share.
#[derive(Debug)]
pub(super) struct Reading {
    /// Rows before this pass were empty: new tokens see one another only.
    begins: bool,
    /// int64 `[tokens]`: where the keys of the new tokens go, as `row * capacity + place`.
    cells: Tensor,
    rows: i64,
    capacity: i64,
    /// Tokens of the longest row, the new ones included.
    longest: i64,
    /// What the new tokens see in layers without and with a sliding window; `None` for everything.
    masks: [Option<Tensor>; 2],
}

/// One layer's cache during a forward pass.
pub(super) struct Past<'a> {
    pub layer: &'a mut LayerCache,
    pub reading: &'a Reading,
}

impl KeyValueCache {
    /// Room for `rows` rows, all of them empty.
    pub fn new(config: &Config, rows: usize) -> Self {
        let layers = (0..config.num_hidden_layers).map(|_| LayerCache::default()).collect();
        KeyValueCache { layers, lengths: vec![0; rows], capacity: 0 }
    }

    /// The tokens read of each row: the position of its next token.
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// Forgets all rows but those in `rows`, which come to stand in that order.
    pub fn keep(&mut self, rows: &[usize]) -> Result<()> {
        let wanted: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        for layer in &mut self.layers {
            if let Some(keys_values) = &mut layer.keys_values {
                for tensor in keys_values {
                    let wanted = Tensor::f_from_slice(&wanted)?.f_to_device(tensor.device())?;
                    *tensor = tensor.f_index_select(0, &wanted)?;
                }
            }
        }
        self.lengths = rows.iter().filter_map(|&row| self.lengths.get(row).copied()).collect();
        Ok(())
    }

    /// Prepares a pass over the new tokens of every row.
    pub(super) fn reading(&mut self, new: &Documents, window: Option<i64>, device: Device) -> Result<Reading> {
        if new.lengths.len() != self.lengths.len() {
            let (found, rows) = (new.lengths.len(), self.lengths.len());
            return Err(Error::bug(format!("a cache of {rows} rows was given new tokens for {found}")));
        }
        let ends: Vec<i64> = self.lengths.iter().zip(&new.lengths).map(|(past, new)| past + new).collect();
        let longest = ends.iter().copied().max().unwrap_or(0);
        if longest > self.capacity {
            self.capacity = (longest.max(2 * self.capacity) + BLOCK - 1) / BLOCK * BLOCK;
        }
        let capacity = self.capacity;
        let spans = self.lengths.iter().zip(&ends).zip(0..);
        let cells: Vec<i64> =
            spans.flat_map(|((&past, &end), row)| (past..end).map(move |at| row * capacity + at)).collect();
        let begins = self.lengths.iter().all(|&past| past == 0);
        let masks = if begins { [None, None] } else { masks(&self.lengths, new, window, longest, device)? };
        let cells = Tensor::f_from_slice(&cells)?.f_to_device(device)?;
        Ok(Reading { begins, cells, rows: ends.len() as i64, capacity, longest, masks })
    }

    /// The new tokens of a finished pass count as read.
    pub(super) fn advance(&mut self, new: &Documents) {
        self.lengths.iter_mut().zip(&new.lengths).for_each(|(length, new)| *length += new);
    }
}

/// f32 `[rows, 1, new tokens, longest]`, without and with the window: 0 where a new token (row)
/// may see a token of its row (column), -∞ elsewhere.
fn masks(
    past: &[i64],
    new: &Documents,
    window: Option<i64>,
    longest: i64,
    device: Device,
) -> Result<[Option<Tensor>; 2]> {
    // Cells beyond a row's new tokens repeat its last one.
    let rows = past.iter().zip(&new.lengths);
    let positions: Vec<i64> =
        rows.flat_map(|(past, &own)| (0..new.longest).map(move |at| past + at.min(own - 1))).collect();
    let everything = new.longest == 1 && positions.iter().all(|&position| position + 1 == longest);
    let positions = Tensor::f_from_slice(&positions)?.f_to_device(device)?.f_view([-1, 1, new.longest, 1])?;
    let columns = Tensor::f_arange(longest, (Dtype::Int64, device))?;
    let before = positions.f_sub(&columns)?;
    let visible = before.f_ge(0)?;
    let full = if everything { None } else { Some(additive(&visible)?) };
    let windowed = match window.filter(|&width| width < longest) {
        Some(width) => Some(additive(&visible.f_logical_and(&before.f_lt(width)?)?)?),
        None => full.as_ref().map(Tensor::shallow_clone),
    };
    Ok([full, windowed])
}

fn additive(visible: &Tensor) -> Result<Tensor> {
    let mask = Tensor::f_zeros(visible.size(), (Dtype::Float, visible.device()))?;
    Ok(mask.f_masked_fill(&visible.f_logical_not()?, f64::NEG_INFINITY)?)
}

impl LayerCache {
    /// Adds the keys and values of the new tokens, `[tokens, heads, head_dim]`, and gives those
    /// of all tokens, `[rows, longest, heads, head_dim]`.
    fn extend(&mut self, new: [&Tensor; 2], reading: &Reading) -> Result<[Tensor; 2]> {
        let mut grown = match self.keys_values.take() {
            Some([keys, values]) => [reading.widened(keys)?, reading.widened(values)?],
            None => [reading.room_like(new[0])?, reading.room_like(new[1])?],
        };
        for (held, new) in grown.iter_mut().zip(new) {
            let _ = held.f_flatten(0, 1)?.f_index_copy_(0, &reading.cells, new)?;
        }
        let [keys, values] = self.keys_values.insert(grown);
        Ok([keys.f_narrow(1, 0, reading.longest)?, values.f_narrow(1, 0, reading.longest)?])
    }
}

impl Reading {
    /// Room for keys or values like `x`, `[…, heads, head_dim]`. Zeros, because -∞ does not hide
    /// the NaN that memory may hold.
    fn room_like(&self, x: &Tensor) -> Result<Tensor> {
        let of_head = &x.size()[x.dim() - 2..];
        let size = [&[self.rows, self.capacity], of_head].concat();
        Ok(Tensor::f_zeros(size, (x.f_kind()?, x.device()))?)
    }

    /// What is held, with room for all tokens.
    fn widened(&self, held: Tensor) -> Result<Tensor> {
        let before = held.size()[1];
        if before == self.capacity {
            return Ok(held);
        }
        let room = self.room_like(&held)?;
        room.f_narrow(1, 0, before)?.f_copy_(&held)?;
        Ok(room)
    }
}

impl Past<'_> {
    /// As [`attend`], to the tokens that were read before as well; these take in the new ones.
    pub fn attend(
        self,
        [q, k, v]: [&Tensor; 3],
        documents: &Documents,
        window: Option<&Window>,
        uses_sliding_window: bool,
    ) -> Result<Tensor> {
        let [keys, values] = self.layer.extend([k, v], self.reading)?;
        if self.reading.begins {
            attend(q, k, v, documents, window)
        } else {
            attend_to(q, &keys, &values, documents, self.reading.masks[usize::from(uses_sliding_window)].as_ref())
        }
    }
}
