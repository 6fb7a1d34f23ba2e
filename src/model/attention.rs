//! Which positions a position may attend to, and grouped-query attention itself.

use crate::error::Result;
use tch::{Device, Kind as Dtype, Tensor};

/// The masks of one batch, made once and shared by all layers.
#[derive(Debug)]
pub struct Masks {
    /// For layers that see every earlier position of the segment.
    full: Option<Tensor>,
    /// For layers with a sliding window.
    sliding: Option<Tensor>,
}

impl Masks {
    /// `segments` is int64 `[rows, time]`, absent where rows are not packed: then plain
    /// causal attention needs no mask, since padding stands on the right.
    /// `window` is the width of the sliding window, if some layer has one.
    pub fn new(segments: Option<&Tensor>, window: Option<i64>, time: i64, device: Device) -> Result<Self> {
        let window = window.filter(|&width| width < time);
        let full = match segments {
            Some(segments) => Some(causal(time, None, device)?.f_logical_and(&same_segment(segments)?)?),
            None => None,
        };
        let sliding = match (window, segments) {
            (None, _) => full.as_ref().map(Tensor::shallow_clone),
            (Some(width), None) => Some(causal(time, Some(width), device)?),
            (Some(width), Some(segments)) => {
                Some(causal(time, Some(width), device)?.f_logical_and(&same_segment(segments)?)?)
            }
        };
        Ok(Masks { full, sliding })
    }

    fn of(&self, slides: bool) -> Option<&Tensor> {
        if slides {
            self.sliding.as_ref()
        } else {
            self.full.as_ref()
        }
    }
}

/// bool `[time, time]`: true where the query (row) may see the key (column).
fn causal(time: i64, window: Option<i64>, device: Device) -> Result<Tensor> {
    let all = Tensor::f_ones([time, time], (Dtype::Bool, device))?;
    let earlier = all.f_tril(0)?;
    Ok(match window {
        Some(width) => earlier.f_logical_and(&all.f_triu(1 - width)?)?,
        None => earlier,
    })
}

/// bool `[rows, 1, time, time]`: true where query and key belong to the same document.
fn same_segment(segments: &Tensor) -> Result<Tensor> {
    Ok(segments.f_unsqueeze(2)?.f_eq_tensor(&segments.f_unsqueeze(1)?)?.f_unsqueeze(1)?)
}

/// Scaled dot-product attention. `q` is `[rows, heads, time, head_dim]`; `k` and `v` have
/// fewer heads, each shared by a group of query heads.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, masks: &Masks, slides: bool) -> Result<Tensor> {
    let groups = q.size()[1] / k.size()[1];
    let (k, v) = (repeat_heads(k, groups)?, repeat_heads(v, groups)?);
    let mask = masks.of(slides);
    Ok(Tensor::f_scaled_dot_product_attention(q, &k, &v, mask, 0.0, mask.is_none(), None, false)?)
}

fn repeat_heads(x: &Tensor, times: i64) -> Result<Tensor> {
    if times == 1 {
        return Ok(x.shallow_clone());
    }
    let (rows, heads, time, width) = x.size4()?;
    Ok(x.f_unsqueeze(2)?.f_expand([rows, heads, times, time, width], false)?.f_reshape([
        rows,
        heads * times,
        time,
        width,
    ])?)
}
