// The functions of NVIDIA's driver that the program calls: devices, contexts, modules, launches.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>

#include "block.h"
#include "kernels.h"
#include "standin.h"
#include "switches.h"

namespace {

// As in cuda.h.
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    UNSUPPORTED_PTX_VERSION = 222,
    NOT_FOUND = 500,
};
enum Attribute { COMPUTE_CAPABILITY_MAJOR = 75, COMPUTE_CAPABILITY_MINOR = 76 };

struct Context {
    int device;
};
struct Module {
    int device;
    std::string text;
};
struct Function {
    const Kernel *of_thread, *of_loops;
};

bool is_initialized = false;
Context contexts[switches::MOST_DEVICES];
thread_local Context* current = nullptr;

bool is_device(int ordinal) { return ordinal >= 0 && ordinal < switches::devices(); }

Context* context_of(int device) {
    contexts[device].device = device;
    return &contexts[device];
}

// What a program may not rely on is told, because CUDA would report it late or not at all.
Result refuse(Result result, const std::string& kernel, const std::string& why) {
    std::fprintf(stderr, "stand-in: %s: %s\n", kernel.c_str(), why.c_str());
    return result;
}

}  // namespace

extern "C" int standin_devices() { return switches::devices(); }
extern "C" void standin_use(int device) { current = context_of(device); }

extern "C" {

VISIBLE int cuInit(unsigned flags) {
    if (flags != 0) return INVALID_VALUE;
    if (switches::devices() == 0) return NO_DEVICE;
    is_initialized = true;
    return SUCCESS;
}

VISIBLE int cuDriverGetVersion(int* version) {
    *version = static_cast<int>(switches::number("STANDIN_DRIVER", 13000));
    return SUCCESS;
}

// A private interface that NVRTC asks for: it does without.
VISIBLE int cuGetExportTable(const void** table, const void*) {
    *table = nullptr;
    return NOT_FOUND;
}

VISIBLE int cuDeviceGetCount(int* count) {
    *count = switches::devices();
    return is_initialized ? SUCCESS : NOT_INITIALIZED;
}

VISIBLE int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return !is_initialized ? NOT_INITIALIZED : is_device(ordinal) ? SUCCESS : INVALID_DEVICE;
}

VISIBLE int cuDeviceGetName(char* name, int length, int device) {
    std::snprintf(name, static_cast<size_t>(length), "Stand-in %c", 'A' + device);
    return is_device(device) ? SUCCESS : INVALID_DEVICE;
}

VISIBLE int cuDeviceGetAttribute(int* value, int attribute, int device) {
    static const char* const capability = switches::text("STANDIN_CAPABILITY");
    int major = 9, minor = 0;
    if (capability) std::sscanf(capability, "%d.%d", &major, &minor);
    *value = attribute == COMPUTE_CAPABILITY_MAJOR ? major : attribute == COMPUTE_CAPABILITY_MINOR ? minor : 0;
    return is_device(device) ? SUCCESS : INVALID_DEVICE;
}

VISIBLE int cuDevicePrimaryCtxRetain(Context** context, int device) {
    if (!is_device(device)) return INVALID_DEVICE;
    *context = context_of(device);
    return SUCCESS;
}

VISIBLE int cuDevicePrimaryCtxRelease_v2(int device) { return is_device(device) ? SUCCESS : INVALID_DEVICE; }

VISIBLE int cuCtxGetCurrent(Context** context) {
    *context = current;
    return SUCCESS;
}

VISIBLE int cuCtxSetCurrent(Context* context) {
    current = context;
    return SUCCESS;
}

