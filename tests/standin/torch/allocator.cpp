// libtorch's allocator of CUDA memory, on the memory of the stand-in's devices. It caches nothing, so that a guard page
// is behind every tensor, and memory that was freed is gone.
#include "allocator.h"

#include <c10/core/DeviceGuard.h>
#include <c10/util/Exception.h>

#include "../driver/standin.h"
#include "device.h"

namespace {

class Allocator final : public c10::DeviceAllocator {
   public:
    c10::DataPtr allocate(size_t bytes) override {
        const int device = current_device();
        const c10::Device place(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device));
        if (bytes == 0) return {nullptr, nullptr, &standin_free, place};
        void* memory = standin_allocate(device, bytes);
        if (!memory) {
            const StandinMemory now = standin_memory(device);
            TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ", bytes, " bytes. GPU ",
                             device, " has a total capacity of ", now.total, " bytes of which ", now.free,
                             " bytes is free.");
        }
        return {memory, memory, &standin_free, place};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &standin_free; }
    void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }

    bool initialized() override { return true; }
    void emptyCache(c10::MempoolId_t) override {}
    void recordStream(const c10::DataPtr&, c10::Stream) override {}
    void resetAccumulatedStats(c10::DeviceIndex) override {}
    void resetPeakStats(c10::DeviceIndex device) override { standin_reset_peak(device); }
    c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
        const StandinMemory now = standin_memory(device);
        c10::CachingDeviceAllocator::DeviceStats stats;
        auto& held = stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
        held.current = static_cast<int64_t>(now.held);
        held.peak = static_cast<int64_t>(now.peak);
        return stats;
    }
    std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override {
        const StandinMemory now = standin_memory(device);
        return {now.free, now.total};
    }
};

struct Registration {
    Registration() { c10::SetAllocator(c10::DeviceType::CUDA, device_allocator()); }
} registration;

}  // namespace

c10::DeviceAllocator* device_allocator() {
    static auto* const only = new Allocator;
    return only;
}
