// A matrix in 4-bit NormalFloat (NF4), as bitsandbytes stores it.
#pragma once
#include "shim.h"

// As `RawNf4` in Rust. Value i of the flattened matrix is table[code i] * scale[i / block].
struct RawNf4 {
    const Tensor* codes;   // uint8, two codes a byte, the first in the upper half
    const Tensor* scales;  // f32, one a block; or uint8, indices into `map`, where they are nested
    // Where the scales are nested, each is map[index] * nested_scales[its number / nested_block] + offset.
    const Tensor* map;            // f32 [256], or null
    const Tensor* nested_scales;  // f32
    const Tensor* pairs;          // f32 [256, 2]: the two values of a byte
    double offset;
    int64_t block, nested_block, rows, columns;
};

// The same, with its tensors held.
struct Nf4 {
    Tensor codes, scales, map, nested_scales, pairs;
    double offset;
    int64_t block, nested_block, rows, columns;

    explicit Nf4(const RawNf4& raw);
    // The matrix [rows, columns] in `dtype`. On the CPU it lies in memory that the thread's next
    // call overwrites.
    Tensor dense(at::ScalarType dtype) const;
    void dense_into(const Tensor& out) const;
};
