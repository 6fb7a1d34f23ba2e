//! The option `optim` of transformers. The only optimizer here is AdamW with f32 states; names of AdamW, also with
//! quantised or paged states, are accepted, all others refused.

use crate::format;
use crate::options::{Mismatch, OptionType, Value};

/// Names of AdamW itself: the same numbers, except for the order of operations.
const SAME: [&str; 6] =
    ["adamw", "adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused", "adamw_hf"];
/// Names of AdamW with quantised or paged states, which save memory and change the numbers a little.
const SMALLER: [&str; 7] = [
    "adamw_8bit",
    "adamw_bnb_8bit",
    "adamw_torch_8bit",
    "adamw_torch_4bit",
    "paged_adamw",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
];
/// Bytes of the two moments of one trained value.
const STATE_BYTES: u64 = 8;

/// The name under which the user chose AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Optim {
    #[default]
    Default,
    Same(&'static str),
    Smaller(&'static str),
}

impl Optim {
    /// `None` for the name of another optimizer.
    pub fn parse(name: &str) -> Option<Self> {
        let known = |names: &[&'static str]| names.iter().copied().find(|known| *known == name);
        known(&SAME).map(Optim::Same).or_else(|| known(&SMALLER).map(Optim::Smaller))
    }

    /// The note for the user who chose it; `trained` is the number of trained values.
    pub fn note(self, trained: u64) -> Option<String> {
        let states = || format::bytes(trained * STATE_BYTES);
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

impl OptionType for Optim {
    fn type_name() -> String {
        "string".to_owned()
    }
    fn expected() -> String {
        "a name of AdamW, the only optimizer".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let Some(name) = value.as_str() else { return Err(Mismatch::expected("string", value)) };
        Optim::parse(name).ok_or_else(|| {
            Mismatch::of::<Self>(value).with_hint(
                "leave it out to train with AdamW, whose numbers differ; names that mean AdamW are accepted, such as \
                 \"adamw_torch\" and \"paged_adamw_8bit\"",
            )
        })
    }
    fn to_value(&self) -> Value {
        match self {
            Optim::Default => Value::Text("adamw_torch".to_owned()),
            Optim::Same(name) | Optim::Smaller(name) => Value::Text((*name).to_owned()),
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
            assert_eq!(Optim::parse(other), None, "{other}");
        }
    }
}
