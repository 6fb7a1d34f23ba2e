//! What other tools call their optimizers. There is one here, AdamW with its states in f32; names
//! that stand for it, or for it with smaller or paged states, are taken, all others refused.

use crate::amount;
use crate::error::{Error, Result};

/// AdamW itself: the same numbers, but for the order of operations.
const SAME: [&str; 6] =
    ["adamw", "adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused", "adamw_hf"];
/// AdamW whose states are quantised or paged: that saves memory, and moves numbers a little.
const SMALLER: [&str; 7] = [
    "adamw_8bit",
    "adamw_bnb_8bit",
    "adamw_torch_8bit",
    "adamw_torch_4bit",
    "paged_adamw",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
];
/// Bytes of the two moments of a trained value.
const STATE_BYTES: u64 = 8;

/// The name that AdamW was asked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Optim {
    #[default]
    Default,
    Same(&'static str),
    Smaller(&'static str),
}

impl Optim {
    pub fn parse(name: &str) -> Result<Self> {
        let known = |names: &[&'static str]| names.iter().copied().find(|known| *known == name);
        match (known(&SAME), known(&SMALLER)) {
            (Some(name), _) => Ok(Optim::Same(name)),
            (_, Some(name)) => Ok(Optim::Smaller(name)),
            _ => Err(Error::input(format!(
                "option `optim`: expected AdamW, the only optimizer there is, found `{name}`"
            ))
            .with_hint(format!(
                "with AdamW the numbers will be others; names that stand for it: {}",
                [&SAME[..], &SMALLER[..]].concat().join(", ")
            ))),
        }
    }

    /// What to tell the user who asked for it, where `trained` values are trained.
    pub fn note(self, trained: u64) -> Option<String> {
        let states = || amount::bytes(trained * STATE_BYTES);
        match self {
            Optim::Default | Optim::Same("adamw" | "adamw_torch") => None,
            Optim::Same(name) => {
                Some(format!("optim \"{name}\": AdamW as torch computes it; its states take {}", states()))
            }
            Optim::Smaller(name) => Some(format!(
                "optim \"{name}\": AdamW with its states in f32, which take {} here, for they belong to the trained \
                 parameters alone",
                states()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_save_memory_are_taken_and_others_refused() {
        let note = Optim::parse("paged_adamw_8bit").unwrap().note(1_000_000).unwrap();
        assert!(note.contains("AdamW with its states in f32, which take 8.0 MB"), "{note}");
        assert_eq!(Optim::parse("adamw_torch").unwrap().note(1), None);
        assert!(Optim::parse("adamw_torch_fused").unwrap().note(1).is_some());
        for other in
            ["sgd", "adafactor", "lion_8bit", "adagrad", "paged_lion_8bit", "galore_adamw", "adamw_anyprecision"]
        {
            let error = Optim::parse(other).unwrap_err();
            assert!(error.message.ends_with(&format!("found `{other}`")), "{error}");
        }
    }
}
