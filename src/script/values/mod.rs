//! Values across the border between scripts and the library.

pub mod arguments;
pub mod callback;
pub mod caught;
pub mod convert;
pub mod display;
pub mod elements;
pub mod exercises;
pub mod from_script;
pub mod function_identity;
pub mod grid;
pub mod handles;
pub mod json;
pub mod large_ints;
pub mod number_format;
pub mod objects;
pub mod option_value;
pub mod options;
pub mod order;
pub mod prompts;
pub mod reward_options;
pub mod row_options;
pub mod run_functions;
pub mod sweep_functions;
pub mod sweep_inputs;
pub mod tensor;
pub mod value;
