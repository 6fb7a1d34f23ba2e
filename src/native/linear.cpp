// A frozen linear layer with the adapters of several token ranges folded into it.
//
//   y = x W' + b, and on the tokens of each adapter  y += s * drop(x) A' B'
//
// One node of the autograd graph. Backward makes no gradient of W unless asked for one, and
// adds those of A and B straight into the buffers that the optimizer reads. A W of 4 bits is
// made dense for the product and forgotten, once in forward and once in backward.
#include <torch/csrc/autograd/custom_function.h>

#include "gpu.h"
#include "nf4.h"
#include "product.h"

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// One adapter on the tokens from `begin` to `end`; as `native::Segment` in Rust.
struct Segment {
    const Tensor *a, *b;            // [r, in], [out, r]
    const Tensor *grad_a, *grad_b;  // gradients are added to them; null where A and B are frozen
    int64_t begin, end;
    double scale;
    double share;  // of channels dropped; 0 for none
    uint64_t key;
};

namespace {

Drop drop_of(uint64_t key, double share) {
    return {key, static_cast<uint32_t>(share * 4294967295.0), static_cast<float>(1.0 / (1.0 - share))};
}

struct Part {
    Tensor grad_a, grad_b;
    int64_t begin, end;
    double scale, share;
    uint64_t key;

    Drop drop() const { return drop_of(key, share); }
};

// Travels from forward to backward; the matrices are there for forward alone.
struct Parts : torch::CustomClassHolder {
    std::vector<Part> parts;
    std::vector<Tensor> matrices;  // A, B, A, B, …
    Tensor places;  // int64 [tokens] on the device of x: row << 40 | column << 20
    std::optional<Nf4> nf4;  // W, where it is of 4 bits; `w` then holds its codes

    Tensor dense(const Tensor& w, const Tensor& beside) const {
        return nf4 ? nf4->dense(beside.scalar_type()) : w;
    }
};

// The mask [tokens, width] of the tokens at `places`, made on the host, so that it is the same on
// every device.
Tensor mask_of(const Tensor& places, int64_t width, Drop drop) {
    Tensor where = places.cpu();
    Tensor ones = at::ones({where.size(0), width}, at::kFloat), mask = at::empty_like(ones);
    rows().f32.drop(data<float>(ones), data<float>(mask), data<int64_t>(where), where.size(0), width, drop);
    return mask;
}

// The tokens of a part in the adapter's dtype, with dropout.
Tensor adapter_input(const Tensor& x, const Tensor& a, const Part& part, const Tensor& places) {
    Tensor own = x.narrow(0, part.begin, part.end - part.begin);
    if (part.share == 0) return own.to(a.scalar_type());
    int64_t tokens = own.size(0), width = own.size(1);
    Tensor where = places.narrow(0, part.begin, tokens);
    if (has_kernels(x)) {
        Tensor dropped = at::empty({tokens, width}, own.options().dtype(at::kFloat));
        Drop drop = part.drop();
        launch("drop", By::Elements, own, own.numel(), at_data(own), at_data(dropped), at_data(where), own.numel(),
               width, drop.key, drop.threshold, drop.keep);
        return dropped;
    }
    if (is_plain(x)) {
        Tensor dropped = at::empty({tokens, width}, own.options().dtype(at::kFloat));
        with_rows(x, [&](const auto& loops, auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            over_rows(tokens, width, [&](int64_t from, int64_t to) {
                loops.drop(data<T>(own) + from * width, data<float>(dropped) + from * width,
                           data<int64_t>(where) + from, to - from, width, part.drop());
            });
        });
        return dropped;
    }
    return own.to(a.scalar_type()) * mask_of(where, width, part.drop()).to(own.options().dtype(a.scalar_type()));
}

// dx of a part gets `gradient` through the same mask.
void add_input_gradient(const Tensor& dx, const Tensor& gradient, const Part& part, const Tensor& places) {
    Tensor own = dx.narrow(0, part.begin, part.end - part.begin);
    int64_t tokens = own.size(0), width = own.size(1);
    Tensor where = places.narrow(0, part.begin, tokens);
    if (has_kernels(dx) && part.share == 0) {
        launch("add_scaled", By::Elements, own, own.numel(), at_data(own), at_data(gradient), own.numel(), 1.0f);
        return;
    }
    if (has_kernels(dx)) {
        Drop drop = part.drop();
        launch("add_dropped", By::Elements, own, own.numel(), at_data(own), at_data(gradient), at_data(where),
               own.numel(), width, drop.key, drop.threshold, drop.keep);
        return;
    }
    if (!is_plain(dx)) {
        Tensor through = gradient;
        if (part.share != 0) through = gradient * mask_of(where, width, part.drop()).to(gradient.options());
        own.copy_(own.to(through.scalar_type()) + through);
        return;
    }
    with_rows(dx, [&](const auto& loops, auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        over_rows(tokens, width, [&](int64_t from, int64_t to) {
            T* into = data<T>(own) + from * width;
            const float* what = data<float>(gradient) + from * width;
            if (part.share == 0)
                loops.add_scaled(into, what, (to - from) * width, 1.0f);
            else
                loops.add_dropped(into, what, data<int64_t>(where) + from, to - from, width, part.drop());
        });
    });
}

// y of a part += scale * s B'
void add_output(const Tensor& y, const Tensor& s, const Tensor& b, const Part& part) {
    Tensor own = y.narrow(0, part.begin, part.end - part.begin);
    if (own.scalar_type() == s.scalar_type()) {
        product(own, s, b.t(), part.scale, true);
        return;
    }
    Tensor low_rank = product(s, b.t());
    if (has_kernels(y)) {
        launch("add_scaled", By::Elements, own, own.numel(), at_data(own), at_data(low_rank), own.numel(),
               static_cast<float>(part.scale));
        return;
    }
    if (!is_plain(y)) {
        own.copy_(own.to(low_rank.scalar_type()).add(low_rank, part.scale));
        return;
    }
    with_rows(y, [&](const auto& loops, auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        at::parallel_for(0, own.numel(), GRAIN, [&](int64_t from, int64_t to) {
            loops.add_scaled(data<T>(own) + from, data<float>(low_rank) + from, to - from,
                             static_cast<float>(part.scale));
        });
    });
}

struct AdaptedLinear : public Function<AdaptedLinear> {
    // `leaf` is any trainable leaf of the parts, or W without one: it puts this node into the graph.
    static Tensor forward(AutogradContext* ctx, const Tensor& given, const Tensor& held,
                          const std::optional<Tensor>& bias, const Tensor& leaf,
                          const c10::intrusive_ptr<Parts>& parts) {
        Tensor x = given.contiguous(), w = parts->dense(held, x);
        Tensor y;
        if (bias) {
            // A copy even of a single row, where `contiguous` would give the bias itself to write to.
            y = bias->expand({x.size(0), w.size(0)}).clone(at::MemoryFormat::Contiguous);
            product(y, x, w.t(), 1.0, true);
        } else {
            y = product(x, w.t());
        }
        variable_list saved = {x, held};
        for (size_t i = 0; i < parts->parts.size(); ++i) {
            const Part& part = parts->parts[i];
            const Tensor &a = parts->matrices[2 * i], &b = parts->matrices[2 * i + 1];
            Tensor s = adapter_input(x, a, part, parts->places);
            s = product(s, a.t());
            add_output(y, s, b, part);
            saved.insert(saved.end(), {a, b, s});
        }
        parts->matrices.clear();
        ctx->save_for_backward(saved);
        ctx->saved_data["parts"] = c10::IValue::make_capsule(parts);
        ctx->saved_data["bias"] = bias.has_value();
        return y;
    }

    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        variable_list saved = ctx->get_saved_variables();
        auto parts = c10::static_intrusive_pointer_cast<Parts>(ctx->saved_data["parts"].toCapsule());
        Tensor x = saved[0], dy = gradients[0].contiguous(), dx, dw, dbias;
        bool wants_dx = ctx->needs_input_grad(0);
        if (wants_dx) dx = product(dy, parts->dense(saved[1], dy));
        if (ctx->needs_input_grad(1)) dw = dy.t().mm(x);
        if (ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(2)) dbias = dy.sum(0);
        for (size_t i = 0; i < parts->parts.size(); ++i) {
            const Part& part = parts->parts[i];
            const Tensor &a = saved[2 + 3 * i], &b = saved[3 + 3 * i], &s = saved[4 + 3 * i];
            Tensor own = dy.narrow(0, part.begin, part.end - part.begin).to(b.scalar_type());
            Tensor ds = product(own, b, part.scale);
            Tensor grad_a = part.grad_a, grad_b = part.grad_b;
            if (grad_a.defined()) {
                product(grad_b, own.t(), s, part.scale, true);
                product(grad_a, ds.t(), adapter_input(x, a, part, parts->places), 1.0, true);
            }
            if (!wants_dx) continue;
            if (part.share == 0 && dx.scalar_type() == ds.scalar_type()) {
                Tensor into = dx.narrow(0, part.begin, part.end - part.begin);
                product(into, ds, a, 1.0, true);
            } else {
                add_input_gradient(dx, product(ds, a), part, parts->places);
            }
        }
        return {dx, dw, dbias, Tensor(), Tensor()};
    }
};

