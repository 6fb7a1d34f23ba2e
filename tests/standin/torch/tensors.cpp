// Makes tensors on the device, and registers what only gives them another shape.
#include "tensors.h"

#include <ATen/EmptyTensor.h>
#include <ATen/TensorUtils.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include "allocator.h"
#include "device.h"

namespace {

using OptionalDtype = std::optional<at::ScalarType>;
using OptionalLayout = std::optional<at::Layout>;
using OptionalDevice = std::optional<at::Device>;
using OptionalFormat = std::optional<at::MemoryFormat>;

const c10::DispatchKeySet CUDA_KEY(c10::DispatchKey::CUDA);

int index_of(const OptionalDevice& device) {
    return device && device->has_index() ? device->index() : current_device();
}

c10::Device cuda(int index) { return {c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index)}; }

Tensor empty(at::IntArrayRef sizes, OptionalDtype dtype, OptionalLayout, OptionalDevice device, std::optional<bool>,
             OptionalFormat format) {
    c10::DeviceGuard guard(cuda(index_of(device)));
    return at::detail::empty_generic(sizes, device_allocator(), CUDA_KEY, c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, OptionalDtype dtype, OptionalLayout,
                     OptionalDevice device, std::optional<bool>) {
    return device_tensor(sizes, strides, c10::dtype_or_default(dtype), index_of(device));
}

Tensor as_strided(const Tensor& x, at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<int64_t> offset) {
    return at::native::as_strided_tensorimpl(x, sizes, strides, offset);
}
Tensor view(const Tensor& x, at::IntArrayRef sizes) { return at::native::view(x, sizes); }
Tensor reshape_alias(const Tensor& x, at::IntArrayRef sizes, at::IntArrayRef strides) {
    return at::native::_reshape_alias(x, sizes, strides);
}
Tensor unfold(const Tensor& x, int64_t dimension, int64_t size, int64_t step) {
    return at::native::unfold(x, dimension, size, step);
}

}  // namespace

Tensor device_tensor(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype, int device) {
    c10::DeviceGuard guard(cuda(device));
    return at::detail::empty_strided_generic(sizes, strides, device_allocator(), CUDA_KEY, dtype);
}

Tensor as_host(const Tensor& x) {
    if (!x.defined() || !x.is_cuda()) return x;
    const auto options = x.options().device(at::kCPU);
    // A kernel may resize an output without elements, but not a tensor over memory that is not its own.
    if (x.numel() == 0) return at::empty_strided(x.sizes(), x.strides(), options);
    return at::from_blob(const_cast<void*>(x.const_data_ptr()), x.sizes(), x.strides(), options);
}

Tensor copied_to_device(const Tensor& x, int device) {
    if (!x.defined()) return x;
    const Tensor dense = x.is_non_overlapping_and_dense() ? x : x.contiguous();
    Tensor copy = device_tensor(dense.sizes(), dense.strides(), dense.scalar_type(), device);
    if (dense.numel() > 0) std::memcpy(copy.mutable_data_ptr(), dense.const_data_ptr(), dense.nbytes());
    return copy;
}

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
    library.impl("empty.memory_format", &empty);
    library.impl("empty_strided", &empty_strided);
    library.impl("as_strided", &as_strided);
    library.impl("view", &view);
    library.impl("_reshape_alias", &reshape_alias);
    library.impl("unfold", &unfold);
}
