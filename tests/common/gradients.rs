//! Hand-written gradients against autograd in f64.

use super::numbers::relative_error;
use lorhai::native;
use tch::{Device, Kind, Tensor};

/// The device of the tests; `make gpu-test` sets "cuda".
pub fn device() -> Device {
    lorhai::model::device::parse_device(&std::env::var("LORHAI_TEST_DEVICE").unwrap_or("cpu".into())).unwrap()
}

/// Bounds of the relative error of outputs and gradients, by dtype.
pub const BOUNDS: [(Kind, f64); 3] = [(Kind::Double, 1e-10), (Kind::Float, 2e-5), (Kind::BFloat16, 2e-2)];

pub fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Double, device()))
}

/// Runs `ours` in every dtype and `reference` in f64 on the same leaves, rounded to the dtype. Compares the outputs
/// and every gradient of a randomly weighted sum of them.
pub fn compare(
    what: &str,
    inputs: &[Tensor],
    ours: &dyn Fn(&[Tensor]) -> lorhai::Result<Tensor>,
    reference: &dyn Fn(&[Tensor]) -> Tensor,
) {
    for (kind, bound) in BOUNDS {
        let stored: Vec<Tensor> = inputs.iter().map(|x| x.to_kind(kind)).collect();
        let leaves = |kind: Kind| -> Vec<Tensor> {
            stored.iter().map(|x| x.to_kind(kind).detach().copy().set_requires_grad(true)).collect()
        };
        let (x_ours, x_reference) = (leaves(kind), leaves(Kind::Double));
        let (actual, expected) = (ours(&x_ours).unwrap(), reference(&x_reference));
        assert!(
            relative_error(&actual, &expected) < bound,
            "{what} {kind:?}: output is off by {:.1e}",
            relative_error(&actual, &expected)
        );
        let weights = random(&expected.size());
        (actual.to_kind(Kind::Double) * &weights).sum(Kind::Double).backward();
        (expected * weights).sum(Kind::Double).backward();
        for (at, (x_ours, x_reference)) in x_ours.iter().zip(&x_reference).enumerate() {
            let distance = relative_error(&x_ours.grad(), &x_reference.grad());
            assert!(distance < bound, "{what} {kind:?}: gradient {at} is off by {distance:.1e}");
        }
    }
}

/// Runs `checks`, which the test `name` consists of, in this process or, where tensors have no kernels, in one whose
/// kernels run on the host.
pub fn with_kernels(name: &str, checks: fn()) {
    let switch = "LORHAI_KERNELS_ON_HOST";
    if native::has_kernels(&Tensor::zeros([1], (Kind::Float, device()))) {
        return checks();
    }
    assert!(device() == Device::Cpu && std::env::var_os(switch).is_none(), "no kernels on {:?}", device());
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let again = again.args(["--exact", name]).env(switch, "1").output().unwrap();
    let text = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && text.contains("1 passed"), "{text}");
}
