// Every operation without a function here: the CPU's kernel runs on the memory of the device. Before that, tensors of
// different devices are refused, as CUDA refuses them.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/transformers/attention.h>
#include <torch/library.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "../driver/standin.h"
#include "device.h"
#include "tensors.h"

namespace {

// Those that copy between devices.
bool is_copy(const std::string& name) { return name == "aten::copy_" || name == "aten::_copy_from"; }

// Those that accept indices on the CPU.
bool accepts_host_indices(const std::string& name) {
    static const std::set<std::string> names = {"aten::index", "aten::index_put_", "aten::_index_put_impl_",
                                                "aten::_unsafe_index", "aten::_unsafe_index_put"};
    return names.count(name) != 0;
}

// Those whose result the host needs to go on: a number, or a shape that depends on the data.
bool makes_host_wait(const std::string& name) {
    static const std::set<std::string> names = {"aten::_local_scalar_dense", "aten::equal", "aten::nonzero",
                                                "aten::masked_select", "aten::_unique2", "aten::unique_dim"};
    return names.count(name) != 0;
}

// One call: its arguments as the CPU's kernel gets them, and what they stand for.
class Call {
   public:
    Call(const c10::OperatorHandle& operation, torch::jit::Stack& stack)
        : operation_(operation), schema_(operation.schema()), stack_(stack), name_(schema_.name()) {}

    void run() {
        const size_t arguments = schema_.arguments().size();
        const size_t first = stack_.size() - arguments;
        for (size_t i = 0; i < arguments; ++i) to_host(stack_[first + i], schema_.arguments()[i].name());
        if (device_ < 0) device_ = current_device();
        TORCH_CHECK(elsewhere_.empty() || is_copy(name_),
                    "Expected all tensors to be on the same device, but found at least two devices, cuda:", device_,
                    " and ", elsewhere_, " (when checking argument in method ", name_, ")");
        standin_use(device_);
        count();
        operation_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack_);
        const size_t results = schema_.returns().size();
        for (size_t i = stack_.size() - results; i < stack_.size(); ++i) to_device(stack_[i]);
    }

   private:
    // A tensor of the device, and the tensor of the CPU that stands for it in this call.
    struct Standing {
        Tensor device, host;
    };

    void to_host(c10::IValue& value, const std::string& argument) {
        if (value.isTensor()) {
            value = host_of(value.toTensor(), argument);
        } else if (value.isTensorList()) {
            c10::List<Tensor> all;
            for (const Tensor& x : value.toTensorVector()) all.push_back(host_of(x, argument));
            value = all;
        } else if (value.isOptionalTensorList()) {
            c10::List<std::optional<Tensor>> all;
            for (const std::optional<Tensor>& x : value.toOptionalTensorVector())
                all.push_back(x ? std::optional<Tensor>(host_of(*x, argument)) : std::nullopt);
            value = all;
        } else if (value.isDevice() && value.toDevice().is_cuda()) {
            const c10::Device device = value.toDevice();
            if (device_ < 0 && device.has_index()) device_ = device.index();
            value = c10::Device(c10::DeviceType::CPU);
        }
    }

    Tensor host_of(const Tensor& x, const std::string& argument) {
        if (!x.defined()) return x;
        is_on_device_.push_back(x.is_cuda());
        if (!x.is_cuda()) {
            const bool is_number = x.dim() == 0;
            if (!is_number && !(argument == "indices" && accepts_host_indices(name_))) elsewhere_ = "cpu";
            return x;
        }
        if (device_ < 0) device_ = x.get_device();
        if (x.get_device() != device_) elsewhere_ = "cuda:" + std::to_string(x.get_device());
        // The same tensor may be input and output.
        for (const Standing& standing : standings_)
            if (standing.device.is_same(x)) return standing.host;
        standings_.push_back({x, as_host(x)});
        return standings_.back().host;
    }

    void count() const {
        if (!is_copy(name_)) {
            standin_count(STANDIN_OPERATION, name_.c_str());
            if (makes_host_wait(name_)) standin_count(STANDIN_WAIT, name_.c_str());
            return;
        }
        const bool from_device = is_on_device_[1], into_device = is_on_device_[0];
        if (from_device && into_device) return standin_count(STANDIN_OPERATION, "copy on the device");
        standin_count(STANDIN_OPERATION, from_device ? "copy to the host" : "copy to the device");
        standin_count(from_device ? STANDIN_TO_HOST : STANDIN_TO_DEVICE, "");
        if (from_device) standin_count(STANDIN_WAIT, "copy to the host");
    }

    void to_device(c10::IValue& value) {
        if (value.isTensor()) {
            value = device_of(value.toTensor());
        } else if (value.isTensorList()) {
            c10::List<Tensor> all;
            for (const Tensor& x : value.toTensorVector()) all.push_back(device_of(x));
            value = all;
        }
    }

    Tensor device_of(const Tensor& result) {
        if (!result.defined()) return result;
        for (const Standing& standing : standings_) {
            if (!standing.host.is_same(result)) continue;
            const bool is_resized = standing.device.sizes() != result.sizes();
            if (is_resized) adopt(standing.device, result);
            return standing.device;
        }
        // The first argument of a copy to the host.
        if (is_copy(name_)) return result;
        TORCH_CHECK(result.numel() == 0 || standin_device_of(result.const_data_ptr()) < 0, name_,
                    ": the stand-in has no such view");
        return copied_to_device(result, device_);
    }

    // Gives an output that had no elements the shape and the numbers of `result`.
    void adopt(const Tensor& output, const Tensor& result) const {
        TORCH_CHECK(output.numel() == 0, name_, ": an output of ", output.sizes(), " would become ", result.sizes());
        const Tensor fresh = copied_to_device(result, device_);
        output.unsafeGetTensorImpl()->set_storage_keep_dtype(fresh.storage());
        output.unsafeGetTensorImpl()->set_sizes_and_strides(fresh.sizes(), fresh.strides());
    }

    const c10::OperatorHandle& operation_;
    const c10::FunctionSchema& schema_;
    torch::jit::Stack& stack_;
    const std::string& name_;
    std::vector<Standing> standings_;
    std::vector<bool> is_on_device_;
    // Of the first tensor.
    int device_ = -1;
    std::string elsewhere_;
};

void run_on_host(const c10::OperatorHandle& operation, torch::jit::Stack* stack) { Call(operation, *stack).run(); }

// Attention without document boundaries: always by products and a softmax.
int64_t plain_attention(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&, double, bool,
                        std::optional<double>, bool) {
    return 0;
}

}  // namespace

TORCH_LIBRARY_IMPL(_, CUDA, library) {
    library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

// libtorch has one function for all devices here, which asks for a kernel of CUDA.
TORCH_LIBRARY_IMPL(aten, CUDA, library) {
    library.impl("copy_", torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

namespace at::native {
REGISTER_CUDA_DISPATCH(_fused_sdp_choice_stub, &plain_attention)
}
