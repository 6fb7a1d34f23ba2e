//! The chart of a memory plan: a stacked bar for each method, lorhai's above that of the Python recipe.

use super::bars::{Bar, Bars};
use crate::train::memory::{Need, Parts, Plan};

/// One bar for each method and recipe, in GB.
pub fn memory_chart(plan: &Plan) -> Bars {
    Bars {
        title: "Memory of a training step".into(),
        subtitle: plan.headline(),
        x: "GB (10⁹ bytes)".into(),
        parts: Parts::default().named().map(|(name, _)| name.to_owned()).into(),
        bars: plan.needs.iter().flat_map(bars).collect(),
        style: Default::default(),
        notes: vec![
            "* held against measured steps; all others by formula.".into(),
            "Python: transformers and peft with SDPA, logits of all tokens in f32, without the working memory of operations.".into(),
        ],
    }
}

fn bars(need: &Need) -> [Bar; 2] {
    let mark = if need.measured { "lorhai *" } else { "lorhai" };
    [(mark, &need.ours, true), ("Python", &need.python, false)].map(|(program, parts, opens_group)| Bar {
        name: format!("{}, {program}", need.method.name()),
        values: parts.named().map(|(_, bytes)| bytes as f64 / 1e9).into(),
        label: crate::format::bytes(parts.total()),
        opens_group,
    })
}
