// Frozen linear layers that read the same input (queries, keys and values; gate and up), with the
// adapters of several token ranges folded into them. For each layer
//
//   y = x W' + b, and on the tokens of each adapter  y += s * drop(x) A' B'
//
// One node of the autograd graph for all of them: the gradient of x is summed in place. Backward
// makes no gradient of W unless asked for one, and adds those of A and B straight into the
// buffers that the optimizer reads. A 4-bit W is made dense for the product and forgotten,
// once in forward and once in backward.
//
// Where an adapter has many tokens for the size of W, it is merged first: with M = W + s B A
//
//   y = x M',  dx = dy M,  dB = s G A'  and  dA = s B' G,  where G = dy' x
//
// are fewer multiplications than x and dy through A and B.
#include <torch/csrc/autograd/custom_function.h>

#include "gpu.h"
#include "nf4.h"
#include "product.h"

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// One adapter on the tokens from `begin` to `end`; as `native::Segment` in Rust.
struct Segment {
    const Tensor *a, *b;            // [r, in], [out, r]
    const Tensor *grad_a, *grad_b;  // gradients are added to them; null where A and B are frozen
    int64_t begin, end;
    double scale;
    double p;  // the probability that dropout zeroes a channel; 0 in evaluation
    uint64_t key;
};

// One layer; as `RawLayer` in Rust.
struct Layer {
    const Tensor* w;     // [out, in]; null if it is 4-bit
    const RawNf4* nf4;   // null where it is dense
    const Tensor* bias;  // [out], or null
    const Segment* segments;
    size_t count;
};

// Is a step with an adapter of rank `r` on so many tokens fewer multiplications where it is merged?
// Products of few columns take the time of the next multiple of 8.
extern "C" bool lorhai_merging_pays(int64_t tokens, int64_t in, int64_t out, int64_t r) {
    int64_t few = (r + 7) / 8 * 8;
    return 3 * in * out * r + tokens * in * out < tokens * (few * (in + 2 * out) + r * (2 * in + out));
}

namespace {

Drop drop_of(uint64_t key, double p) {
    return {key, static_cast<uint32_t>(p * 4294967295.0), static_cast<float>(1.0 / (1.0 - p))};
}

// Tokens from `begin` to `end`.
struct Range {
    int64_t begin, end;

    int64_t count() const { return end - begin; }
    View of(const Tensor& rows) const { return {rows, begin, count()}; }
    bool meets(const Range& other) const { return begin < other.end && other.begin < end; }
};

// A matrix that backward reads again, and that nobody may have written to by then. It outlives the
// node in any case, and libtorch's way to hold on to it costs more than a small product.
struct SavedForBackward {
    Tensor x;
    uint32_t version;

    explicit SavedForBackward(const Tensor& x) : x(x), version(x.is_inference() ? 0 : x._version()) {}
    const Tensor& unchanged() const {
        TORCH_CHECK(x.is_inference() || x._version() == version, "a matrix of a layer was written to before backward");
        return x;
    }
};

struct Part {
    SavedForBackward a, b;
    Tensor grad_a, grad_b;
    Range range;
    double scale, p;
    uint64_t key;
    bool merged = false;
    Tensor kept;  // from forward for backward: the merged matrix, or x A'

