//! The activation function of the MLP, by transformers' names (`hidden_act`).

use super::fields::Fields;
use crate::error::{Error, Result};
use crate::native;
use serde_json::Value;
use tch::Tensor;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Silu,
    /// Exact, with the error function.
    Gelu,
    /// Approximated with tanh.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`
    QuickGelu,
    Relu,
    /// The square of `Relu`.
    Relu2,
    Sigmoid,
    Tanh,
    /// `x`
    Linear,
}

/// Names and what they mean. Some functions have several names, one for each implementation in transformers.
const NAMES: [(&str, Activation); 15] = [
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("quick_gelu", Activation::QuickGelu),
    ("relu", Activation::Relu),
    ("relu2", Activation::Relu2),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
    ("linear", Activation::Linear),
];

impl Activation {
    /// The activation that `key` names; `default` if it is absent.
    pub(super) fn parse(fields: &Fields, key: &str, default: &str) -> Result<Self> {
        let name = match fields.0.get(key) {
            None => default,
            Some(Value::String(name)) => name,
            Some(other) => return Err(Fields::wrong(key, "a string", other)),
        };
        match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, activation)) => Ok(*activation),
            None => Err(Error::model(format!("`{key}`: the activation `{name}` is not supported"))
                .with_hint(format!("supported: {}", NAMES.map(|(name, _)| name).join(", ")))),
        }
    }

    /// `activation(gate) · up`
    pub fn gated(self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        let activated = match self {
            // A fused operation with its own gradient.
            Activation::Silu => return native::swiglu(gate, up),
            Activation::Gelu => gate.f_gelu("none")?,
            Activation::GeluTanh => gate.f_gelu("tanh")?,
            Activation::QuickGelu => gate.f_mul(&gate.f_mul_scalar(1.702)?.f_sigmoid()?)?,
            Activation::Relu => gate.f_relu()?,
            Activation::Relu2 => gate.f_relu()?.f_square()?,
            Activation::Sigmoid => gate.f_sigmoid()?,
            Activation::Tanh => gate.f_tanh()?,
            Activation::Linear => gate.shallow_clone(),
        };
        Ok(activated.f_mul(up)?)
    }
}