VISIBLE int cuModuleLoadData(Module** module, const void* image) {
    if (!current) return INVALID_CONTEXT;
    const char* const broken = switches::text("STANDIN_BROKEN_MODULE");
    const std::string text = static_cast<const char*>(image);
    const bool is_cubin = text.compare(0, 4, "\177ELF") == 0;
    if (broken && is_cubin && std::strcmp(broken, "cubin") == 0) return NO_BINARY_FOR_GPU;
    if (switches::is_on("STANDIN_BROKEN_MODULE")) return UNSUPPORTED_PTX_VERSION;
    const bool is_empty = broken && std::strcmp(broken, "empty") == 0;
    if (!is_cubin && text.find(".version") == std::string::npos) return INVALID_IMAGE;
    standin_count(STANDIN_MODULE, is_cubin ? "cubin" : "PTX");
    *module = new Module{current->device, is_empty ? "" : text};
    return SUCCESS;
}

VISIBLE int cuModuleUnload(Module* module) {
    delete module;
    return SUCCESS;
}

VISIBLE int cuModuleGetFunction(Function** function, Module* module, const char* name) {
    const std::string entry = std::string(".entry ") + name + "(";
    if (module->text.find(entry) == std::string::npos) return NOT_FOUND;
    const auto& kernels = kernels_of_threads();
    for (size_t i = 0; i < kernels.size(); ++i) {
        if (kernels[i].name != name) continue;
        *function = new Function{&kernels[i], &kernels_of_loops()[i]};
        return SUCCESS;
    }
    return NOT_FOUND;
}

VISIBLE int cuGetErrorName(int result, const char** name) {
    *name = result == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR";
    return SUCCESS;
}

VISIBLE int cuGetErrorString(int result, const char** text) {
    switch (result) {
        case NO_DEVICE: *text = "no CUDA-capable device is detected"; break;
        case INVALID_CONTEXT: *text = "invalid device context"; break;
        case NO_BINARY_FOR_GPU: *text = "no kernel image is available for execution on the device"; break;
        case UNSUPPORTED_PTX_VERSION: *text = "the provided PTX was compiled with an unsupported toolchain."; break;
        case NOT_FOUND: *text = "named symbol not found"; break;
        default: *text = "invalid argument";
    }
    return SUCCESS;
}

VISIBLE int cuLaunchKernel(const Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                           unsigned block_y, unsigned block_z, unsigned, void*, void** arguments, void**) {
    const Kernel* kernel = function->of_thread;
    if (!current) return refuse(INVALID_CONTEXT, kernel->name, "no context is current in this thread");
    if (grid_x == 0 || grid_y != 1 || grid_z != 1 || block_x == 0 || block_x > 1024 || block_y != 1 || block_z != 1)
        return refuse(INVALID_VALUE, kernel->name, "this grid is not supported");
    for (size_t i = 0; i < kernel->is_pointer.size(); ++i) {
        if (!kernel->is_pointer[i]) continue;
        void* memory = *static_cast<void**>(arguments[i]);
        const int owner = memory ? standin_device_of(memory) : current->device;
        if (owner == current->device) continue;
        const char* why = owner < 0 ? " is not device memory" : " is memory of another device";
        return refuse(INVALID_VALUE, kernel->name, "argument " + std::to_string(i) + why);
    }
    standin_count(STANDIN_OPERATION, ("kernel " + kernel->name).c_str());
    static std::mutex only_one;
    std::lock_guard<std::mutex> running(only_one);
    if (thread_order() == Order::Loops) {
        function->of_loops->call(arguments);
        return SUCCESS;
    }
    // Fewer blocks, so that each has to loop.
    static const long long most = switches::number("STANDIN_BLOCKS", 1LL << 31);
    const unsigned blocks = static_cast<unsigned>(std::min<long long>(grid_x, std::max(1LL, most)));
    gridDim = {blocks, 1, 1};
    blockDim = {block_x, 1, 1};
    for (unsigned i = 0; i < blocks; ++i) {
        blockIdx = {thread_order() == Order::Reverse ? blocks - 1 - i : i, 0, 0};
        run_block(kernel->name.c_str(), block_x, [&] { kernel->call(arguments); });
    }
    return SUCCESS;
}
}
