// The kernels for NVIDIA GPUs, compiled on first use (gpu.rs), for tensors of f32 and of bf16. They compute what
// rows.inc computes, in f32 whatever the storage.
//
// The same source is also compiled for the host (kernels_host.cpp), where it runs as loops, so that its arithmetic
// and arguments are tested on machines without a GPU. The macros make this possible: EACH iterates over elements,
// one per thread; ROWS over rows, one per block, within which each BLOCK runs on all threads and SYNC separates
// them.
//
// ELEMENT names the type of elements; NAMED(name) adds it to a kernel's name.

#ifdef __CUDACC_RTC__
#define KERNEL extern "C" __global__ void
#define DEVICE __device__ inline
#define EACH(i, count) \
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < count; i += (long long)gridDim.x * blockDim.x)
#define ROWS(row, rows) for (long long row = blockIdx.x; row < rows; row += gridDim.x)
#define BLOCK(t) for (int t = threadIdx.x, once = 1; once; once = 0)
#define SYNC __syncthreads()
#define SHARED __shared__
#define INFINITE __int_as_float(0x7f800000)
typedef unsigned int u32;
typedef unsigned long long u64;
#endif

#define THREADS 256  // of a block; also `THREADS` in gpu.rs

struct bf16 {
    unsigned short bits;
};

DEVICE float get(const float* p, long long i) { return p[i]; }
DEVICE float get(const bf16* p, long long i) { return __uint_as_float((u32)p[i].bits << 16); }
DEVICE void put(float* p, long long i, float value) { p[i] = value; }
// Rounds to nearest, ties to even; NaN stays NaN.
DEVICE void put(bf16* p, long long i, float value) {
    u32 bits = __float_as_uint(value);
    u32 rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    p[i].bits = (unsigned short)(value == value ? rounded : 0x7fc0);
}
DEVICE float as_stored(float value) {
    ELEMENT stored;
    put(&stored, 0, value);
    return get(&stored, 0);
}

