//! Grouped-query attention within documents: causal, and in some layers within a sliding window.

use super::config::Config;
use super::documents::Documents;
use super::rope::Rotation;
use crate::error::Result;
use crate::native;
use tch::{Device, Kind as Dtype, Tensor};

/// How far back a query sees, in layers that use a sliding window.
#[derive(Debug)]
pub struct Window {
    /// The number of keys that a query sees: its own and the `width - 1` before it.
    width: i64,
    /// bool `[time, time]`: true where the query (row) sees the key (column).
    mask: Tensor,
}

impl Window {
    /// `None` if no document is longer than the window.
    pub fn new(width: Option<i64>, time: i64, device: Device) -> Result<Option<Self>> {
        let Some(width) = width.filter(|&width| width < time) else { return Ok(None) };
        let all = Tensor::f_ones([time, time], (Dtype::Bool, device))?;
        Ok(Some(Window { width, mask: all.f_tril(0)?.f_logical_and(&all.f_triu(1 - width)?)? }))
    }
}

/// How the scores of a layer's attention differ from `q · k / sqrt(head_dim)`.
#[derive(Debug, Clone, Copy)]
pub struct Scores {
    /// What queries are multiplied by.
    pub multiplier: f64,
    /// See [`Architecture::attention_softcap`](super::architecture::Architecture::attention_softcap).
    pub softcap: Option<f64>,
}

impl Scores {
    pub fn new(config: &Config) -> Self {
        let architecture = &config.architecture;
        let root = (config.head_dim as f64).sqrt();
        Scores {
            multiplier: architecture.attention_multiplier.map_or(1.0, |multiplier| multiplier * root),
            softcap: architecture.attention_softcap,
        }
    }

    pub fn scaled(&self, q: Tensor) -> Result<Tensor> {
        // A rounding error is no multiplier: `x.powf(-0.5) * x.sqrt()`.
        if (self.multiplier - 1.0).abs() < 1e-12 {
            return Ok(q);
        }
        Ok(q.f_mul_scalar(self.multiplier)?)
    }
}

/// Scaled dot-product attention. `q` is `[tokens, heads, head_dim]`; `k` and `v` have fewer heads, each
/// shared by a group of query heads. Returns `[tokens, heads * head_dim]`.
pub fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    documents: &Documents,
    window: Option<&Window>,
    softcap: Option<f64>,
) -> Result<Tensor> {
    documents.with_own_cells([q, k, v], |[q, k, v]| attend_within(q, k, v, documents, window, softcap))
}

/// As [`attend`], of queries and keys that `rotation` is still to rotate: q is `[tokens, heads * head_dim]`, k and v with fewer heads.
pub fn rotate_and_attend(
    [q, k, v]: [&Tensor; 3],
    head_dim: i64,
    rotation: Option<&Rotation>,
    documents: &Documents,
    window: Option<&Window>,
    softcap: Option<f64>,
) -> Result<Tensor> {
    let width = window.map(|window| window.width);
    let by_head = |x: &Tensor| -> Result<Tensor> { Ok(x.f_view([x.size()[0], -1, head_dim])?) };
    let is_one_node = softcap.is_none() && documents.shared.is_none();
    match rotation {
        None => attend(&by_head(q)?, &by_head(k)?, &by_head(v)?, documents, window, softcap),
        Some(rotation)
            if is_one_node && rotation.is_of(head_dim) && native::has_rotated_attention(&by_head(q)?, width) =>
        {
            let Rotation { cos, sin } = rotation;
            native::rotated_attention([q, k, v], [cos, sin], &documents.starts, documents.longest, width)
        }
        Some(rotation) => {
            let (q, k) = (rotation.apply(q, head_dim)?, rotation.apply(k, head_dim)?);
            attend(&q, &k, &by_head(v)?, documents, window, softcap)
        }
    }
}

/// As [`attend`], where every document has tokens of its own.
pub fn attend_within(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    documents: &Documents,
    window: Option<&Window>,
    softcap: Option<f64>,
) -> Result<Tensor> {
    if softcap.is_none() && native::has_document_attention(q) {
        let width = window.map(|window| window.width);
        return native::document_attention(q, k, v, &documents.starts, documents.longest, width);
    }
    let mask = window.map(|window| &window.mask);
    let [q, k, v] = [heads_first(q, documents)?, heads_first(k, documents)?, heads_first(v, documents)?];
    let y = match (mask, softcap) {
        (_, Some(cap)) => capped(&q, &k, &v, Visible::Causal(mask), cap)?,
        (None, None) if has_cpu_kernel(&q)? => cpu_kernel(&q, &k, &v, None, true)?,
        _ => scaled_dot_product(&q, &k, &v, mask, mask.is_none())?,
    };
    documents.in_a_row(&y.f_transpose(1, 2)?.f_flatten(2, 3)?)
}

