//! The peak memory of our step: follows the allocations tensor by tensor from the end of the forward pass through the
//! backward pass of the last layer.
//!
//! The peak is there, because all values that the layers keep are still held. The order of the operations is that of
//! `model/decoder.rs` and of the backward functions in `native/`.

use super::layer::{
    first_layer, is_packed, kept_of_adapter, merged_matrix, packed_columns, packed_matrices, Adapted, Layer,
};
use super::libtorch;
use super::{Method, ResolvedRequest, StepDevice};
use crate::model::shapes::Role;
use crate::native;

/// Bytes held, by purpose.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    kept: u64,
    logits: u64,
    working: u64,
}

impl Held {
    fn total(&self) -> u64 {
        self.kept + self.logits + self.working
    }
}

/// Follows allocations and remembers the peak.
#[derive(Debug, Default)]
struct Walk {
    now: Held,
    peak: Held,
}

impl Walk {
    fn kept(&mut self, bytes: u64) {
        self.now.kept += bytes;
        self.look();
    }
    fn drop_kept(&mut self, bytes: u64) {
        self.now.kept = self.now.kept.saturating_sub(bytes);
    }
    fn logits(&mut self, bytes: u64) {
        self.now.logits += bytes;
        self.look();
        self.now.logits -= bytes;
    }
    fn take(&mut self, bytes: u64) {
        self.now.working += bytes;
        self.look();
    }
    fn give(&mut self, bytes: u64) {
        self.now.working = self.now.working.saturating_sub(bytes);
    }
    /// Takes memory and gives it back at once.
    fn take_and_give(&mut self, bytes: u64) {
        self.take(bytes);
        self.give(bytes);
    }
    fn look(&mut self) {
        if self.now.total() > self.peak.total() {
            self.peak = self.now;
        }
    }
}

/// Returns (kept for the backward pass, logits, working) in bytes at the peak of a step.
pub fn peak(resolved: &ResolvedRequest) -> (u64, u64, u64) {
    let is_full = resolved.method == Method::Full;
    let e = if is_full { 4 } else { resolved.request.precision.bytes() };
    let layers = resolved.config.num_hidden_layers;
    let first = first_layer(resolved).unwrap_or(layers);
    let last = Layer::new(resolved, layers.saturating_sub(1), e);
    let mut walk = Walk::default();
    let packed = packed_matrices(resolved, last.t, e);
    walk.kept(packed);
    let each = (first..layers).map(|number| Layer::new(resolved, number, e));
    walk.kept(
        each.map(|layer| if resolved.request.gradient_checkpointing { layer.input() } else { layer.kept() }).sum(),
    );
    // The final norm keeps its input.
    walk.kept(last.t * (last.hidden * e + 4));
    loss(resolved, &last, &mut walk);
    if resolved.request.gradient_checkpointing {
        walk.kept(last.kept());
    }
    // Their gradients.
    walk.take(packed);
    layer_backward(resolved, &last, &mut walk);
    if is_full && resolved.config.tie_word_embeddings {
        // The gradient of the embedding is added to that of the head, which is still held.
        walk.now.kept = 0;
        walk.take_and_give(embedding(resolved));
    }
    // The optimizer works in place.
    let Held { kept, logits, working } = walk.peak;
    (kept, logits, working)
}

fn embedding(resolved: &ResolvedRequest) -> u64 {
    (resolved.config.vocab_size * resolved.config.hidden_size) as u64 * 4
}

/// The loss, forward and backward. The gradient of the last layer's output is held afterwards.
fn loss(resolved: &ResolvedRequest, last: &Layer, walk: &mut Walk) {
    let Layer { t, e, hidden, .. } = *last;
    let labels = resolved.request.labels() * resolved.copies();
    let vocabulary = resolved.config.vocab_size as u64;
    let labelled = labels * hidden * e;
    let all = t * hidden * e;
    walk.take(all);
    let head = resolved.targets.iter().find(|target| target.linear.layer.is_none());
    if resolved.method == Method::Full || resolved.trains_head() {
        // Logits of all labels, their f32 copy and log-probabilities; then two gradients.
        let widened = if e == 4 { 0 } else { labels * vocabulary * e };
        let scores = labels * vocabulary * 4;
        walk.kept(labelled + head.map_or(0, |head| kept_of_adapter(resolved, labels, e, head)));
        walk.logits(scores + widened + scores);
        walk.give(all);
        walk.logits(3 * scores);
        walk.now.logits += scores + widened;
        let gradient = if resolved.method == Method::Full { embedding(resolved) } else { 0 };
        let outer = head.and_then(|head| merged_matrix(resolved, labels, e, head)).unwrap_or(0);
        walk.take_and_give(labelled + gradient + outer);
        walk.now.logits = 0;
        if resolved.method == Method::Full && resolved.config.tie_word_embeddings {
            walk.take(gradient);
        }
        walk.drop_kept(labelled);
    } else {
        // Hidden states of the labels, their gradient, and one piece of the logits.
        let is_cpu = resolved.request.device == StepDevice::Cpu;
        let piece = labels.min(native::loss_piece(vocabulary, hidden, e, is_cpu));
        walk.take(labelled);
        walk.kept(labelled);
        // Their gradient replaces them: see `piece_losses`.
        walk.logits(piece * vocabulary * if resolved.is_by_libtorch() { libtorch::loss(e) } else { e });
        walk.give(labelled + all);
        walk.take(labelled);
        walk.drop_kept(labelled);
        walk.give(labelled);
    }
    // Scattered to all tokens, and through the final norm.
    walk.take(labelled + all);
    walk.give(labelled);
    walk.take_and_give(if last.is_by_libtorch { t * hidden * libtorch::norm(e) } else { all });
    walk.drop_kept(t * (hidden * e + 4));
}

