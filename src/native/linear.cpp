// Frozen linear layers that read the same input (queries, keys and values; gate and up), with the adapters
// of several token ranges. For each layer
//
//   y = x W' + b, and on the tokens of each adapter  y += s * drop(x) A' B'
//
// All layers are one node of the autograd graph, so that the gradient of x is summed in place. Backward
// computes the gradient of W only on request, and adds those of A and B to the buffers that the optimizer
// reads. A 4-bit W is made dense for the product and dropped, once in forward and once in backward. A packed W is read
// through its packed copies.
//
// An adapter with many tokens for the size of W is merged first. With M = W + s B A
//
//   y = x M',  dx = dy M,  dB = s G A'  and  dA = s B' G,  where G = dy' x
//
// take fewer multiplications than x and dy through A and B.
#include <torch/csrc/autograd/custom_function.h>

#include "adapter_part.h"
#include "nf4.h"
#include "packed.h"

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Whether a step with an adapter of rank `r` on so many tokens takes fewer multiplications if the adapter is
// merged. A product of few columns takes the time of the next multiple of 8.
extern "C" bool lorhai_merging_pays(int64_t tokens, int64_t in, int64_t out, int64_t r) {
    int64_t padded_r = (r + 7) / 8 * 8;
    return 3 * in * out * r + tokens * in * out < tokens * (padded_r * (in + 2 * out) + r * (2 * in + out));
}

