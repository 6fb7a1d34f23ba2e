//! Adapters that a GPU computes together, against autograd in f64: outputs and every gradient. On a machine without a GPU
//! the kernels run as loops on the host.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::gradients::{device, random, with_kernels};
use common::numbers::relative_error;
use lorhai::native::{self, AdaptedLayer, BatchedAdapters, Layer, Matrices, Matrix, Member, Nf4};
use lorhai::random::Key;
use tch::{Device, Kind, Tensor};

/// Bounds of the relative error, by dtype. In bf16 the low-rank values are rounded to bf16 too.
const BOUNDS: [(Kind, f64); 2] = [(Kind::Float, 2e-5), (Kind::BFloat16, 2e-2)];

/// Layers that read the same input, and the adapters on them.
#[derive(Clone)]
struct Case {
    tokens: i64,
    wide: i64,
    outs: Vec<i64>,
    bias: bool,
    /// First and last token, and dropout, of each adapter.
    members: Vec<(i64, i64, f64)>,
    /// The rank of each adapter in each layer; 0 if it does not adapt the layer.
    ranks: Vec<Vec<i64>>,
    /// Are the weights of the layers parts of one tensor?
    adjacent: bool,
    nf4: bool,
}

impl Case {
    fn of_three() -> Case {
        Case {
            tokens: 23,
            wide: 11,
            outs: vec![6, 3, 5],
            bias: true,
            members: vec![(14, 20, 0.0), (0, 9, 0.0), (9, 13, 0.0)],
            ranks: vec![vec![2, 3, 1], vec![4, 4, 4], vec![1, 0, 9]],
            adjacent: true,
            nf4: false,
        }
    }

    fn alone(p: f64) -> Case {
        Case { members: vec![(0, 23, p)], ranks: vec![vec![3, 3, 3]], ..Case::of_three() }
    }

    fn with_dropout(mut self, p: f64) -> Case {
        self.members.iter_mut().enumerate().for_each(|(at, member)| member.2 = if at == 1 { 0.0 } else { p });
        self
    }
}

/// The dropout mask, by its definition.
fn mask(token_keys: &Tensor, (begin, end, p): (i64, i64, f64), width: i64, key: Key) -> Tensor {
    let keys = token_keys.narrow(0, begin, end - begin).to_device(Device::Cpu);
    native::dropout_mask(&keys, width, p, key).unwrap().to_kind(Kind::Double).to_device(device())
}

fn check(what: &str, case: &Case) {
    for (kind, bound) in BOUNDS {
        check_in(&format!("{what} {kind:?}"), case, kind, bound);
    }
}

