#pragma once
#include <c10/core/CachingDeviceAllocator.h>

c10::DeviceAllocator* device_allocator();
