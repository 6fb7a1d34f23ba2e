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

// A double holds the product exactly, so that it is rounded before anything is added: compilers would fuse the two.
DEVICE float rounded_product(float a, float b) { return (float)((double)a * (double)b); }

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

// y = w * x / sqrt(mean(x^2) + eps), one row per block. With `delta`, x + delta takes the place of x, and is stored in
// `sum`.
KERNEL NAMED(norm)(const ELEMENT* x, const ELEMENT* delta, const ELEMENT* w, ELEMENT* sum, ELEMENT* y, float* rstd,
                   long long rows, long long width, float eps) {
    SHARED float partial[THREADS];
    ROWS(row, rows) {
        const ELEMENT* row_x = x + row * width;
        BLOCK(t) {
            float squares = 0;
            for (long long i = t; i < width; i += THREADS) {
                float value = get(row_x, i);
                if (delta) {
                    value = as_stored(value + get(delta + row * width, i));
                    put(sum + row * width, i, value);
                }
                squares += value * value;
            }
            partial[t] = squares;
        }
        REDUCE(partial, SUM);
        float inverse = 1.0f / sqrtf(partial[0] / (float)width + eps);
        const ELEMENT* normed = delta ? sum + row * width : row_x;
        BLOCK(t) {
            if (t == 0) rstd[row] = inverse;
            for (long long i = t; i < width; i += THREADS)
                put(y + row * width, i, get(w, i) * as_stored(get(normed, i) * inverse));
        }
        SYNC;
    }
}

// With `beside`, adds that gradient of x.
KERNEL NAMED(norm_back)(const ELEMENT* x, const ELEMENT* w, const float* rstd, const ELEMENT* dy, const ELEMENT* beside,
                        ELEMENT* dx, long long rows, long long width) {
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
            for (long long i = t; i < width; i += THREADS) {
                float other = beside ? get(beside + row * width, i) : 0.0f;
                put(dx + row * width, i, get(slope, i) * get(w, i) * inverse - get(row_x, i) * pull + other);
            }
        }
        SYNC;
    }
}

// Rotates two channels of a head of 2 * half channels; sign -1 rotates back.
DEVICE void rotate_pair(const ELEMENT* from, ELEMENT* to, const float* cos, const float* sin, long long i, long long half,
                        float sign) {
    float left = get(from, i), right = get(from, half + i), along = cos[i], turn = sign * sin[i];
    put(to, i, left * along - right * turn);
    put(to, half + i, right * along + left * turn);
}

// Rotates heads; `row` is the distance between the tokens of x.
KERNEL NAMED(rotate)(const ELEMENT* x, const float* cos, const float* sin, ELEMENT* y, long long count, long long row,
                     long long heads, long long half, float sign) {
    EACH(at, count) {
        long long i = at % half, head = at / half % heads, token = at / half / heads;
        rotate_pair(x + token * row + head * 2 * half, y + (token * heads + head) * 2 * half, cos + token * half,
                    sin + token * half, i, half, sign);
    }
}

// Rotates queries and keys, and copies values, into rows that hold all three.
KERNEL NAMED(rotate_all)(const ELEMENT* q, const ELEMENT* k, const ELEMENT* v, long long q_row, long long k_row,
                         long long v_row, const float* cos, const float* sin, ELEMENT* y, long long count,
                         long long heads, long long kv_heads, long long half, float sign) {
    EACH(at, count) {
        long long all = heads + 2 * kv_heads, i = at % half, head = at / half % all, token = at / half / all;
        ELEMENT* to = y + (token * all + head) * 2 * half;
        long long kv_head = head - heads, value_head = kv_head - kv_heads;
        if (value_head >= 0) {
            const ELEMENT* from = v + token * v_row + value_head * 2 * half;
            put(to, i, get(from, i));
            put(to, half + i, get(from, half + i));
            continue;
        }
        const ELEMENT* from = kv_head < 0 ? q + token * q_row + head * 2 * half : k + token * k_row + kv_head * 2 * half;
        rotate_pair(from, to, cos + token * half, sin + token * half, i, half, sign);
    }
}

// y [rows, width]; gate and up may be columns of wider rows.
KERNEL NAMED(swiglu)(const ELEMENT* gate, const ELEMENT* up, long long gate_row, long long up_row, ELEMENT* y,
                     long long count, long long width) {
    EACH(i, count) {
        long long row = i / width, column = i % width;
        float g = get(gate + row * gate_row, column);
        put(y, i, as_stored(g / (1.0f + expf(-g))) * get(up + row * up_row, column));
    }
}