/// The backward pass of a layer; the gradient of its output is held before and after.
fn layer_backward(resolved: &ResolvedRequest, layer: &Layer, walk: &mut Walk) {
    let Layer { t, e, hidden, queries, keys, mlp, .. } = *layer;
    let size = |width: u64| t * width * e;
    // A norm behind attention or MLP.
    let norm_behind = |walk: &mut Walk| walk.take_and_give(if layer.has_norms_behind() { size(hidden) } else { 0 });
    norm_behind(walk);
    group_backward(resolved, layer, Role::Down, walk);
    walk.drop_kept(if layer.has_gradient(Role::Down) { size(mlp) } else { 0 });
    // SwiGLU: the gradients of its two inputs beside that of its output.
    if layer.is_by_libtorch {
        walk.take_and_give(libtorch::SWIGLU * size(mlp));
    }
    walk.take(2 * size(mlp));
    walk.give(size(mlp));
    walk.drop_kept(2 * size(mlp));
    group_backward(resolved, layer, Role::GateUp, walk);
    walk.give(2 * size(mlp));
    walk.drop_kept(if layer.has_gradient(Role::GateUp) { size(hidden) } else { 0 });
    walk.take_and_give(if layer.is_by_libtorch { t * hidden * libtorch::norm(e) } else { size(hidden) });
    walk.give(size(hidden));
    walk.drop_kept(size(hidden));
    norm_behind(walk);
    group_backward(resolved, layer, Role::AttentionOutput, walk);
    walk.take(size(queries + 2 * keys));
    if is_packed(resolved) {
        // The gradients side by side, beside those that attention made.
        walk.take_and_give(size(queries + 2 * keys));
    }
    walk.give(size(queries));
    walk.drop_kept(layer.attention());
    walk.take_and_give(if layer.is_by_libtorch { t * queries * libtorch::rotation(e) } else { size(queries) });
    group_backward(resolved, layer, Role::QueryKeyValue, walk);
}

/// Linear layers that read the same input. Its gradient is held afterwards, once.
fn group_backward(resolved: &ResolvedRequest, layer: &Layer, role: Role, walk: &mut Walk) {
    if is_packed(resolved) {
        return packed_backward(resolved, layer, role, walk);
    }
    for (at, adapted) in layer.group(role).enumerate() {
        linear_backward(resolved, layer, adapted, walk);
        if at > 0 {
            walk.give(layer.t * layer.hidden * layer.e);
        }
    }
}

/// As `BatchedLinears::backward`. The gradient of the input is held afterwards.
fn packed_backward(resolved: &ResolvedRequest, layer: &Layer, role: Role, walk: &mut Walk) {
    let linears: Vec<Adapted> = layer.group(role).collect();
    let (t, e) = (layer.t, layer.e);
    let wide = linears.first().map_or(0, |adapted| adapted.linear.in_features as u64);
    walk.take(t * wide * e);
    if resolved.method.is_quantised() {
        let outputs = linears.iter().map(|adapted| adapted.linear.out_features as u64);
        walk.take_and_give(outputs.max().unwrap_or(0) * wide * e);
    }
    let ranks = linears.iter().filter_map(|adapted| adapted.target).map(|target| target.r as u64);
    let (count, columns) = ranks.fold((0, 0), |(count, most), r| (count + 1, most.max(packed_columns(r))));
    // The inputs under dropout take the place of the products that they are multiplied with.
    let products = if resolved.request.lora.dropout > 0.0 { count * t * wide * e } else { 0 };
    walk.take_and_give(count * t * columns * e + products);
}

/// As `AdaptedLinears::backward` for one layer. The gradient of the input is held afterwards. In bf16 the adapter's
/// inputs are cast to f32 first.
fn linear_backward(resolved: &ResolvedRequest, layer: &Layer, adapted: Adapted, walk: &mut Walk) {
    let Adapted { linear, target } = adapted;
    let (wide, narrow) = (linear.in_features as u64, linear.out_features as u64);
    let (t, e) = (layer.t, layer.e);
    // NF4 matrices are dequantised one at a time.
    let unpacked = if resolved.method.is_quantised() { wide * narrow * e } else { 0 };
    walk.take_and_give(unpacked + t * wide * e);
    walk.take(t * wide * e);
    if resolved.method == Method::Full {
        walk.take_and_give(wide * narrow * 4);
    }
    let Some(target) = target else { return };
    if let Some(outer) = merged_matrix(resolved, t, e, target) {
        return walk.take_and_give(outer);
    }
    let has_dropout = resolved.request.lora.dropout > 0.0;
    let copies = match e {
        _ if layer.is_by_libtorch => libtorch::adapter(e, has_dropout),
        4 if !has_dropout => 0,
        _ => 4,
    };
    let gradient = if e == 4 { 0 } else { t * narrow * 4 };
    walk.take_and_give(gradient + t * target.r as u64 * 4 + t * wide * copies);
}
