// What libtorch asks of CUDA as a whole: how many devices there are, which is current, its streams and its generator.
#include "device.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "../driver/standin.h"
#include "allocator.h"

namespace {

thread_local int chosen = 0;

c10::DeviceIndex count() { return static_cast<c10::DeviceIndex>(standin_devices()); }

c10::Device chosen_device() { return {c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(chosen)}; }

// As c10::cuda::SetDevice: a device that is chosen already is not chosen again, and its context is then not made
// current either.
void choose(int device) {
    if (device == chosen) return;
    TORCH_CHECK(device >= 0 && device < count(), "CUDA error: invalid device ordinal");
    chosen = device;
    standin_use(device);
}

// Everything runs at once and in order: there is one stream, and events have always happened.
struct Guard final : c10::impl::DeviceGuardImplInterface {
    c10::DeviceType type() const override { return c10::DeviceType::CUDA; }
    c10::DeviceIndex deviceCount() const noexcept override { return count(); }
    c10::Device getDevice() const override { return chosen_device(); }
    void setDevice(c10::Device device) const override { choose(device.index()); }
    void uncheckedSetDevice(c10::Device device) const noexcept override { chosen = device.index(); }
    c10::Device exchangeDevice(c10::Device device) const override {
        const c10::Device before = chosen_device();
        choose(device.index());
        return before;
    }

    static c10::Stream only_stream(c10::Device device) { return c10::Stream(c10::Stream::DEFAULT, device); }
    c10::Stream getStream(c10::Device device) const override { return only_stream(device); }
    c10::Stream getDefaultStream(c10::Device device) const override { return only_stream(device); }
    c10::Stream exchangeStream(c10::Stream stream) const override { return only_stream(stream.device()); }
    bool queryStream(const c10::Stream&) const override { return true; }
    void synchronizeStream(const c10::Stream&) const override { standin_count(STANDIN_WAIT, "stream"); }
    void synchronizeDevice(const c10::DeviceIndex) const override { standin_count(STANDIN_WAIT, "device"); }
    void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
    void block(void*, const c10::Stream&) const override {}
    bool queryEvent(void*) const override { return true; }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard);

// Random numbers are those of the CPU.
struct CUDAHooks final : at::CUDAHooksInterface {
    explicit CUDAHooks(at::CUDAHooksArgs) {}
    void init() const override {}
    bool isBuilt() const override { return true; }
    bool isAvailable() const override { return count() > 0; }
    bool hasCUDA() const override { return count() > 0; }
    bool hasCUDART() const override { return true; }
    bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
    int getNumGPUs() const override { return count(); }
    c10::DeviceIndex deviceCount() const override { return count(); }
    c10::DeviceIndex current_device() const override { return chosen_device().index(); }
    c10::DeviceIndex getCurrentDevice() const override { return chosen_device().index(); }
    void setCurrentDevice(c10::DeviceIndex device) const override { choose(device); }
    void deviceSynchronize(c10::DeviceIndex) const override { standin_count(STANDIN_WAIT, "device"); }
    c10::Allocator* getCUDADeviceAllocator() const override { return device_allocator(); }
    const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
        return at::detail::getDefaultCPUGenerator();
    }
    at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::detail::createCPUGenerator(); }
    at::Device getDeviceFromPtr(void* memory) const override {
        const int device = standin_device_of(memory);
        TORCH_CHECK(device >= 0, "this is not device memory");
        return {c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device)};
    }
};

}  // namespace

int current_device() { return chosen; }

// libtorch looks the class up by its name. The macro that registers it names the registry without a namespace.
using at::CUDAHooksRegistry;
using at::RegistererCUDAHooksRegistry;
REGISTER_CUDA_HOOKS(CUDAHooks)