    Drop drop() const { return drop_of(key, p); }
    View of(const Tensor& rows) const { return range.of(rows); }
};

// The tokens that no merged part serves.
std::vector<Range> unmerged(const std::vector<Part>& parts, int64_t tokens) {
    std::vector<Range> merged, rest;
    for (const Part& part : parts)
        if (part.merged) merged.push_back(part.range);
    std::sort(merged.begin(), merged.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    merged.push_back({tokens, tokens});
    int64_t done = 0;
    for (const Range& own : merged) {
        if (done < own.begin) rest.push_back({done, own.begin});
        done = own.end;
    }
    return rest;
}

// What a layer takes from forward to backward besides tensors of the graph.
struct Frozen {
    SavedForBackward w;  // or its codes, if it is 4-bit
    std::vector<Part> parts;
    std::optional<Nf4> nf4;
    bool has_bias;

    Tensor dense(const Tensor& beside) const { return nf4 ? nf4->dense(beside.scalar_type()) : w.unchanged(); }
};

struct Group : torch::CustomClassHolder {
    std::vector<Frozen> layers;
    Tensor token_keys;  // int64 [tokens] on the device of x: row << 40 | column << 20
};

// The mask [tokens, width] of the tokens at `token_keys`, made on the host, so that it is the same on
// every device.
Tensor mask_of(const Tensor& token_keys, int64_t width, Drop drop) {
    Tensor where = token_keys.cpu();
    Tensor ones = at::ones({where.size(0), width}, at::kFloat), mask = at::empty_like(ones);
    rows().f32.drop(data<float>(ones), data<float>(mask), data<int64_t>(where), where.size(0), width, drop);
    return mask;
}

// The tokens of a part in the adapter's dtype, with dropout.
Tensor converted_input(const Tensor& x, const Part& part, const Tensor& token_keys) {
    Tensor own = part.of(x).tensor();
    at::ScalarType dtype = part.a.x.scalar_type();
    if (part.p == 0) return own.to(dtype);
    int64_t tokens = own.size(0), width = own.size(1);
    Tensor where = part.of(token_keys).tensor();
    if (has_kernels(x)) {
        Tensor dropped = fresh({tokens, width}, own, at::kFloat);
        Drop drop = part.drop();
        launch("drop", By::Elements, own, own.numel(), at_data(own), at_data(dropped), at_data(where), own.numel(),
               width, drop.key, drop.threshold, drop.keep);
        return dropped;
    }
    if (has_loops(x)) {
        Tensor dropped = fresh({tokens, width}, own, at::kFloat);
        with_rows(x, [&](const auto& loops, auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            over_rows(tokens, width, [&](int64_t from, int64_t to) {
                loops.drop(data<T>(own) + from * width, data<float>(dropped) + from * width,
                           data<int64_t>(where) + from, to - from, width, part.drop());
            });
        });
        return dropped;
    }
    return own.to(dtype) * mask_of(where, width, part.drop()).to(own.options().dtype(dtype));
}

// Calls `body` with the tokens of a part as its adapter reads them.
template <typename F>
auto with_adapter_input(const Tensor& x, const Part& part, const Tensor& token_keys, F body) {
    if (part.p == 0 && x.scalar_type() == part.a.x.scalar_type()) return body(part.of(x));
    Tensor own = converted_input(x, part, token_keys);
    return body(View(own));
}

// dx of a part gets `gradient` through the same mask.
void add_input_gradient(const Tensor& dx, const Tensor& gradient, const Part& part, const Tensor& token_keys) {
    Tensor own = part.of(dx).tensor();
    int64_t tokens = own.size(0), width = own.size(1);
    Tensor where = part.of(token_keys).tensor();
    if (has_kernels(dx) && part.p == 0) {
        launch("add_scaled", By::Elements, own, own.numel(), at_data(own), at_data(gradient), own.numel(), 1.0f);
        return;
    }
    if (has_kernels(dx)) {
        Drop drop = part.drop();
        launch("add_dropped", By::Elements, own, own.numel(), at_data(own), at_data(gradient), at_data(where),
               own.numel(), width, drop.key, drop.threshold, drop.keep);
        return;
    }
    if (!has_loops(dx)) {
        Tensor through = gradient;
        if (part.p != 0) through = gradient * mask_of(where, width, part.drop()).to(gradient.options());
        own.copy_(own.to(through.scalar_type()) + through);
        return;
    }
    with_rows(dx, [&](const auto& loops, auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        over_rows(tokens, width, [&](int64_t from, int64_t to) {
            T* into = data<T>(own) + from * width;
            const float* what = data<float>(gradient) + from * width;
            if (part.p == 0)
                loops.add_scaled(into, what, (to - from) * width, 1.0f);
            else
                loops.add_dropped(into, what, data<int64_t>(where) + from, to - from, width, part.drop());
        });
    });
}

// y of a part += scale * s B'
void add_output(const Tensor& y, const Tensor& s, const Part& part) {
    const Tensor& b = part.b.x;
    if (y.scalar_type() == s.scalar_type()) {
        product(part.of(y), s, transposed(b), part.scale, true);
        return;
    }
    Tensor own = part.of(y).tensor(), low_rank = product(s, transposed(b));
    if (has_kernels(y)) {
        launch("add_scaled", By::Elements, own, own.numel(), at_data(own), at_data(low_rank), own.numel(),
               static_cast<float>(part.scale));
        return;
    }
    if (!has_loops(y)) {
        own.copy_(own.to(low_rank.scalar_type()).add(low_rank, part.scale));
        return;
    }
    with_rows(y, [&](const auto& loops, auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        at::parallel_for(0, own.numel(), GRAIN, [&](int64_t from, int64_t to) {
            loops.add_scaled(data<T>(own) + from, data<float>(low_rank) + from, to - from,
                             static_cast<float>(part.scale));
        });
    });
}

// Every row of `range` becomes `row`, without libtorch where that takes longer than to do it.
void fill(const Tensor& y, const Tensor& row, Range range) {
    if (!is_f32(y) || !is_f32(row)) {
        range.of(y).tensor().copy_(row.expand({range.count(), row.size(0)}));
        return;
    }
    int64_t width = row.size(0);
    Tensor own = row.contiguous();
    over_rows(range.count(), width, [&](int64_t from, int64_t to) {
        float* into = data<float>(y) + (range.begin + from) * width;
        for (int64_t at = from; at < to; ++at, into += width) std::copy_n(data<float>(own), width, into);
    });
}

// y = x W' + b on some of the tokens.
void base_output(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor* bias, Range range) {
    if (bias) fill(y, *bias, range);
    product(range.of(y), range.of(x), transposed(w), 1.0, bias != nullptr);
}

// Adds the part to y; gives x A', which backward needs.
Tensor low_rank_output(const Tensor& y, const Tensor& x, const Part& part, const Tensor& token_keys) {
    Tensor s = with_adapter_input(x, part, token_keys, [&](View own) { return product(own, transposed(part.a.x)); });
    add_output(y, s, part);
    return s;
}

// Adds the gradients of A and B, and that of x to `dx` where it is wanted.
void low_rank_back(const Part& part, const Tensor& x, const Tensor& dy, const Tensor& token_keys, const Tensor& dx) {
    const Tensor &a = part.a.unchanged(), &b = part.b.unchanged(), &s = part.kept;
    bool wide = dy.scalar_type() == b.scalar_type();
    Tensor converted = wide ? Tensor() : part.of(dy).tensor().to(b.scalar_type());
    View own = wide ? part.of(dy) : converted;
    Tensor ds = product(own, b, part.scale);
    if (part.grad_a.defined()) {
        product(part.grad_b, own.t(), s, part.scale, true);
        with_adapter_input(x, part, token_keys, [&](View x) { product(part.grad_a, transposed(ds), x, 1.0, true); });
    }
    if (!dx.defined()) return;
    if (part.p == 0 && dx.scalar_type() == ds.scalar_type())
        product(part.of(dx), ds, a, 1.0, true);
    else
        add_input_gradient(dx, product(ds, a), part, token_keys);
}

Tensor copied(const Tensor& w) {
    if (!w.is_contiguous() || !is_f32(w)) return w.clone(at::MemoryFormat::Contiguous);
    Tensor copy = fresh_like(w);
    std::copy_n(data<float>(w), w.numel(), data<float>(copy));
    return copy;
}

// y of the part; gives the merged matrix.
Tensor merged_output(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor* bias, const Part& part) {
    Tensor merged = copied(w);
    product(merged, part.b.x, part.a.x, part.scale, true);
    base_output(y, x, merged, bias, part.range);
    return merged;
}

// As low_rank_back; `dx` is added to where it holds another layer's already.
void merged_back(const Part& part, const Tensor& x, const Tensor& dy, const Tensor& dx, bool accumulate) {
    if (dx.defined()) product(part.of(dx), part.of(dy), part.kept, 1.0, accumulate);
    Tensor outer = product(part.of(dy).t(), part.of(x));
    product(part.grad_b, outer, transposed(part.a.unchanged()), part.scale, true);
    product(part.grad_a, transposed(part.b.unchanged()), outer, part.scale, true);
}

struct AdaptedLinears : public Function<AdaptedLinears> {
    // `biases` are those of the layers that have one. `leaf` is any trainable leaf of the parts, or
    // a weight without one: it puts this node into the graph.
    static variable_list forward(AutogradContext* ctx, const Tensor& given, at::TensorList weights,
                                 at::TensorList biases, const Tensor& leaf, const c10::intrusive_ptr<Group>& group) {
        Unrecorded here;
        Tensor x = given.contiguous();
        variable_list outputs;
        size_t bias = 0;
        for (Frozen& layer : group->layers) {
            const Tensor* own_bias = layer.has_bias ? &biases[bias++] : nullptr;
            Tensor w = layer.dense(x), y = fresh({x.size(0), w.size(0)}, x);
            for (Range rest : unmerged(layer.parts, x.size(0))) base_output(y, x, w, own_bias, rest);
            for (Part& part : layer.parts)
                part.kept = part.merged ? merged_output(y, x, w, own_bias, part)
                                        : low_rank_output(y, x, part, group->token_keys);
            outputs.push_back(y);
        }
        ctx->save_for_backward({x});
        ctx->saved_data["group"] = c10::IValue::make_capsule(group);
        return outputs;
    }

    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        Unrecorded here;
        Tensor x = ctx->get_saved_variables()[0], dx;
        auto group = c10::static_intrusive_pointer_cast<Group>(ctx->saved_data["group"].toCapsule());
        size_t count = group->layers.size();
        variable_list weights(count), biases;
        for (size_t at = 0; at < count; ++at) {
            Frozen& layer = group->layers[at];
            if (layer.has_bias) biases.emplace_back();
            if (!gradients[at].defined()) continue;
            Tensor dy = gradients[at].contiguous();
            bool first_to_dx = !dx.defined() && ctx->needs_input_grad(0);
            if (first_to_dx) dx = fresh_like(x);
            if (dx.defined()) {
                Tensor w = layer.dense(dy);
                for (Range rest : unmerged(layer.parts, dy.size(0)))
                    product(rest.of(dx), rest.of(dy), w, 1.0, !first_to_dx);
            }
            if (ctx->needs_input_grad(1 + at)) weights[at] = dy.t().mm(x);
            if (layer.has_bias && ctx->needs_input_grad(count + biases.size())) biases.back() = dy.sum(0);
            for (Part& part : layer.parts) {
                if (part.merged)
                    merged_back(part, x, dy, dx, !first_to_dx);
                else
                    low_rank_back(part, x, dy, group->token_keys, dx);
                part.kept.reset();
            }
        }
        variable_list all = {dx};
        all.insert(all.end(), weights.begin(), weights.end());
        all.insert(all.end(), biases.begin(), biases.end());
        all.resize(all.size() + 2);
        return all;
    }
};

// Decides which parts are merged: those that are trained, alone on their tokens, without dropout,
// and where the sum is not rounded to less than the adapter's own dtype. It makes no difference
// whether gradients are wanted of this pass: another one may make the same numbers again.
void mark_merged(Frozen& layer) {
    for (Part& part : layer.parts) {
        const Tensor &a = part.a.x, &b = part.b.x, &w = layer.w.x;
        bool fits = !layer.nf4 && w.is_cpu() && w.scalar_type() == a.scalar_type();
        auto meets = [&](const Part& other) { return &other != &part && other.range.meets(part.range); };
        if (!part.grad_a.defined() || part.p != 0 || !fits ||
            std::any_of(layer.parts.begin(), layer.parts.end(), meets))
            continue;
        part.merged = lorhai_merging_pays(part.range.count(), a.size(1), b.size(0), a.size(0));
    }
}

Part part_of(const Segment& segment) {
    Tensor frozen;
    return {SavedForBackward(*segment.a),
            SavedForBackward(*segment.b),
            segment.grad_a ? *segment.grad_a : frozen,
            segment.grad_b ? *segment.grad_b : frozen,
            {segment.begin, segment.end},
            segment.scale,
            segment.p,
            segment.key};
}

variable_list adapted(const Tensor& x, const Layer* layers, size_t count, const Tensor& token_keys) {
    auto group = c10::make_intrusive<Group>();
    group->token_keys = token_keys;
    variable_list weights, biases;
    Tensor leaf;
    for (const Layer* layer = layers; layer < layers + count; ++layer) {
        weights.push_back(layer->nf4 ? *layer->nf4->codes : *layer->w);
        if (layer->bias) biases.push_back(*layer->bias);
        Frozen own = {SavedForBackward(weights.back())};
        if (layer->nf4) own.nf4 = Nf4(*layer->nf4);
        own.has_bias = layer->bias;
        for (const Segment* segment = layer->segments; segment < layer->segments + layer->count; ++segment) {
            if (segment->grad_a) leaf = *segment->a;
            own.parts.push_back(part_of(*segment));
        }
        mark_merged(own);
        group->layers.push_back(std::move(own));
    }
    if (!leaf.defined()) leaf = weights[0];
    return AdaptedLinears::apply(x, at::TensorList(weights), at::TensorList(biases), leaf, group);
}

}  // namespace

// `out` has a place for each of `count` layers.
extern "C" char* lorhai_linears(const Tensor* x, const Layer* layers, size_t count, const Tensor* token_keys,
                                Tensor** out) {
    return guarded([&] {
        for (const Tensor& y : adapted(*x, layers, count, *token_keys)) *out++ = new Tensor(y);
    });
}

// The mask of dropout for the tokens at `token_keys`, f32 [tokens, width] on the CPU.
extern "C" char* lorhai_dropout_mask(const Tensor* token_keys, int64_t width, double p, uint64_t key, Tensor** out) {
    return guarded([&] { *out = new Tensor(mask_of(*token_keys, width, drop_of(key, p))); });
}
