// Causal attention within documents that lie one after another, without padding them: our own loops for f32 on the
// CPU; on a GPU libtorch's flash attention for variable lengths, which tch does not offer, or cuDNN's if
// LORHAI_CUDNN_ATTENTION is set.
#include <torch/csrc/autograd/custom_function.h>

#include <cstdlib>
#include <string>

#include "gpu.h"

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace {

// Calls `body` for every document and every head of keys and values, with the document's shape
// and the offsets of its first query, key and logarithm for these heads.
template <typename F>
void for_each_head(const Tensor& q, const Tensor& k, const Tensor& starts, int64_t window, F body) {
    int64_t documents = starts.numel() - 1, heads = q.size(1), kv_heads = k.size(1), width = q.size(2);
    const int32_t* start = data<int32_t>(starts);
    float scale = 1.0f / std::sqrt(static_cast<float>(width));
    // The multiplications of documents of equal length, for queries with keys and weights with values.
    int64_t tokens = q.size(0), pairs = tokens / std::max<int64_t>(1, documents) * tokens / 2;
    int64_t work = 2 * pairs * heads * width, tasks = documents * kv_heads;
    int64_t least = machine_is_busy && work < worth_a_thread(1 << 18) ? tasks : 1;
    at::parallel_for(0, tasks, least, [&](int64_t from, int64_t to) {
        for (int64_t at = from; at < to; ++at) {
            int64_t document = at / kv_heads, kv_head = at % kv_heads, first = start[document];
            int64_t head = kv_head * (heads / kv_heads);
            AttentionShape shape = {start[document + 1] - first, heads, kv_heads, width, window, scale};
            body(shape, (first * heads + head) * width, (first * kv_heads + kv_head) * width, first * heads + head);
        }
    });
}

// Zeros like x, f32 on the CPU, made as in `fresh`.
Tensor zeroed_like(const Tensor& x) {
    Tensor zeros = fresh_like(x);
    std::fill_n(data<float>(zeros), zeros.numel(), 0.0f);
    return zeros;
}

// Whether to use cuDNN's attention, which has no windows. Not the default, because it has not been measured where it
// is faster.
bool uses_cudnn(const Tensor& q, int64_t window) {
    static const char* const value = std::getenv("LORHAI_CUDNN_ATTENTION");
    static const bool is_enabled = value && std::string(value) != "0";
    return is_enabled && !q.is_cpu() && window == 0;
}

std::optional<int64_t> left(int64_t window) {
    return window > 0 ? std::optional<int64_t>(window - 1) : std::nullopt;
}
std::optional<int64_t> right(int64_t window) {
    return window > 0 ? std::optional<int64_t>(0) : std::nullopt;
}

// What flash attention computes, and needs of it for the gradient.
struct Flash {
    Tensor y, logsumexp, state, unused;
};

Flash flash(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& starts, int64_t longest, int64_t window) {
    auto [y, logsumexp, state, unused, debug] = at::_flash_attention_forward(
        q, k, v, starts, starts, longest, longest, 0.0, true, false, std::nullopt, left(window), right(window));
    return {y, logsumexp, state, unused};
}

std::tuple<Tensor, Tensor, Tensor> flash_back(const Flash& forward, const Tensor& dy, const Tensor& q, const Tensor& k,
                                              const Tensor& v, const Tensor& starts, int64_t longest, int64_t window) {
    return at::_flash_attention_backward(dy.view(q.sizes()), q, k, v, forward.y.view(q.sizes()), forward.logsumexp, starts,
                                         starts, longest, longest, 0.0, true, forward.state, forward.unused,
                                         std::nullopt, left(window), right(window));
}

struct DocumentAttention : public Function<DocumentAttention> {
    // q [tokens, heads, head_dim], k and v with fewer heads; y [tokens, heads * head_dim]; starts
    // int32 [documents + 1]: the first token of each document, then the number of tokens. A query
    // sees the last `window` tokens, its own included, or all of them if it is 0.
    static Tensor forward(AutogradContext* ctx, const Tensor& q_input, const Tensor& k_input, const Tensor& v_input,
                          const Tensor& starts, int64_t longest, int64_t window) {
        Unrecorded here;
        Tensor q = q_input.contiguous(), k = k_input.contiguous(), v = v_input.contiguous();
        Tensor y, logsumexp, state, unused;
        if (q.is_cpu()) {
            y = fresh({q.size(0), q.size(1) * q.size(2)}, q);
            logsumexp = fresh({q.size(0), q.size(1)}, q);
            for_each_head(q, k, starts, window, [&](AttentionShape shape, int64_t query, int64_t key, int64_t logarithm) {
                rows().attend(data<float>(q) + query, data<float>(k) + key, data<float>(v) + key,
                              data<float>(y) + query, data<float>(logsumexp) + logarithm, shape);
            });
        } else if (uses_cudnn(q, window)) {
            auto result = at::_cudnn_attention_forward(q, k, v, std::nullopt, starts, starts, longest, longest, true,
                                                      0.0, true, false);
            y = std::get<0>(result), logsumexp = std::get<1>(result);
            state = std::get<6>(result), unused = std::get<7>(result);
        } else {
            Flash result = flash(q, k, v, starts, longest, window);
            y = result.y, logsumexp = result.logsumexp, state = result.state, unused = result.unused;
        }
        y = y.is_cpu() ? y : y.flatten(1);
        ctx->save_for_backward({q, k, v, y, logsumexp, starts, state, unused});
        ctx->saved_data["longest"] = longest;
        ctx->saved_data["window"] = window;
        return y;
    }

    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        Unrecorded here;
        variable_list saved = ctx->get_saved_variables();
        Tensor q = saved[0], k = saved[1], v = saved[2], y = saved[3], logsumexp = saved[4], starts = saved[5];
        int64_t longest = ctx->saved_data["longest"].toInt(), window = ctx->saved_data["window"].toInt();
        Tensor dy = gradients[0].contiguous(), dq, dk, dv;
        if (q.is_cpu()) {
            dq = fresh_like(q);
            dk = zeroed_like(k);
            dv = zeroed_like(v);
            for_each_head(q, k, starts, window, [&](AttentionShape shape, int64_t query, int64_t key, int64_t logarithm) {
                rows().attend_back(data<float>(q) + query, data<float>(k) + key, data<float>(v) + key,
                                   data<float>(y) + query, data<float>(logsumexp) + logarithm,
                                   data<float>(dy) + query, data<float>(dq) + query, data<float>(dk) + key,
                                   data<float>(dv) + key, shape);
            });
        } else if (uses_cudnn(q, window)) {
            std::tie(dq, dk, dv) = at::_cudnn_attention_backward(dy.view_as(q), q, k, v, y.view_as(q), logsumexp,
                                                                 saved[6], saved[7], Tensor(), starts, starts, longest,
                                                                 longest, 0.0, true);
        } else {
            std::tie(dq, dk, dv) = flash_back({y, logsumexp, saved[6], saved[7]}, dy, q, k, v, starts, longest, window);
        }
        return {dq, dk, dv, Tensor(), Tensor(), Tensor()};
    }
};

