//! The hand-written gradients of `src/native/`: in f64 against autograd on random shapes, and the loops for f32 and
//! bf16 against f64.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "native/nvrtc.rs"]
mod nvrtc;

use common::gradients::{compare, device, random, BOUNDS};
use common::numbers::relative_error;
use lorhai::native::{self, AdamStep, Layer, LogitShape, Matrix, Nf4, Segment};
use lorhai::random::Key;
use tch::{Device, Kind, Reduction, Tensor};

#[test]
fn rms_norm() {
    for (rows, width) in [(1, 5), (3, 7), (17, 64), (300, 20), (2, 1000)] {
        let inputs = [random(&[rows, width]), random(&[width])];
        let reference = |x: &[Tensor]| {
            let inverse = (x[0].square().mean_dim(-1, true, Kind::Double) + 1e-6).rsqrt();
            &x[1] * (&x[0] * inverse)
        };
        compare("rms_norm", &inputs, &|x| native::rms_norm(&x[0], &x[1], 1e-6), &reference);
        // Each head separately.
        let inputs = [random(&[rows, 3 * width]), random(&[width])];
        let by_head = |x: &[Tensor]| {
            let heads = x[0].view([rows, 3, width]);
            reference(&[heads, x[1].shallow_clone()]).view([rows, 3 * width])
        };
        compare("rms_norm by head", &inputs, &|x| native::rms_norm(&x[0], &x[1], 1e-6), &by_head);
    }
}

#[test]
fn rotate() {
    for (tokens, heads, half) in [(1, 1, 1), (5, 3, 4), (33, 2, 32)] {
        let angles = random(&[tokens, half]);
        let (cos, sin) = (angles.cos(), angles.sin());
        let reference = |x: &[Tensor]| {
            let x = x[0].view([tokens, heads, 2 * half]);
            let (left, right) = (x.narrow(2, 0, half), x.narrow(2, half, half));
            let (cos, sin) = (cos.unsqueeze(1), sin.unsqueeze(1));
            Tensor::cat(&[&left * &cos - &right * &sin, &right * &cos + &left * &sin], 2)
        };
        let ours = |x: &[Tensor]| {
            let kind = if x[0].kind() == Kind::Double { Kind::Double } else { Kind::Float };
            native::rotate(&x[0], &cos.to_kind(kind), &sin.to_kind(kind))
        };
        compare("rotate", &[random(&[tokens, heads * 2 * half])], &ours, &reference);
    }
}

#[test]
fn swiglu() {
    for shape in [[1, 1], [7, 33], [64, 160]] {
        let inputs = [random(&shape) * 4.0, random(&shape)];
        compare("swiglu", &inputs, &|x| native::swiglu(&x[0], &x[1]), &|x| x[0].silu() * &x[1]);
    }
}

#[test]
fn extreme_values_are_kept() {
    let x = Tensor::from_slice(&[f32::NAN, f32::INFINITY, -200.0, 200.0, 0.0, -1e-30]).to_device(device());
    let y = Vec::<f32>::try_from(native::swiglu(&x, &x.ones_like()).unwrap()).unwrap();
    assert!(y[0].is_nan(), "a NaN must not get lost: {y:?}");
    assert_eq!((y[1], y[3], y[4]), (f32::INFINITY, 200.0, 0.0));
    assert!(y[2].abs() < 1e-30, "{y:?}");
    let hidden = Tensor::from_slice(&[f32::NAN, 1.0]).view([1, 2]).to_device(device());
    let losses = native::token_losses(
        &hidden,
        &Tensor::ones([40, 2], (Kind::Float, device())),
        &Tensor::from_slice(&[3_i64]).to_device(device()),
        LogitShape::default(),
    );
    assert!(losses.unwrap().double_value(&[0]).is_nan());
}

#[test]
fn token_losses() {
    let shapes = [(1.0, None), (8.0, None), (1.0, Some(2.0)), (0.5, Some(3.0))];
    let shapes = shapes.map(|(divisor, softcap)| LogitShape { divisor, softcap });
    for (tokens, width, vocabulary) in [(1, 3, 5), (70, 16, 33), (130, 8, 300)] {
        let weight = random(&[vocabulary, width]);
        let targets = Tensor::randint(vocabulary, [tokens], (Kind::Int64, device()));
        for shape in shapes {
            let reference = |x: &[Tensor]| {
                let weight = weight.to_kind(Kind::BFloat16).to_kind(Kind::Double);
                let logits = shape.apply(x[0].matmul(&weight.tr())).unwrap();
                logits.cross_entropy_loss(&targets, None::<&Tensor>, Reduction::None, -100, 0.0)
            };
            let ours = |x: &[Tensor]| {
                let weight = weight.to_kind(Kind::BFloat16).to_kind(x[0].kind());
                native::token_losses(&x[0], &weight, &targets, shape)
            };
            compare("token_losses", &[random(&[tokens, width])], &ours, &reference);
        }
    }
}

