//! The options of nested ranks: several ranks that one adapter is trained for.
//!
//! The first k rows of A and columns of B are an adapter of rank k, for each k of `nested_ranks`. Four losses train these
//! prefixes together, as Matryoshka representations are (Kusupati et al., 2022); all but "all" take one pass:
//!
//! | `nested_loss` | what a step minimises | from |
//! |---|---|---|
//! | "all" | the weighted mean of the losses of all prefixes | Matryoshka Representation Learning, equation 1 |
//! | "rows" | the same in expectation: each row of a batch goes through one prefix | as "all", sampled by row |
//! | "sampled" | the same in expectation: all rows of a step go through one prefix | DyLoRA (Valipour et al., 2023) |
//! | "outputs" | the loss of the weighted mean of the prefixes' outputs in each layer | MatryoshkaLoRA (Modoranu et al., 2026) |

use crate::options;
use crate::options::Refusal;
use serde::{Deserialize, Serialize};

/// The loss that trains all prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NestedLoss {
    All,
    Rows,
    Sampled,
    Outputs,
}

crate::choices!(
    NestedLoss,
    [
        ("rows", NestedLoss::Rows),
        ("all", NestedLoss::All),
        ("sampled", NestedLoss::Sampled),
        ("outputs", NestedLoss::Outputs),
    ]
);

/// What the output of a prefix is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NestedScale {
    /// The scale that an adapter of the prefix's rank has with the same alpha.
    Rank,
    /// The scale of the whole adapter.
    Fixed,
}

crate::choices!(NestedScale, [("rank", NestedScale::Rank), ("fixed", NestedScale::Fixed)]);

options! {
    /// How the prefixes of an adapter are trained together.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    pub struct NestedOptions {
        /// Ranks of prefixes that are trained together, ascending, `r` the last, as in `[1, 2, 4, 8]`: one run for all of
        /// these ranks.
        #[serde(rename = "nested_ranks", skip_serializing_if = "Vec::is_empty")]
        pub ranks: Vec<i64> = Vec::new(), name "nested_ranks", range at_least(1.0);
        /// "rows" sends each row of a batch through one prefix, "all" every row through all of them (one pass for each),
        /// "sampled" all rows of a step through one; "outputs" takes the mean of the prefixes' outputs in each layer.
        #[serde(rename = "nested_loss", skip_serializing_if = "is_default_loss")]
        pub loss: NestedLoss = NestedLoss::Rows, name "nested_loss";
        /// How much each prefix counts; only their ratios matter.
        #[serde(rename = "nested_weights", skip_serializing_if = "Vec::is_empty")]
        pub weights: Vec<f64> = Vec::new(), name "nested_weights", range at_least(0.0), words "all the same";
        /// "rank" scales a prefix as an adapter of its rank with the same alpha, "fixed" all of them as the whole adapter.
        #[serde(rename = "nested_scale", skip_serializing_if = "is_default_scale")]
        pub scale: NestedScale = NestedScale::Rank, name "nested_scale";
    }
}

fn is_default_loss(loss: &NestedLoss) -> bool {
    *loss == NestedOptions::default().loss
}

fn is_default_scale(scale: &NestedScale) -> bool {
    *scale == NestedOptions::default().scale
}

impl NestedOptions {
    /// Is there more than one prefix to train? The whole rank alone is plain LoRA.
    pub fn is_nested(&self) -> bool {
        self.ranks.len() > 1
    }

    /// Values that do not go together, in an adapter of rank `r`.
    pub fn problem_with(&self, r: i64) -> Option<Refusal> {
        let Self { ranks, weights, .. } = self;
        if ranks.is_empty() {
            let names = [("nested_weights", !weights.is_empty())];
            let unused = names.into_iter().chain([
                ("nested_loss", !is_default_loss(&self.loss)),
                ("nested_scale", !is_default_scale(&self.scale)),
            ]);
            let (name, _) = unused.into_iter().find(|(_, is_set)| *is_set)?;
            let refusal = Refusal::new(name, "it beside `nested_ranks`", "it alone");
            return Some(refusal.with_hint("name the ranks of the prefixes, e.g. nested_ranks: [1, 2, 4, 8] for r: 8"));
        }
        let is_ascending = ranks.windows(2).all(|pair| pair[0] < pair[1]);
        if !is_ascending || ranks.last() != Some(&r) {
            let refusal =
                Refusal::new("nested_ranks", format!("ascending ranks of which `r`, {r}, is the last"), listed(ranks));
            return Some(refusal.with_hint("write the ranks from low to high, and set `r` to the last"));
        }
        if !weights.is_empty() && weights.len() != ranks.len() {
            return Some(Refusal::new(
                "nested_weights",
                format!("{} numbers, one for each rank", ranks.len()),
                weights.len().to_string(),
            ));
        }
        let has_no_weight = !weights.is_empty() && weights.iter().sum::<f64>() <= 0.0;
        has_no_weight.then(|| Refusal::new("nested_weights", "a weight above 0", "only zeros"))
    }

    /// How much each prefix counts; they add up to 1.
    pub fn shares(&self) -> Vec<f64> {
        let total: f64 = self.weights.iter().sum();
        match self.weights.as_slice() {
            [] => vec![1.0 / self.ranks.len().max(1) as f64; self.ranks.len()],
            weights => weights.iter().map(|weight| weight / total).collect(),
        }
    }

    /// How often a step computes each of its rows.
    pub fn passes(&self) -> usize {
        if self.is_nested() && self.loss == NestedLoss::All {
            self.shares().iter().filter(|share| **share > 0.0).count()
        } else {
            1
        }
    }
}

fn listed(ranks: &[i64]) -> String {
    let ranks: Vec<String> = ranks.iter().map(i64::to_string).collect();
    format!("[{}]", ranks.join(", "))
}
