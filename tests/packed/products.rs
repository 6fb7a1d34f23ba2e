//! Products with packed matrices, and with such that are no longer packed.

use crate::common::numbers::relative_error;
use lorhai::model::processor::multiplies_bf16;
use lorhai::native::{self, Layer, LogitShape, Matrix, Segment};
use lorhai::random::Key;
use tch::{Device, Kind, Tensor};

/// The dtypes that can be packed here, with the bound on the relative error of a product.
fn dtypes() -> Vec<(Kind, f64)> {
    let all = [(Kind::Float, 2e-5), (Kind::BFloat16, 2e-2)];
    all.into_iter().filter(|(dtype, _)| native::can_pack(*dtype, multiplies_bf16())).collect()
}

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Double, Device::Cpu))
}

fn packed(w: Tensor) -> Tensor {
    // SAFETY: it is not mapped, and nobody else has it.
    unsafe { native::pack(&w, false) }.unwrap();
    w
}

fn keys(tokens: i64) -> Tensor {
    Tensor::arange(tokens, (Kind::Int64, Device::Cpu))
}

#[test]
fn products_of_any_number_of_tokens_are_those_of_the_matrix() {
    for (dtype, bound) in dtypes() {
        for (inputs, outputs) in [(64, 32), (70, 131), (33, 257), (512, 48)] {
            let [w, bias] = [random(&[outputs, inputs]), random(&[outputs])].map(|x| x.to_kind(dtype));
            let w = packed(w);
            for tokens in [1, 2, 3, 7, 16, 31, 32, 33, 100, 512] {
                assert_eq!(native::is_packed(&w, tokens), tokens >= 32);
                let x = random(&[tokens, inputs]).to_kind(dtype).set_requires_grad(true);
                let exact = x.to_kind(Kind::Double).detach().set_requires_grad(true);
                for bias in [None, Some(&bias)] {
                    let layer = Layer { w: Matrix::Dense(&w), bias, segments: &[] };
                    let y = native::linear(&x, layer, &keys(tokens)).unwrap();
                    let expected = exact.linear(&w.to_kind(Kind::Double), bias.map(|bias| bias.to_kind(Kind::Double)));
                    let what = format!("{dtype:?} {tokens}×{inputs}×{outputs}");
                    assert!(relative_error(&y, &expected) < bound, "{what}: {}", relative_error(&y, &expected));
                    let dy = random(&[tokens, outputs]).to_kind(dtype);
                    native::backward(&y, &dy).unwrap();
                    native::backward(&expected, &dy.to_kind(Kind::Double)).unwrap();
                    let error = relative_error(&x.grad(), &exact.grad());
                    assert!(error < 2.0 * bound, "{what}: gradient {error}");
                }
            }
        }
    }
}

/// Queries, keys and values of one input: one of the matrices is not packed, and adapters act on some of the tokens.
#[test]
fn layers_of_one_input_sum_its_gradient() {
    let (tokens, width) = (48, 160);
    let weights: Vec<Tensor> = [160, 40, 72].iter().map(|&out| random(&[out, width]).to_kind(Kind::Float)).collect();
    let a = random(&[4, width]).to_kind(Kind::Float);
    let bs: Vec<Tensor> = [160, 40, 72].iter().map(|&out| random(&[out, 4]).to_kind(Kind::Float)).collect();
    let x = random(&[tokens, width]).to_kind(Kind::Float);
    let dys: Vec<Tensor> = [160, 40, 72].iter().map(|&out| random(&[tokens, out]).to_kind(Kind::Float)).collect();
    let run = |weights: &[Tensor]| -> (Vec<Tensor>, Tensor) {
        let x = x.copy().set_requires_grad(true);
        let segment =
            |b| Segment { a: &a, b, gradients: None, begin: 8, end: 40, scale: 0.5, p: 0.1, key: Key::new(3) };
        let segments: Vec<[Segment; 1]> = bs.iter().map(|b| [segment(b)]).collect();
        let layers: Vec<Layer> = weights
            .iter()
            .zip(&segments)
            .map(|(w, segments)| Layer { w: Matrix::Dense(w), bias: None, segments })
            .collect();
        let ys = native::linears(&x, &layers, &keys(tokens)).unwrap();
        let sum = ys.iter().zip(&dys).map(|(y, dy)| (y * dy).sum(Kind::Float)).reduce(|sum, next| sum + next);
        sum.unwrap().backward();
        (ys.iter().map(Tensor::detach).collect(), x.grad())
    };
    let (expected, expected_dx) = run(&weights);
    for left_out in 0..3 {
        let weights: Vec<Tensor> = weights.iter().map(Tensor::copy).collect();
        let others = weights.into_iter().enumerate();
        let weights: Vec<Tensor> = others.map(|(at, w)| if at == left_out { w } else { packed(w) }).collect();
        let (ys, dx) = run(&weights);
        for (y, expected) in ys.iter().zip(&expected) {
            assert!(relative_error(y, expected) < 1e-5);
        }
        assert!(relative_error(&dx, &expected_dx) < 1e-5, "{left_out}: {}", relative_error(&dx, &expected_dx));
    }
}

