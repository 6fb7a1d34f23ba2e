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

// The most columns of a block: each token takes the multiplications of all of them.
constexpr int64_t MOST_COLUMNS = 256;
// So many multiplications take the time that a GPU needs to start an operation.
constexpr int64_t WORTH_AN_OPERATION = int64_t{1} << 29;
// As in kernels.cu.
constexpr int64_t PIECES = 16;
// The fastest products need rows of a multiple of eight numbers, and matrices that begin at a multiple of 16 bytes.
constexpr int64_t ALIGNED_COLUMNS = 8, ALIGNED_MATRIX = 64;

int64_t rounded_up(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

int64_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

int64_t address(const Tensor* x) { return static_cast<int64_t>(reinterpret_cast<uintptr_t>(x->data_ptr())); }

// Adapters, in the order of their tokens, split so that the ranks of each part add up to MOST_COLUMNS at most.
std::vector<std::vector<int64_t>> split(const Member* members, size_t count, const std::vector<int64_t>& ranks) {
    std::vector<int64_t> order;
    for (size_t at = 0; at < count; ++at) order.push_back(static_cast<int64_t>(at));
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return members[a].begin < members[b].begin; });
    std::vector<std::vector<int64_t>> parts;
    int64_t columns = 0;
    for (int64_t member : order) {
        if (parts.empty() || columns + ranks[member] > MOST_COLUMNS) {
            parts.emplace_back();
            columns = 0;
        }
        parts.back().push_back(member);
        columns += ranks[member];
    }
    return parts;
}

const Matrices* matrices_of(const AdaptedLayer& layer, int64_t member) {
    for (const Matrices* at = layer.matrices; at < layer.matrices + layer.count; ++at)
        if (at->member == member) return at;
    return nullptr;
}

