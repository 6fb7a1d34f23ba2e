//! What the decoder reads: token ids and positions as tensors on its device.

use crate::error::{Error, Result};
use tch::{Device, Tensor};

#[derive(Debug)]
pub struct Input {
    /// int64 `[rows, time]`
    pub input_ids: Tensor,
    /// int64 `[rows, time]`
    pub position_ids: Tensor,
    /// int64 `[rows, time]`: the document within a packed row; `None` where none is packed.
    pub segments: Option<Tensor>,
}

impl Input {
    /// Moves host ids to `device`. Ids are checked here: on a GPU an id outside the
    /// vocabulary would end the process, not just the call.
    pub fn new(
        [rows, time]: [usize; 2],
        input_ids: &[i64],
        position_ids: &[i64],
        segments: Option<&[i64]>,
        vocab_size: i64,
        device: Device,
    ) -> Result<Self> {
        if rows == 0 || time == 0 {
            return Err(Error::data("the batch is empty: expected at least one row with one token"));
        }
        if let Some(id) = input_ids.iter().find(|&&id| !(0..vocab_size).contains(&id)) {
            return Err(Error::data(format!("token id {id} is outside the model's vocabulary of {vocab_size}"))
                .with_hint("tokenize the data with this model's own tokenizer"));
        }
        let grid = |values: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_reshape([rows as i64, time as i64])?.f_to_device(device)?)
        };
        Ok(Input {
            input_ids: grid(input_ids)?,
            position_ids: grid(position_ids)?,
            segments: segments.map(grid).transpose()?,
        })
    }

    /// One unpadded row: a prompt.
    pub fn from_ids(ids: &[i64], vocab_size: i64, device: Device) -> Result<Self> {
        let positions: Vec<i64> = (0..ids.len() as i64).collect();
        Self::new([1, ids.len()], ids, &positions, None, vocab_size, device)
    }

    pub fn time(&self) -> i64 {
        self.input_ids.size()[1]
    }
}
