// Tensors of the device, and the same memory as the CPU's kernels see it.
#pragma once
#include <ATen/core/Tensor.h>

using at::Tensor;

Tensor device_tensor(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype, int device);

// A tensor of the CPU over the memory of a CUDA tensor.
Tensor as_host(const Tensor& x);

// A new tensor of the device with the numbers of a tensor of the CPU.
Tensor copied_to_device(const Tensor& x, int device);
