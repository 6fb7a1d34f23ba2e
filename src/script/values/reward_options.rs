//! The options of training on rewards: the functions of the script that give them.

use crate::eval::prompt::PromptOptions;
use crate::options;
use crate::options::{Mismatch, OptionType, Value};
use rhai::{FnPtr, Map};

options! {
    #[derive(Debug, Clone)]
    pub struct RewardOptions {
        /// What an answer is worth: `|answer, row|` returns a number or a bool, or `()` where it cannot say. A map of such
        /// functions adds their rewards up, and logs each.
        pub reward: Option<RewardOption> = None, alias ["rewards", "reward_funcs"], words "needed for \"grpo\"";
        /// By the names of the functions in `reward`: what their rewards are multiplied by.
        pub reward_weights: Map = Map::new(), words "1 for each";
        pub prompts: PromptOptions = PromptOptions::default(), is set;
    }
}

/// What gives answers their rewards: a function, or several by name.
#[derive(Debug, Clone)]
pub struct RewardOption(Vec<(String, FnPtr)>);

/// The name of a single function in logs.
const REWARD: &str = "reward";

impl RewardOption {
    /// By their names, in the order of the names.
    pub fn functions(self) -> Vec<(String, FnPtr)> {
        self.0
    }
}

impl OptionType for RewardOption {
    fn type_name() -> String {
        "function or map".to_owned()
    }
    fn expected() -> String {
        "a function |answer, row|, or a map of such functions by name".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        if let Ok(function) = FnPtr::from_value(value) {
            return Ok(RewardOption(vec![(REWARD.to_owned(), function)]));
        }
        let mismatch = || Mismatch::of::<Self>(value).with_hint("as in reward: |answer, row| answer == row.wanted");
        let named = value.as_map().filter(|named| !named.is_empty()).ok_or_else(mismatch)?;
        let function =
            |(name, value): &(String, Value)| Ok((name.clone(), FnPtr::from_value(value).map_err(|_| mismatch())?));
        Ok(RewardOption(named.iter().map(function).collect::<Result<_, _>>()?))
    }
    fn to_value(&self) -> Value {
        Value::Map(self.0.iter().map(|(name, function)| (name.clone(), function.to_value())).collect())
    }
}