/// Its last piece has fewer tokens than a product that would be packed by itself.
#[test]
fn losses_are_those_of_the_matrix() {
    for (dtype, bound) in dtypes() {
        let (vocabulary, width) = (70_000, 48);
        let piece = native::loss_piece(vocabulary as u64, width as u64, 4, true) as i64;
        for tokens in [5, piece.min(500) + 3] {
            let w = (random(&[vocabulary, width]) * 0.1).to_kind(dtype);
            let hidden = random(&[tokens, width]).to_kind(dtype);
            let targets = keys(tokens) * 100;
            let run = |w: &Tensor| {
                let hidden = hidden.copy().set_requires_grad(true);
                let losses = native::token_losses(&hidden, w, &targets, LogitShape::default()).unwrap();
                losses.mean(Kind::Float).backward();
                (losses.detach(), hidden.grad())
            };
            let (expected, expected_gradient) = run(&w);
            let (losses, gradient) = run(&packed(w));
            assert!(relative_error(&losses, &expected) < bound);
            assert!(relative_error(&gradient, &expected_gradient) < bound);
        }
    }
}

#[test]
fn a_matrix_that_was_written_to_or_is_trained_is_read_itself() {
    let w = packed(random(&[96, 64]).to_kind(Kind::Float));
    let x = random(&[40, 64]).to_kind(Kind::Float);
    let product =
        |w: &Tensor| native::linear(&x, Layer { w: Matrix::Dense(w), bias: None, segments: &[] }, &keys(40)).unwrap();
    assert!(relative_error(&product(&w), &x.linear(&w, None::<Tensor>)) < 1e-5);
    let detached = w.detach();
    assert!(native::is_packed(&detached, 40), "the same values");
    let _ = w.shallow_clone().fill_(1.0);
    assert!(!native::is_packed(&w, 40) && !native::is_packed(&detached, 40));
    assert!(relative_error(&product(&w), &x.linear(&w, None::<Tensor>)) < 1e-5);
    let trained = packed(random(&[96, 64]).to_kind(Kind::Float)).set_requires_grad(true);
    assert!(!native::is_packed(&trained, 40));
    assert_eq!(native::packed_bytes(&trained), 0);
    // A part of it is another matrix.
    let whole = packed(random(&[96, 64]).to_kind(Kind::Float));
    assert!(!native::is_packed(&whole.narrow(0, 0, 50), 40));
}

#[test]
fn threads_that_use_a_matrix_first_at_once_share_its_copies() {
    let w = packed(random(&[700, 300]).to_kind(Kind::Float));
    let x = random(&[64, 300]).to_kind(Kind::Float);
    let expected = x.linear(&w, None::<Tensor>);
    let products: Vec<Tensor> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..4)
            .map(|_| {
                let (w, x) = (w.shallow_clone(), x.shallow_clone());
                scope.spawn(move || {
                    lorhai::threads::use_threads(1);
                    let x = x.detach().set_requires_grad(true);
                    let layer = Layer { w: Matrix::Dense(&w), bias: None, segments: &[] };
                    let y = native::linear(&x, layer, &keys(64)).unwrap();
                    native::backward(&y, &y.detach()).unwrap();
                    Tensor::cat(&[y.detach(), x.grad()], 1)
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert!(relative_error(&products[0].narrow(1, 0, 700), &expected) < 1e-5);
    assert!(products.iter().all(|product| product == &products[0]));
}
