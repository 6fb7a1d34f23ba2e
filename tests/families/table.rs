//! The properties that are compared, their limits, and the table of the worst deviations.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// What is compared. NMSE is the squared error over the squared size of what transformers or PEFT computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// Logits of base and adapter in f32, against f64.
    Logits,
    /// The same in f64.
    WideLogits,
    /// The loss of base and adapter in f64.
    Loss,
    /// The gradient of each matrix of the adapter in f64, also with gradient checkpointing.
    AdapterGradients,
    /// The gradient of each weight of the base in f64.
    FullGradients,
    /// The losses of twenty steps in f64.
    Losses,
    /// Each matrix of the adapter after them.
    TrainedWeights,
    /// Logits and gradients of documents in packed rows, against each alone.
    Packed,
    /// Logits of rows that are read in pieces, with the cache.
    Cache,
    /// Greedy texts of base and adapter, in f32 and with the cache.
    Greedy,
    /// PEFT's logits with an adapter that lorhai saved.
    SavedAdapter,
    /// transformers' logits of a merged model that lorhai saved, and its weights against PEFT's merged ones.
    Merged,
    /// The weights of a base that lorhai saved.
    SavedBase,
    /// The number of trained and of all parameters, and the names of the targets.
    Counts,
    /// Logits of a merged model from a GGUF file, and of an adapter from one.
    Gguf,
    /// Names and shapes in GGUF files, against those of the gguf package (LLAMA_PYTHON).
    GgufNames,
}

use Property::*;

/// In the order of the table, with its title and its limit. A limit of 0 stands for equality.
const PROPERTIES: [(Property, &str, f64); 16] = [
    (Logits, "logits, f32", 1e-10),
    (WideLogits, "logits, f64", 1e-12),
    (Loss, "loss", 1e-6),
    (AdapterGradients, "LoRA gradients", 1e-9),
    (FullGradients, "all gradients", 1e-9),
    (Losses, "losses of 20 steps", 1e-6),
    (TrainedWeights, "weights after them", 1e-8),
    (Packed, "packed rows", 1e-9),
    (Cache, "cache", 1e-12),
    (Greedy, "greedy texts", 0.0),
    (SavedAdapter, "adapter in PEFT", 1e-10),
    (Merged, "merged", 1e-10),
    (SavedBase, "saved", 0.0),
    (Counts, "counts", 0.0),
    (Gguf, "GGUF", 1e-10),
    (GgufNames, "GGUF names", 0.0),
];

/// The deviations of one case.
pub type Deviations = Vec<(Property, f64)>;

#[derive(Default)]
pub struct Table {
    /// The worst deviation and the number of comparisons, by family and property.
    worst: BTreeMap<(String, Property), (f64, usize)>,
    families: Vec<String>,
    failures: Vec<String>,
}

impl Table {
    /// Enters what `measure` returns for a case of the family. Its error or panic is a failure of the case.
    pub fn attempt(&mut self, family: &str, case: &str, measure: impl FnOnce() -> lorhai::Result<Deviations>) {
        if !self.families.iter().any(|known| known == family) {
            self.families.push(family.to_owned());
        }
        match catch_unwind(AssertUnwindSafe(measure)) {
            Ok(Ok(deviations)) => deviations.into_iter().for_each(|(property, error)| {
                self.enter(family, case, property, error);
            }),
            Ok(Err(error)) => self.failures.push(format!("{case}: {error}")),
            Err(panic) => {
                let message = panic.downcast_ref::<String>().map(String::as_str);
                let message = message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                self.failures.push(format!("{case}: {message}"));
            }
        }
    }

    fn enter(&mut self, family: &str, case: &str, property: Property, error: f64) {
        let (_, title, limit) = PROPERTIES.iter().find(|(known, ..)| *known == property).unwrap();
        // A NaN is within no limit.
        let is_within = error <= *limit;
        if !is_within {
            self.failures.push(format!("{case}: {title}: {error:.1e} is above {limit:.0e}"));
        }
        let (worst, count) = self.worst.entry((family.to_owned(), property)).or_insert((0.0, 0));
        *worst = if is_within { worst.max(error) } else { error.max(*worst) };
        *count += 1;
    }

    #[track_caller]
    pub fn ensure_within_limits(&self) {
        assert!(self.failures.is_empty(), "{} failures:\n{}", self.failures.len(), self.failures.join("\n"));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "| property | limit | {} |", self.families.join(" | "))?;
        writeln!(out, "|---|---|{}", "---|".repeat(self.families.len()))?;
        for (property, title, limit) in PROPERTIES {
            let limit = if limit == 0.0 { "equal".to_owned() } else { format!("{limit:.0e}") };
            write!(out, "| {title} | {limit} |")?;
            for family in &self.families {
                let cell = match self.worst.get(&(family.clone(), property)) {
                    None => "–".to_owned(),
                    Some((0.0, count)) => format!("equal ({count})"),
                    Some((worst, count)) => format!("{worst:.1e} ({count})"),
                };
                write!(out, " {cell} |")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}