/// Runs the group twice before the backward pass, on two inputs: their gradients add up.
fn check_in(what: &str, case: &Case, kind: Kind, bound: f64) {
    let Case { tokens, wide, outs, members, ranks, .. } = case;
    let stored = |x: Tensor| x.to_kind(kind);
    let token_keys: Vec<i64> = (0..*tokens).map(|token| (token / 5) << 40 | (token % 5) << 20).collect();
    let token_keys = Tensor::from_slice(&token_keys).to_device(device());
    let all = stored(random(&[outs.iter().sum(), *wide]));
    let all_biases = stored(random(&[outs.iter().sum()]));
    let firsts: Vec<i64> = outs.iter().scan(0, |sum, out| Some(std::mem::replace(sum, *sum + out))).collect();
    let slices = |x: &Tensor| -> Vec<Tensor> {
        let parts = firsts.iter().zip(outs).map(|(first, out)| x.narrow(0, *first, *out));
        parts.map(|part| if case.adjacent { part } else { part.copy() }).collect()
    };
    let (mut weights, biases) = (slices(&all), slices(&all_biases));
    let packed: Vec<Nf4> = weights.iter().map(|w| Nf4::quantize(w, kind, false).unwrap()).collect();
    if case.nf4 {
        weights = packed.iter().map(|packed| packed.dense(kind).unwrap()).collect();
    }
    // [member][layer]
    let leaf = |shape: &[i64]| random(shape).to_kind(Kind::Float).set_requires_grad(true);
    let pairs: Vec<Vec<[Tensor; 2]>> = ranks
        .iter()
        .map(|ranks| ranks.iter().zip(outs).map(|(r, out)| [leaf(&[*r, *wide]), leaf(&[*out, *r])]).collect())
        .collect();
    let gradients: Vec<Vec<[Tensor; 2]>> = pairs
        .iter()
        .map(|layers| layers.iter().map(|pair| pair.each_ref().map(|x| x.detach().zeros_like())).collect())
        .collect();
    let key = |member: usize, layer: usize| Key::new(7).numbered(member as u64).numbered(layer as u64);
    let scale = |member: usize| 0.5 + member as f64;
    let group: Vec<AdaptedLayer> = (0..outs.len())
        .map(|layer| AdaptedLayer {
            in_features: *wide,
            out_features: outs[layer],
            matrices: (0..members.len())
                .filter(|&member| ranks[member][layer] > 0)
                .map(|member| Matrices {
                    a: &pairs[member][layer][0],
                    b: &pairs[member][layer][1],
                    gradients: (&gradients[member][layer][0], &gradients[member][layer][1]),
                    member,
                    scale: scale(member),
                    key: key(member, layer),
                })
                .collect(),
        })
        .collect();
    let spans: Vec<Member> = members.iter().map(|&(begin, end, p)| Member { tokens: begin..end, p }).collect();
    let inputs = [0, 1].map(|_| stored(random(&[*tokens, *wide])));
    // The group is the second, behind one without adapters.
    let bare = AdaptedLayer { in_features: *wide, out_features: 4, matrices: Vec::new() };
    let adapters = BatchedAdapters::new(&inputs[0], &spans, &[vec![bare], group]).unwrap();
    let layers: Vec<Layer> = (0..outs.len())
        .map(|at| Layer {
            w: if case.nf4 { Matrix::Nf4(&packed[at]) } else { Matrix::Dense(&weights[at]) },
            bias: case.bias.then(|| &biases[at]),
            segments: &[],
        })
        .collect();
    let x_ours = inputs.each_ref().map(|x| x.copy().set_requires_grad(true));
    let outputs = x_ours.each_ref().map(|x| {
        let leaf = Some(&pairs[0][0][0]);
        Tensor::cat(&adapters.linears(1, x, &layers, leaf, &token_keys).unwrap(), 1)
    });

    let as_double = |x: &Tensor| x.to_kind(Kind::Double).detach().copy().set_requires_grad(true);
    let reference: Vec<Vec<[Tensor; 2]>> =
        pairs.iter().map(|layers| layers.iter().map(|pair| pair.each_ref().map(as_double)).collect()).collect();
    let x_reference = inputs.each_ref().map(as_double);
    let expected = x_reference.each_ref().map(|x| {
        let of_layer = |layer: usize| {
            let mut y = x.matmul(&weights[layer].to_kind(Kind::Double).tr());
            if case.bias {
                y += biases[layer].to_kind(Kind::Double);
            }
            for (member, &span) in members.iter().enumerate().filter(|(member, _)| ranks[*member][layer] > 0) {
                let (begin, end, _) = span;
                let dropped = x.narrow(0, begin, end - begin) * mask(&token_keys, span, *wide, key(member, layer));
                let [a, b] = &reference[member][layer];
                let part = dropped.matmul(&a.tr()).matmul(&b.tr()) * scale(member);
                let rest = [y.narrow(0, 0, begin), y.narrow(0, begin, end - begin) + part];
                y = Tensor::cat(&[&rest[0], &rest[1], &y.narrow(0, end, tokens - end)], 0);
            }
            y
        };
        Tensor::cat(&(0..outs.len()).map(of_layer).collect::<Vec<_>>(), 1)
    });
    let close = |name: &str, actual: &Tensor, expected: &Tensor| {
        let distance = relative_error(actual, expected);
        assert!(distance < bound, "{what}: {name} is off by {distance:.1e}");
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for (actual, expected) in outputs.iter().zip(&expected) {
        close("output", actual, expected);
        let weights = random(&expected.size());
        ours.push((actual.to_kind(Kind::Double) * &weights).sum(Kind::Double));
        theirs.push((expected * weights).sum(Kind::Double));
    }
    (&ours[0] + &ours[1]).backward();
    (&theirs[0] + &theirs[1]).backward();
    for (actual, expected) in x_ours.iter().zip(&x_reference) {
        close("dx", &actual.grad(), &expected.grad());
    }
    for (member, layers) in gradients.iter().enumerate() {
        for (layer, pair) in layers.iter().enumerate().filter(|(layer, _)| ranks[member][*layer] > 0) {
            let names = ["A", "B"].map(|name| format!("{name} of adapter {member} in layer {layer}"));
            for (at, name) in names.iter().enumerate() {
                close(name, &pair[at], &reference[member][layer][at].grad());
            }
        }
    }
}

#[test]
fn one_adapter_on_all_tokens() {
    with_kernels("one_adapter_on_all_tokens", || {
        for p in [0.0, 0.3] {
            check(&format!("alone, p {p}"), &Case::alone(p));
            check(&format!("one layer, p {p}"), &Case { outs: vec![7], ranks: vec![vec![4]], ..Case::alone(p) });
            check(&format!("4-bit, p {p}"), &Case { nf4: true, bias: false, ..Case::alone(p) });
        }
        // Scales do not differ, but ranks do, and a layer has none.
        check("ranks", &Case { ranks: vec![vec![2, 0, 5]], ..Case::alone(0.3) });
    });
}

#[test]
fn several_adapters_of_different_rank() {
    with_kernels("several_adapters_of_different_rank", || {
        for p in [0.0, 0.4] {
            let case = Case::of_three().with_dropout(p);
            check(&format!("three, p {p}"), &case);
            check(&format!("apart, p {p}"), &Case { adjacent: false, ..case.clone() });
            check(&format!("no bias, p {p}"), &Case { bias: false, adjacent: false, ..case });
        }
    });
}

/// More columns than one block holds, and outputs for which a block-diagonal B would not pay.
#[test]
fn many_columns() {
    with_kernels("many_columns", || {
        let ranks = vec![vec![200, 200], vec![150, 150], vec![100, 90]];
        let members = vec![(0, 4, 0.0), (4, 10, 0.0), (12, 23, 0.0)];
        check("blocks", &Case { outs: vec![40, 9], ranks, members, ..Case::of_three() }.with_dropout(0.2));
        let (members, ranks) = (vec![(0, 300, 0.0), (300, 513, 0.0)], vec![vec![120, 128], vec![128, 100]]);
        let wide = Case { tokens: 520, outs: vec![2048, 2048], members, ranks, ..Case::of_three() };
        check_in("wide", &wide, Kind::Float, BOUNDS[0].1);
        check_in("wide, dropout", &wide.with_dropout(0.2), Kind::BFloat16, BOUNDS[1].1);
    });
}

/// The tokens of one adapter do not reach another, whatever its values.
#[test]
fn what_is_not_finite_stays_in_its_output() {
    with_kernels("what_is_not_finite_stays_in_its_output", || {
        let x = random(&[4, 8]).to_kind(Kind::Float);
        let (mut a, b) = (random(&[2, 8]).to_kind(Kind::Float), random(&[8, 2]).to_kind(Kind::Float));
        let healthy = [a.copy(), b.copy()];
        let _ = a.fill_(f64::NAN);
        let gradients = [a.zeros_like(), b.zeros_like()];
        let matrices = |pair: [&'static Tensor; 2], member: usize| Matrices {
            a: pair[0],
            b: pair[1],
            gradients: (Box::leak(Box::new(gradients[0].copy())), Box::leak(Box::new(gradients[1].copy()))),
            member,
            scale: 1.0,
            key: Key::new(1),
        };
        let leaked = |x: &Tensor| -> &'static Tensor { Box::leak(Box::new(x.shallow_clone())) };
        let layer = AdaptedLayer {
            in_features: 8,
            out_features: 8,
            matrices: vec![
                matrices([leaked(&a), leaked(&b)], 0),
                matrices([leaked(&healthy[0]), leaked(&healthy[1])], 1),
            ],
        };
        let members = [Member { tokens: 0..2, p: 0.0 }, Member { tokens: 2..4, p: 0.0 }];
        let adapters = BatchedAdapters::new(&x, &members, &[vec![layer]]).unwrap();
        let w = random(&[8, 8]).to_kind(Kind::Float);
        let token_keys = Tensor::zeros([4], (Kind::Int64, device()));
        let layers = [Layer { w: Matrix::Dense(&w), bias: None, segments: &[] }];
        let y = adapters.linears(0, &x, &layers, None, &token_keys).unwrap().remove(0);
        let sums = Vec::<f64>::try_from(y.sum_dim_intlist(1, false, Kind::Double)).unwrap();
        assert!(sums[..2].iter().all(|sum| sum.is_nan()) && sums[2..].iter().all(|sum| sum.is_finite()), "{sums:?}");
    });
}
