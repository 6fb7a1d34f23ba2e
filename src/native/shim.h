// Shared by the files of this folder: Rust passes tensors as pointers and gets errors back as text.
#pragma once
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>

#include <atomic>
#include <cstring>
#include <exception>

#include "rows.h"

using at::Tensor;

// Runs `body`. Returns null, or an error text that the caller frees.
template <typename F>
char* guarded(F body) {
    try {
        body();
        return nullptr;
    } catch (const c10::Error& error) {
        return strdup(error.what_without_backtrace());
    } catch (const std::exception& error) {
        return strdup(error.what());
    }
}

// Active inside the forward and backward of a node, where autograd has nothing to record: operations then skip
// its dispatch.
using Unrecorded = at::AutoDispatchBelowADInplaceOrView;

// Whether the loops of rows.h work on tensors like this one.
inline bool has_loops(const Tensor& x) {
    return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

inline bool is_f32(const Tensor& x) {
    return x.is_cpu() && x.scalar_type() == at::kFloat;
}

// Whether other programs want the processors too; set by threads/load.rs.
extern std::atomic<bool> machine_is_busy;

// How much work is worth another thread, where `work` is on a quiet machine. On a busy one a thread may wait for some
// milliseconds before it starts, so that only work of such length is split. How it is split changes no number.
inline int64_t worth_a_thread(int64_t work) {
    return machine_is_busy.load(std::memory_order_relaxed) ? 128 * work : work;
}

// The least number of elements of a task, so that starting it costs little in comparison.
inline int64_t grain() {
    return worth_a_thread(1 << 15);
}

// Splits `count` rows of `width` elements among threads: `body(first, last)`.
template <typename F>
void over_rows(int64_t count, int64_t width, F body) {
    int64_t rows = std::max<int64_t>(1, grain() / std::max<int64_t>(1, width));
    at::parallel_for(0, count, rows, body);
}

// Calls `body` with the loops for the dtype of `x` and a null pointer of its element type.
template <typename F>
void with_rows(const Tensor& x, F body) {
    if (x.scalar_type() == at::kBFloat16)
        body(rows().bf16, static_cast<Bf16*>(nullptr));
    else
        body(rows().f32, static_cast<float*>(nullptr));
}

// A new uninitialised tensor on the device of `like`. On the CPU it is made without libtorch's dispatcher, which
// takes as long as a small product.
inline Tensor fresh(at::IntArrayRef sizes, const Tensor& like, at::ScalarType dtype) {
    if (like.is_cpu()) return at::detail::empty_cpu(sizes, dtype);
    return at::empty(sizes, like.options().dtype(dtype));
}

inline Tensor fresh(at::IntArrayRef sizes, const Tensor& like) {
    return fresh(sizes, like, like.scalar_type());
}

inline Tensor fresh_like(const Tensor& x) {
    return fresh(x.sizes(), x);
}

template <typename T>
T* data(const Tensor& x) {
    return static_cast<T*>(x.data_ptr());
}
