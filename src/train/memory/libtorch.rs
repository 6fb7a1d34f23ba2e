//! What libtorch's operations hold where our loops and kernels do not compute: bytes for each element at the peak of a
//! backward function in `native/`, whose temporary tensors live to the end of their statement. `e` is the bytes of a number
//! of the model.

/// `piece_losses`, for each logit: scores, log-probabilities and their gradient in f32; below f32 the logits, before and
/// after, beside them.
pub fn loss(e: u64) -> u64 {
    12 + if e == 4 { 0 } else { 2 * e }
}

/// `SwiGlu::backward`, for each output and byte of a number: the sigmoid, and a tensor for each of eight operations.
pub const SWIGLU: u64 = 9;

/// `RmsNorm::backward`, for each input: the slope, two products and their difference in f32; below f32 a copy of the
/// input, too.
pub fn norm(e: u64) -> u64 {
    16 + if e == 4 { 0 } else { 4 }
}

/// `rotated`, for each input: six products of halves and the joined heads in f32, and the result.
pub fn rotation(e: u64) -> u64 {
    12 + 4 + e
}

/// `add_input_gradient`, for each input of the layer: the gradient, its sum with that of the base, and with dropout the
/// masked gradient; below f32 a copy of what is added to, too.
pub fn adapter(e: u64, has_dropout: bool) -> u64 {
    match (e, has_dropout) {
        (4, false) => 0,
        (4, true) | (_, false) => 12,
        (_, true) => 16,
    }
}
