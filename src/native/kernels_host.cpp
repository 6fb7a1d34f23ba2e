// kernels.cu as loops on the host, for tests on machines without a GPU.
#include <cmath>
#include <cstring>
#include <tuple>
#include <utility>

#define KERNEL void
#define DEVICE inline
#define EACH(i, count) for (long long i = 0; i < count; ++i)
#define ROWS(row, rows) for (long long row = 0; row < rows; ++row)
#define BLOCK(t) for (int t = 0; t < THREADS; ++t)
#define SYNC
#define SHARED
#define INFINITE INFINITY
typedef unsigned int u32;
typedef unsigned long long u64;

namespace {

float __uint_as_float(u32 bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
u32 __float_as_uint(float value) {
    u32 bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

#define NAMED(name) name
namespace f32 {
#define ELEMENT float
#include "kernels.cu"
#undef ELEMENT
}  // namespace f32

namespace bf16s {
#define ELEMENT bf16
#include "kernels.cu"
#undef ELEMENT
}  // namespace bf16s

// Calls `kernel` with arguments passed as pointers, as in cuLaunchKernel.
template <typename... A, size_t... At>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<At...>) {
    kernel(*static_cast<A*>(arguments[At])...);
}
template <typename... A>
void call(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>{});
}

}  // namespace

#define CASE(kernel)                                      \
    if (std::strcmp(name, #kernel) == 0) {                \
        if (is_bf16)                                      \
            call(bf16s::kernel, arguments);               \
        else                                              \
            call(f32::kernel, arguments);                 \
        return true;                                      \
    }

// Runs the kernel `name`; false if there is none.
bool run_on_host(const char* name, bool is_bf16, void** arguments) {
    CASE(norm) CASE(norm_back) CASE(rotate) CASE(swiglu) CASE(swiglu_back) CASE(cross_entropy)
    CASE(drop) CASE(add_dropped) CASE(add_scaled) CASE(adamw) CASE(drop_each) CASE(drop_each_back) CASE(keep_own)
    CASE(gather) CASE(scatter) CASE(rotate_all) CASE(nf4)
    return false;
}
