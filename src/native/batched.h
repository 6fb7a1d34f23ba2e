// The adapters of disjoint token ranges in all linear layers of a decoder, packed for products that serve all of them at
// once. Included by batched.cpp only.
//
// Per layer, A of all adapters is one matrix [columns, in] and B one [out, columns]. Each token then has low-rank values
// of all adapters, and those of the others are set to 0. On a GPU this takes fewer and larger operations than a loop
// over adapters.
//
// Layers that read the same input are a group: their A lie below one another, and their B in the blocks of a
// block-diagonal matrix, if that is worth the operations that it saves.
//
// A non-finite value in B or in a gradient, times such a 0, is NaN for other adapters too: the caller computes such a
// step again, adapter by adapter (train/update.rs).
#pragma once
#include <torch/csrc/autograd/custom_function.h>

#include "gpu.h"
#include "batch_layout.h"

namespace {

class BatchedAdapters : public torch::CustomClassHolder {
   public:
    BatchedAdapters(const Tensor& like, int64_t tokens, const Member* members, size_t count, const LayerGroup* groups,
                    size_t group_count);

    std::vector<BatchedLayers> groups;

    // [layers * columns, in]; [out, layers * columns], or [out, columns] if it is not block-diagonal.
    Tensor a(const BatchedLayers& group, const Block& block, const Tensor& packed) const;
    Tensor b(const BatchedLayers& group, const Block& block, const Tensor& packed) const;
    const Tensor& values() const { return values_; }
    // Uninitialised, unless `has_gradients`.
    const Tensor& gradients();

    // x [tokens, in] without the channels that dropout zeroes, for each layer.
    Tensor dropped(const BatchedLayers& group, const Block& block, const Tensor& x, const Tensor& token_keys) const;
    // Adds `products` through the masks to dx, and replaces them by `dropped`.
    void dropped_back(const BatchedLayers& group, const Block& block, const Tensor& x, const Tensor& dx,
                      const Tensor& products, const Tensor& token_keys) const;
    // Sets low-rank values that belong to another adapter to 0, and multiplies the others by the scale.
    void keep_own(const BatchedLayers& group, const Block& block, const Tensor& s) const;
    // Adds the packed gradients to those of the adapters.
    void add_gradients();

   private:
    void upload(const BatchLayout& layout, const Tensor& like, int64_t tokens);

