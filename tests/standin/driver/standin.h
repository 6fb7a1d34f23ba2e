// What the stand-in for the driver offers to the stand-in for libtorch's CUDA part, beside CUDA's own functions.
#pragma once
#include <cstddef>

#define VISIBLE __attribute__((visibility("default")))

extern "C" {

VISIBLE int standin_devices();

// Memory of a device, or null if the device has too little left. Each piece ends at a guard page and is filled with
// NaN.
VISIBLE void* standin_allocate(int device, size_t bytes);
VISIBLE void standin_free(void* memory);
// The device whose memory this is, or -1.
VISIBLE int standin_device_of(const void* memory);

struct StandinMemory {
    size_t held, peak, free, total;
};
VISIBLE StandinMemory standin_memory(int device);
VISIBLE void standin_reset_peak(int device);

// Makes the primary context of a device current in this thread, as CUDA's runtime does.
VISIBLE void standin_use(int device);

enum StandinEvent {
    STANDIN_OPERATION,  // work for the device: an operation, a kernel, a copy
    STANDIN_TO_DEVICE,  // a copy from the host
    STANDIN_TO_HOST,    // a copy to the host
    STANDIN_WAIT,       // the host waits for the device
    STANDIN_ALLOCATION,
    STANDIN_MODULE,  // a module of kernels is loaded
};
// Counts an event in the report. Operations and modules are listed by name too, allocations by device.
VISIBLE void standin_count(StandinEvent event, const char* name);
}
