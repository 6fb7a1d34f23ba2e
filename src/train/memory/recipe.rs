//! The bytes that the usual Python recipe keeps for the backward pass: transformers' decoder with SDPA attention and
//! `use_cache=False`, peft's adapters in f32.
//!
//! Read off with `torch.autograd.graph.saved_tensors_hooks` (transformers 5.23, peft 0.21,
//! torch 2.11); `tests/golden/memory/generate.py` counts the same bytes for several shapes.

use super::layer::{first_layer, Layer};
use super::{Method, ResolvedRequest};
use crate::model::shapes::Role;

/// Returns (bytes kept for the backward pass, without logits; bytes of logits at the start of the backward pass).
///
/// Logits are computed for every token, labelled or not; their log-probabilities and two gradients are f32.
pub fn kept(resolved: &ResolvedRequest) -> (u64, u64) {
    let (e, tokens) = (resolved.request.precision.bytes(), resolved.request.tokens());
    let layers = resolved.config.num_hidden_layers;
    let first = first_layer(resolved).unwrap_or(layers);
    let each = (first..layers).map(|number| Layer::new(resolved, number, e));
    let kept: u64 = if resolved.request.gradient_checkpointing {
        let recomputed = layers.checked_sub(1).map_or(0, |last| kept_by(resolved, &Layer::new(resolved, last, e)));
        each.map(|layer| layer.input()).sum::<u64>() + recomputed
    } else {
        each.map(|layer| kept_by(resolved, &layer)).sum()
    };
    let hidden = resolved.config.hidden_size as u64;
    let is_full = resolved.method == Method::Full;
    // The final norm; where they are trained, the input of the head and the ids of the embedding.
    let end = norm(resolved, tokens, hidden, 1) + if is_full { tokens * (hidden * e + 8) } else { 0 };
    let rotation = 2 * resolved.request.length * resolved.config.head_dim as u64 * e;
    let logits = 3 * 4 * tokens * resolved.config.vocab_size as u64;
    (kept + end + rotation, logits)
}

/// An RMSNorm written in torch keeps its input in f32 and an f32 for each row; where its
/// weight is trained, the quotient in the model's dtype as well.
fn norm(resolved: &ResolvedRequest, tokens: u64, width: u64, rows: u64) -> u64 {
    let quotient = if resolved.method == Method::Full { resolved.request.precision.bytes() } else { 0 };
    tokens * (width * (4 + quotient) + 4 * rows)
}

fn kept_by(resolved: &ResolvedRequest, layer: &Layer) -> u64 {
    let Layer { t, e, hidden, mlp, .. } = *layer;
    let when = |is: bool, bytes: u64| if is { bytes } else { 0 };
    let [query_rows, key_rows] = layer.qk_norm_rows();
    let qk_norms = norm(resolved, t, layer.queries, query_rows) + norm(resolved, t, layer.keys, key_rows);
    layer.width_norms() * norm(resolved, t, hidden, 1)
        + when(layer.reaches_attention() && layer.qk_norm.is_some(), qk_norms)
        + when(layer.reaches_attention(), layer.attention())
        // silu keeps gate, the product silu(gate) and up.
        + when(layer.reaches_swiglu(), 3 * t * mlp * e)
        + linear_inputs(layer)
        + t * layer.ranks() * 4
}

/// In f32 the linear layers that read the same tensor share it. Over bf16 each adapter casts
/// its input to f32 by itself (peft's `_cast_input_dtype`), and keeps that.
fn linear_inputs(layer: &Layer) -> u64 {
    let Layer { t, e, hidden, queries, mlp, .. } = *layer;
    let reads = [
        (Role::QueryKeyValue, hidden, false),
        // The input of o_proj is attention's output, which attention keeps.
        (Role::AttentionOutput, queries, layer.reaches_attention()),
        (Role::GateUp, hidden, false),
        (Role::Down, mlp, false),
    ];
    let bytes = reads.iter().map(|(role, width, is_held)| {
        let adapted = layer.group(*role).filter(|linear| linear.target.is_some()).count();
        let trained = layer.has_gradient(*role);
        match (adapted, e) {
            (1.., 2) => adapted as u64 * t * width * 4,
            _ if trained && !is_held => t * width * e,
            _ => 0,
        }
    });
    bytes.sum()
}