BatchedAdapters::BatchedAdapters(const Tensor& like, int64_t tokens, const Member* members, size_t count,
                                 const LayerGroup* layer_groups, size_t group_count)
    : member_count_(static_cast<int64_t>(count)) {
    std::vector<int64_t> table(tokens, -1), ranks(count, 0);
    for (size_t at = 0; at < count; ++at) {
        std::fill(table.begin() + members[at].begin, table.begin() + members[at].end, static_cast<int64_t>(at));
        table.push_back(drop_of(0, members[at].p).threshold);
    }
    for (size_t at = 0; at < group_count; ++at)
        for (size_t layer = 0; layer < layer_groups[at].count; ++layer) {
            const AdaptedLayer& adapted = layer_groups[at].layers[layer];
            for (const Matrices* m = adapted.matrices; m < adapted.matrices + adapted.count; ++m)
                ranks[m->member] = std::max(ranks[m->member], m->a->size(0));
        }
    // Offsets until the table is on the device.
    auto offset = [](const std::vector<int64_t>& table) { return reinterpret_cast<const int64_t*>(table.size() * 8); };
    std::vector<int64_t> placed;
    int64_t size = 0;
    for (size_t at = 0; at < group_count; ++at) {
        const LayerGroup& layers = layer_groups[at];
        PackedGroup group;
        std::vector<const AdaptedLayer*> adapted;
        for (const AdaptedLayer* layer = layers.layers; layer < layers.layers + layers.count; ++layer) {
            group.in = layer->in;
            if (layer->count > 0) {
                adapted.push_back(layer);
                group.first_output.push_back(group.out);
                group.outputs.push_back(layer->out);
            }
            group.out += layer->out;
        }
        group.keys = offset(table);
        for (const AdaptedLayer* layer : adapted)
            for (size_t member = 0; member < count; ++member) {
                const Matrices* matrices = matrices_of(*layer, static_cast<int64_t>(member));
                table.push_back(matrices ? static_cast<int64_t>(matrices->key) : 0);
            }
        for (const std::vector<int64_t>& part : split(members, count, ranks)) {
            Block block = {};
            std::vector<double> scales;
            for (const AdaptedLayer* layer : adapted) {
                int64_t columns = 0;
                for (int64_t member : part)
                    if (const Matrices* matrices = matrices_of(*layer, member)) {
                        columns += matrices->a->size(0);
                        scales.push_back(matrices->scale * drop_of(0, members[member].p).keep);
                    }
                block.columns = std::max(block.columns, rounded_up(columns, ALIGNED_COLUMNS));
            }
            if (block.columns == 0) continue;
            block.begin = members[part.front()].begin;
            block.end = members[part.back()].end;
            for (int64_t member : part) block.has_dropout = block.has_dropout || members[member].p > 0;
            block.is_diagonal =
                group.layers() == 1 || block.tokens() * group.out * block.columns <= WORTH_AN_OPERATION;
            block.a_at = size;
            size = rounded_up(size + group.layers() * block.columns * group.in, ALIGNED_MATRIX);
            block.b_at = size;
            size = rounded_up(size + group.out * block.columns * (block.is_diagonal ? group.layers() : 1), ALIGNED_MATRIX);
            block.alpha = scales[0];
            bool is_alone = part.size() == 1 && std::count(scales.begin(), scales.end(), scales[0]) ==
                                                    static_cast<int64_t>(scales.size());
            std::vector<int64_t> member_of_column, scale_of_column;
            block.first_matrix = static_cast<int64_t>(placed.size()) / 6;
            for (int64_t layer = 0; layer < group.layers(); ++layer) {
                int64_t column = 0;
                for (int64_t member : part) {
                    const Matrices* matrices = matrices_of(*adapted[layer], member);
                    if (!matrices) continue;
                    place(group, block, layer, *matrices, column, *adapted[layer], placed);
                    column += matrices->a->size(0);
                    double scale = matrices->scale * drop_of(0, members[member].p).keep;
                    member_of_column.resize(layer * block.columns + column, member);
                    scale_of_column.resize(layer * block.columns + column, bits_of(static_cast<float>(scale)));
                }
                // No token's adapter is -2.
                member_of_column.resize((layer + 1) * block.columns, -2);
                scale_of_column.resize((layer + 1) * block.columns, 0);
            }
            block.last_matrix = static_cast<int64_t>(placed.size()) / 6;
            if (!is_alone) {
                block.alpha = 1.0;
                block.member_of_column = offset(table);
                table.insert(table.end(), member_of_column.begin(), member_of_column.end());
                block.scale_of_column = offset(table);
                table.insert(table.end(), scale_of_column.begin(), scale_of_column.end());
            }
            group.blocks.push_back(block);
        }
        groups.push_back(std::move(group));
    }
    const int64_t* matrices = offset(table);
    table.insert(table.end(), placed.begin(), placed.end());
    Tensor host = at::empty({static_cast<int64_t>(table.size())}, at::kLong);
    std::copy(table.begin(), table.end(), data<int64_t>(host));
    table_ = host.to(like.device());
    const int64_t* begin = data<int64_t>(table_);
    auto on_device = [&](const int64_t* offset) { return begin + reinterpret_cast<uintptr_t>(offset) / 8; };
    members_ = begin;
    thresholds_ = begin + tokens;
    matrices_ = on_device(matrices);
    for (PackedGroup& group : groups) {
        group.keys = on_device(group.keys);
        for (Block& block : group.blocks) {
            if (!block.scale_of_column) continue;
            block.member_of_column = on_device(block.member_of_column);
            block.scale_of_column = on_device(block.scale_of_column);
        }
    }
    // What lies between the matrices stays 0.
    values_ = at::zeros({size}, like.options().requires_grad(false));
    int64_t pieces = static_cast<int64_t>(placed.size()) / 6 * PIECES;
    launch("gather", By::Rows, values_, pieces, matrices_, at_data(values_), pieces);
}

