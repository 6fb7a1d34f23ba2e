//! Operations of a GPU on columns of one tensor, as linear layers that read the same input make them, and the operations
//! that join several: against autograd in f64. On a machine without a GPU the kernels run as loops on the host.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::gradients::{compare, device, random, with_kernels, BOUNDS};
use common::numbers::relative_error;
use lorhai::native;
use tch::{Kind, Tensor};

/// Parts of the columns of `x`.
fn columns<const N: usize>(x: &Tensor, widths: [i64; N]) -> [Tensor; N] {
    let mut first = 0;
    widths.map(|width| {
        first += width;
        x.narrow(1, first - width, width)
    })
}

#[test]
fn swiglu_of_columns() {
    with_kernels("swiglu_of_columns", || {
        for [rows, width] in [[1, 1], [7, 33], [40, 16]] {
            let ours = |x: &[Tensor]| {
                let [gate, up] = columns(&x[0], [width, width]);
                native::swiglu(&gate, &up)
            };
            let reference = |x: &[Tensor]| {
                let [gate, up] = columns(&x[0], [width, width]);
                gate.silu() * up
            };
            compare("swiglu", &[random(&[rows, 2 * width])], &ours, &reference);
        }
    });
}

fn rotated(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let (tokens, half) = (x.size()[0], cos.size()[1]);
    let x = x.reshape([tokens, -1, 2 * half]);
    let (left, right) = (x.narrow(2, 0, half), x.narrow(2, half, half));
    let (cos, sin) = (cos.unsqueeze(1), sin.unsqueeze(1));
    Tensor::cat(&[&left * &cos - &right * &sin, &right * &cos + &left * &sin], 2)
}

#[test]
fn rotation_of_columns() {
    with_kernels("rotation_of_columns", || {
        let (tokens, half) = (9, 4);
        let angles = random(&[tokens, half]);
        let (cos, sin) = (angles.cos(), angles.sin());
        let widths = [2 * 2 * half, 2 * half, 3];
        let ours = |x: &[Tensor]| {
            let kind = if x[0].kind() == Kind::Double { Kind::Double } else { Kind::Float };
            let [q, k, _] = columns(&x[0], widths);
            let of = |x: &Tensor| native::rotate(x, &cos.to_kind(kind), &sin.to_kind(kind));
            Ok(Tensor::cat(&[of(&q)?, of(&k)?], 1))
        };
        let reference = |x: &[Tensor]| {
            let [q, k, _] = columns(&x[0], widths);
            Tensor::cat(&[rotated(&q, &cos, &sin), rotated(&k, &cos, &sin)], 1)
        };
        compare("rotate", &[random(&[tokens, widths.iter().sum()])], &ours, &reference);
    });
}

/// Both outputs, and each alone: the sum after the last layer is not used.
#[test]
fn sums_and_their_norms() {
    with_kernels("sums_and_their_norms", || {
        for (rows, width) in [(1, 5), (3, 7), (17, 64), (2, 1000)] {
            let weight = random(&[width]).to_kind(Kind::BFloat16).to_kind(Kind::Double);
            let norm = |x: &Tensor| {
                let inverse = (x.square().mean_dim(-1, true, Kind::Double) + 1e-6).rsqrt();
                &weight * (x * inverse)
            };
            for used in [[true, true], [true, false], [false, true]] {
                let pick = |outputs: [Tensor; 2]| {
                    let outputs = outputs.iter().zip(used).filter(|(_, used)| *used);
                    Tensor::cat(&outputs.map(|(x, _)| x.shallow_clone()).collect::<Vec<_>>(), 0)
                };
                let ours = |x: &[Tensor]| {
                    if x[0].kind() == Kind::Double {
                        let sum = &x[0] + &x[1];
                        return Ok(pick([sum.shallow_clone(), norm(&sum)]));
                    }
                    native::add_rms_norm(&x[0], &x[1], &weight.to_kind(x[0].kind()), 1e-6).map(pick)
                };
                let reference = |x: &[Tensor]| {
                    let sum = &x[0] + &x[1];
                    pick([sum.shallow_clone(), norm(&sum)])
                };
                compare("add_rms_norm", &[random(&[rows, width]), random(&[rows, width])], &ours, &reference);
            }
        }
    });
}

/// Against rotation and attention as two nodes, on a GPU alone.
#[test]
fn rotated_attention() {
    let (lengths, [heads, kv_heads], width) = ([5, 33, 1], [4, 2], 16);
    let tokens: i64 = lengths.iter().sum();
    let widths = [heads * width, kv_heads * width, kv_heads * width];
    let stored = random(&[tokens, widths.iter().sum()]).to_kind(Kind::BFloat16);
    if !native::has_rotated_attention(&stored.view([tokens, -1, width]), None) {
        println!("not compared: no GPU with flash attention");
        return;
    }
    let angles = random(&[tokens, width / 2]).to_kind(Kind::Float);
    let (cos, sin) = (angles.cos(), angles.sin());
    let starts = Tensor::from_slice(&[0_i32, 5, 38, 39]).to_device(device());
    for window in [None, Some(3)] {
        let leaves = [0, 1].map(|_| stored.detach().copy().set_requires_grad(true));
        let [q, k, v] = columns(&leaves[0], widths);
        let actual = native::rotated_attention([&q, &k, &v], [&cos, &sin], &starts, 33, window).unwrap();
        let [q, k, v] = columns(&leaves[1], widths);
        let (q, k) = (native::rotate(&q, &cos, &sin).unwrap(), native::rotate(&k, &cos, &sin).unwrap());
        let v = v.reshape([tokens, kv_heads, width]);
        let expected = native::document_attention(&q, &k, &v, &starts, 33, window).unwrap();
        assert!(relative_error(&actual, &expected) < 1e-6);
        let weights = random(&expected.size());
        (actual.to_kind(Kind::Double) * &weights).sum(Kind::Double).backward();
        (expected.to_kind(Kind::Double) * weights).sum(Kind::Double).backward();
        let distance = relative_error(&leaves[0].grad(), &leaves[1].grad());
        assert!(distance < BOUNDS[2].1, "{distance:.1e}");
    }
}
