//! The key-value cache for generation: with it, a new token costs one token's work.
//!
//! Row i of the cache belongs to document i of the input. Rows may have different lengths and are not
//! padded: a mask hides the cells beyond the end of each.

use super::attention::{attend_to, attend_within, Window};
use super::config::Config;
use super::documents::Documents;
use crate::error::{Error, Result};
use tch::{Device, Kind as Dtype, Tensor};

/// The capacity is a multiple of this many tokens.
const BLOCK: i64 = 64;

#[derive(Debug)]
pub struct KeyValueCache {
    pub(super) layers: Vec<LayerCache>,
    /// The number of tokens in each row.
    lengths: Vec<i64>,
    /// The number of tokens that fit in a row.
    capacity: i64,
}

/// Keys and values, `[rows, capacity, key-value heads, head_dim]` each; `None` before the first pass.
#[derive(Debug, Default)]
pub(super) struct LayerCache {
    keys_values: Option<[Tensor; 2]>,
}

/// One forward pass over new tokens: shared by all layers.
#[derive(Debug)]
pub(super) struct CacheUpdate {
    /// Whether all rows were empty before: then new tokens see only one another.
    is_first: bool,
    /// int64 `[tokens]`: the cells of the new tokens, `row * capacity + position`.
    cells: Tensor,
    rows: i64,
    capacity: i64,
    /// The length of the longest row, new tokens included.
    longest: i64,
    /// What the new tokens see, in layers without and with a sliding window; `None` if they see everything.
    masks: [Option<Tensor>; 2],
}

/// One layer's cache during a forward pass.
pub(super) struct Past<'a> {
    pub layer: &'a mut LayerCache,
    pub update: &'a CacheUpdate,
}

impl KeyValueCache {
    /// A cache of `rows` empty rows.
    pub fn new(config: &Config, rows: usize) -> Self {
        let layers = (0..config.num_hidden_layers).map(|_| LayerCache::default()).collect();
        KeyValueCache { layers, lengths: vec![0; rows], capacity: 0 }
    }

    /// The number of tokens in each row: the position of its next token.
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// Keeps the rows `rows`, in that order, and drops the others.
    pub fn keep(&mut self, rows: &[usize]) -> Result<()> {
        let indices: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        for layer in &mut self.layers {
            if let Some(keys_values) = &mut layer.keys_values {
                for tensor in keys_values {
                    let indices = Tensor::f_from_slice(&indices)?.f_to_device(tensor.device())?;
                    *tensor = tensor.f_index_select(0, &indices)?;
                }
            }
        }
        self.lengths = rows.iter().filter_map(|&row| self.lengths.get(row).copied()).collect();
        Ok(())
    }

    /// Drops the tokens of a row.
    pub fn clear(&mut self, row: usize) {
        if let Some(length) = self.lengths.get_mut(row) {
            *length = 0;
        }
    }