Tensor adapted(const Tensor& x, const Tensor& w, const Tensor* bias, const Segment* segments, size_t count,
               const Tensor& places, std::optional<Nf4> nf4) {
    auto parts = c10::make_intrusive<Parts>();
    parts->places = places;
    parts->nf4 = std::move(nf4);
    Tensor leaf = w, frozen;
    for (size_t i = 0; i < count; ++i) {
        const Segment& own = segments[i];
        if (own.grad_a) leaf = *own.a;
        parts->parts.push_back({own.grad_a ? *own.grad_a : frozen, own.grad_b ? *own.grad_b : frozen, own.begin,
                                own.end, own.scale, own.share, own.key});
        parts->matrices.push_back(*own.a);
        parts->matrices.push_back(*own.b);
    }
    std::optional<Tensor> optional_bias;
    if (bias) optional_bias = *bias;
    return AdaptedLinear::apply(x, w, optional_bias, leaf, parts);
}

}  // namespace

extern "C" char* lorhai_linear(const Tensor* x, const Tensor* w, const Tensor* bias, const Segment* segments,
                               size_t count, const Tensor* places, Tensor** out) {
    return guarded([&] { *out = new Tensor(adapted(*x, *w, bias, segments, count, *places, {})); });
}

extern "C" char* lorhai_linear_nf4(const Tensor* x, const RawNf4* w, const Tensor* bias, const Segment* segments,
                                   size_t count, const Tensor* places, Tensor** out) {
    return guarded(
        [&] { *out = new Tensor(adapted(*x, *w->codes, bias, segments, count, *places, Nf4(*w))); });
}

// The mask of dropout for the tokens at `places`, f32 [tokens, width] on the CPU.
extern "C" char* lorhai_dropout_mask(const Tensor* places, int64_t width, double share, uint64_t key, Tensor** out) {
    return guarded([&] { *out = new Tensor(mask_of(*places, width, drop_of(key, share))); });
}