namespace {

// The tokens outside all merged parts.
std::vector<Range> unmerged(const std::vector<Part>& parts, int64_t tokens) {
    std::vector<Range> merged, rest;
    for (const Part& part : parts)
        if (part.merged) merged.push_back(part.range);
    std::sort(merged.begin(), merged.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    merged.push_back({tokens, tokens});
    int64_t done = 0;
    for (const Range& range : merged) {
        if (done < range.begin) rest.push_back({done, range.begin});
        done = range.end;
    }
    return rest;
}

// What backward needs of a layer, besides tensors of the graph.
struct FrozenLayer {
    SavedForBackward w;  // or its codes, if it is 4-bit
    std::vector<Part> parts;
    std::optional<Nf4> nf4;
    bool has_bias;

    Tensor dense(const Tensor& like) const { return nf4 ? nf4->dense(like.scalar_type()) : w.unchanged(); }

    // Whether the products of these tokens with the dense W read its packed copies, which serve all tokens or none.
    bool reads_packed(const Tensor& w, const Tensor& tokens) const {
        auto is_merged = [](const Part& part) { return part.merged; };
        return is_packed(w, tokens.size(0)) && std::none_of(parts.begin(), parts.end(), is_merged);
    }
};

struct Group : torch::CustomClassHolder {
    std::vector<FrozenLayer> layers;
    Tensor token_keys;  // int64 [tokens] on the device of x: row << 40 | column << 20
};

// Sets every row of `range` to `row`. Small ones without libtorch, whose overhead exceeds the copying.
void fill(const Tensor& y, const Tensor& row, Range range) {
    if (!is_f32(y) || !is_f32(row)) {
        range.of(y).tensor().copy_(row.expand({range.count(), row.size(0)}));
        return;
    }
    int64_t width = row.size(0);
    Tensor contiguous = row.contiguous();
    over_rows(range.count(), width, [&](int64_t from, int64_t to) {
        float* into = data<float>(y) + (range.begin + from) * width;
        for (int64_t at = from; at < to; ++at, into += width) std::copy_n(data<float>(contiguous), width, into);
    });
}

// y = x W' + b on the tokens of `range`.
void base_output(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor* bias, Range range) {
    if (bias) fill(y, *bias, range);
    product(range.of(y), range.of(x), transposed(w), 1.0, bias != nullptr);
}

Tensor copied(const Tensor& w) {
    if (!w.is_contiguous() || !is_f32(w)) return w.clone(at::MemoryFormat::Contiguous);
    Tensor copy = fresh_like(w);
    std::copy_n(data<float>(w), w.numel(), data<float>(copy));
    return copy;
}

// y on the tokens of the part. Returns the merged matrix.
Tensor merged_output(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor* bias, const Part& part) {
    Tensor merged = copied(w);
    product(merged, part.b.x, part.a.x, part.scale, true);
    base_output(y, x, merged, bias, part.range);
    return merged;
}

// As low_rank_back. Adds to `dx` if `accumulate`, because `dx` holds the gradient of another layer.
void merged_back(const Part& part, const Tensor& x, const Tensor& dy, const Tensor& dx, bool accumulate) {
    if (dx.defined()) product(part.of(dx), part.of(dy), part.kept, 1.0, accumulate);
    Tensor outer = product(part.of(dy).t(), part.of(x));
    product(part.grad_b, outer, transposed(part.a.unchanged()), part.scale, true);
    product(part.grad_a, transposed(part.b.unchanged()), outer, part.scale, true);
}

struct AdaptedLinears : public Function<AdaptedLinears> {
    // `biases` are those of the layers that have one. `leaf` puts this node into the graph: it is any trainable
    // leaf of the parts, or a weight if there is none.
    static variable_list forward(AutogradContext* ctx, const Tensor& input, at::TensorList weights,
                                 at::TensorList biases, const Tensor& leaf, const c10::intrusive_ptr<Group>& group) {
        Unrecorded here;
        Tensor x = input.contiguous();
        variable_list outputs;
        size_t bias = 0;
        for (FrozenLayer& layer : group->layers) {
            const Tensor* layer_bias = layer.has_bias ? &biases[bias++] : nullptr;
            Tensor w = layer.dense(x), y;
            if (layer.reads_packed(w, x)) {
                y = packed_product(x, w, layer_bias);
            } else {
                y = fresh({x.size(0), w.size(0)}, x);
                for (Range rest : unmerged(layer.parts, x.size(0))) base_output(y, x, w, layer_bias, rest);
            }
            for (Part& part : layer.parts)
                part.kept = part.merged ? merged_output(y, x, w, layer_bias, part)
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
            FrozenLayer& layer = group->layers[at];
            if (layer.has_bias) biases.emplace_back();
            if (!gradients[at].defined()) continue;
            Tensor dy = gradients[at].contiguous();
            bool first_to_dx = !dx.defined() && ctx->needs_input_grad(0);
            if (first_to_dx || dx.defined()) {
                Tensor w = layer.dense(dy);
                if (layer.reads_packed(w, dy)) {
                    dx = packed_product_back(dy, w, first_to_dx ? nullptr : &dx);
                } else {
                    if (first_to_dx) dx = fresh_like(x);
                    for (Range rest : unmerged(layer.parts, dy.size(0)))
                        product(rest.of(dx), rest.of(dy), w, 1.0, !first_to_dx);
                }
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

// Decides which parts are merged: those that are trained, alone on their tokens and without dropout, if W has
// the adapter's dtype, so that the sum loses no precision, and if merging pays. Whether this pass needs
// gradients makes no difference, so that passes with and without them give the same numbers.
void mark_merged(FrozenLayer& layer) {
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
        FrozenLayer frozen = {SavedForBackward(weights.back())};
        if (layer->nf4) frozen.nf4 = Nf4(*layer->nf4);
        frozen.has_bias = layer->bias;
        for (const Segment* segment = layer->segments; segment < layer->segments + layer->count; ++segment) {
            if (segment->grad_a) leaf = *segment->a;
            frozen.parts.push_back(part_of(*segment));
        }
        mark_merged(frozen);
        group->layers.push_back(std::move(frozen));
    }
    if (!leaf.defined()) leaf = weights[0];
    return AdaptedLinears::apply(x, at::TensorList(weights), at::TensorList(biases), leaf, group);
}

}  // namespace

// `out` has an element for each of `count` layers.
extern "C" char* lorhai_linears(const Tensor* x, const Layer* layers, size_t count, const Tensor* token_keys,
                                Tensor** out) {
    return guarded([&] {
        for (const Tensor& y : adapted(*x, layers, count, *token_keys)) *out++ = new Tensor(y);
    });
}

// The dropout mask of the tokens with these keys, f32 [tokens, width] on their device.
extern "C" char* lorhai_dropout_mask(const Tensor* token_keys, int64_t width, double p, uint64_t key, Tensor** out) {
    return guarded([&] { *out = new Tensor(mask_of(*token_keys, width, drop_of(key, p))); });
}
