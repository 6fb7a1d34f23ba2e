//! The script host: binds the library to Rhai. The only folder that knows Rhai.
//!
//! A [`Session`] is one engine with lorhai's functions, run on a large stack:
//!
//! ```
//! use lorhai::script::{on_large_stack, Session};
//!
//! let printed = on_large_stack(|| {
//!     let mut session = Session::new();
//!     session.engine_mut().register_fn("twice", |x: i64| 2 * x);
//!     session.capture_prints();
//!     session.run_source("example", "print(`the answer is ${twice(21)}`);")?;
//!     Ok::<_, lorhai::script::Failure>(session.printed())
//! })
//! .expect("the thread starts")
//! .expect("the script runs");
//! assert_eq!(printed, "the answer is 42\n");
//! ```
//!
//! | folder | defines |
//! |---|---|
//! | `engine/` | a session: the engine, its limits and its state while a script runs |
//! | `values/` | values across the border: options, errors, JSON, callbacks, handles |
//! | `language/` | messages in the user's words, `lorhai check`, habits from Python |
//! | `catalogue/` | the documentation of functions: reference, pages, definitions for editors |
//! | `api/` | the functions themselves, one file for each area |

pub mod api;
pub mod catalogue;
mod engine;
mod language;
#[cfg(test)]
mod tests;
mod values;

/// The script language, for programs that register their own functions.
pub use rhai;

pub use crate::options::Number;
pub use catalogue::option_list::ListedOption;
pub use engine::budget::parse_size;
pub use engine::interactive::{Variable, IT};
pub use engine::running::running;
pub use engine::session::Session;
pub use engine::stack::on_large_stack;
pub use engine::state::State;
pub use language::render::{Failure, Place, Severity};
pub use values::callback::Callback;
pub use values::convert::RhaiResultOf;
pub use values::from_script::{describe, type_name, FromScript};
pub use values::handles::{register_iterator, Handle};
pub use values::json::{to_dynamic, to_json, to_json_ordered, to_row_value};
pub use values::options::Options;
pub use values::value::Value;
