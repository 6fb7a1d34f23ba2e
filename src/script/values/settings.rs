//! The names of declared options of adapters, training and generation.

use crate::eval::config::GenerationConfig;
use crate::lora::LoraSpec;
use crate::options::{Declared, OptionSet};
use crate::train::TrainConfig;

/// The name of an option of adapters, training or generation that may be given by Python's name.
pub fn short_name(name: &str) -> Option<&'static str> {
    find(name).map(|option| option.name)
}

/// Python's names of such an option.
pub fn aliases(name: &str) -> &'static [&'static str] {
    find(name).map_or(&[], |option| option.aliases)
}

fn find(name: &str) -> Option<&'static Declared> {
    let tables = [LoraSpec::table(), TrainConfig::table(), GenerationConfig::table()];
    tables.into_iter().find_map(|table| table.find(name))
}
