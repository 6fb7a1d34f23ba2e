// Where the matrices of adapters lie when they are packed: see batched.h.
#pragma once
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

// The most columns of a block: backward keeps a number of each for every token.
constexpr int64_t MOST_COLUMNS = 256;
// The operations that a block takes in one group, forward and backward.
constexpr int64_t OPERATIONS_OF_A_BLOCK = 10;
// So many multiplications take the time that a GPU needs to start an operation.
constexpr int64_t WORTH_AN_OPERATION = int64_t{1} << 30;
// As in kernels.cu.
constexpr int64_t PIECES = 16;
// The fastest products need rows of a multiple of eight numbers, and matrices that begin at a multiple of 16 bytes.
constexpr int64_t ALIGNED_COLUMNS = 8, ALIGNED_MATRIX = 64;
// Of an entry of the table of `gather`.
constexpr int64_t NUMBERS_OF_A_MATRIX = 6;

int64_t rounded_up(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

int64_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

int64_t address(const Tensor* x) { return static_cast<int64_t>(reinterpret_cast<uintptr_t>(x->data_ptr())); }

// Adapters, in the order of their tokens, in parts that become a block of each group. Each token takes the multiplications
// of all columns of its block, so a part ends where those of the next adapter take longer than the operations of another
// block. `size` is the number of multiplications that a token takes for a column of every group.
std::vector<std::vector<int64_t>> split(const Member* members, size_t count, const std::vector<int64_t>& ranks,
                                        int64_t size, size_t groups) {
    std::vector<int64_t> order;
    for (size_t at = 0; at < count; ++at) order.push_back(static_cast<int64_t>(at));
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return members[a].begin < members[b].begin; });
    std::vector<std::vector<int64_t>> parts;
    int64_t columns = 0, tokens = 0;
    for (int64_t member : order) {
        int64_t own = members[member].end - members[member].begin;
        double more = static_cast<double>(size) * (tokens * ranks[member] + own * columns);
        bool is_slower = more > static_cast<double>(OPERATIONS_OF_A_BLOCK * WORTH_AN_OPERATION) * groups;
        if (parts.empty() || columns + ranks[member] > MOST_COLUMNS || is_slower) {
            parts.emplace_back();
            columns = tokens = 0;
        }
        parts.back().push_back(member);
        columns += ranks[member];
        tokens += own;
    }
    return parts;
}

// Whether B of several layers is block-diagonal: one product instead of one for each layer.
bool is_diagonal(int64_t tokens, int64_t out, int64_t layers, int64_t columns) {
    return layers == 1 || tokens * out * columns <= WORTH_AN_OPERATION;
}

const Matrices* matrices_of(const AdaptedLayer& layer, int64_t member) {
    for (const Matrices* at = layer.matrices; at < layer.matrices + layer.count; ++at)
        if (at->member == member) return at;
    return nullptr;
}

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
struct BatchedLayers {
    int64_t in = 0, out = 0;  // `out` is that of all its layers
    std::vector<int64_t> first_output, outputs;
    const int64_t* keys = nullptr;  // of dropout, on the device: [layers][adapters]
    std::vector<Block> blocks;
    bool has_gradients = false;  // in the packed buffer, not yet added to those of the adapters

    int64_t layers() const { return static_cast<int64_t>(outputs.size()); }
};

// Lays adapters out. What will be a pointer into the table on the device is its offset until then.
struct BatchLayout {
    const Member* members;
    size_t count;
    std::vector<std::vector<int64_t>> parts;  // the adapters of each block
    std::vector<int64_t> table, matrices;     // `matrices` becomes the end of the table
    int64_t size = 0;                         // of the packed values

    const int64_t* offset() const { return reinterpret_cast<const int64_t*>(table.size() * sizeof(int64_t)); }
    float keep(int64_t member) const { return drop_of(0, members[member].p).keep; }

    int64_t reserved(int64_t numbers) {
        int64_t at = size;
        size = rounded_up(size + numbers, ALIGNED_MATRIX);
        return at;
    }

