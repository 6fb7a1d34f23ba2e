// Matrix products: libtorch's, except for small ones in f32 on the CPU, in which a BLAS spends more time on
// preparation than on multiplication.
#pragma once
#include "shim.h"

// Up to this many elements of the second matrix, the loops of rows.h are faster; `native::SMALL_PRODUCT` in Rust.
constexpr int64_t SMALL = 1 << 17;

// The number of multiplications that is worth another thread.
inline int64_t multiplications_of_a_thread() {
    return worth_a_thread(1 << 18);
}

// A matrix or some of its rows, possibly transposed. Makes a tensor only if libtorch is to multiply it, because
// making tensors takes longer than a small product.
struct View {
    const Tensor& x;
    int64_t begin, count;  // rows of x
    bool transposed = false;

    View(const Tensor& x) : x(x), begin(0), count(x.size(0)) {}
    View(const Tensor& x, int64_t begin, int64_t count) : x(x), begin(begin), count(count) {}

    View t() const {
        View other = *this;
        other.transposed = !transposed;
        return other;
    }

    int64_t rows() const { return transposed ? x.size(1) : count; }
    int64_t columns() const { return transposed ? count : x.size(1); }

    Tensor tensor() const {
        Tensor rows = x.narrow(0, begin, count);
        return transposed ? rows.t() : rows;
    }

    Strided strided() const {
        int64_t row = x.stride(0), column = x.stride(1);
        const float* first = data<float>(x) + begin * row;
        return transposed ? Strided{first, column, row} : Strided{first, row, column};
    }
};

inline View transposed(const Tensor& x) {
    return View(x).t();
}

// out = alpha * a b, or += if `accumulate`; `out` has contiguous rows.
inline void product(View out, View a, View b, double alpha = 1.0, bool accumulate = false) {
    bool f32 = is_f32(out.x) && is_f32(a.x) && is_f32(b.x);
    int64_t m = out.rows(), n = out.columns(), k = a.columns();
    if (!f32 || k * n > SMALL) {
        Tensor into = out.tensor();
        if (accumulate)
            at::addmm_out(into, into, a.tensor(), b.tensor(), 1.0, alpha);
        else if (alpha == 1.0)
            at::mm_out(into, a.tensor(), b.tensor());
        else
            at::addmm_out(into, into, a.tensor(), b.tensor(), 0.0, alpha);
        return;
    }
    Strided left = a.strided(), right = b.strided();
    float* into = data<float>(out.x) + out.begin * out.x.stride(0);
    int64_t step = out.x.stride(0);
    int64_t least = std::max<int64_t>(1, multiplications_of_a_thread() / std::max<int64_t>(1, n * k));
    at::parallel_for(0, m, least, [&](int64_t from, int64_t to) {
        Strided rows_of_left = {left.x + from * left.row, left.row, left.column};
        rows().product(rows_of_left, right, into + from * step, step, to - from, n, k, static_cast<float>(alpha), accumulate);
    });
}

// A new matrix.
inline Tensor product(View a, View b, double alpha = 1.0) {
    Tensor out = fresh({a.rows(), b.columns()}, a.x);
    product(out, a, b, alpha);
    return out;
}
