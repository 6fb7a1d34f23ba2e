// What the two nodes for linear layers share: linear.cpp and batched.cpp.
#pragma once
#include "nf4.h"
#include "shim.h"

// One adapter on the tokens from `begin` to `end`; as `native::Segment` in Rust.
struct Segment {
    const Tensor *a, *b;            // [r, in], [out, r]
    const Tensor *grad_a, *grad_b;  // accumulate the gradients; null if A and B are frozen
    int64_t begin, end;
    double scale;
    double p;  // the probability that dropout zeroes a channel; 0 in evaluation
    uint64_t key;
};

// One layer; as `RawLayer` in Rust.
struct Layer {
    const Tensor* w;     // [out, in]; null if it is 4-bit
    const RawNf4* nf4;   // null if it is dense
    const Tensor* bias;  // [out], or null
    const Segment* segments;
    size_t count;
};

namespace {

Drop drop_of(uint64_t key, double p) {
    return {key, static_cast<uint32_t>(p * 4294967295.0), static_cast<float>(1.0 / (1.0 - p))};
}

// A matrix that backward reads again and that must not change until then. It outlives the node in any case;
// saving it by libtorch's own means costs more than a small product.
struct SavedForBackward {
    Tensor x;
    uint32_t version;

    explicit SavedForBackward(const Tensor& x) : x(x), version(x.is_inference() ? 0 : x._version()) {}
    const Tensor& unchanged() const {
        TORCH_CHECK(x.is_inference() || x._version() == version, "a matrix of a layer was modified before backward");
        return x;
    }
};

}  // namespace
