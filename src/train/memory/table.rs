//! A plan as text: a heading, and a row for each method here and in Python.

use super::{Need, Parts, Plan};
use crate::format::{bytes, thousands};
use crate::table::{table, Align};

impl Plan {
    /// The model and the step, in one line.
    pub fn headline(&self) -> String {
        let dtype = self.precision.name();
        let recompute = if self.gradient_checkpointing { "gradient checkpointing" } else { "no recomputation" };
        format!(
            "{}: {} parameters; {} × {} tokens, {dtype}, {recompute}",
            self.model,
            thousands(self.parameters),
            self.batch_size,
            self.max_length
        )
    }

    /// The table as text.
    pub fn table(&self) -> String {
        let titles = Parts::default().named().map(|(name, _)| name);
        let header = [&["", "trained"], &titles[..], &["total"]].concat();
        let rows = self.needs.iter().flat_map(|need| {
            let mark = if need.measured { "lorhai *" } else { "lorhai" };
            [row(need, mark, &need.ours), row(need, "Python", &need.python)]
        });
        let align = [&[Align::Left][..], &[Align::Right; 9]].concat();
        let table = table(header.into_iter().map(str::to_owned).collect(), rows.collect(), &align);
        format!(
            "{}\n\n{table}\nGB: 10⁹ bytes. * held against measured steps; all others by formula.\nPython: transformers \
             and peft with SDPA, logits of all tokens in f32, without the working memory of operations.",
            self.headline()
        )
    }
}

fn row(need: &Need, who: &str, parts: &Parts) -> Vec<String> {
    let first = [format!("{}, {who}", need.method.name()), thousands(need.trainable)];
    let amounts = parts.named().map(|(_, count)| bytes(count));
    first.into_iter().chain(amounts).chain([bytes(parts.total())]).collect()
}
