// Frozen linear layers that read the same input, with packed adapters (batched.h): as linear.cpp, for tensors with
// kernels. The outputs of the layers are columns of one tensor; weights and gradients that are adjacent too take one
// product.
#include "batched.h"

#include <torch/csrc/autograd/engine.h>

using torch::autograd::AutogradContext;
using torch::autograd::Engine;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace {

// out = alpha * a b, or +=
void into(const Tensor& out, const Tensor& a, const Tensor& b, double alpha, bool accumulate) {
    Tensor target = out;
    if (accumulate || alpha != 1.0)
        at::addmm_out(target, target, a, b, accumulate ? 1.0 : 0.0, alpha);
    else
        at::mm_out(target, a, b);
}

// The same for each matrix of a batch; a batch of one is a product.
void into_each(const Tensor& out, const Tensor& a, const Tensor& b, double alpha, bool accumulate) {
    if (out.size(0) == 1) return into(out[0], a[0], b[0], alpha, accumulate);
    Tensor target = out;
    if (accumulate || alpha != 1.0)
        at::baddbmm_out(target, target, a, b, accumulate ? 1.0 : 0.0, alpha);
    else
        at::bmm_out(target, a, b);
}

// Tensors that lie one after another in memory as one, their rows or (of [tokens, width]) their columns joined.
// Undefined if they do not.
Tensor joined(at::TensorList parts, int64_t dimension) {
    const Tensor& first = parts[0];
    int64_t total = 0, row = dimension == 0 && first.dim() == 2 ? first.size(1) : 1;
    for (const Tensor& part : parts) {
        if (!part.defined() || part.is_sparse() || !part.is_alias_of(first) || part.scalar_type() != first.scalar_type())
            return Tensor();
        if (dimension == 0 ? !part.is_contiguous() : part.stride(1) != 1 || part.stride(0) != first.stride(0))
            return Tensor();
        if (part.storage_offset() != first.storage_offset() + total * row) return Tensor();
        total += part.size(dimension);
    }
    if (parts.size() == 1) return first;
    std::vector<int64_t> sizes = first.sizes().vec(), strides = first.strides().vec();
    sizes[dimension] = total;
    if (dimension == 1 && strides[0] != total) return Tensor();
    return first.as_strided(sizes, strides, first.storage_offset());
}

// A layer of the base.
struct BaseLayer {
    SavedForBackward w;  // or its codes, if it is 4-bit
    std::optional<Nf4> nf4;
    Tensor bias;
    int64_t out;

    Tensor dense(at::ScalarType dtype) const { return nf4 ? nf4->dense(dtype) : w.unchanged(); }
};

struct BatchedGroup : torch::CustomClassHolder {
    std::vector<BaseLayer> base;
    c10::intrusive_ptr<BatchedAdapters> adapters;
    size_t group;
    Tensor token_keys;
    std::vector<Tensor> low_rank;  // x A' of each block, for backward

    // The weights of all layers as one, if they are adjacent.
    Tensor weight() const {
        std::vector<Tensor> weights;
        for (const BaseLayer& layer : base) {
            if (layer.nf4) return Tensor();
            weights.push_back(layer.w.unchanged());
        }
        return joined(weights, 0);
    }
    BatchedLayers& packed() const { return adapters->groups[group]; }
};

// y = x w' + bias
void affine(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias) {
    Tensor target = y;
    if (bias.defined())
        at::addmm_out(target, bias, x, w.t());
    else
        at::mm_out(target, x, w.t());
}

void base_outputs(const BatchedGroup& group, const Tensor& x, const Tensor& y) {
    Tensor w = group.weight();
    std::vector<Tensor> biases;
    for (const BaseLayer& layer : group.base)
        if (layer.bias.defined()) biases.push_back(layer.bias);
    Tensor bias = biases.size() == group.base.size() ? joined(biases, 0) : Tensor();
    if (w.defined() && bias.defined() != biases.empty()) return affine(y, x, w, bias);
    int64_t first = 0;
    for (const BaseLayer& layer : group.base) {
        affine(y.narrow(1, first, layer.out), x, layer.dense(x.scalar_type()), layer.bias);
        first += layer.out;
    }
}

// dx = dy W
void base_back(const BatchedGroup& group, const Tensor& dy, const Tensor& dx) {
    Tensor w = group.weight();
    if (w.defined()) return into(dx, dy, w, 1.0, false);
    int64_t first = 0;
    for (const BaseLayer& layer : group.base) {
        into(dx, dy.narrow(1, first, layer.out), layer.dense(dy.scalar_type()), 1.0, first > 0);
        first += layer.out;
    }
}

// [tokens, layers * columns] as [layers, tokens, columns].
Tensor by_layer(const Tensor& s, int64_t layers) {
    return s.view({s.size(0), layers, s.size(1) / layers}).transpose(0, 1);
}

// Adds the adapters of a block to y. Returns x A', which backward needs.
Tensor block_output(const BatchedAdapters& adapters, const BatchedLayers& group, const Block& block, const Tensor& x,
                    const Tensor& y, const Tensor& token_keys) {
    int64_t layers = group.layers(), columns = block.columns;
    Tensor a = adapters.a(group, block, adapters.values()), b = adapters.b(group, block, adapters.values());
    Tensor s = fresh({block.tokens(), layers * columns}, x), block_y = block.of(y);
    if (block.has_dropout)
        into_each(by_layer(s, layers), adapters.dropped(group, block, x, token_keys),
                  a.view({layers, columns, group.in}).transpose(1, 2), 1.0, false);
    else
        into(s, block.of(x), a.t(), 1.0, false);
    adapters.keep_own(group, block, s);
    if (block.is_diagonal) {
        into(block_y, s, b.t(), block.alpha, true);
        return s;
    }
    for (int64_t layer = 0; layer < layers; ++layer) {
        int64_t first = group.first_output[layer], count = group.outputs[layer];
        into(block_y.narrow(1, first, count), s.narrow(1, layer * columns, columns), b.narrow(0, first, count).t(),
             block.alpha, true);
    }
    return s;
}

// Adds to dx, if it is defined, and to the packed gradients.
void block_back(BatchedAdapters& adapters, const BatchedLayers& group, const Block& block, const Tensor& x,
                const Tensor& all_dy, const Tensor& s, const Tensor& dx, const Tensor& token_keys) {
    int64_t layers = group.layers(), columns = block.columns;
    bool accumulate = group.has_gradients;
    Tensor a = adapters.a(group, block, adapters.values()), b = adapters.b(group, block, adapters.values());
    Tensor grad_a = adapters.a(group, block, adapters.gradients()), grad_b = adapters.b(group, block, adapters.gradients());
    Tensor dy = block.of(all_dy), ds = fresh_like(s);
    if (block.is_diagonal) {
        into(ds, dy, b, block.alpha, false);
        into(grad_b, dy.t(), s, block.alpha, accumulate);
    }
    for (int64_t layer = 0; layer < layers && !block.is_diagonal; ++layer) {
        int64_t first = group.first_output[layer], count = group.outputs[layer];
        Tensor layer_dy = dy.narrow(1, first, count);
        into(ds.narrow(1, layer * columns, columns), layer_dy, b.narrow(0, first, count), block.alpha, false);
        into(grad_b.narrow(0, first, count), layer_dy.t(), s.narrow(1, layer * columns, columns), block.alpha, accumulate);
    }
    adapters.keep_own(group, block, ds);
    if (!block.has_dropout) {
        into(grad_a, ds.t(), block.of(x), 1.0, accumulate);
        if (dx.defined()) into(block.of(dx), ds, a, 1.0, true);
        return;
    }
    Tensor ds_by_layer = by_layer(ds, layers), dropped;
    if (dx.defined()) {
        dropped = fresh({layers, block.tokens(), group.in}, x);
        into_each(dropped, ds_by_layer, a.view({layers, columns, group.in}), 1.0, false);
        adapters.dropped_back(group, block, x, dx, dropped, token_keys);
    } else {
        dropped = adapters.dropped(group, block, x, token_keys);
    }
    into_each(grad_a.view({layers, columns, group.in}), ds_by_layer.transpose(1, 2), dropped, 1.0, accumulate);
}

struct BatchedLinears : public Function<BatchedLinears> {
    // `leaf` puts this node into the graph: any trainable matrix of the adapters, or a weight if there is none.
    static variable_list forward(AutogradContext* ctx, const Tensor& input, const Tensor&,
                                 const c10::intrusive_ptr<BatchedGroup>& group) {
        Unrecorded here;
        Tensor x = input.contiguous();
        int64_t out = 0;
        for (const BaseLayer& layer : group->base) out += layer.out;
        Tensor y = fresh({x.size(0), out}, x);
        base_outputs(*group, x, y);
        const BatchedLayers& packed = group->packed();
        for (const Block& block : packed.blocks)
            group->low_rank.push_back(block_output(*group->adapters, packed, block, x, y, group->token_keys));
        ctx->save_for_backward({x});
        ctx->saved_data["group"] = c10::IValue::make_capsule(group);
        variable_list outputs;
        int64_t first = 0;
        for (const BaseLayer& layer : group->base) {
            outputs.push_back(group->base.size() == 1 ? y : y.narrow(1, first, layer.out));
            first += layer.out;
        }
        return outputs;
    }

    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        Unrecorded here;
        Tensor x = ctx->get_saved_variables()[0], dx;
        auto group = c10::static_intrusive_pointer_cast<BatchedGroup>(ctx->saved_data["group"].toCapsule());
        Tensor dy = joined(gradients, 1);
        if (!dy.defined()) dy = at::cat(gradients, 1);
        if (gradients.size() == 1) dy = dy.contiguous();
        if (ctx->needs_input_grad(0)) {
            dx = fresh_like(x);
            base_back(*group, dy, dx);
        }
        BatchedLayers& packed = group->packed();
        for (size_t at = 0; at < packed.blocks.size(); ++at)
            block_back(*group->adapters, packed, packed.blocks[at], x, dy, group->low_rank[at], dx, group->token_keys);
        group->low_rank.clear();
        if (!packed.blocks.empty()) {
            packed.has_gradients = true;
            // The first one that runs adds the gradients of all nodes.
            Engine::get_default_engine().queue_callback([adapters = group->adapters] { adapters->add_gradients(); });
        }
        return {dx, Tensor(), Tensor()};
    }
};

}  // namespace