/// With a single row, the output could be the bias tensor itself.
#[test]
fn a_bias_is_read_only() {
    for tokens in [1, 2] {
        let [x, w, bias, a, b] =
            [[tokens, 4], [3, 4], [1, 3], [2, 4], [3, 2]].map(|size| random(&size).to_kind(Kind::Float));
        let bias = bias.view([3]);
        let (before, grads) = (bias.copy(), [a.zeros_like(), b.zeros_like()]);
        let (grad_a, grad_b) = (&grads[0], &grads[1]);
        let segment = Segment {
            a: &a,
            b: &b,
            gradients: Some((grad_a, grad_b)),
            begin: 0,
            end: tokens,
            scale: 1.0,
            p: 0.0,
            key: Key::new(0),
        };
        let token_keys = Tensor::zeros([tokens], (Kind::Int64, tch::Device::Cpu));
        let layer = Layer { w: Matrix::Dense(&w), bias: Some(&bias), segments: &[segment] };
        let actual = native::linear(&x, layer, &token_keys).unwrap();
        assert!(bias.equal(&before), "{tokens} tokens");
        assert!(relative_error(&actual, &(x.matmul(&w.tr()) + &before + x.matmul(&a.tr()).matmul(&b.tr()))) < 1e-5);
    }
}

/// Several adapters of different rank on ranges of one input, with and without dropout.
#[test]
fn linear_with_adapters() {
    for (p, bias) in [(0.0, true), (0.3, false), (0.3, true)] {
        for nf4 in [None, Some(false), Some(true)] {
            check_linear_with_adapters(p, bias, nf4);
        }
    }
}

/// `nf4` says whether W is 4-bit, and if so, whether its scales are nested.
fn check_linear_with_adapters(p: f64, bias: bool, nf4: Option<bool>) {
    let (tokens, wide, out) = (41, 10, 6);
    // Without dropout and over a dense W the first two are merged. The third has too few tokens for its rank, and the
    // last two share tokens.
    let ranges = [(0, 9, 1), (9, 30, 4), (31, 33, 24), (35, 41, 3), (37, 40, 2)];
    let token_keys: Vec<i64> = (0..tokens).map(|token| (token / 5) << 40 | (token % 5) << 20).collect();
    let token_keys = Tensor::from_slice(&token_keys).to_device(device());
    let bias = bias.then(|| random(&[out]));
    let key = |at: usize| Key::new(7).numbered(at as u64);
    for (kind, bound) in BOUNDS {
        // Adapters are f32 over bf16, and have the dtype of the base otherwise.
        let inner = if kind == Kind::BFloat16 { Kind::Float } else { kind };
        let as_stored = |x: &Tensor, kind: Kind| x.to_kind(kind);
        let x = as_stored(&random(&[tokens, wide]), kind);
        let packed = nf4.map(|nested| Nf4::quantize(&random(&[out, wide]), kind, nested).unwrap());
        let w = packed
            .as_ref()
            .map_or_else(|| as_stored(&random(&[out, wide]), kind), |packed| packed.dense(kind).unwrap());
        let x_ours = x.copy().set_requires_grad(true);
        let x_reference = x.to_kind(Kind::Double).copy().set_requires_grad(true);
        let matrices: Vec<[Tensor; 2]> =
            ranges.iter().map(|&(_, _, r)| [random(&[r, wide]), random(&[out, r])].map(|m| m.to_kind(inner))).collect();
        let leaves: Vec<[Tensor; 2]> =
            matrices.iter().map(|pair| pair.each_ref().map(|m| m.copy().set_requires_grad(true))).collect();
        let gradients: Vec<[Tensor; 2]> = matrices.iter().map(|pair| pair.each_ref().map(Tensor::zeros_like)).collect();
        let segments: Vec<Segment> = ranges
            .iter()
            .enumerate()
            .map(|(at, &(begin, end, _))| Segment {
                a: &leaves[at][0],
                b: &leaves[at][1],
                gradients: Some((&gradients[at][0], &gradients[at][1])),
                begin,
                end,
                scale: 0.5 + at as f64,
                p,
                key: key(at),
            })
            .collect();
        let stored_bias = bias.as_ref().map(|bias| bias.to_kind(kind));
        let matrix = packed.as_ref().map_or(Matrix::Dense(&w), Matrix::Nf4);
        let layer = Layer { w: matrix, bias: stored_bias.as_ref(), segments: &segments };
        // A second layer without adapters: the gradients of x are summed.
        let bare = as_stored(&random(&[3, wide]), kind);
        let beside = Layer { w: Matrix::Dense(&bare), bias: None, segments: &[] };
        let actual = Tensor::cat(&native::linears(&x_ours, &[layer, beside], &token_keys).unwrap(), 1);

        let reference: Vec<[Tensor; 2]> = matrices
            .iter()
            .map(|pair| pair.each_ref().map(|m| m.to_kind(Kind::Double).copy().set_requires_grad(true)))
            .collect();
        let mut expected = x_reference.matmul(&w.to_kind(Kind::Double).tr());
        if let Some(bias) = &stored_bias {
            expected += bias.to_kind(Kind::Double);
        }
        for (at, &(begin, end, _)) in ranges.iter().enumerate() {
            let own = x_reference.narrow(0, begin, end - begin) * mask(&token_keys, begin, end, wide, p, key(at));
            let part = own.matmul(&reference[at][0].tr()).matmul(&reference[at][1].tr()) * (0.5 + at as f64);
            expected = Tensor::cat(
                &[
                    expected.narrow(0, 0, begin),
                    expected.narrow(0, begin, end - begin) + part,
                    expected.narrow(0, end, tokens - end),
                ],
                0,
            );
        }
        expected = Tensor::cat(&[expected, x_reference.matmul(&bare.to_kind(Kind::Double).tr())], 1);
        assert!(
            relative_error(&actual, &expected) < bound,
            "{kind:?}: output {:.1e}",
            relative_error(&actual, &expected)
        );
        let weights = random(&[tokens, out + 3]);
        (actual.to_kind(Kind::Double) * &weights).sum(Kind::Double).backward();
        (expected * weights).sum(Kind::Double).backward();
        assert!(
            relative_error(&x_ours.grad(), &x_reference.grad()) < bound,
            "{kind:?}: dx {:.1e}",
            relative_error(&x_ours.grad(), &x_reference.grad())
        );
        for (at, (own, reference)) in gradients.iter().zip(&reference).enumerate() {
            for (actual, expected) in own.iter().zip(reference) {
                let distance = relative_error(actual, &expected.grad());
                assert!(distance < bound, "{kind:?}: adapter {at}: {distance:.1e}");
            }
        }
    }
}

