// kernels.cu as loops: over all rows and elements, and within a block over its threads. The same numbers as thread by
// thread, many times faster.
#include "kernels.h"
#include "words.h"

#define KERNEL static void
#define DEVICE inline
#define EACH(i, count) for (long long i = 0; i < count; ++i)
#define ROWS(row, rows) for (long long row = 0; row < rows; ++row)
#define BLOCK(t) for (int t = 0; t < THREADS; ++t)
#define SYNC
#define SHARED
#define INFINITE INFINITY
typedef unsigned int u32;
typedef unsigned long long u64;

namespace of_f32 {
#define ELEMENT float
#define NAMED(name) name##_f32
#include "kernels.cu"
#undef ELEMENT
#undef NAMED
}  // namespace of_f32

namespace of_bf16 {
#define ELEMENT bf16
#define NAMED(name) name##_bf16
#include "kernels.cu"
#undef ELEMENT
#undef NAMED
}  // namespace of_bf16

#define KERNEL_NAME(name) kernel<&of_f32::name##_f32>(#name "_f32"), kernel<&of_bf16::name##_bf16>(#name "_bf16"),
const std::vector<Kernel>& kernels_of_loops() {
    static const std::vector<Kernel> all = {
#include "kernel_names.inc"
    };
    return all;
}
