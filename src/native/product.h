// Matrix products: libtorch's, but for small ones in f32 on the CPU, at which a BLAS spends
// more time on preparing than on multiplying.
#pragma once
#include "shim.h"

// Up to so many elements of the second matrix the loops of rows.h are quicker;
// `native::SMALL_PRODUCT` in Rust.
constexpr int64_t SMALL = 1 << 17;

inline Strided strided(const Tensor& x) {
    return {data<float>(x), x.stride(0), x.stride(1)};
}

// out = alpha * a b, or += where `accumulate`. `out` has contiguous rows; a and b may be
// transposed views.
inline void product(Tensor& out, const Tensor& a, const Tensor& b, double alpha = 1.0, bool accumulate = false) {
    bool f32 = out.is_cpu() && out.scalar_type() == at::kFloat && a.scalar_type() == at::kFloat &&
               b.scalar_type() == at::kFloat;
    if (!f32 || b.numel() > SMALL || out.stride(1) != 1) {
        if (accumulate)
            at::addmm_out(out, out, a, b, 1.0, alpha);
        else if (alpha == 1.0)
            at::mm_out(out, a, b);
        else
            at::addmm_out(out, out, a, b, 0.0, alpha);
        return;
    }
    int64_t m = out.size(0), n = out.size(1), k = a.size(1), step = out.stride(0);
    Strided left = strided(a), right = strided(b);
    float* into = data<float>(out);
    at::parallel_for(0, m, std::max<int64_t>(1, (1 << 20) / std::max<int64_t>(1, n * k)), [&](int64_t from, int64_t to) {
        Strided own = {left.x + from * left.row, left.row, left.column};
        rows().product(own, right, into + from * step, step, to - from, n, k, static_cast<float>(alpha), accumulate);
    });
}

// A new matrix.
inline Tensor product(const Tensor& a, const Tensor& b, double alpha = 1.0) {
    Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
    product(out, a, b, alpha);
    return out;
}