// Rows of queries, keys and values [tokens, (heads + 2 * kv_heads) * head_dim], and their parts.
struct Joint {
    Tensor rows;
    int64_t heads, kv_heads, head_dim;

    // Columns of some heads, [tokens, heads * head_dim].
    Tensor columns(int64_t first, int64_t count) const { return rows.narrow(1, first * head_dim, count * head_dim); }
    Tensor part(int64_t first, int64_t count) const {
        return columns(first, count).view({rows.size(0), count, head_dim});
    }
    Tensor q() const { return part(0, heads); }
    Tensor k() const { return part(heads, kv_heads); }
    Tensor v() const { return part(heads + kv_heads, kv_heads); }
};

// Rotates q and k and copies v, [tokens, width] or [tokens, heads, head_dim] each.
Joint rotated_rows(const Tensor& q_input, const Tensor& k_input, const Tensor& v_input, const Tensor& cos,
                   const Tensor& sin, float sign) {
    Tensor q = in_rows(q_input), k = in_rows(k_input), v = in_rows(v_input);
    int64_t tokens = q.size(0), half = cos.size(1), heads = q.numel() / tokens / half / 2;
    int64_t kv_heads = k.numel() / tokens / half / 2, all = heads + 2 * kv_heads, count = tokens * all * half;
    Joint joint = {fresh({tokens, all * 2 * half}, q), heads, kv_heads, 2 * half};
    launch("rotate_all", By::Elements, q, count, at_data(q), at_data(k), at_data(v), q.stride(0), k.stride(0),
           v.stride(0), at_data(cos), at_data(sin), at_data(joint.rows), count, heads, kv_heads, half, sign);
    return joint;
}

