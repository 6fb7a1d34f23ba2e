// The kernels of kernels.cu as functions of the host.
#pragma once
#include <string>
#include <vector>

struct Kernel {
    std::string name;
    // Calls it with pointers to its arguments, as cuLaunchKernel gets them.
    void (*call)(void** arguments);
    // Which of its arguments are pointers.
    std::vector<bool> is_pointer;
};

// Null if there is none of this name.
const Kernel* kernel_named(const std::string& name);
