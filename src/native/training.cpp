// The two ends of a training step: the loss over a large vocabulary, and the optimizer.
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "gpu.h"
#include "packed.h"
#include "product.h"

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// The bytes of logits held at a time, less if the output matrix fits in a near cache, so that the logits do too;
// and the fewest tokens at a time, because each piece reads the whole output matrix.
constexpr int64_t PIECE_BYTES = 96 << 20;
constexpr int64_t NEAR_PIECE_BYTES = 512 << 10;
constexpr int64_t MIN_TOKENS = 64;

// The number of tokens whose logits are held at a time, for w [vocabulary, width] and `size` bytes a number.
extern "C" int64_t lorhai_loss_piece(int64_t vocabulary, int64_t width, int64_t size, bool is_cpu) {
    int64_t bytes = is_cpu && vocabulary * width <= SMALL ? NEAR_PIECE_BYTES : PIECE_BYTES;
    return std::max(MIN_TOKENS, bytes / std::max<int64_t>(1, vocabulary * size));
}

namespace {

// The losses of one piece, [count] in f32 at least. With `grad`, replaces the logits by their gradient.
Tensor piece_losses(Tensor& logits, const Tensor& targets, bool grad) {
    if (has_kernels(logits)) {
        int64_t count = logits.size(0), width = logits.size(1);
        Tensor losses = fresh({count}, logits, at::kFloat);
        launch("cross_entropy", By::Rows, logits, count, at_data(logits), at_data(targets), at_data(losses), count,
               width, static_cast<int>(grad));
        return losses;
    }
    if (!has_loops(logits)) {
        Tensor scores = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
        Tensor log_p = at::log_softmax(scores, -1), index = targets.unsqueeze(1);
        Tensor losses = -log_p.gather(1, index).squeeze(1);
        if (grad) {
            Tensor slope = log_p.exp();
            slope.scatter_add_(1, index, at::full_like(index, -1, slope.options()));
            logits = slope.to(logits.scalar_type());
        }
        return losses;
    }
    int64_t count = logits.size(0), width = logits.size(1);
    Tensor losses = fresh({count}, logits, at::kFloat);
    with_rows(logits, [&](const auto& loops, auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        over_rows(count, width, [&](int64_t from, int64_t to) {
            loops.cross_entropy(data<T>(logits) + from * width, data<int64_t>(targets) + from,
                                data<float>(losses) + from, to - from, width, grad);
        });
    });
    return losses;
}

// What becomes of the products of the head: logits = cap * tanh(product / divisor / cap); without a cap where it is 0.
struct LogitShape {
    double divisor;
    double cap;

    bool is_identity() const { return divisor == 1.0 && cap == 0.0; }

    void apply(Tensor& products) const {
        if (divisor != 1.0) products.div_(divisor);
        if (cap != 0.0) products.div_(cap).tanh_().mul_(cap);
    }