/// As [`attend`], to keys and values that are side by side already, `[documents, time, heads, head_dim]`.
/// `mask` is f32 and added to the scores; without it every key is visible.
pub fn attend_to(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    documents: &Documents,
    mask: Option<&Tensor>,
    softcap: Option<f64>,
) -> Result<Tensor> {
    let (q, k, v) = (heads_first(q, documents)?, k.f_transpose(1, 2)?, v.f_transpose(1, 2)?);
    let y = if let Some(cap) = softcap {
        capped(&q, &k, &v, Visible::Added(mask), cap)?
    } else if has_cpu_kernel(&q)? {
        cpu_kernel(&q, &k, &v, mask, false)?
    } else {
        let mask = mask.map(|mask| mask.f_to_kind(q.f_kind()?)).transpose()?;
        scaled_dot_product(&q, &k, &v, mask.as_ref(), false)?
    };
    documents.in_a_row(&y.f_transpose(1, 2)?.f_flatten(2, 3)?)
}

/// `[tokens, heads, head_dim]` to `[documents, heads, longest, head_dim]`.
fn heads_first(x: &Tensor, documents: &Documents) -> Result<Tensor> {
    Ok(documents.side_by_side(x)?.f_transpose(1, 2)?)
}

fn cpu_kernel(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, is_causal: bool) -> Result<Tensor> {
    let (y, _) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, is_causal, mask, None)?;
    Ok(y)
}

fn scaled_dot_product(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, is_causal: bool) -> Result<Tensor> {
    let groups = q.size()[1] / k.size()[1];
    let (k, v) = (repeat_heads(k, groups)?, repeat_heads(v, groups)?);
    Ok(Tensor::f_scaled_dot_product_attention(q, &k, &v, mask, 0.0, is_causal, None, false)?)
}

/// The keys that a query sees.
enum Visible<'a> {
    /// Those before it, within the mask if there is one: bool, true where it is visible.
    Causal(Option<&'a Tensor>),
    /// Added to the scores; all without it.
    Added(Option<&'a Tensor>),
}

/// Attention with capped scores, which no kernel of libtorch computes: q `[documents, heads, time, head_dim]`.
fn capped(q: &Tensor, k: &Tensor, v: &Tensor, visible: Visible, cap: f64) -> Result<Tensor> {
    let groups = q.size()[1] / k.size()[1];
    let (k, v) = (repeat_heads(k, groups)?, repeat_heads(v, groups)?);
    let root = (q.size()[3] as f64).sqrt();
    let scores = q.f_matmul(&k.f_transpose(2, 3)?)?.f_div_scalar(root * cap)?.f_tanh()?.f_mul_scalar(cap)?;
    let wide = if scores.f_kind()? == Dtype::Double { Dtype::Double } else { Dtype::Float };
    let scores = scores.f_to_kind(wide)?;
    let scores = match visible {
        Visible::Added(None) => scores,
        Visible::Added(Some(mask)) => scores.f_add(mask)?,
        Visible::Causal(mask) => {
            let (rows, columns) = (q.size()[2], k.size()[2]);
            let causal = match mask {
                Some(mask) => mask.shallow_clone(),
                None => Tensor::f_ones([rows, columns], (Dtype::Bool, q.device()))?.f_tril(0)?,
            };
            scores.f_masked_fill(&causal.f_logical_not()?, f64::NEG_INFINITY)?
        }
    };
    Ok(scores.f_softmax(-1, wide)?.f_to_kind(q.f_kind()?)?.f_matmul(&v)?)
}

/// Whether libtorch's CPU kernel, which supports grouped heads, works on tensors like `x`.
fn has_cpu_kernel(x: &Tensor) -> Result<bool> {
    Ok(x.device() == Device::Cpu && matches!(x.f_kind()?, Dtype::Float | Dtype::BFloat16))
}

fn repeat_heads(x: &Tensor, times: i64) -> Result<Tensor> {
    if times == 1 {
        return Ok(x.shallow_clone());
    }
    Ok(x.f_repeat_interleave_self_int(times, 1, None)?)
}
