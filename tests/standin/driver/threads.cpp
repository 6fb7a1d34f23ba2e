// kernels.cu as a GPU would run it, thread by thread: its macros are those for CUDA, whose words are defined here for the
// host.
#include "block.h"
#include "kernels.h"
#include "words.h"

#define __CUDACC_RTC__
#define __global__
#define __device__
#define __shared__ static
#define __syncthreads wait_for_block

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

// KERNEL_NAME(norm) and so on.
#define KERNEL_NAME(name) kernel<&of_f32::name##_f32>(#name "_f32"), kernel<&of_bf16::name##_bf16>(#name "_bf16"),
const std::vector<Kernel>& kernels_of_threads() {
    static const std::vector<Kernel> all = {
#include "kernel_names.inc"
    };
    return all;
}
