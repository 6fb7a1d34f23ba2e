//! Values across the border between scripts and the library.

pub mod callback;
pub mod caught;
pub mod convert;
pub mod from_script;
pub mod handles;
pub mod json;
pub mod number_format;
pub mod option_value;
pub mod options;
pub mod value;
