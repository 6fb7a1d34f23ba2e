// Launches the kernels of kernels.cu from C++.
#pragma once
#include <c10/core/DeviceGuard.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "shim.h"

// Starts a kernel on the default stream of a device, which libtorch uses here: with a thread for each of `work`
// elements, or a block for each of `work` rows. Returns null, or an error text that the caller frees. Set from
// Rust (gpu.rs) when the kernels are compiled.
using Launch = char* (*)(const char* kernel, bool is_bf16, int device, int64_t work, bool by_rows, void** arguments);

extern Launch launcher;
// The GPUs whose kernels are loaded, one bit each; at most MOST_GPUS.
extern std::atomic<uint64_t> devices_with_kernels;
constexpr int MOST_GPUS = 64;
// If LORHAI_KERNELS_ON_HOST is set, as in tests, the kernels run as loops on tensors of the CPU.
extern bool kernels_on_host;

bool run_on_host(const char* name, bool is_bf16, void** arguments);

inline bool device_has_kernels(int64_t device) {
    return device >= 0 && device < MOST_GPUS && (devices_with_kernels >> device & 1);
}

// Whether there are kernels for tensors like this one.
inline bool has_kernels(const Tensor& x) {
    bool typed = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
    return typed && (x.is_cuda() ? device_has_kernels(x.get_device()) : x.is_cpu() && kernels_on_host);
}

enum class By { Elements, Rows };

// Runs `kernel` for the dtype and on the device of `like`. Pass tensors as pointers to their data, numbers in the
// types that the kernel declares.
template <typename... A>
void launch(const char* kernel, By by, const Tensor& like, int64_t work, A... values) {
    if (work == 0) return;
    void* arguments[] = {&values...};
    bool is_bf16 = like.scalar_type() == at::kBFloat16;
    if (like.is_cpu()) {
        TORCH_CHECK(run_on_host(kernel, is_bf16, arguments), "no kernel is named ", kernel);
        return;
    }
    // The context of another GPU may be current.
    c10::DeviceGuard here(like.device());
    char* failure = launcher(kernel, is_bf16, like.get_device(), work, by == By::Rows, arguments);
    if (!failure) return;
    std::string text = failure;
    free(failure);
    TORCH_CHECK(false, text);
}

inline void* at_data(const Tensor& x) { return x.data_ptr(); }

// A tensor whose rows may lie apart, as kernels with a distance between rows read it: a copy only if the numbers of a row
// do.
inline Tensor in_rows(const Tensor& x) {
    return x.dim() == 2 && x.stride(1) == 1 ? x : x.contiguous();
}

// The distance between the rows of such a tensor.
inline int64_t row_of(const Tensor& x) { return x.dim() == 2 ? x.stride(0) : x.size(-1); }