extern "C" {

// The numbers of the packed matrices of one adapter in a group of which it adapts so many layers.
int64_t lorhai_packed_size(int64_t tokens, int64_t in, int64_t out, int64_t layers, int64_t r) {
    int64_t columns = rounded_up(r, ALIGNED_COLUMNS);
    return columns * (layers * in + out * (is_diagonal(tokens, out, layers, columns) ? layers : 1));
}

bool lorhai_has_kernels(const Tensor* x) { return has_kernels(*x); }

// The adapters for inputs like `x`, [tokens, in].
char* lorhai_batched(const Tensor* x, const Member* members, size_t count, const LayerGroup* groups, size_t group_count,
                     void** out) {
    return guarded([&] {
        Unrecorded here;
        auto adapters = c10::make_intrusive<BatchedAdapters>(*x, x->size(0), members, count, groups, group_count);
        *out = adapters.release();
    });
}

void lorhai_batched_free(void* adapters) { c10::intrusive_ptr<BatchedAdapters>::reclaim(static_cast<BatchedAdapters*>(adapters)); }

// The layers of group `number`; `leaf` is a trainable matrix of theirs, or null. `out` has an element for each layer.
char* lorhai_batched_linears(const Tensor* x, const Layer* layers, size_t count, void* adapters, size_t number,
                             const Tensor* leaf, const Tensor* token_keys, Tensor** out) {
    return guarded([&] {
        auto group = c10::make_intrusive<BatchedGroup>();
        group->adapters = c10::intrusive_ptr<BatchedAdapters>::unsafe_reclaim_from_nonowning(
            static_cast<BatchedAdapters*>(adapters));
        group->group = number;
        group->token_keys = *token_keys;
        for (const Layer* layer = layers; layer < layers + count; ++layer) {
            BaseLayer base = {SavedForBackward(layer->nf4 ? *layer->nf4->codes : *layer->w)};
            if (layer->nf4) base.nf4 = Nf4(*layer->nf4);
            if (layer->bias) base.bias = *layer->bias;
            base.out = layer->nf4 ? layer->nf4->rows : layer->w->size(0);
            group->base.push_back(std::move(base));
        }
        const Tensor& in_graph = leaf ? *leaf : group->base[0].w.x;
        for (const Tensor& y : BatchedLinears::apply(*x, in_graph, group)) *out++ = new Tensor(y);
    });
}
}
