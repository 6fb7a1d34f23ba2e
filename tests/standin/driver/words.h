// Functions of CUDA that kernels.cu calls.
#pragma once
#include <cmath>
#include <cstring>

static inline float __int_as_float(int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
static inline float __uint_as_float(unsigned bits) { return __int_as_float(static_cast<int>(bits)); }
static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
