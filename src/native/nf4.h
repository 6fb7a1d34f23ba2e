// A matrix in 4-bit NormalFloat (NF4), as bitsandbytes stores it.
#pragma once
#include "shim.h"

// As `RawNf4` in Rust. Value i of the flattened matrix is table[code i] * scale[i / block].
struct RawNf4 {
    const Tensor* codes;   // uint8, two codes a byte, the first in the upper half
    const Tensor* scales;  // f32, one a block; if nested, uint8 indices into `map`
    // Nested scale i is map[scales[i]] * nested_scales[i / nested_block] + offset.
    const Tensor* map;            // f32 [256], or null
    const Tensor* nested_scales;  // f32
    const Tensor* pairs;          // f32 [256, 2]: the two values of a byte
    double offset;
    int64_t block, nested_block, rows, columns;
};

// The same, but owning its tensors.
struct Nf4 {
    Tensor codes, scales, map, nested_scales, pairs;
    double offset;
    int64_t block, nested_block, rows, columns;

    explicit Nf4(const RawNf4& raw);
    // The matrix [rows, columns] in `dtype`. On the CPU, the thread's next call overwrites its memory.
    Tensor dense(at::ScalarType dtype) const;
    void dense_into(const Tensor& out) const;
};