/// The dropout mask, by its definition.
fn mask(token_keys: &Tensor, begin: i64, end: i64, width: i64, p: f64, key: Key) -> Tensor {
    let mut values = Vec::new();
    for token in begin..end {
        let token_key = token_keys.int64_value(&[token]) as u64;
        for channel in 0..width as u64 {
            let bits = key.bits(token_key | (channel / 2));
            let half = if channel % 2 == 0 { bits as u32 } else { (bits >> 32) as u32 };
            let dropped = half < (p * f64::from(u32::MAX)) as u32;
            values.push(if dropped { 0.0 } else { f64::from((1.0 / (1.0 - p)) as f32) });
        }
    }
    Tensor::from_slice(&values).view([end - begin, width]).to_device(device())
}

#[test]
fn rows_are_taken_and_put_back() {
    let x = random(&[4, 3]).set_requires_grad(true);
    // Two documents of 1 and 3 tokens, side by side.
    let on_device = |values: &[i64]| Tensor::from_slice(values).to_device(device());
    let (index, inverse) = (on_device(&[0, 0, 0, 1, 2, 3]), on_device(&[0, 3, 4, 5]));
    let y = native::take_rows(&x, &index, &inverse).unwrap();
    assert!(y.index_select(0, &inverse).equal(&x));
    let weights = random(&[6, 3]);
    (y * &weights).sum(Kind::Double).backward();
    assert!(x.grad().equal(&weights.index_select(0, &inverse)));
}

#[test]
fn attention_within_documents() {
    let on_gpu = device() != Device::Cpu;
    let (kind, bound) = if on_gpu { BOUNDS[2] } else { BOUNDS[1] };
    for (lengths, [heads, kv_heads], width) in
        [(&[1, 5, 64, 33][..], [4, 2], 16), (&[24, 25, 49], [3, 1], 24), (&[300, 2], [2, 2], 64), (&[1], [1, 1], 8)]
    {
        let tokens: i64 = lengths.iter().sum();
        let shapes = [[tokens, heads, width], [tokens, kv_heads, width], [tokens, kv_heads, width]];
        let stored = shapes.map(|shape| (random(&shape) * 2.0).to_kind(kind));
        if !native::has_document_attention(&stored[0]) {
            println!("not compared: this GPU has no flash attention");
            return;
        }
        let mut starts = vec![0];
        lengths.iter().for_each(|length| starts.push(starts.last().unwrap() + *length as i32));
        let starts = Tensor::from_slice(&starts).to_device(device());
        let longest = *lengths.iter().max().unwrap();
        for window in [None, Some(1), Some(7), Some(40)] {
            let leaves =
                |kind: Kind| stored.each_ref().map(|x| x.to_kind(kind).detach().copy().set_requires_grad(true));
            let (x_ours, x_reference) = (leaves(kind), leaves(Kind::Double));
            let [q, k, v] = &x_ours;
            let actual = native::document_attention(q, k, v, &starts, longest, window).unwrap();
            let expected = reference_attention(&x_reference, lengths, window).flatten(1, 2);
            let what = format!("{lengths:?}, window {window:?}");
            assert!(
                relative_error(&actual, &expected) < bound,
                "{what}: output {:.1e}",
                relative_error(&actual, &expected)
            );
            let weights = random(&[tokens, heads * width]);
            (actual.to_kind(Kind::Double) * &weights).sum(Kind::Double).backward();
            (expected * weights).sum(Kind::Double).backward();
            let size = |x: &Tensor| x.norm().double_value(&[]);
            let whole: f64 = x_reference.iter().map(|x| size(&x.grad())).sum();
            for (x_ours, x_reference) in x_ours.iter().zip(&x_reference) {
                // If a query sees only itself, nothing depends on queries and keys.
                let distance = size(&(x_ours.grad().to_kind(Kind::Double) - x_reference.grad()));
                let own = size(&x_reference.grad());
                assert!(distance <= bound * (own + 0.1 * whole), "{what}: gradient {distance:.1e} of {own:.1e}");
            }
        }
    }
}

