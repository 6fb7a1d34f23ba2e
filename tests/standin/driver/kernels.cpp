// kernels.cu as a GPU would run it, except for the threads: its macros are those for CUDA, whose words are defined
// here for the host.
#include "kernels.h"

#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "block.h"

#define __CUDACC_RTC__
#define __global__
#define __device__
#define __shared__ static
#define __syncthreads wait_for_block

static float __int_as_float(int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
static float __uint_as_float(unsigned bits) { return __int_as_float(static_cast<int>(bits)); }
static unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

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

namespace {

template <auto function>
struct Call;

template <typename... A, void (*function)(A...)>
struct Call<function> {
    template <size_t... at>
    static void unpack(void** arguments, std::index_sequence<at...>) {
        function(*static_cast<A*>(arguments[at])...);
    }
    static void call(void** arguments) { unpack(arguments, std::index_sequence_for<A...>{}); }
    static Kernel named(const char* name) { return {name, &call, {std::is_pointer_v<A>...}}; }
};

// Made from kernels.cu when the stand-in is built: KERNEL_NAME(norm) and so on.
#define KERNEL_NAME(name)                          \
    Call<&of_f32::name##_f32>::named(#name "_f32"), \
        Call<&of_bf16::name##_bf16>::named(#name "_bf16"),

const std::vector<Kernel>& kernels() {
    static const std::vector<Kernel> all = {
#include "kernel_names.inc"
    };
    return all;
}

}  // namespace

const Kernel* kernel_named(const std::string& name) {
    for (const Kernel& kernel : kernels())
        if (kernel.name == name) return &kernel;
    return nullptr;
}
