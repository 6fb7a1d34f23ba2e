// The kernels of kernels.cu as functions of the host. kernel_names.inc lists them: it is made from kernels.cu when the
// stand-in is built.
#pragma once
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

struct Kernel {
    std::string name;
    // Calls it with pointers to its arguments, as cuLaunchKernel gets them.
    void (*call)(void** arguments);
    // Which of its arguments are pointers.
    std::vector<bool> is_pointer;
};

// The same kernels twice, in the same order: for one thread of a block, and for all threads of all blocks.
const std::vector<Kernel>& kernels_of_threads();
const std::vector<Kernel>& kernels_of_loops();

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

template <auto function>
Kernel kernel(const char* name) {
    return Call<function>::named(name);
}
