// What libtorch knows of a GPU but tch does not tell; and whether kernels are there.
#include <c10/core/CachingDeviceAllocator.h>

#include "gpu.h"

Launch launcher = nullptr;
bool kernels_on_host = std::getenv("LORHAI_KERNELS_ON_HOST") != nullptr;

extern "C" {

void lorhai_set_launcher(Launch given) { launcher = given; }

// Bytes that tensors hold on a GPU now and at the most since the peak was last forgotten, and
// those that the device has free and in all.
char* lorhai_gpu_memory(int device, bool forget_peak, int64_t* out) {
    return guarded([&] {
        auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
        auto index = static_cast<c10::DeviceIndex>(device);
        if (forget_peak) allocator->resetPeakStats(index);
        auto held = allocator->getDeviceStats(index)
                        .allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
        auto [free, all] = allocator->getMemoryInfo(index);
        out[0] = held.current;
        out[1] = held.peak;
        out[2] = static_cast<int64_t>(free);
        out[3] = static_cast<int64_t>(all);
    });
}

// Gives memory back that libtorch holds for later.
char* lorhai_gpu_empty_cache() {
    return guarded([&] { c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache(); });
}
}
