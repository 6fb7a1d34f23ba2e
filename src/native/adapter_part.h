// The part of one adapter in a linear layer, on a range of tokens: forward, backward and dropout. Included
// by linear.cpp only, which merges some parts into W instead.
#pragma once
#include "gpu.h"
#include "linear.h"
#include "product.h"

namespace {

// Tokens from `begin` to `end`.
struct Range {
    int64_t begin, end;

    int64_t count() const { return end - begin; }
    View of(const Tensor& rows) const { return {rows, begin, count()}; }
    bool meets(const Range& other) const { return begin < other.end && other.begin < end; }
};

struct Part {
    SavedForBackward a, b;
    Tensor grad_a, grad_b;
    Range range;
    double scale, p;
    uint64_t key;
    bool merged = false;
    Tensor kept;  // for backward: the merged matrix, or x A'

    Drop drop() const { return drop_of(key, p); }
    View of(const Tensor& rows) const { return range.of(rows); }
};

// The mask [tokens, width] of the tokens with these keys, f32 on their device.
Tensor mask_of(const Tensor& token_keys, int64_t width, Drop drop) {
    int64_t tokens = token_keys.size(0);
    Tensor ones = at::ones({tokens, width}, token_keys.options().dtype(at::kFloat)), mask = at::empty_like(ones);
    if (has_kernels(ones)) {
        launch("drop", By::Elements, ones, ones.numel(), at_data(ones), at_data(mask), at_data(token_keys), ones.numel(),
               width, drop.key, drop.threshold, drop.keep);
        return mask;
    }
    Tensor keys = token_keys.cpu(), host_ones = ones.cpu(), host_mask = mask.cpu();
    rows().f32.drop(data<float>(host_ones), data<float>(host_mask), data<int64_t>(keys), tokens, width, drop);
    return host_mask.to(mask.device());
}

// The input of a part in the adapter's dtype, with dropout.
Tensor converted_input(const Tensor& x, const Part& part, const Tensor& token_keys) {
    Tensor input = part.of(x).tensor();
    at::ScalarType dtype = part.a.x.scalar_type();
    if (part.p == 0) return input.to(dtype);
    int64_t tokens = input.size(0), width = input.size(1);
    Tensor keys = part.of(token_keys).tensor();
    if (has_kernels(x)) {
        Tensor dropped = fresh({tokens, width}, input, at::kFloat);
        Drop drop = part.drop();
        launch("drop", By::Elements, input, input.numel(), at_data(input), at_data(dropped), at_data(keys),
               input.numel(), width, drop.key, drop.threshold, drop.keep);
        return dropped;
    }
    if (has_loops(x)) {
        Tensor dropped = fresh({tokens, width}, input, at::kFloat);
        with_rows(x, [&](const auto& loops, auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            over_rows(tokens, width, [&](int64_t from, int64_t to) {
                loops.drop(data<T>(input) + from * width, data<float>(dropped) + from * width,
                           data<int64_t>(keys) + from, to - from, width, part.drop());
            });
        });
        return dropped;
    }
    return input.to(dtype) * mask_of(keys, width, part.drop()).to(input.options().dtype(dtype));
}

// Calls `body` with the input of a part as its adapter reads it.
template <typename F>
auto with_adapter_input(const Tensor& x, const Part& part, const Tensor& token_keys, F body) {
    if (part.p == 0 && x.scalar_type() == part.a.x.scalar_type()) return body(part.of(x));
    Tensor input = converted_input(x, part, token_keys);
    return body(View(input));
}

// Adds `gradient`, through the dropout mask, to the part of dx.
void add_input_gradient(const Tensor& dx, const Tensor& gradient, const Part& part, const Tensor& token_keys) {
    Tensor part_dx = part.of(dx).tensor();
    int64_t tokens = part_dx.size(0), width = part_dx.size(1);
    Tensor keys = part.of(token_keys).tensor();
    if (has_kernels(dx) && part.p == 0) {
        launch("add_scaled", By::Elements, part_dx, part_dx.numel(), at_data(part_dx), at_data(gradient),
               part_dx.numel(), 1.0f);
        return;
    }
    if (has_kernels(dx)) {
        Drop drop = part.drop();
        launch("add_dropped", By::Elements, part_dx, part_dx.numel(), at_data(part_dx), at_data(gradient),
               at_data(keys), part_dx.numel(), width, drop.key, drop.threshold, drop.keep);
        return;
    }
    if (!has_loops(dx)) {
        Tensor masked = gradient;
        if (part.p != 0) masked = gradient * mask_of(keys, width, part.drop()).to(gradient.options());
        part_dx.copy_(part_dx.to(masked.scalar_type()) + masked);
        return;
    }
    with_rows(dx, [&](const auto& loops, auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        over_rows(tokens, width, [&](int64_t from, int64_t to) {
            T* into = data<T>(part_dx) + from * width;
            const float* addend = data<float>(gradient) + from * width;
            if (part.p == 0)
                loops.add_scaled(into, addend, (to - from) * width, 1.0f);
            else
                loops.add_dropped(into, addend, data<int64_t>(keys) + from, to - from, width, part.drop());
        });
    });
}

// y += scale * s B' on the tokens of the part.
void add_output(const Tensor& y, const Tensor& s, const Part& part) {
    const Tensor& b = part.b.x;
    if (y.scalar_type() == s.scalar_type()) {
        product(part.of(y), s, transposed(b), part.scale, true);
        return;
    }
    Tensor part_y = part.of(y).tensor(), low_rank = product(s, transposed(b));
    if (has_kernels(y)) {
        launch("add_scaled", By::Elements, part_y, part_y.numel(), at_data(part_y), at_data(low_rank), part_y.numel(),
               static_cast<float>(part.scale));
        return;
    }
    if (!has_loops(y)) {
        part_y.copy_(part_y.to(low_rank.scalar_type()).add(low_rank, part.scale));
        return;
    }
    with_rows(y, [&](const auto& loops, auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        at::parallel_for(0, part_y.numel(), grain(), [&](int64_t from, int64_t to) {
            loops.add_scaled(data<T>(part_y) + from, data<float>(low_rank) + from, to - from,
                             static_cast<float>(part.scale));
        });
    });
}

// Adds the part to y. Returns x A', which backward needs.
Tensor low_rank_output(const Tensor& y, const Tensor& x, const Part& part, const Tensor& token_keys) {
    Tensor s = with_adapter_input(x, part, token_keys, [&](View input) { return product(input, transposed(part.a.x)); });
    add_output(y, s, part);
    return s;
}

// Adds the gradients of A and B to their buffers, and that of x to `dx` if it is defined.
void low_rank_back(const Part& part, const Tensor& x, const Tensor& dy, const Tensor& token_keys, const Tensor& dx) {
    const Tensor &a = part.a.unchanged(), &b = part.b.unchanged(), &s = part.kept;
    bool same_dtype = dy.scalar_type() == b.scalar_type();
    Tensor converted = same_dtype ? Tensor() : part.of(dy).tensor().to(b.scalar_type());
    View part_dy = same_dtype ? part.of(dy) : converted;
    Tensor ds = product(part_dy, b, part.scale);
    if (part.grad_a.defined()) {
        product(part.grad_b, part_dy.t(), s, part.scale, true);
        with_adapter_input(x, part, token_keys, [&](View x) { product(part.grad_a, transposed(ds), x, 1.0, true); });
    }
    if (!dx.defined()) return;
    if (part.p == 0 && dx.scalar_type() == ds.scalar_type())
        product(part.of(dx), ds, a, 1.0, true);
    else
        add_input_gradient(dx, product(ds, a), part, token_keys);
}

}  // namespace
