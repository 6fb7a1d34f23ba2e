// Attention within documents that stand one after another, without laying them side by side:
// libtorch's flash attention for variable lengths, which tch does not offer. NVIDIA GPUs alone.
#include <torch/csrc/autograd/custom_function.h>

#include "gpu.h"

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace {

struct DocumentAttention : public Function<DocumentAttention> {
    // q [tokens, heads, head_dim], k and v with fewer heads; starts int32 [documents + 1]: the
    // first token of each document, then the number of tokens. A query sees the `window` tokens
    // up to itself, or all of them where it is 0.
    static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                          const Tensor& starts, int64_t longest, int64_t window) {
        auto [y, logsumexp, state, unused, debug] = at::_flash_attention_forward(
            q, k, v, starts, starts, longest, longest, 0.0, true, false, std::nullopt, left(window), right(window));
        ctx->save_for_backward({q, k, v, y, logsumexp, state, unused, starts});
        ctx->saved_data["longest"] = longest;
        ctx->saved_data["window"] = window;
        return y;
    }

    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        variable_list saved = ctx->get_saved_variables();
        int64_t longest = ctx->saved_data["longest"].toInt(), window = ctx->saved_data["window"].toInt();
        auto [dq, dk, dv] = at::_flash_attention_backward(
            gradients[0].contiguous(), saved[0], saved[1], saved[2], saved[3], saved[4], saved[7], saved[7], longest,
            longest, 0.0, true, saved[5], saved[6], std::nullopt, left(window), right(window));
        return {dq, dk, dv, Tensor(), Tensor(), Tensor()};
    }

    static std::optional<int64_t> left(int64_t window) {
        return window > 0 ? std::optional<int64_t>(window - 1) : std::nullopt;
    }
    static std::optional<int64_t> right(int64_t window) {
        return window > 0 ? std::optional<int64_t>(0) : std::nullopt;
    }
};

}  // namespace

extern "C" char* lorhai_document_attention(const Tensor* q, const Tensor* k, const Tensor* v, const Tensor* starts,
                                           int64_t longest, int64_t window, Tensor** out) {
    return guarded([&] { *out = new Tensor(DocumentAttention::apply(*q, *k, *v, *starts, longest, window)); });
}
