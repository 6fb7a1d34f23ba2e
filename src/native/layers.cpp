// The small layers of the decoder as single nodes of the autograd graph: RMSNorm, rotary embedding, SwiGLU. Each
// has a hand-written gradient in three versions: loops for f32 and bf16 on the CPU, kernels for both on a GPU, and
// libtorch's operations for the rest. Tests compare all of them with autograd in f64.
#include <torch/csrc/autograd/custom_function.h>

#include "gpu.h"

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace {

// In f32 at least, for sums.
Tensor wide(const Tensor& x) {
    return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

// An argument of a kernel that is left out.
void* none() { return nullptr; }

struct RmsNorm : public Function<RmsNorm> {
    // x [..., times * width], w [width]
    static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& w, double eps) {
        Unrecorded here;
        Tensor x = input.contiguous(), y, rstd;
        int64_t width = w.size(0), count = x.numel() / width;
        if (has_kernels(x)) {
            y = fresh_like(x);
            rstd = fresh({count}, x, at::kFloat);
            launch("norm", By::Rows, x, count, at_data(x), none(), at_data(w), none(), at_data(y), at_data(rstd), count,
                   width, static_cast<float>(eps));
        } else if (has_loops(x)) {
            y = fresh_like(x);
            rstd = fresh({count}, x, at::kFloat);
            with_rows(x, [&](const auto& loops, auto* type) {
                using T = std::remove_pointer_t<decltype(type)>;
                over_rows(count, width, [&](int64_t from, int64_t to) {
                    loops.norm(data<T>(x) + from * width, data<T>(w), data<T>(y) + from * width,
                               data<float>(rstd) + from, to - from, width, static_cast<float>(eps));
                });
            });
        } else {
            Tensor flat = wide(x).reshape({count, width});
            rstd = flat.square().mean(-1).add(eps).rsqrt();
            y = (w * (flat * rstd.unsqueeze(-1)).to(x.scalar_type())).reshape_as(x);
        }
        ctx->save_for_backward({x, w, rstd});
        return y;
    }

    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        Unrecorded here;
        variable_list saved = ctx->get_saved_variables();
        Tensor x = saved[0], w = saved[1], rstd = saved[2], dy = gradients[0].contiguous();
        int64_t width = w.size(0), count = x.numel() / width;
        Tensor dx, dw;
        if (has_kernels(x)) {
            dx = fresh_like(x);
            launch("norm_back", By::Rows, x, count, at_data(x), at_data(w), at_data(rstd), at_data(dy), none(),
                   at_data(dx), count, width);
        } else if (has_loops(x)) {
            dx = fresh_like(x);
            with_rows(x, [&](const auto& loops, auto* type) {
                using T = std::remove_pointer_t<decltype(type)>;
                over_rows(count, width, [&](int64_t from, int64_t to) {
                    loops.norm_back(data<T>(x) + from * width, data<T>(w), data<float>(rstd) + from,
                                    data<T>(dy) + from * width, data<T>(dx) + from * width, to - from, width);
                });
            });
        } else {
            Tensor inverse = rstd.unsqueeze(-1), flat = wide(x).reshape({count, width});
            Tensor slope = wide(dy).reshape({count, width}) * wide(w);
            Tensor along = (slope * flat).sum(-1, true);
            Tensor flat_dx = slope * inverse - flat * (along * inverse.pow(3) / static_cast<double>(width));
            dx = flat_dx.to(x.scalar_type()).reshape_as(x);
        }
        if (ctx->needs_input_grad(1)) {
            Tensor unit = wide(x).reshape({count, width}) * rstd.unsqueeze(-1);
            dw = (wide(dy).reshape({count, width}) * unit).sum(0).to(w.scalar_type());
        }
        return {dx, dw, Tensor()};
    }
};

