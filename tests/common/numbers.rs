//! Numbers of JSON files, and distances between tensors.

use serde_json::Value;
use tch::{Device, Kind, Tensor};

pub fn floats(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

pub fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Both in f64 on the CPU; they must have the same size.
fn doubles(found: &Tensor, expected: &Tensor) -> (Tensor, Tensor) {
    assert_eq!(found.size(), expected.size());
    let double = |x: &Tensor| x.to_device(Device::Cpu).to_kind(Kind::Double);
    (double(found), double(expected))
}

/// Normalised squared error: the squared error over the squared size of the expected tensor.
pub fn nmse(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = doubles(found, expected);
    let error = (&found - &expected).square().sum(Kind::Double).double_value(&[]);
    error / expected.square().sum(Kind::Double).double_value(&[]).max(1e-300)
}

/// The norm of the error over the norm of the expected tensor.
pub fn relative_error(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = doubles(found, expected);
    ((&found - &expected).norm() / expected.norm().clamp_min(1e-30)).double_value(&[])
}

/// The largest error over the largest expected value.
pub fn largest_error(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = doubles(found, expected);
    let largest = |x: &Tensor| x.abs().max().double_value(&[]);
    largest(&(&found - &expected)) / largest(&expected)
}
