// Frozen matrices packed for the CPU: laid out once as its matrix instructions read them, and not anew in each product.
//
// A matrix has a packed copy for y = x W' and another for dx = dy W, because the instructions read pairs of numbers along
// the dimension that is summed. Each is made by the first product that reads it. The copies belong to the tensor of the
// matrix, so all handles on it share them, and a tensor that replaces it has none. A matrix that was written to since
// `lorhai_pack` is no longer packed.
//
// oneDNN packs and multiplies, through operators of libtorch: oneDNN's own headers do not come with libtorch.
#include <ATen/core/dispatch/Dispatcher.h>
#include <sys/mman.h>

#include <mutex>

#include "packed.h"

namespace {

// The fewest tokens of a product that reads a packed copy. For a few tokens of a generated text packing gains little, and
// a first answer should not wait for it.
constexpr int64_t MIN_PACKED_TOKENS = 32;

// The number of tokens that the layout is chosen for. Each layout serves any number; for few tokens oneDNN would choose
// narrower blocks.
constexpr int64_t TOKENS_OF_LAYOUT = 1024;

using Pack = Tensor(const Tensor&, std::optional<int64_t>);
using Multiply = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view,
                        c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
using MultiplyAndAdd = Tensor(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&,
                              std::string_view);

struct Operators {
    c10::TypedOperatorHandle<Pack> pack;
    c10::TypedOperatorHandle<Multiply> multiply;
    c10::TypedOperatorHandle<MultiplyAndAdd> multiply_and_add;
};

// Null if this libtorch was built without them.
const Operators* operators() {
    static const std::optional<Operators> operators = []() -> std::optional<Operators> {
        auto& known = c10::Dispatcher::singleton();
        auto pack = known.findSchema({"mkldnn::_reorder_linear_weight", ""});
        auto multiply = known.findSchema({"mkldnn::_linear_pointwise", ""});
        auto multiply_and_add = known.findSchema({"mkldnn::_linear_pointwise", "binary"});
        if (!pack || !multiply || !multiply_and_add) return std::nullopt;
        return Operators{pack->typed<Pack>(), multiply->typed<Multiply>(), multiply_and_add->typed<MultiplyAndAdd>()};
    }();
    return operators ? &*operators : nullptr;
}

// Drops the pages that lie entirely within a tensor over a mapped file: they are read again if they are needed.
void release_pages(const Tensor& w) {
    constexpr uintptr_t PAGE = 1 << 16;  // a multiple of every page size
    auto first = reinterpret_cast<uintptr_t>(w.data_ptr());
    uintptr_t begin = (first + PAGE - 1) / PAGE * PAGE, end = (first + w.nbytes()) / PAGE * PAGE;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

// What a matrix that is to be packed carries.
struct Packed : c10::BackendMeta {
    const void* address;
    int64_t rows, columns;
    uint32_t version;
    bool is_mapped;
    std::once_flag forward_once, back_once;
    Tensor forward, back;

    Packed(const Tensor& w, bool is_mapped)
        : address(w.data_ptr()), rows(w.size(0)), columns(w.size(1)), version(w._version()), is_mapped(is_mapped) {}

    bool is_current(const Tensor& w) const {
        bool has_shape = w.dim() == 2 && w.size(0) == rows && w.size(1) == columns && w.is_contiguous();
        return has_shape && w.data_ptr() == address && w._version() == version && !w.requires_grad();
    }

    const Tensor& for_product(const Tensor& w) {
        std::call_once(forward_once, [&] { forward = packed(w, w); });
        return forward;
    }
    const Tensor& for_product_back(const Tensor& w) {
        std::call_once(back_once, [&] { back = packed(w, w.t().contiguous()); });
        return back;
    }

   private:
    Tensor packed(const Tensor& w, const Tensor& x) const {
        Tensor copy = operators()->pack.call(x, TOKENS_OF_LAYOUT);
        if (is_mapped) release_pages(w);
        return copy;
    }
};

// Null if w is not packed.
Packed* find_packed(const Tensor& w) {
    auto* packed = dynamic_cast<Packed*>(w.unsafeGetTensorImpl()->get_backend_meta());
    return packed && packed->is_current(w) ? packed : nullptr;
}

Packed& packed_of(const Tensor& w) {
    Packed* packed = find_packed(w);
    TORCH_CHECK(packed, "expected a packed matrix, found one that is not packed");
    return *packed;
}

Tensor multiplied(const Tensor& x, const Tensor& packed, const std::optional<Tensor>& bias) {
    static const c10::List<std::optional<at::Scalar>> none;
    return operators()->multiply.call(x, packed, bias, "none", none, "");
}

}  // namespace

bool is_packed(const Tensor& w, int64_t tokens) {
    return tokens >= MIN_PACKED_TOKENS && find_packed(w);
}

Tensor packed_product(const Tensor& x, const Tensor& w, const Tensor* bias) {
    Unrecorded here;
    return multiplied(x, packed_of(w).for_product(w), bias ? std::optional(*bias) : std::nullopt);
}

Tensor packed_product_back(const Tensor& dy, const Tensor& w, const Tensor* addend) {
    Unrecorded here;
    const Tensor& packed = packed_of(w).for_product_back(w);
    if (!addend) return multiplied(dy, packed, std::nullopt);
    return operators()->multiply_and_add.call(dy, *addend, packed, std::nullopt, "add");
}

extern "C" {

// Whether this libtorch can pack matrices.
bool lorhai_can_pack() {
    return operators();
}

// Has products with w [out, in] read packed copies from now on. `is_mapped`: w lies in a mapped file, so its pages are
// dropped when a copy was made. Call it before another thread has a handle on w.
char* lorhai_pack(const Tensor* w, bool is_mapped) {
    return guarded(
        [&] { w->unsafeGetTensorImpl()->set_backend_meta(c10::make_intrusive<Packed>(*w, is_mapped)); });
}

bool lorhai_is_packed(const Tensor* w, int64_t tokens) {
    return is_packed(*w, tokens);
}

// The bytes by which both packed copies exceed the matrix in memory; 0 if it is not packed.
uint64_t lorhai_packed_bytes(const Tensor* w) {
    Packed* packed = find_packed(*w);
    return packed ? w->nbytes() * (packed->is_mapped ? 1 : 2) : 0;
}

// Makes both packed copies, if w is packed and they were not made yet.
char* lorhai_make_packed_copies(const Tensor* w) {
    return guarded([&] {
        Unrecorded here;
        if (Packed* packed = find_packed(*w)) {
            packed->for_product(*w);
            packed->for_product_back(*w);
        }
    });
}
}