// The sum of x and delta, and its norm, for tensors with kernels; w is frozen.
struct AddRmsNorm : public Function<AddRmsNorm> {
    static variable_list forward(AutogradContext* ctx, const Tensor& x_input, const Tensor& delta_input, const Tensor& w,
                                 double eps) {
        Unrecorded here;
        Tensor x = x_input.contiguous(), delta = delta_input.contiguous(), sum = fresh_like(x), y = fresh_like(x);
        int64_t width = w.size(0), count = x.numel() / width;
        Tensor rstd = fresh({count}, x, at::kFloat);
        launch("norm", By::Rows, x, count, at_data(x), at_data(delta), at_data(w), at_data(sum), at_data(y),
               at_data(rstd), count, width, static_cast<float>(eps));
        ctx->save_for_backward({sum, w, rstd});
        // The last sum of a decoder is not used.
        ctx->set_materialize_grads(false);
        return {sum, y};
    }

    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        Unrecorded here;
        variable_list saved = ctx->get_saved_variables();
        Tensor sum = saved[0], w = saved[1], rstd = saved[2], dsum = gradients[0], dy = gradients[1];
        if (!dy.defined()) return {dsum, dsum, Tensor(), Tensor()};
        if (dsum.defined()) dsum = dsum.contiguous();
        dy = dy.contiguous();
        Tensor dx = fresh_like(sum);
        int64_t width = w.size(0), count = sum.numel() / width;
        launch("norm_back", By::Rows, sum, count, at_data(sum), at_data(w), at_data(rstd), at_data(dy),
               dsum.defined() ? at_data(dsum) : none(), at_data(dx), count, width);
        return {dx, dx, Tensor(), Tensor()};
    }
};

// Maps every head [left, right] to [left * cos - right * sin, right * cos + left * sin]; sign -1 rotates back. x is [tokens, heads * head_dim] or [tokens, heads, head_dim], the result of shape `sizes`.
Tensor rotated(const Tensor& x, const Tensor& cos, const Tensor& sin, float sign, at::IntArrayRef sizes) {
    int64_t half = cos.size(1), tokens = cos.size(0), heads = x.numel() / std::max<int64_t>(1, tokens * 2 * half);
    if (has_kernels(x) || has_loops(x)) {
        Tensor from = has_kernels(x) ? in_rows(x) : x.contiguous(), y = fresh(sizes, x);
        int64_t width = heads * 2 * half;
        if (has_kernels(x)) {
            int64_t count = tokens * heads * half, row = from.stride(0);
            launch("rotate", By::Elements, x, count, at_data(from), at_data(cos), at_data(sin), at_data(y), count, row,
                   heads, half, sign);
            return y;
        }
        with_rows(x, [&](const auto& loops, auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            over_rows(tokens, width, [&](int64_t first, int64_t last) {
                loops.rotate(data<T>(from) + first * width, data<float>(cos) + first * half,
                             data<float>(sin) + first * half, data<T>(y) + first * width, last - first, heads, half,
                             sign);
            });
        });
        return y;
    }
    Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1) * sign, by_head = x.reshape({tokens, heads, 2 * half});
    Tensor left = by_head.narrow(2, 0, half), right = by_head.narrow(2, half, half);
    return at::cat({left * c - right * s, right * c + left * s}, 2).to(x.scalar_type()).reshape(sizes);
}

struct Rotate : public Function<Rotate> {
    // x [tokens, heads * head_dim], cos and sin [tokens, head_dim / 2]; y [tokens, heads, head_dim]
    static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& cos, const Tensor& sin) {
        Unrecorded here;
        ctx->save_for_backward({cos, sin});
        int64_t head_dim = 2 * cos.size(1);
        return rotated(x, cos, sin, 1.0f, {x.size(0), x.size(1) / head_dim, head_dim});
    }
    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        Unrecorded here;
        variable_list saved = ctx->get_saved_variables();
        const Tensor& dy = gradients[0];
        return {rotated(dy, saved[0], saved[1], -1.0f, {dy.size(0), dy.size(1) * dy.size(2)}), Tensor(), Tensor()};
    }
};

struct SwiGlu : public Function<SwiGlu> {
    static Tensor forward(AutogradContext* ctx, const Tensor& gate_input, const Tensor& up_input) {
        Unrecorded here;
        if (has_kernels(gate_input)) {
            Tensor gate = in_rows(gate_input), up = in_rows(up_input), y = fresh_like(gate);
            ctx->save_for_backward({gate, up});
            launch("swiglu", By::Elements, gate, gate.numel(), at_data(gate), at_data(up), row_of(gate), row_of(up),
                   at_data(y), gate.numel(), gate.size(-1));
            return y;
        }
        Tensor gate = gate_input.contiguous(), up = up_input.contiguous();
        ctx->save_for_backward({gate, up});
        if (!has_loops(gate)) return at::silu(gate) * up;
        Tensor y = fresh_like(gate);
        with_rows(gate, [&](const auto& loops, auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            at::parallel_for(0, gate.numel(), grain(), [&](int64_t from, int64_t to) {
                loops.swiglu(data<T>(gate) + from, data<T>(up) + from, data<T>(y) + from, to - from);
            });
        });
        return y;
    }
    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        Unrecorded here;
        variable_list saved = ctx->get_saved_variables();
        Tensor gate = saved[0], up = saved[1], dy = gradients[0].contiguous();
        if (!has_kernels(gate) && !has_loops(gate)) {
            Tensor sigmoid = at::sigmoid(gate);
            return {dy * up * sigmoid * (1 + gate * (1 - sigmoid)), dy * gate * sigmoid};
        }
        if (has_kernels(gate)) {
            int64_t width = gate.size(-1);
            Tensor both = fresh({gate.numel() / width, 2 * width}, gate);
            launch("swiglu_back", By::Elements, gate, gate.numel(), at_data(gate), at_data(up), row_of(gate),
                   row_of(up), at_data(dy), at_data(both), gate.numel(), width);
            return {both.narrow(1, 0, width).reshape(gate.sizes()), both.narrow(1, width, width).reshape(gate.sizes())};
        }
        Tensor dgate = fresh_like(gate), dup = fresh_like(up);
        with_rows(gate, [&](const auto& loops, auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            at::parallel_for(0, gate.numel(), grain(), [&](int64_t from, int64_t to) {
                loops.swiglu_back(data<T>(gate) + from, data<T>(up) + from, data<T>(dy) + from, data<T>(dgate) + from,
                                  data<T>(dup) + from, to - from);
            });
        });
        return {dgate, dup};
    }
};