// Adds the entries of A and B to the table of `gather`.
void BatchedAdapters::place(const PackedGroup& group, const Block& block, int64_t layer, const Matrices& matrices,
                            int64_t column, const AdaptedLayer& adapted, std::vector<int64_t>& table) const {
    int64_t r = matrices.a->size(0), row = block.columns * (block.is_diagonal ? group.layers() : 1);
    int64_t at_a = block.a_at + (layer * block.columns + column) * group.in;
    int64_t at_b = block.b_at + group.first_output[layer] * row + column + (block.is_diagonal ? layer * block.columns : 0);
    for (int64_t value : {address(matrices.a), address(matrices.grad_a), at_a, r * group.in, group.in, group.in,
                          address(matrices.b), address(matrices.grad_b), at_b, adapted.out * r, r, row})
        table.push_back(value);
}

Tensor BatchedAdapters::a(const PackedGroup& group, const Block& block, const Tensor& packed) const {
    int64_t rows = group.layers() * block.columns;
    return packed.narrow(0, block.a_at, rows * group.in).view({rows, group.in});
}

Tensor BatchedAdapters::b(const PackedGroup& group, const Block& block, const Tensor& packed) const {
    int64_t columns = block.columns * (block.is_diagonal ? group.layers() : 1);
    return packed.narrow(0, block.b_at, group.out * columns).view({group.out, columns});
}

const Tensor& BatchedAdapters::gradients() {
    if (!gradients_.defined()) gradients_ = fresh_like(values_);
    return gradients_;
}

Tensor BatchedAdapters::dropped(const PackedGroup& group, const Block& block, const Tensor& x,
                                const Tensor& token_keys) const {
    int64_t rows = block.tokens(), width = group.in;
    Tensor y = fresh({group.layers(), rows, width}, x);
    launch("drop_each", By::Elements, x, rows * ((width + 1) / 2), at_data(block.of(x)), at_data(y),
           at_data(block.of(token_keys)), members_ + block.begin, group.keys, thresholds_, rows, width, group.layers(),
           member_count_);
    return y;
}

void BatchedAdapters::dropped_back(const PackedGroup& group, const Block& block, const Tensor& x, const Tensor& dx,
                                   const Tensor& products, const Tensor& token_keys) const {
    int64_t rows = block.tokens(), width = group.in;
    launch("drop_each_back", By::Elements, x, rows * ((width + 1) / 2), at_data(block.of(x)), at_data(block.of(dx)),
           at_data(products), at_data(block.of(token_keys)), members_ + block.begin, group.keys, thresholds_, rows, width,
           group.layers(), member_count_);
}

void BatchedAdapters::keep_own(const PackedGroup& group, const Block& block, const Tensor& s) const {
    if (!block.scale_of_column) return;
    int64_t columns = group.layers() * block.columns;
    launch("keep_own", By::Elements, s, s.numel(), at_data(s), members_ + block.begin, block.member_of_column,
           block.scale_of_column, block.tokens(), columns);
}

void BatchedAdapters::add_gradients() {
    int64_t first = 0, last = 0;
    auto add = [&] {
        int64_t pieces = (last - first) * PIECES;
        launch("scatter", By::Rows, values_, pieces, matrices_ + first * 6, at_data(gradients_), pieces);
    };
    for (PackedGroup& group : groups) {
        if (!group.has_gradients || group.blocks.empty()) continue;
        group.has_gradients = false;
        if (group.blocks.front().first_matrix != last) {
            add();
            first = group.blocks.front().first_matrix;
        }
        last = group.blocks.back().last_matrix;
    }
    add();
}

// ---- The node ----

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
    PackedGroup& packed() const { return adapters->groups[group]; }
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
Tensor block_output(const BatchedAdapters& adapters, const PackedGroup& group, const Block& block, const Tensor& x,
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
void block_back(BatchedAdapters& adapters, const PackedGroup& group, const Block& block, const Tensor& x,
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
        const PackedGroup& packed = group->packed();
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
        PackedGroup& packed = group->packed();
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
