//! A mixture of experts in the place of the MLP (Shazeer et al., 2017): a router sends each token to a few of many small
//! MLPs, and their outputs are added with its weights. Computed as in transformers' Qwen3-MoE and Mixtral. Adapters
//! lie on attention, over a frozen router and frozen experts; full-parameter training trains them.

use super::activation::Activation;
use crate::error::Result;
use crate::native;
use tch::{Kind as Dtype, Tensor};

#[derive(Debug)]
pub struct Experts {
    /// `[experts, hidden_size]`
    pub router: Tensor,
    pub experts: Vec<Expert>,
    pub routing: Routing,
    pub activation: Activation,
}

/// One small MLP.
#[derive(Debug)]
pub struct Expert {
    /// `[intermediate_size, hidden_size]`, as `up`.
    pub gate: Tensor,
    pub up: Tensor,
    /// `[hidden_size, intermediate_size]`
    pub down: Tensor,
}

/// How the router chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    /// The number of experts that a token goes to.
    pub top_k: i64,
    /// Whether the weights of the chosen experts are divided by their sum.
    pub normalises: bool,
    /// Whether the weights are rounded to the dtype of the model (Qwen3); f32 if not (Mixtral).
    pub rounds_weights: bool,
}

/// The experts that the tokens of a pass go to.
struct Assignment {
    /// `[tokens, top_k]`
    weights: Tensor,
    /// int64 `[tokens * top_k]`: the choices, `token * top_k + rank`, ordered by expert.
    choices: Tensor,
    /// int64 `[tokens * top_k]`: where each choice is in `choices`.
    inverse: Tensor,
    /// The number of choices of each expert.
    counts: Vec<i64>,
}

impl Experts {
    /// x `[tokens, hidden_size]`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let assignment = self.assign(x)?;
        let top_k = self.routing.top_k;
        let rows = native::repeat_rows(x, &assignment.choices.f_div_scalar_mode(top_k, "floor")?)?;
        let mut outputs = Vec::new();
        let mut done = 0;
        for (expert, count) in self.experts.iter().zip(&assignment.counts).filter(|(_, count)| **count > 0) {
            outputs.push(expert.forward(&rows.f_narrow(0, done, *count)?, self.activation)?);
            done += count;
        }
        let outputs = Tensor::f_cat(&outputs, 0)?;
        let weights = assignment.weights.f_flatten(0, -1)?.f_index_select(0, &assignment.choices)?;
        let weighted = outputs.f_mul(&weights.f_unsqueeze(1)?)?.f_to_kind(x.f_kind()?)?;
        let by_token = native::take_rows(&weighted, &assignment.inverse, &assignment.choices)?;
        let by_token = by_token.f_view([x.size()[0], top_k, -1])?;
        Ok(by_token.f_sum_dim_intlist([1].as_slice(), false, x.f_kind()?)?)
    }

    fn assign(&self, x: &Tensor) -> Result<Assignment> {
        let logits = x.f_linear(&self.router, None::<&Tensor>)?;
        let wide = if logits.f_kind()? == Dtype::Double { Dtype::Double } else { Dtype::Float };
        let (weights, experts) = logits.f_softmax(-1, wide)?.f_topk(self.routing.top_k, -1, true, true)?;
        let weights = if self.routing.normalises {
            weights.f_div(&weights.f_sum_dim_intlist([-1].as_slice(), true, wide)?)?
        } else {
            weights
        };
        let weights = if self.routing.rounds_weights { weights.f_to_kind(logits.f_kind()?)? } else { weights };
        // A stable sort, so that the tokens of an expert stay in their order.
        let (_, choices) = experts.f_flatten(0, -1)?.f_sort_stable(true, 0, false)?;
        let inverse = choices.f_argsort(0, false)?;
        let counts = experts.f_flatten(0, -1)?.f_bincount(None::<&Tensor>, self.experts.len() as i64)?;
        Ok(Assignment { weights, choices, inverse, counts: Vec::try_from(counts)? })
    }

    /// Router and experts, in the order of [`super::shapes::parameter_shapes`].
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        let experts = self.experts.iter_mut().flat_map(|expert| [&mut expert.gate, &mut expert.up, &mut expert.down]);
        std::iter::once(&mut self.router).chain(experts)
    }

    /// As [`Self::tensors_mut`].
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let experts = self.experts.iter().flat_map(|expert| [&expert.gate, &expert.up, &expert.down]);
        std::iter::once(&self.router).chain(experts)
    }

    /// Another handle on the same weights. Copies nothing.
    pub fn shallow_clone(&self) -> Self {
        let shared = |expert: &Expert| Expert {
            gate: expert.gate.shallow_clone(),
            up: expert.up.shallow_clone(),
            down: expert.down.shallow_clone(),
        };
        let experts = self.experts.iter().map(shared).collect();
        Experts { router: self.router.shallow_clone(), experts, routing: self.routing, activation: self.activation }
    }
}

impl Expert {
    fn forward(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let linear = |weight: &Tensor| x.f_linear(weight, None::<&Tensor>);
        let hidden = activation.gated(&linear(&self.gate)?, &linear(&self.up)?)?;
        Ok(hidden.f_linear(&self.down, None::<&Tensor>)?)
    }
}