// The rows `index` of x. `inverse` is the index of each row of x in the result; every row is in the result.
struct TakeRows : public Function<TakeRows> {
    static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& index, const Tensor& inverse) {
        Unrecorded here;
        ctx->save_for_backward({inverse});
        return x.index_select(0, index);
    }
    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        Unrecorded here;
        return {gradients[0].index_select(0, ctx->get_saved_variables()[0]), Tensor(), Tensor()};
    }
};

// The rows `index` of x, which has every row of x. The gradient of a row is the sum of those of its copies, in their
// order.
struct RepeatRows : public Function<RepeatRows> {
    static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& index) {
        Unrecorded here;
        ctx->save_for_backward({index});
        ctx->saved_data["rows"] = x.size(0);
        return x.index_select(0, index);
    }
    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        Unrecorded here;
        Tensor index = ctx->get_saved_variables()[0], dy = gradients[0].contiguous();
        std::vector<int64_t> sizes = dy.sizes().vec();
        sizes[0] = ctx->saved_data["rows"].toInt();
        if (!is_f32(dy)) {
            Tensor dx = at::zeros(sizes, dy.options().dtype(dy.scalar_type() == at::kDouble ? at::kDouble : at::kFloat));
            return {dx.index_add_(0, index, dy.to(dx.scalar_type())).to(dy.scalar_type()), Tensor()};
        }
        Tensor dx = fresh(sizes, dy);
        std::fill_n(data<float>(dx), dx.numel(), 0.0f);
        int64_t width = dy.size(0) > 0 ? dy.numel() / dy.size(0) : 0;
        const int64_t* row = data<int64_t>(index);
        const float* from = data<float>(dy);
        for (int64_t at = 0; at < dy.size(0); ++at, from += width) {
            float* into = data<float>(dx) + row[at] * width;
            for (int64_t channel = 0; channel < width; ++channel) into[channel] += from[channel];
        }
        return {dx, Tensor()};
    }
};

}  // namespace

extern "C" {

char* lorhai_rms_norm(const Tensor* x, const Tensor* w, double eps, Tensor** out) {
    return guarded([&] { *out = new Tensor(RmsNorm::apply(*x, *w, eps)); });
}

// `out` has two elements: the sum and its norm.
char* lorhai_add_rms_norm(const Tensor* x, const Tensor* delta, const Tensor* w, double eps, Tensor** out) {
    return guarded([&] {
        for (const Tensor& y : AddRmsNorm::apply(*x, *delta, *w, eps)) *out++ = new Tensor(y);
    });
}

char* lorhai_rotate(const Tensor* x, const Tensor* cos, const Tensor* sin, Tensor** out) {
    return guarded([&] { *out = new Tensor(Rotate::apply(*x, *cos, *sin)); });
}

char* lorhai_swiglu(const Tensor* gate, const Tensor* up, Tensor** out) {
    return guarded([&] { *out = new Tensor(SwiGlu::apply(*gate, *up)); });
}

char* lorhai_repeat_rows(const Tensor* x, const Tensor* index, Tensor** out) {
    return guarded([&] { *out = new Tensor(RepeatRows::apply(*x, *index)); });
}

char* lorhai_take_rows(const Tensor* x, const Tensor* index, const Tensor* inverse, Tensor** out) {
    return guarded([&] { *out = new Tensor(TakeRows::apply(*x, *index, *inverse)); });
}
}
