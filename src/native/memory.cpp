// Tensors over memory of the Rust side.
#include "shim.h"

// A tensor over the memory of `x` that holds on to its owner: `drop` is called with `owner` when the
// last tensor that shares this memory is gone.
extern "C" char* lorhai_owned(const Tensor* x, void* owner, void (*drop)(void*), Tensor** out) {
    return guarded([&] {
        auto done = [owner, drop](void*) { drop(owner); };
        *out = new Tensor(at::from_blob(x->data_ptr(), x->sizes(), done, x->options()));
    });
}
