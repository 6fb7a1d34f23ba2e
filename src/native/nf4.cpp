// NF4: quantises a matrix to codes and scales, and dequantises it. Equal to bitsandbytes bit for bit. Nested
// scales are made in Rust.
#include "nf4.h"

#include "gpu.h"

namespace {

// The 16 values of NF4: quantiles of the normal distribution, as bitsandbytes rounds them.
constexpr float NF4_VALUES[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

// The lower bound of a scale before its inverse is taken.
constexpr float MIN_SCALE = 1e-38f;

struct Bounds {
    float upper[15];
    Bounds() {
        for (int i = 0; i < 15; ++i) upper[i] = (NF4_VALUES[i] + NF4_VALUES[i + 1]) / 2;
    }
};

// The code of the value nearest to x; of two equally near, the lower.
inline uint8_t code_of(float x, const Bounds& bounds) {
    int code = 0;
    for (int i = 0; i < 15; ++i) code += x > bounds.upper[i];
    return static_cast<uint8_t>(code);
}

// Quantises the block x[0..count]: writes codes, one a byte, and returns the scale.
template <typename T, typename Read>
float quantize_block(const T* x, int64_t count, bool whole, const Bounds& bounds, uint8_t* codes, Read read) {
    float scale = 0;
    bool finite = true;
    for (int64_t i = 0; i < count; ++i) {
        float size = std::fabs(read(x[i]));
        finite = finite && std::isfinite(size);
        scale = std::max(scale, size);
    }
    if (!finite) return std::numeric_limits<float>::quiet_NaN();
    // In a partial block at the end of the matrix values are divided instead, as in bitsandbytes.
    float floored = std::max(scale, MIN_SCALE), inverse = 1.0f / floored;
    for (int64_t i = 0; i < count; ++i) {
        float value = whole ? read(x[i]) * inverse : read(x[i]) / floored;
        codes[i] = code_of(std::min(1.0f, std::max(-1.0f, value)), bounds);
    }
    return whole ? scale : floored;
}

template <typename T, typename Read>
void quantize(const T* x, int64_t count, int64_t block, uint8_t* codes, float* scales, Read read) {
    static const Bounds bounds;
    int64_t blocks = (count + block - 1) / block;
    at::parallel_for(0, blocks, std::max<int64_t>(1, grain() / block), [&](int64_t first, int64_t last) {
        std::vector<uint8_t> single(block + 1);
        for (int64_t number = first; number < last; ++number) {
            int64_t begin = number * block, length = std::min(block, count - begin);
            // After an odd number of values, the last half byte is the code of zero.
            single[length] = 7;
            scales[number] = quantize_block(x + begin, length, length == block, bounds, single.data(), read);
            for (int64_t i = 0; i < length; i += 2)
                codes[(begin + i) / 2] = static_cast<uint8_t>(single[i] << 4 | single[i + 1]);
        }
    });
}

// Memory for one dense matrix per thread and dtype. The matrix is needed for one product only, and new pages
// would cost about as much as filling them.
Tensor scratch(int64_t rows, int64_t columns, at::ScalarType dtype) {
    thread_local Tensor f32, bf16;
    Tensor& buffer = dtype == at::kFloat ? f32 : bf16;
    int64_t count = rows * columns;
    if (!buffer.defined() || buffer.numel() < count) {
        buffer = Tensor();
        buffer = at::empty({count}, at::TensorOptions().dtype(dtype));
    }
    return buffer.narrow(0, 0, count).view({rows, columns});
}

// One value for each element of a block: [count] from [blocks].
Tensor spread(const Tensor& scales, int64_t block, int64_t count) {
    return scales.repeat_interleave(block).narrow(0, 0, count);
}

}  // namespace

Nf4::Nf4(const RawNf4& raw)
    : codes(*raw.codes), scales(*raw.scales), map(raw.map ? *raw.map : Tensor()),
      nested_scales(raw.nested_scales ? *raw.nested_scales : Tensor()), pairs(*raw.pairs), offset(raw.offset),
      block(raw.block), nested_block(raw.nested_block), rows(raw.rows), columns(raw.columns) {}

void Nf4::dense_into(const Tensor& out) const {
    int64_t count = rows * columns;
    if (has_kernels(out)) {
        bool is_nested = map.defined();
        launch("nf4", By::Elements, out, (count + 1) / 2, at_data(codes), is_nested ? nullptr : at_data(scales),
               is_nested ? at_data(scales) : nullptr, is_nested ? at_data(map) : nullptr,
               is_nested ? at_data(nested_scales) : nullptr, at_data(pairs), at_data(out), count, block, nested_block,
               static_cast<float>(offset));
        return;
    }
    Tensor flat_scales = scales;
    if (map.defined()) {
        // Two operations, because a fused one would round only once.
        flat_scales = map.index_select(0, scales.to(at::kInt)).mul_(spread(nested_scales, nested_block, scales.numel()));
        flat_scales.add_(offset);
    }
    if (has_loops(out)) {
        int64_t blocks = flat_scales.numel();
        with_rows(out, [&](const auto& loops, auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            at::parallel_for(0, blocks, std::max<int64_t>(1, grain() / block), [&](int64_t first, int64_t last) {
                int64_t begin = first * block, end = std::min(last * block, count);
                loops.nf4(data<uint8_t>(codes) + begin / 2, data<float>(flat_scales) + first, NF4_VALUES,
                          data<T>(out) + begin, end - begin, block);
            });
        });
        return;
    }
    Tensor values = pairs.index_select(0, codes.view({-1}).to(at::kInt)).view({-1}).narrow(0, 0, count);
    if (count % block == 0)
        values = values.view({-1, block}).mul_(flat_scales.unsqueeze(1));
    else
        values = values.mul(spread(flat_scales, block, count));
    out.copy_(values.view({rows, columns}));
}

Tensor Nf4::dense(at::ScalarType dtype) const {
    bool loops = codes.is_cpu() && (dtype == at::kFloat || dtype == at::kBFloat16);
    Tensor out = loops ? scratch(rows, columns, dtype) : at::empty({rows, columns}, codes.options().dtype(dtype));
    dense_into(out);
    return out;
}

// x: f32 or bf16, contiguous, on the CPU; codes uint8 and scales f32 of the right lengths. The
// scale of a block with a value that is not finite becomes NaN.
extern "C" char* lorhai_nf4_quantize(const Tensor* x, int64_t block, const Tensor* codes, const Tensor* scales) {
    return guarded([&] {
        TORCH_CHECK(has_loops(*x) && x->is_contiguous(), "expected a contiguous f32 or bf16 matrix on the CPU");
        auto* to = data<uint8_t>(*codes);
        auto* into = data<float>(*scales);
        if (x->scalar_type() == at::kFloat)
            quantize(data<float>(*x), x->numel(), block, to, into, [](float value) { return value; });
        else
            quantize(data<at::BFloat16>(*x), x->numel(), block, to, into,
                     [](at::BFloat16 value) { return static_cast<float>(value); });
    });
}

extern "C" char* lorhai_nf4_dense(const RawNf4* raw, const Tensor* out) {
    return guarded([&] { Nf4(*raw).dense_into(*out); });
}

extern "C" char* lorhai_nf4_pairs(Tensor** out) {
    return guarded([&] {
        Tensor pairs = at::empty({256, 2}, at::kFloat);
        for (int byte = 0; byte < 256; ++byte) {
            data<float>(pairs)[2 * byte] = NF4_VALUES[byte >> 4];
            data<float>(pairs)[2 * byte + 1] = NF4_VALUES[byte & 15];
        }
        *out = new Tensor(pairs);
    });
}