/// Computes every document and every head separately.
fn reference_attention([q, k, v]: &[Tensor; 3], lengths: &[i64], window: Option<i64>) -> Tensor {
    let (heads, kv_heads, width) = (q.size()[1], k.size()[1], q.size()[2]);
    let (mut documents, mut start) = (Vec::new(), 0);
    for &length in lengths {
        let all = Tensor::ones([length, length], (Kind::Bool, device()));
        let seen = all.tril(0).logical_and(&all.triu(1 - window.unwrap_or(length)));
        let own = |x: &Tensor, head: i64| x.narrow(0, start, length).select(1, head);
        let of_head = |head: i64| {
            let kv_head = head / (heads / kv_heads);
            let scores = own(q, head).matmul(&own(k, kv_head).tr()) / (width as f64).sqrt();
            let scores = scores.masked_fill(&seen.logical_not(), f64::NEG_INFINITY);
            scores.softmax(-1, Kind::Double).matmul(&own(v, kv_head))
        };
        documents.push(Tensor::stack(&(0..heads).map(of_head).collect::<Vec<_>>(), 1));
        start += length;
    }
    Tensor::cat(&documents, 0)
}

#[test]
fn adamw() {
    let count = 1000;
    let float = |x: Tensor| x.to_kind(Kind::Float);
    let [theta, gradient, mean] = [(); 3].map(|()| float(random(&[count])));
    let square = float(random(&[count]).square());
    let decayed = float(random(&[count]).gt(0.0));
    let step = AdamStep {
        one_minus_beta1: 0.1,
        beta2: 0.99,
        one_minus_beta2: 0.01,
        eps: 1e-8,
        decay: 0.02,
        step_size: 0.3,
        bias2: 0.7,
        clip: 0.5,
    };
    let double = |x: &Tensor| x.to_kind(Kind::Double);
    let g = double(&gradient) * 0.5;
    let m = double(&mean) * 0.9 + &g * 0.1;
    let v = double(&square) * 0.99 + g.square() * 0.01;
    for decayed in [None, Some(&decayed)] {
        let share = decayed.map_or(Tensor::ones([count], (Kind::Double, device())), double);
        let expected = double(&theta) * (1.0 - share * 0.02) - &m / (v.sqrt() / 0.7 + 1e-8) * 0.3;
        let (theta, mean, square) = (theta.copy(), mean.copy(), square.copy());
        assert!(native::has_adamw(&theta));
        native::adamw(&theta, &gradient, &mean, &square, decayed, step).unwrap();
        for (actual, expected) in [(&theta, &expected), (&mean, &m), (&square, &v)] {
            assert!(relative_error(actual, expected) < 1e-6, "{:.1e}", relative_error(actual, expected));
        }
    }
}

const ON_HOST: &str = "LORHAI_KERNELS_ON_HOST";
const LOOPS: &str = "LORHAI_LOOPS";

/// Runs all tests above again, in a process with `variable` set.
fn rerun_with(variable: &str, value: &str) {
    if device() != Device::Cpu || [ON_HOST, LOOPS].iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let again = std::process::Command::new(std::env::current_exe().unwrap()).env(variable, value).output().unwrap();
    let text = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && text.contains("linear_with_adapters ... ok"), "{variable}={value}: {text}");
}

/// With the GPU kernels instead of the loops of the CPU.
#[test]
fn kernels_compute_the_same() {
    rerun_with(ON_HOST, "1");
}

/// With the loops for older processors.
#[test]
fn other_processors_compute_the_same() {
    ["avx2", "plain"].iter().for_each(|loops| rerun_with(LOOPS, loops));
}
