//! The option that puts rows of similar length into one batch, under its names in transformers 4 and 5.

use crate::error::Result;
use crate::options;
use crate::options::{OptionSet, Refusal, Source, Table, Value};
use serde::Serialize;

/// Left out of a trial's settings where it is off, so that trials made before the option existed stay finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Grouping {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub group_by_length: bool,
}

options! {
    #[derive(Debug, Clone, PartialEq)]
    struct GroupingOptions {
        /// Put rows of similar length into one batch.
        group_by_length: Option<bool> = None, words "false";
        /// The same, by its name in transformers 5.
        train_sampling_strategy: Option<Strategy> = None, words "\"random\"";
    }
    rule GroupingOptions::rule;
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Strategy {
    Random,
    GroupByLength,
}

crate::choices!(Strategy, [("random", Strategy::Random), ("group_by_length", Strategy::GroupByLength)]);

impl GroupingOptions {
    fn by_strategy(&self) -> Option<bool> {
        self.train_sampling_strategy.map(|strategy| strategy == Strategy::GroupByLength)
    }

    fn rule(&self) -> Option<Refusal> {
        let differ = matches!((self.group_by_length, self.by_strategy()), (Some(one), Some(other)) if one != other);
        let refusal = Refusal::new("group_by_length", "the same order as `train_sampling_strategy`", "another one");
        differ.then(|| refusal.with_hint("leave one of them out"))
    }
}

impl OptionSet for Grouping {
    fn table() -> &'static Table {
        GroupingOptions::table()
    }

    fn update(&mut self, source: &mut dyn Source) -> Result<Vec<&'static str>> {
        let mut options = GroupingOptions::default();
        let names = options.update(source)?;
        if let Some(refusal) = options.problem() {
            return Err(source.refuse(refusal));
        }
        self.group_by_length = options.group_by_length.or(options.by_strategy()).unwrap_or(self.group_by_length);
        Ok(names)
    }

    fn values(&self) -> Vec<(&'static str, Value)> {
        vec![("group_by_length", Value::Bool(self.group_by_length))]
    }
}