// SplitMix64's finaliser over key + counter * golden ratio: as in random.rs.
DEVICE u64 random_bits(u64 key, u64 counter) {
    u64 z = key + counter * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// The dropout factor of a channel: 0 or `keep`.
DEVICE float mask_of(long long token_key, long long channel, u64 key, u32 threshold, float keep) {
    u64 bits = random_bits(key, (u64)token_key | (u64)(channel / 2));
    return (u32)(channel % 2 ? bits >> 32 : bits) < threshold ? 0.0f : keep;
}

// Reduces `partial`, one number per thread, into partial[0]; `of` combines two numbers.
#define REDUCE(partial, of)                                            \
    for (int half = THREADS / 2; half > 0; half /= 2) {                \
        SYNC;                                                          \
        BLOCK(t) if (t < half) partial[t] = of(partial[t], partial[t + half]); \
    }                                                                  \
    SYNC
#define SUM(a, b) ((a) + (b))
#define MOST(a, b) ((a) > (b) ? (a) : (b))

// y = w * x / sqrt(mean(x^2) + eps), one row per block.
KERNEL NAMED(norm)(const ELEMENT* x, const ELEMENT* w, ELEMENT* y, float* rstd, long long rows, long long width,
                   float eps) {
    SHARED float partial[THREADS];
    ROWS(row, rows) {
        const ELEMENT* row_x = x + row * width;
        BLOCK(t) {
            float sum = 0;
            for (long long i = t; i < width; i += THREADS) sum += get(row_x, i) * get(row_x, i);
            partial[t] = sum;
        }
        REDUCE(partial, SUM);
        float inverse = 1.0f / sqrtf(partial[0] / (float)width + eps);
        BLOCK(t) {
            if (t == 0) rstd[row] = inverse;
            for (long long i = t; i < width; i += THREADS)
                put(y + row * width, i, get(w, i) * as_stored(get(row_x, i) * inverse));
        }
        SYNC;
    }
}

KERNEL NAMED(norm_back)(const ELEMENT* x, const ELEMENT* w, const float* rstd, const ELEMENT* dy, ELEMENT* dx,
                        long long rows, long long width) {
    SHARED float partial[THREADS];
    ROWS(row, rows) {
        const ELEMENT *row_x = x + row * width, *slope = dy + row * width;
        BLOCK(t) {
            float sum = 0;
            for (long long i = t; i < width; i += THREADS) sum += get(slope, i) * get(w, i) * get(row_x, i);
            partial[t] = sum;
        }
        REDUCE(partial, SUM);
        float inverse = rstd[row], pull = partial[0] * inverse * inverse * inverse / (float)width;
        BLOCK(t) {
            for (long long i = t; i < width; i += THREADS)
                put(dx + row * width, i, get(slope, i) * get(w, i) * inverse - get(row_x, i) * pull);
        }
        SYNC;
    }
}

// Rotates heads of 2 * half channels; sign -1 rotates back.
KERNEL NAMED(rotate)(const ELEMENT* x, const float* cos, const float* sin, ELEMENT* y, long long count,
                     long long heads, long long half, float sign) {
    EACH(at, count) {
        long long i = at % half, head = at / half % heads, token = at / half / heads;
        const ELEMENT* from = x + (token * heads + head) * 2 * half;
        ELEMENT* to = y + (token * heads + head) * 2 * half;
        float left = get(from, i), right = get(from, half + i);
        float along = cos[token * half + i], turn = sign * sin[token * half + i];
        put(to, i, left * along - right * turn);
        put(to, half + i, right * along + left * turn);
    }
}

KERNEL NAMED(swiglu)(const ELEMENT* gate, const ELEMENT* up, ELEMENT* y, long long count) {
    EACH(i, count) {
        float g = get(gate, i);
        put(y, i, as_stored(g / (1.0f + expf(-g))) * get(up, i));
    }
}

KERNEL NAMED(swiglu_back)(const ELEMENT* gate, const ELEMENT* up, const ELEMENT* dy, ELEMENT* dgate, ELEMENT* dup,
                          long long count) {
    EACH(i, count) {
        float g = get(gate, i), d = get(dy, i), sigmoid = 1.0f / (1.0f + expf(-g));
        put(dup, i, d * g * sigmoid);
        put(dgate, i, d * get(up, i) * sigmoid * (1.0f + g * (1.0f - sigmoid)));
    }
}

// loss = logsumexp(logits) - logits[target]; with `grad`, replaces the logits by softmax - onehot.
KERNEL NAMED(cross_entropy)(ELEMENT* logits, const long long* targets, float* losses, long long rows, long long width,
                            int grad) {
    SHARED float partial[THREADS];
    ROWS(row, rows) {
        ELEMENT* row_logits = logits + row * width;
        BLOCK(t) {
            float top = -INFINITE;
            for (long long i = t; i < width; i += THREADS) top = MOST(get(row_logits, i), top);
            partial[t] = top;
        }
        REDUCE(partial, MOST);
        float top = partial[0];
        SYNC;
        BLOCK(t) {
            float sum = 0;
            for (long long i = t; i < width; i += THREADS) sum += expf(get(row_logits, i) - top);
            partial[t] = sum;
        }
        REDUCE(partial, SUM);
        float sum = partial[0], expected = get(row_logits, targets[row]);
        SYNC;
        BLOCK(t) {
            if (t == 0) losses[row] = logf(sum) + top - expected;
            for (long long i = t; grad && i < width; i += THREADS)
                put(row_logits, i, expf(get(row_logits, i) - top) / sum - (i == targets[row] ? 1.0f : 0.0f));
        }
        SYNC;
    }
}

// y = x * mask, in f32.
KERNEL NAMED(drop)(const ELEMENT* x, float* y, const long long* token_keys, long long count, long long width, u64 key,
                   u32 threshold, float keep) {
    EACH(i, count) y[i] = get(x, i) * mask_of(token_keys[i / width], i % width, key, threshold, keep);
}

// y += x * mask.
KERNEL NAMED(add_dropped)(ELEMENT* y, const float* x, const long long* token_keys, long long count, long long width,
                          u64 key, u32 threshold, float keep) {
    EACH(i, count) put(y, i, get(y, i) + x[i] * mask_of(token_keys[i / width], i % width, key, threshold, keep));
}

// y += scale * x.
KERNEL NAMED(add_scaled)(ELEMENT* y, const float* x, long long count, float scale) {
    EACH(i, count) put(y, i, get(y, i) + scale * x[i]);
}

// One AdamW step, in torch's order of operations; `decayed` is 1 if weight decay applies to a value, 0 if not; null if
// it applies to all. For f32 only, though compiled for both dtypes.
KERNEL NAMED(adamw)(float* theta, const float* gradient, float* mean, float* square, const float* decayed,
                    long long count, float one_minus_beta1, float beta2, float one_minus_beta2, float eps, float decay,
                    float step_size, float bias2, float clip) {
    EACH(i, count) {
        float g = gradient[i] * clip, decays = decayed ? decayed[i] : 1.0f;
        float m = mean[i] + (g - mean[i]) * one_minus_beta1;
        float v = square[i] * beta2 + g * g * one_minus_beta2;
        mean[i] = m;
        square[i] = v;
        theta[i] = theta[i] * (1.0f - decay * decays) - step_size * (m / (sqrtf(v) / bias2 + eps));
    }
}
