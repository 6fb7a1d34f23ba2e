// Flash attention for documents of different lengths: its arguments are checked as libtorch's checks them, and its
// numbers come from the definition, one query at a time.
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../driver/standin.h"
#include "tensors.h"

namespace {

using OptionalInt = std::optional<int64_t>;

// [tokens, heads, width] in f32.
struct Heads {
    explicit Heads(const Tensor& x) : host(as_host(x).to(at::kFloat).contiguous()) {}
    Heads(const Tensor& like, float value) : host(at::full_like(as_host(like), value, at::kFloat).contiguous()) {}
    float* row(int64_t token, int64_t head) const {
        return host.data_ptr<float>() + (token * host.size(1) + head) * host.size(2);
    }
    Tensor on_device_of(const Tensor& like) const {
        return copied_to_device(host.to(like.scalar_type()), like.get_device());
    }
    Tensor host;
};

void check(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& starts, int64_t longest, double dropout) {
    for (const Tensor* x : {&q, &k, &v}) {
        TORCH_CHECK(x->is_cuda() && x->get_device() == q.get_device(), "flash attention: tensors of another device");
        TORCH_CHECK(x->scalar_type() == q.scalar_type(), "flash attention: query, key and value differ in dtype");
        TORCH_CHECK(x->dim() == 3 && x->stride(-1) == 1, "Input tensor must have contiguous last dimension");
    }
    TORCH_CHECK(q.scalar_type() == at::kHalf || q.scalar_type() == at::kBFloat16,
                "FlashAttention only support fp16 and bf16 data type");
    TORCH_CHECK(q.size(2) <= 256 && q.size(2) % 8 == 0, "flash attention: head size ", q.size(2));
    TORCH_CHECK(k.sizes() == v.sizes() && q.size(1) % k.size(1) == 0, "flash attention: number of heads");
    TORCH_CHECK(starts.is_cuda() && starts.is_contiguous() && starts.scalar_type() == at::kInt,
                "cu_seqlens_q must have dtype int32, contiguous, on the device");
    const int32_t* start = as_host(starts).const_data_ptr<int32_t>();
    const int64_t documents = starts.numel() - 1;
    for (int64_t i = 0; i < documents; ++i)
        TORCH_CHECK(start[i + 1] - start[i] <= longest, "flash attention: a document is longer than max_seqlen");
    TORCH_CHECK(start[0] == 0 && start[documents] == q.size(0), "flash attention: cu_seqlens do not cover the queries");
    TORCH_CHECK(dropout == 0, "the stand-in has no dropout in attention");
}

struct Query {
    int64_t token, head, kv_head;
    // The keys that it sees.
    int64_t first_key, after_last_key;
};

template <typename F>
void for_each_query(const Tensor& q, const Tensor& k, const Tensor& starts, OptionalInt window_left, bool is_causal,
                    F body) {
    const int32_t* start = as_host(starts).const_data_ptr<int32_t>();
    const int64_t left = window_left.value_or(-1), group = q.size(1) / k.size(1);
    for (int64_t document = 0; document + 1 < starts.numel(); ++document)
        for (int64_t token = start[document]; token < start[document + 1]; ++token)
            for (int64_t head = 0; head < q.size(1); ++head) {
                int64_t first = start[document], last = is_causal ? token + 1 : start[document + 1];
                if (left >= 0) first = std::max(first, token - left);
                body(Query{token, head, head / group, first, last});
            }
}

float dot(const float* a, const float* b, int64_t width) {
    float sum = 0;
    for (int64_t i = 0; i < width; ++i) sum += a[i] * b[i];
    return sum;
}

void add(float* to, const float* from, float scale, int64_t width) {
    for (int64_t i = 0; i < width; ++i) to[i] += scale * from[i];
}

float scale_of(const Tensor& q, std::optional<double> scale) {
    return static_cast<float>(scale.value_or(1 / std::sqrt(static_cast<double>(q.size(2)))));
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> forward(
    const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& starts,
    const std::optional<Tensor>&, int64_t longest, int64_t, double dropout, bool is_causal, bool,
    std::optional<double> given_scale, OptionalInt window_left, OptionalInt window_right, const std::optional<Tensor>&,
    const std::optional<Tensor>&) {
    check(q, k, v, *starts, longest, dropout);
    standin_use(q.get_device());
    standin_count(STANDIN_OPERATION, "flash attention");
    const Heads queries(q), keys(k), values(v), y(q, 0.0f);
    const Tensor logarithms = at::empty({q.size(1), q.size(0)}, at::kFloat);
    const float scale = scale_of(q, given_scale);
    const int64_t width = q.size(2);
    std::vector<float> weights;
    for_each_query(q, k, *starts, window_left, is_causal || window_right == 0, [&](Query at) {
        weights.clear();
        float most = -std::numeric_limits<float>::infinity(), sum = 0;
        for (int64_t key = at.first_key; key < at.after_last_key; ++key) {
            weights.push_back(scale * dot(queries.row(at.token, at.head), keys.row(key, at.kv_head), width));
            most = std::max(most, weights.back());
        }
        for (float& weight : weights) sum += weight = std::exp(weight - most);
        for (int64_t key = at.first_key; key < at.after_last_key; ++key)
            add(y.row(at.token, at.head), values.row(key, at.kv_head), weights[key - at.first_key] / sum, width);
        logarithms.data_ptr<float>()[at.head * q.size(0) + at.token] = most + std::log(sum);
    });
    const auto state = q.options().dtype(at::kUInt64);
    return {y.on_device_of(q), copied_to_device(logarithms, q.get_device()), at::empty({2}, state),
            at::empty({}, state), Tensor()};
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& dy, const Tensor& q, const Tensor& k, const Tensor& v,
                                            const Tensor& y, const Tensor& logarithms, const Tensor& starts,
                                            const Tensor&, int64_t longest, int64_t, double dropout, bool is_causal,
                                            const Tensor& state, const Tensor&, std::optional<double> given_scale,
                                            OptionalInt window_left, OptionalInt window_right) {
    check(q, k, v, starts, longest, dropout);
    TORCH_CHECK(dy.sizes() == q.sizes() && y.sizes() == q.sizes() && dy.stride(-1) == 1 && y.stride(-1) == 1,
                "flash attention: shapes of the gradient and the output");
    TORCH_CHECK(logarithms.sizes() == at::IntArrayRef({q.size(1), q.size(0)}) && logarithms.is_cuda(),
                "flash attention: shape of the logarithms");
    TORCH_CHECK(state.defined() && state.is_cuda(), "flash attention: state of the generator");
    standin_use(q.get_device());
    standin_count(STANDIN_OPERATION, "flash attention backward");
    const Heads queries(q), keys(k), values(v), outputs(y), slopes(dy), dq(q, 0.0f), dk(k, 0.0f), dv(v, 0.0f);
    const float* logarithm = as_host(logarithms).const_data_ptr<float>();
    const float scale = scale_of(q, given_scale);
    const int64_t width = q.size(2);
    for_each_query(q, k, starts, window_left, is_causal || window_right == 0, [&](Query at) {
        const float *query = queries.row(at.token, at.head), *slope = slopes.row(at.token, at.head);
        const float mean = dot(slope, outputs.row(at.token, at.head), width);
        for (int64_t key = at.first_key; key < at.after_last_key; ++key) {
            const float* row = keys.row(key, at.kv_head);
            const float weight = std::exp(scale * dot(query, row, width) - logarithm[at.head * q.size(0) + at.token]);
            const float change = weight * (dot(slope, values.row(key, at.kv_head), width) - mean) * scale;
            add(dv.row(key, at.kv_head), slope, weight, width);
            add(dq.row(at.token, at.head), row, change, width);
            add(dk.row(key, at.kv_head), query, change, width);
        }
    });
    return {dq.on_device_of(q), dk.on_device_of(k), dv.on_device_of(v)};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
    library.impl("_flash_attention_forward", &forward);
    library.impl("_flash_attention_backward", &backward);
}
