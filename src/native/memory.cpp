// Tensors over memory that Rust owns.
#include "shim.h"

// A tensor over the memory of `x` that keeps its owner alive: calls `drop` with `owner` when the last tensor
// that shares this memory is destroyed.
extern "C" char* lorhai_owned(const Tensor* x, void* owner, void (*drop)(void*), Tensor** out) {
    return guarded([&] {
        auto deleter = [owner, drop](void*) { drop(owner); };
        *out = new Tensor(at::from_blob(x->data_ptr(), x->sizes(), deleter, x->options()));
    });
}