    /// Prepares a pass over new tokens of every row.
    pub(super) fn prepare_update(
        &mut self,
        new: &Documents,
        window: Option<i64>,
        device: Device,
    ) -> Result<CacheUpdate> {
        if new.lengths.len() != self.lengths.len() {
            let (documents, rows) = (new.lengths.len(), self.lengths.len());
            return Err(Error::bug(format!("expected new tokens for {rows} rows of the cache, found {documents}")));
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
        let is_first = self.lengths.iter().all(|&past| past == 0);
        let masks = if is_first { [None, None] } else { masks(&self.lengths, new, window, longest, device)? };
        let cells = Tensor::f_from_slice(&cells)?.f_to_device(device)?;
        Ok(CacheUpdate { is_first, cells, rows: ends.len() as i64, capacity, longest, masks })
    }

    /// Counts the new tokens of a finished pass.
    pub(super) fn advance(&mut self, new: &Documents) {
        self.lengths.iter_mut().zip(&new.lengths).for_each(|(length, new)| *length += new);
    }
}

/// The masks without and with the window, f32 `[rows, 1, new tokens, longest]`: 0 if a new token sees the
/// token of its row, -∞ if not.
fn masks(
    past: &[i64],
    new: &Documents,
    window: Option<i64>,
    longest: i64,
    device: Device,
) -> Result<[Option<Tensor>; 2]> {
    // Beyond the new tokens of a row, its last position is repeated.
    let rows = past.iter().zip(&new.lengths);
    let positions: Vec<i64> =
        rows.flat_map(|(past, &count)| (0..new.longest).map(move |at| past + at.min(count - 1))).collect();
    let sees_all = new.longest == 1 && positions.iter().all(|&position| position + 1 == longest);
    let positions = Tensor::f_from_slice(&positions)?.f_to_device(device)?.f_view([-1, 1, new.longest, 1])?;
    let columns = Tensor::f_arange(longest, (Dtype::Int64, device))?;
    let distance = positions.f_sub(&columns)?;
    let visible = distance.f_ge(0)?;
    let full = if sees_all { None } else { Some(additive(&visible)?) };
    let windowed = match window.filter(|&width| width < longest) {
        Some(width) => Some(additive(&visible.f_logical_and(&distance.f_lt(width)?)?)?),
        None => full.as_ref().map(Tensor::shallow_clone),
    };
    Ok([full, windowed])
}

fn additive(visible: &Tensor) -> Result<Tensor> {
    let mask = Tensor::f_zeros(visible.size(), (Dtype::Float, visible.device()))?;
    Ok(mask.f_masked_fill(&visible.f_logical_not()?, f64::NEG_INFINITY)?)
}

impl LayerCache {
    /// Adds the keys and values of the new tokens, `[tokens, heads, head_dim]`, and returns those of all
    /// tokens, `[rows, longest, heads, head_dim]`.
    fn extend(&mut self, new: [&Tensor; 2], update: &CacheUpdate) -> Result<[Tensor; 2]> {
        let mut grown = match self.keys_values.take() {
            Some([keys, values]) => [update.widened(keys)?, update.widened(values)?],
            None => [update.zeros_like(new[0])?, update.zeros_like(new[1])?],
        };
        for (cached, new) in grown.iter_mut().zip(new) {
            let _ = cached.f_flatten(0, 1)?.f_index_copy_(0, &update.cells, new)?;
        }
        let [keys, values] = self.keys_values.insert(grown);
        Ok([keys.f_narrow(1, 0, update.longest)?, values.f_narrow(1, 0, update.longest)?])
    }
}

impl CacheUpdate {
    /// A cache for keys or values like `x`, `[…, heads, head_dim]`. Zeroed, because uninitialised memory may
    /// hold NaN, which a mask of -∞ does not hide.
    fn zeros_like(&self, x: &Tensor) -> Result<Tensor> {
        let of_head = &x.size()[x.dim() - 2..];
        let size = [&[self.rows, self.capacity], of_head].concat();
        Ok(Tensor::f_zeros(size, (x.f_kind()?, x.device()))?)
    }

    /// `cached` with room for all tokens.
    fn widened(&self, cached: Tensor) -> Result<Tensor> {
        let capacity = cached.size()[1];
        if capacity == self.capacity {
            return Ok(cached);
        }
        let wider = self.zeros_like(&cached)?;
        wider.f_narrow(1, 0, capacity)?.f_copy_(&cached)?;
        Ok(wider)
    }
}

impl Past<'_> {
    /// As [`attend`], but to the cached tokens as well. Adds the new tokens to the cache.
    pub fn attend(
        self,
        qkv: [&Tensor; 3],
        documents: &Documents,
        window: Option<&Window>,
        uses_sliding_window: bool,
        softcap: Option<f64>,
    ) -> Result<Tensor> {
        documents.with_own_cells(qkv, |qkv| self.attend_within(qkv, documents, window, uses_sliding_window, softcap))
    }

    /// As [`Self::attend`], where every document has tokens of its own: each row of the cache holds its own keys.
    fn attend_within(
        self,
        [q, k, v]: [&Tensor; 3],
        documents: &Documents,
        window: Option<&Window>,
        uses_sliding_window: bool,
        softcap: Option<f64>,
    ) -> Result<Tensor> {
        let [keys, values] = self.layer.extend([k, v], self.update)?;
        if self.update.is_first {
            attend_within(q, k, v, documents, window, softcap)
        } else {
            let mask = self.update.masks[usize::from(uses_sliding_window)].as_ref();
            attend_to(q, &keys, &values, documents, mask, softcap)
        }
    }
}