// Rotary embedding and flash attention as one node, so that the gradients of q, k and v lie side by side: the linear
// layers that made them then take one product.
struct RotatedAttention : public Function<RotatedAttention> {
    // q [tokens, heads * head_dim], k and v with fewer heads; cos and sin f32 [tokens, head_dim / 2]; otherwise as
    // DocumentAttention.
    static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cos,
                          const Tensor& sin, const Tensor& starts, int64_t longest, int64_t window) {
        Unrecorded here;
        Joint joint = rotated_rows(q, k, v, cos, sin, 1.0f);
        Flash result = flash(joint.q(), joint.k(), joint.v(), starts, longest, window);
        Tensor y = result.y.flatten(1);
        ctx->save_for_backward({joint.rows, y, result.logsumexp, starts, result.state, result.unused, cos, sin});
        ctx->saved_data["heads"] = joint.heads;
        ctx->saved_data["kv_heads"] = joint.kv_heads;
        ctx->saved_data["longest"] = longest;
        ctx->saved_data["window"] = window;
        return y;
    }

    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        Unrecorded here;
        variable_list saved = ctx->get_saved_variables();
        Tensor starts = saved[3], cos = saved[6], sin = saved[7];
        auto number = [&](const char* name) { return ctx->saved_data[name].toInt(); };
        Joint joint = {saved[0], number("heads"), number("kv_heads"), 2 * cos.size(1)};
        Flash result = {saved[1], saved[2], saved[4], saved[5]};
        auto [dq, dk, dv] = flash_back(result, gradients[0].contiguous(), joint.q(), joint.k(), joint.v(), starts,
                                       number("longest"), number("window"));
        Joint back = rotated_rows(dq, dk, dv, cos, sin, -1.0f);
        variable_list all = {back.columns(0, joint.heads), back.columns(joint.heads, joint.kv_heads),
                             back.columns(joint.heads + joint.kv_heads, joint.kv_heads)};
        all.resize(8);
        return all;
    }
};

}  // namespace

// Whether `lorhai_rotated_attention` serves where flash attention does.
extern "C" bool lorhai_has_rotated_attention(const Tensor* q, int64_t window) {
    return has_kernels(*q) && q->is_cuda() && !uses_cudnn(*q, window);
}

extern "C" char* lorhai_rotated_attention(const Tensor* q, const Tensor* k, const Tensor* v, const Tensor* cos,
                                          const Tensor* sin, const Tensor* starts, int64_t longest, int64_t window,
                                          Tensor** out) {
    return guarded([&] {
        *out = new Tensor(RotatedAttention::apply(*q, *k, *v, *cos, *sin, *starts, longest, window));
    });
}

extern "C" char* lorhai_document_attention(const Tensor* q, const Tensor* k, const Tensor* v, const Tensor* starts,
                                           int64_t longest, int64_t window, Tensor** out) {
    return guarded([&] { *out = new Tensor(DocumentAttention::apply(*q, *k, *v, *starts, longest, window)); });
}