    // Turns the gradient of the logits into that of the products.
    void apply_back(Tensor& slope, const Tensor& logits) const {
        if (cap != 0.0) slope.mul_(1.0 - (logits / cap).square());
        if (divisor != 1.0) slope.div_(divisor);
    }
};

// The cross-entropy of every token under a frozen output matrix, in nats. Computes the logits piece by piece and
// keeps none: their gradient is propagated to the hidden states at once.
struct TokenLosses : public Function<TokenLosses> {
    // hidden [count, width], w [vocabulary, width], targets int64 [count]
    static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& w, const Tensor& targets,
                          double divisor, double cap, bool grad) {
        LogitShape shape{divisor, cap};
        Unrecorded here;
        Tensor hidden = input.contiguous();
        int64_t count = hidden.size(0), size_of_one = static_cast<int64_t>(hidden.element_size());
        int64_t piece = lorhai_loss_piece(w.size(0), w.size(1), size_of_one, w.is_cpu());
        std::vector<Tensor> losses;
        Tensor slope = grad ? fresh_like(hidden) : Tensor();
        for (int64_t from = 0; from < count; from += piece) {
            int64_t size = std::min(piece, count - from);
            // Short last pieces too: the matrix itself may not be in memory.
            Tensor logits = is_packed(w, count) ? packed_product(hidden.narrow(0, from, size), w, nullptr)
                                                : product(View(hidden, from, size), transposed(w));
            at::ScalarType type = logits.scalar_type();
            // Near the cap its slope is a small difference, which bf16 would lose.
            if (!shape.is_identity() && type != at::kDouble) logits = logits.to(at::kFloat);
            shape.apply(logits);
            // `piece_losses` replaces the logits by their gradient.
            Tensor capped = grad && cap != 0.0 ? logits.clone() : logits;
            losses.push_back(piece_losses(logits, targets.narrow(0, from, size), grad));
            if (grad) shape.apply_back(logits, capped);
            if (grad) logits = logits.to(type);
            if (grad && is_packed(w, count))
                slope.narrow(0, from, size).copy_(packed_product_back(logits, w, nullptr));
            else if (grad)
                product(View(slope, from, size), logits, w);
        }
        if (grad) ctx->save_for_backward({slope});
        return at::cat(losses);
    }
    static variable_list backward(AutogradContext* ctx, variable_list gradients) {
        Unrecorded here;
        Tensor slope = ctx->get_saved_variables()[0];
        Tensor weighted = slope * gradients[0].unsqueeze(1).to(slope.scalar_type());
        return {weighted, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
    }
};

}  // namespace

extern "C" {

char* lorhai_token_losses(const Tensor* hidden, const Tensor* w, const Tensor* targets, double divisor, double cap,
                          Tensor** out) {
    return guarded([&] {
        bool grad = hidden->requires_grad() && at::GradMode::is_enabled();
        *out = new Tensor(TokenLosses::apply(*hidden, *w, *targets, divisor, cap, grad));
    });
}

// Whether lorhai_adamw supports it.
bool lorhai_has_adamw(const Tensor* theta) {
    return theta->scalar_type() == at::kFloat && (has_loops(*theta) || has_kernels(*theta));
}

// One AdamW step over flat f32 tensors.
char* lorhai_adamw(const Tensor* theta, const Tensor* gradient, const Tensor* mean, const Tensor* square,
                   const Tensor* decayed, AdamStep step) {
    return guarded([&] {
        theta->unsafeGetTensorImpl()->bump_version();
        if (has_kernels(*theta)) {
            launch("adamw", By::Elements, *theta, theta->numel(), at_data(*theta), at_data(*gradient), at_data(*mean),
                   at_data(*square), decayed ? at_data(*decayed) : nullptr, theta->numel(), step.one_minus_beta1,
                   step.beta2, step.one_minus_beta2, step.eps, step.decay, step.step_size, step.bias2, step.clip);
            return;
        }
        at::parallel_for(0, theta->numel(), grain(), [&](int64_t from, int64_t to) {
            rows().adamw(data<float>(*theta) + from, data<float>(*gradient) + from, data<float>(*mean) + from,
                         data<float>(*square) + from, decayed ? data<float>(*decayed) + from : nullptr, to - from,
                         step);
        });
    });
}

// The Euclidean norm of a flat f32 tensor on the CPU, summed in f64.
double lorhai_norm(const Tensor* x) {
    return std::sqrt(rows().sum_squares(data<float>(*x), x->numel()));
}

// Runs the backward pass from `y` with the gradient `dy` of the same shape.
char* lorhai_backward(const Tensor* y, const Tensor* dy) {
    return guarded([&] { torch::autograd::backward({*y}, {*dy}); });
}

// Makes `gradient` the tensor that gradients of `leaf` are added to.
char* lorhai_set_grad(const Tensor* leaf, const Tensor* gradient) {
    return guarded([&] { leaf->mutable_grad() = *gradient; });
}
}
