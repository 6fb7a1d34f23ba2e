// The adapters of disjoint token ranges in all linear layers of a decoder, packed for products that serve all of them at
// once.
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
#include "linear.h"

// One adapter; as `Member` in Rust.
struct Member {
    int64_t begin, end;  // its tokens
    double p;            // the probability that dropout zeroes a channel; 0 in evaluation
};

// The matrices of one adapter in one layer; as `RawMatrices` in Rust.
struct Matrices {
    const Tensor *a, *b;            // f32 [r, in], [out, r]
    const Tensor *grad_a, *grad_b;  // accumulate the gradients
    int64_t member;
    double scale;
    uint64_t key;
};

// As `RawAdaptedLayer` in Rust.
struct AdaptedLayer {
    int64_t in, out;
    const Matrices* matrices;
    size_t count;
};

// Layers that read the same input; as `RawGroup` in Rust.
struct LayerGroup {
    const AdaptedLayer* layers;
    size_t count;
};

namespace {

// The adapters of neighbouring token ranges in one group.
struct Block {
    int64_t begin, end;  // the tokens from the first adapter's first to the last one's last
    int64_t columns;     // of one layer: the ranks of the adapters, rounded up
    bool is_diagonal, has_dropout;
    int64_t a_at, b_at;  // where A and B of all its layers begin in the packed values, and in their gradients
    // On the device, for each column of all layers; null for an adapter alone on its tokens, whose scale is `alpha`.
    const int64_t *member_of_column, *scale_of_column;
    double alpha;
    int64_t first_matrix, last_matrix;  // in the table

    int64_t tokens() const { return end - begin; }
    Tensor of(const Tensor& rows) const { return rows.narrow(0, begin, tokens()); }
};

// The layers of a group that have adapters.
struct PackedGroup {
    int64_t in = 0, out = 0;  // `out` is that of all its layers
    std::vector<int64_t> first_output, outputs;
    const int64_t* keys = nullptr;  // of dropout, on the device: [layers][adapters]
    std::vector<Block> blocks;
    bool has_gradients = false;  // in the packed buffer, not yet added to those of the adapters

    int64_t layers() const { return static_cast<int64_t>(outputs.size()); }
};

class BatchedAdapters : public torch::CustomClassHolder {
   public:
    BatchedAdapters(const Tensor& like, int64_t tokens, const Member* members, size_t count, const LayerGroup* groups,
                    size_t group_count);

    std::vector<PackedGroup> groups;

    // [layers * columns, in]; [out, layers * columns], or [out, columns] if it is not block-diagonal.
    Tensor a(const PackedGroup& group, const Block& block, const Tensor& packed) const;
    Tensor b(const PackedGroup& group, const Block& block, const Tensor& packed) const;
    const Tensor& values() const { return values_; }
    // Uninitialised, unless `has_gradients`.
    const Tensor& gradients();

    // x [tokens, in] without the channels that dropout zeroes, for each layer.
    Tensor dropped(const PackedGroup& group, const Block& block, const Tensor& x, const Tensor& token_keys) const;
    // Adds `products` through the masks to dx, and replaces them by `dropped`.
    void dropped_back(const PackedGroup& group, const Block& block, const Tensor& x, const Tensor& dx,
                      const Tensor& products, const Tensor& token_keys) const;
    // Sets low-rank values that belong to another adapter to 0, and multiplies the others by the scale.
    void keep_own(const PackedGroup& group, const Block& block, const Tensor& s) const;
    // Adds the packed gradients to those of the adapters.
    void add_gradients();

   private:
    void place(const PackedGroup& group, const Block& block, int64_t layer, const Matrices& matrices, int64_t column,
               const AdaptedLayer& adapted, std::vector<int64_t>& table) const;

    Tensor table_, values_, gradients_;
    const int64_t *members_ = nullptr, *thresholds_ = nullptr, *matrices_ = nullptr;  // in the table
    int64_t member_count_;
};

}  // namespace