// Writes the gradients of gate and up side by side: [rows, 2 * width].
KERNEL NAMED(swiglu_back)(const ELEMENT* gate, const ELEMENT* up, long long gate_row, long long up_row,
                          const ELEMENT* dy, ELEMENT* dboth, long long count, long long width) {
    EACH(i, count) {
        long long row = i / width, column = i % width;
        float g = get(gate + row * gate_row, column), d = get(dy, i), sigmoid = 1.0f / (1.0f + expf(-g));
        ELEMENT* to = dboth + row * 2 * width;
        put(to, width + column, d * g * sigmoid);
        put(to, column, d * get(up + row * up_row, column) * sigmoid * (1.0f + g * (1.0f - sigmoid)));
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

// Adapters of several token ranges, computed together (batched.cpp). `members` numbers the adapter of each token, -1 if
// it has none; keys [layers][adapters] and thresholds [adapters] are those of dropout. Channels are masked in pairs,
// which share their random bits.

// The bits of the two channels of a pair: bit 0 and 1 say whether they are kept.
DEVICE int kept_pair(long long token_key, long long pair, u64 key, u32 threshold) {
    u64 bits = random_bits(key, (u64)token_key | (u64)pair);
    return ((u32)bits < threshold ? 0 : 1) | ((u32)(bits >> 32) < threshold ? 0 : 2);
}

// A copy of x for each layer, without the channels that dropout zeroes: y [layers, rows, width].
KERNEL NAMED(drop_each)(const ELEMENT* x, ELEMENT* y, const long long* token_keys, const long long* members,
                        const long long* keys, const long long* thresholds, long long rows, long long width,
                        long long layers, long long adapters) {
    long long pairs = (width + 1) / 2;
    EACH(at, rows * pairs) {
        long long row = at / pairs, pair = at % pairs, i = row * width + 2 * pair, member = members[row];
        bool is_odd = 2 * pair + 1 == width;
        float left = get(x, i), right = is_odd ? 0.0f : get(x, i + 1);
        for (long long layer = 0; layer < layers; ++layer) {
            int kept = member < 0 ? 0
                                  : kept_pair(token_keys[row], pair, (u64)keys[layer * adapters + member],
                                              (u32)thresholds[member]);
            ELEMENT* to = y + layer * rows * width;
            put(to, i, kept & 1 ? left : 0.0f);
            if (!is_odd) put(to, i + 1, kept & 2 ? right : 0.0f);
        }
    }
}

// Adds the products of all layers [layers, rows, width], through their masks, to dx [rows, width], and replaces them by
// what drop_each makes of x: the mask is computed once.
KERNEL NAMED(drop_each_back)(const ELEMENT* x, ELEMENT* dx, ELEMENT* products, const long long* token_keys,
                             const long long* members, const long long* keys, const long long* thresholds,
                             long long rows, long long width, long long layers, long long adapters) {
    long long pairs = (width + 1) / 2;
    EACH(at, rows * pairs) {
        long long row = at / pairs, pair = at % pairs, i = row * width + 2 * pair, member = members[row];
        bool is_odd = 2 * pair + 1 == width;
        float left = get(x, i), right = is_odd ? 0.0f : get(x, i + 1), sum_left = 0, sum_right = 0;
        for (long long layer = 0; layer < layers; ++layer) {
            int kept = member < 0 ? 0
                                  : kept_pair(token_keys[row], pair, (u64)keys[layer * adapters + member],
                                              (u32)thresholds[member]);
            ELEMENT* product = products + layer * rows * width;
            if (kept & 1) sum_left += get(product, i);
            put(product, i, kept & 1 ? left : 0.0f);
            if (is_odd) continue;
            if (kept & 2) sum_right += get(product, i + 1);
            put(product, i + 1, kept & 2 ? right : 0.0f);
        }
        put(dx, i, get(dx, i) + sum_left);
        if (!is_odd) put(dx, i + 1, get(dx, i + 1) + sum_right);
    }
}

// s [rows, columns]: each column of a token's own adapter times the column's scale, 0 in the others. Scales are the bits
// of f32. A value that is not finite stays with its adapter.
KERNEL NAMED(keep_own)(ELEMENT* s, const long long* members, const long long* member_of_column,
                       const long long* scale_of_column, long long rows, long long columns) {
    EACH(i, rows * columns) {
        long long column = i % columns;
        bool is_own = members[i / columns] == member_of_column[column];
        put(s, i, is_own ? get(s, i) * __uint_as_float((u32)scale_of_column[column]) : 0.0f);
    }
}

#define PIECES 16  // blocks that share a matrix in gather and scatter; also `PIECES` in batched.cpp

// The matrices of all adapters in one buffer. For each, `matrices` has six numbers: the addresses of its values and of
// its gradient, f32 both; where it begins in the buffer; how many values it has; the length of a row, here and in the
// buffer.
KERNEL NAMED(gather)(const long long* matrices, ELEMENT* packed, long long pieces) {
    ROWS(row, pieces) {
        const long long* matrix = matrices + row / PIECES * 6;
        const float* from = (const float*)matrix[0];
        ELEMENT* to = packed + matrix[2];
        u32 count = (u32)matrix[3], width = (u32)matrix[4];
        BLOCK(t) {
            for (u32 i = (u32)(row % PIECES) * THREADS + t; i < count; i += PIECES * THREADS)
                put(to, i / width * matrix[5] + i % width, from[i]);
        }
    }
}

// Adds a buffer of gradients, laid out like that of gather, to the gradients of the matrices.
KERNEL NAMED(scatter)(const long long* matrices, const ELEMENT* packed, long long pieces) {
    ROWS(row, pieces) {
        const long long* matrix = matrices + row / PIECES * 6;
        float* to = (float*)matrix[1];
        const ELEMENT* from = packed + matrix[2];
        u32 count = (u32)matrix[3], width = (u32)matrix[4];
        BLOCK(t) {
            for (u32 i = (u32)(row % PIECES) * THREADS + t; i < count; i += PIECES * THREADS)
                to[i] += get(from, i / width * matrix[5] + i % width);
        }
    }
}

// A 4-bit matrix of `count` values (nf4.h) made dense. `pairs` has the two values of each byte. Scale i is scales[i], or
// with `map` the nested map[indices[i]] * nested_scales[i / nested_block] + offset.
KERNEL NAMED(nf4)(const unsigned char* codes, const float* scales, const unsigned char* indices, const float* map,
                  const float* nested_scales, const float* pairs, ELEMENT* y, long long count, long long block,
                  long long nested_block, float offset) {
    EACH(at, (count + 1) / 2) {
        for (long long i = 2 * at; i < 2 * at + 2 && i < count; ++i) {
            long long number = i / block;
            float scale = map ? rounded_product(map[indices[number]], nested_scales[number / nested_block]) + offset
                              : scales[number];
            put(y, i, pairs[2 * codes[at] + (i - 2 * at)] * scale);
        }
    }
}