    Tensor table_, values_, gradients_;
    const int64_t *members_ = nullptr, *thresholds_ = nullptr, *matrices_ = nullptr;  // in the table
    int64_t member_count_;
};

BatchedAdapters::BatchedAdapters(const Tensor& like, int64_t tokens, const Member* members, size_t count,
                                 const LayerGroup* layer_groups, size_t group_count)
    : member_count_(static_cast<int64_t>(count)) {
    std::vector<int64_t> ranks(count, 0);
    int64_t size_of_column = 0;
    for (const LayerGroup* group = layer_groups; group < layer_groups + group_count; ++group)
        for (const AdaptedLayer* layer = group->layers; layer < group->layers + group->count; ++layer) {
            // Forward, and twice as many backward.
            if (layer->count > 0) size_of_column += 3 * (layer->in + layer->out);
            for (const Matrices* m = layer->matrices; m < layer->matrices + layer->count; ++m)
                ranks[m->member] = std::max(ranks[m->member], m->a->size(0));
        }
    BatchLayout layout = {members, count, split(members, count, ranks, size_of_column, group_count)};
    layout.table.assign(tokens, -1);
    for (size_t at = 0; at < count; ++at)
        std::fill(layout.table.begin() + members[at].begin, layout.table.begin() + members[at].end,
                  static_cast<int64_t>(at));
    for (size_t at = 0; at < count; ++at) layout.table.push_back(drop_of(0, members[at].p).threshold);
    for (size_t at = 0; at < group_count; ++at) groups.push_back(layout.group(layer_groups[at]));
    upload(layout, like, tokens);
    // What lies between the matrices stays 0.
    values_ = at::zeros({layout.size}, like.options().requires_grad(false));
    int64_t pieces = layout.matrix_count() * PIECES;
    launch("gather", By::Rows, values_, pieces, matrices_, at_data(values_), pieces);
}

void BatchedAdapters::upload(const BatchLayout& layout, const Tensor& like, int64_t tokens) {
    int64_t count = static_cast<int64_t>(layout.table.size() + layout.matrices.size());
    Tensor host = at::empty({count}, at::kLong);
    int64_t* end = std::copy(layout.table.begin(), layout.table.end(), data<int64_t>(host));
    std::copy(layout.matrices.begin(), layout.matrices.end(), end);
    table_ = host.to(like.device());
    members_ = data<int64_t>(table_);
    thresholds_ = members_ + tokens;
    matrices_ = members_ + layout.table.size();
    auto to_pointer = [&](const int64_t*& offset) {
        if (offset) offset = members_ + reinterpret_cast<uintptr_t>(offset) / sizeof(int64_t);
    };
    for (BatchedLayers& group : groups) {
        to_pointer(group.keys);
        for (Block& block : group.blocks) {
            to_pointer(block.member_of_column);
            to_pointer(block.scale_of_column);
        }
    }
}

Tensor BatchedAdapters::a(const BatchedLayers& group, const Block& block, const Tensor& packed) const {
    int64_t rows = group.layers() * block.columns;
    return packed.narrow(0, block.a_at, rows * group.in).view({rows, group.in});
}

Tensor BatchedAdapters::b(const BatchedLayers& group, const Block& block, const Tensor& packed) const {
    int64_t columns = block.columns * (block.is_diagonal ? group.layers() : 1);
    return packed.narrow(0, block.b_at, group.out * columns).view({group.out, columns});
}

const Tensor& BatchedAdapters::gradients() {
    if (!gradients_.defined()) gradients_ = fresh_like(values_);
    return gradients_;
}

Tensor BatchedAdapters::dropped(const BatchedLayers& group, const Block& block, const Tensor& x,
                                const Tensor& token_keys) const {
    int64_t rows = block.tokens(), width = group.in;
    Tensor y = fresh({group.layers(), rows, width}, x);
    launch("drop_each", By::Elements, x, rows * ((width + 1) / 2), at_data(block.of(x)), at_data(y),
           at_data(block.of(token_keys)), members_ + block.begin, group.keys, thresholds_, rows, width, group.layers(),
           member_count_);
    return y;
}

void BatchedAdapters::dropped_back(const BatchedLayers& group, const Block& block, const Tensor& x, const Tensor& dx,
                                   const Tensor& products, const Tensor& token_keys) const {
    int64_t rows = block.tokens(), width = group.in;
    launch("drop_each_back", By::Elements, x, rows * ((width + 1) / 2), at_data(block.of(x)), at_data(block.of(dx)),
           at_data(products), at_data(block.of(token_keys)), members_ + block.begin, group.keys, thresholds_, rows, width,
           group.layers(), member_count_);
}

void BatchedAdapters::keep_own(const BatchedLayers& group, const Block& block, const Tensor& s) const {
    if (!block.scale_of_column) return;
    int64_t columns = group.layers() * block.columns;
    launch("keep_own", By::Elements, s, s.numel(), at_data(s), members_ + block.begin, block.member_of_column,
           block.scale_of_column, block.tokens(), columns);
}

void BatchedAdapters::add_gradients() {
    int64_t first = 0, last = 0;
    auto add = [&] {
        int64_t pieces = (last - first) * PIECES;
        launch("scatter", By::Rows, values_, pieces, matrices_ + first * NUMBERS_OF_A_MATRIX, at_data(gradients_), pieces);
    };
    for (BatchedLayers& group : groups) {
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

}  // namespace
