// Loops over rows in memory, compiled once for each kind of processor (rows_*.cpp) and chosen at the first call.
// They know nothing of tensors and work on pointers.
//
// Everything is computed in f32, whatever the storage. NaN propagates: nothing here is compiled with finite-math
// assumptions.
#pragma once
#include <cstdint>

// bfloat16 as it is stored: the upper half of an f32.
struct Bf16 {
    uint16_t bits;
};

// A dropout mask: a pure function of this key and the key of a token.
struct Drop {
    uint64_t key;
    uint32_t threshold;  // a channel is dropped if its 32 random bits are below it
    float keep;          // 1 / (1 - p), the factor of the other channels
};

// One step of AdamW over a flat range.
struct AdamStep {
    float one_minus_beta1, beta2, one_minus_beta2, eps;
    float decay;        // lr * weight_decay
    float step_size;    // lr / (1 - beta1^t)
    float bias2;        // sqrt(1 - beta2^t)
    float clip;         // the factor that clips the gradient
};

template <typename T>
struct TypedRows {
    // y = w * x / sqrt(mean(x^2) + eps); rstd gets the inverse of the divisor of each row.
    void (*norm)(const T* x, const T* w, T* y, float* rstd, int64_t rows, int64_t width, float eps);
    void (*norm_back)(const T* x, const T* w, const float* rstd, const T* dy, T* dx, int64_t rows, int64_t width);
    // Rotates `heads` of 2 * half channels each; sign -1 rotates back. cos, sin: [tokens, half].
    void (*rotate)(const T* x, const float* cos, const float* sin, T* y, int64_t tokens, int64_t heads, int64_t half,
                   float sign);
    void (*swiglu)(const T* gate, const T* up, T* y, int64_t count);
    void (*swiglu_back)(const T* gate, const T* up, const T* dy, T* dgate, T* dup, int64_t count);
    // loss = logsumexp(logits) - logits[target]; with `grad`, replaces the logits by softmax - onehot.
    void (*cross_entropy)(T* logits, const int64_t* targets, float* losses, int64_t rows, int64_t width, bool grad);
    // y = x * mask, in f32.
    void (*drop)(const T* x, float* y, const int64_t* token_keys, int64_t rows, int64_t width, Drop drop);
    // y += x * mask.
    void (*add_dropped)(T* y, const float* x, const int64_t* token_keys, int64_t rows, int64_t width, Drop drop);
    // y += scale * x.
    void (*add_scaled)(T* y, const float* x, int64_t count, float scale);
    // y[i] = values[code i] * scales[i / block]: two 4-bit codes a byte, the upper first.
    void (*nf4)(const uint8_t* codes, const float* scales, const float* values, T* y, int64_t count, int64_t block);
};

// A matrix seen as x[i * row + j * column].
struct Strided {
    const float* x;
    int64_t row, column;
};

// One document for attention. Queries are [tokens, heads, width], keys and values [tokens,
// kv_heads, width]; a query sees the last `window` tokens, its own included, or all of them if it is 0.
struct AttentionShape {
    int64_t tokens, heads, kv_heads, width, window;
    float scale;
};

struct Rows {
    TypedRows<float> f32;
    TypedRows<Bf16> bf16;
    // `decayed` is 1 if weight decay applies to a value, 0 if not; null if it applies to all.
    void (*adamw)(float* theta, const float* gradient, float* mean, float* square, const float* decayed, int64_t count,
                  AdamStep step);
    // c [m, n] = alpha * a b, or += if `accumulate`; a [m, k], b [k, n]. For products that are too small
    // for a BLAS to be fast.
    void (*product)(Strided a, Strided b, float* c, int64_t c_row, int64_t m, int64_t n, int64_t k, float alpha,
                    bool accumulate);
    // The sum of squares, in f64.
    double (*sum_squares)(const float* x, int64_t count);
    // The query heads that share one head of keys and values; pointers are to the document's first
    // token and the first of these heads. logsumexp is [tokens, heads].
    void (*attend)(const float* q, const float* k, const float* v, float* y, float* logsumexp, AttentionShape shape);
    // Adds to dk and dv.
    void (*attend_back)(const float* q, const float* k, const float* v, const float* y, const float* logsumexp,
                        const float* dy, float* dq, float* dk, float* dv, AttentionShape shape);
};

// The loops for this processor.
const Rows& rows();
