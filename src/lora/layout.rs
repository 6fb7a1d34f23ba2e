//! Which leaf of an adapter is what: names, shapes and places of its parameters.
//!
//! Names are those of PEFT's files, without its prefix.

use super::spec::{Bias, LoraSpec};
use super::targets::{is_saved, Target};
use crate::model::shapes::{linear_shapes, LinearShape, EMBEDDING};
use crate::model::Config;

/// Names and shapes of the leaves, and where to find them.
#[derive(Debug, Default)]
pub struct Layout {
    pub shapes: Vec<(String, Vec<i64>)>,
    /// By [`LinearShape::index`].
    linears: Vec<Places>,
    /// The copy of the embeddings, `[vocabulary, width]`.
    pub embedding: Option<usize>,
}

/// What an adapter trains in one linear layer: places among its leaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Places {
    /// Of the layer among the targets. A and B are leaves 2 · target and 2 · target + 1.
    pub target: Option<usize>,
    /// `[out_features]`, DoRA's.
    pub magnitude: Option<usize>,
    /// The layer's own weight, trained whole.
    pub weight: Option<usize>,
    pub bias: Option<usize>,
}

impl Layout {
    pub fn new(spec: &LoraSpec, targets: &[Target], config: &Config) -> Self {
        let linears = linear_shapes(config);
        let mut layout = Layout { linears: vec![Places::default(); linears.len()], ..Layout::default() };
        for (at, Target { linear, r, .. }) in targets.iter().enumerate() {
            layout.linears[linear.index].target = Some(at);
            layout.add(format!("{}.lora_A.weight", linear.name), vec![*r, linear.in_features]);
            layout.add(format!("{}.lora_B.weight", linear.name), vec![linear.out_features, *r]);
        }
        for linear in &linears {
            layout.add_whole(spec, linear);
        }
        if is_saved(spec, EMBEDDING) {
            let shape = vec![config.vocab_size, config.hidden_size];
            layout.embedding = Some(layout.add(format!("{EMBEDDING}.weight"), shape));
        }
        layout
    }

    /// What stands beside A and B.
    fn add_whole(&mut self, spec: &LoraSpec, linear: &LinearShape) {
        let LinearShape { index, name, in_features, out_features, .. } = linear;
        let mut places = self.linears[*index];
        let is_target = places.target.is_some();
        if spec.use_dora && is_target {
            places.magnitude = Some(self.add(format!("{name}.lora_magnitude_vector"), vec![*out_features]));
        }
        let saved = is_saved(spec, name);
        if saved {
            places.weight = Some(self.add(format!("{name}.weight"), vec![*out_features, *in_features]));
        }
        let trains_bias = saved || spec.bias == Bias::All || (spec.bias == Bias::LoraOnly && is_target);
        if linear.bias && trains_bias {
            // PEFT wraps a target: the layer itself is its `base_layer`.
            let name = if is_target { format!("{name}.base_layer.bias") } else { format!("{name}.bias") };
            places.bias = Some(self.add(name, vec![*out_features]));
        }
        self.linears[*index] = places;
    }

    fn add(&mut self, name: String, shape: Vec<i64>) -> usize {
        self.shapes.push((name, shape));
        self.shapes.len() - 1
    }

    /// What is trained in this layer.
    pub fn of(&self, linear: &LinearShape) -> Places {
        self.linears.get(linear.index).copied().unwrap_or_default()
    }

    /// The number of trained values.
    pub fn count(&self) -> u64 {
        (0..self.shapes.len()).map(|leaf| self.size(leaf)).sum()
    }

    /// The number of values beyond those of the base. PEFT trains the base's biases
    /// themselves, so that they count once.
    pub fn added(&self) -> u64 {
        let own = |places: &&Places| places.weight.is_none();
        let biases = self.linears.iter().filter(own).filter_map(|places| places.bias);
        self.count() - biases.map(|leaf| self.size(leaf)).sum::<u64>()
    }

    fn size(&self, leaf: usize) -> u64 {
        self.shapes[leaf].1.iter().product::<i64>() as u64
    }
}

impl Places {
    pub fn is_empty(&self) -> bool {
        self.target.is_none() && self.weight.is_none() && self.bias.is_none()
    }
}
