// GPU statistics of libtorch that tch does not offer, and the launcher of kernels.
#include <c10/core/CachingDeviceAllocator.h>

#include "gpu.h"

Launch launcher = nullptr;
std::atomic<uint64_t> devices_with_kernels{0};
bool kernels_on_host = std::getenv("LORHAI_KERNELS_ON_HOST") != nullptr;

extern "C" {

// Called once for every device whose kernels are loaded.
void lorhai_set_launcher(Launch launch, int device) {
    launcher = launch;
    devices_with_kernels |= uint64_t{1} << device;
}

// Four numbers of bytes on a GPU: allocated by tensors, their peak since it was last reset, free, and total.
char* lorhai_gpu_memory(int device, bool reset_peak, int64_t* out) {
    return guarded([&] {
        auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
        auto index = static_cast<c10::DeviceIndex>(device);
        if (reset_peak) allocator->resetPeakStats(index);
        auto held = allocator->getDeviceStats(index)
                        .allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
        auto [free, total] = allocator->getMemoryInfo(index);
        out[0] = held.current;
        out[1] = held.peak;
        out[2] = static_cast<int64_t>(free);
        out[3] = static_cast<int64_t>(total);
    });
}

// Returns the memory that libtorch's allocator caches to the device.
char* lorhai_gpu_empty_cache() {
    return guarded([&] { c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache(); });
}
}