    BatchedLayers group(const LayerGroup& layers) {
        BatchedLayers group;
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
        group.keys = offset();
        for (const AdaptedLayer* layer : adapted)
            for (size_t member = 0; member < count; ++member) {
                const Matrices* matrices = matrices_of(*layer, static_cast<int64_t>(member));
                table.push_back(matrices ? static_cast<int64_t>(matrices->key) : 0);
            }
        for (const std::vector<int64_t>& part : parts) {
            Block block = block_of(group, adapted, part);
            if (block.columns > 0) group.blocks.push_back(block);
        }
        return group;
    }

    Block block_of(const BatchedLayers& group, const std::vector<const AdaptedLayer*>& layers,
                   const std::vector<int64_t>& part) {
        Block block = {};
        std::vector<double> scales;
        for (const AdaptedLayer* layer : layers) {
            int64_t columns = 0;
            for (int64_t member : part)
                if (const Matrices* matrices = matrices_of(*layer, member)) {
                    columns += matrices->a->size(0);
                    scales.push_back(matrices->scale * keep(member));
                }
            block.columns = std::max(block.columns, rounded_up(columns, ALIGNED_COLUMNS));
        }
        if (block.columns == 0) return block;
        block.begin = members[part.front()].begin;
        block.end = members[part.back()].end;
        for (int64_t member : part) block.has_dropout = block.has_dropout || members[member].p > 0;
        block.is_diagonal = is_diagonal(block.tokens(), group.out, group.layers(), block.columns);
        block.a_at = reserved(group.layers() * block.columns * group.in);
        block.b_at = reserved(group.out * block.columns * (block.is_diagonal ? group.layers() : 1));
        block.alpha = scales[0];
        bool has_one_scale = std::all_of(scales.begin(), scales.end(), [&](double scale) { return scale == scales[0]; });
        place(group, block, layers, part);
        if (part.size() > 1 || !has_one_scale) add_columns(group, block, layers, part);
        return block;
    }

    // Adds the entries of A and B to the table of `gather`.
    void place(const BatchedLayers& group, Block& block, const std::vector<const AdaptedLayer*>& layers,
               const std::vector<int64_t>& part) {
        int64_t row = block.columns * (block.is_diagonal ? group.layers() : 1);
        block.first_matrix = matrix_count();
        for (int64_t layer = 0; layer < group.layers(); ++layer) {
            int64_t column = 0;
            for (int64_t member : part) {
                const Matrices* adapter = matrices_of(*layers[layer], member);
                if (!adapter) continue;
                int64_t r = adapter->a->size(0), from = block.is_diagonal ? layer * block.columns : 0;
                int64_t at_a = block.a_at + (layer * block.columns + column) * group.in;
                int64_t at_b = block.b_at + group.first_output[layer] * row + from + column;
                matrices.insert(matrices.end(), {address(adapter->a), address(adapter->grad_a), at_a, r * group.in,
                                                 group.in, group.in});
                matrices.insert(matrices.end(), {address(adapter->b), address(adapter->grad_b), at_b,
                                                 group.outputs[layer] * r, r, row});
                column += r;
            }
        }
        block.last_matrix = matrix_count();
    }

    int64_t matrix_count() const { return static_cast<int64_t>(matrices.size()) / NUMBERS_OF_A_MATRIX; }

    // Adds the adapter and the scale of each column to the table.
    void add_columns(const BatchedLayers& group, Block& block, const std::vector<const AdaptedLayer*>& layers,
                     const std::vector<int64_t>& part) {
        // No token's adapter is -2.
        std::vector<int64_t> owners(group.layers() * block.columns, -2), scales(owners.size(), 0);
        for (int64_t layer = 0; layer < group.layers(); ++layer) {
            int64_t column = layer * block.columns;
            for (int64_t member : part) {
                const Matrices* adapter = matrices_of(*layers[layer], member);
                if (!adapter) continue;
                int64_t last = column + adapter->a->size(0);
                std::fill(owners.begin() + column, owners.begin() + last, member);
                std::fill(scales.begin() + column, scales.begin() + last,
                          bits_of(static_cast<float>(adapter->scale * keep(member))));
                column = last;
            }
        }
        block.alpha = 1.0;
        block.member_of_column = offset();
        table.insert(table.end(), owners.begin(), owners.end());
        block.scale_of_column = offset();
        table.insert(table.end(), scales.begin(), scales.end());
    }
};

}  // namespace
