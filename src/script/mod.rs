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
//! | file | defines |
//! |---|---|
//! | `session` | engine, limits, print sink, running a file or a text |
//! | `stack` | the thread with a large stack that scripts run on |
//! | `state` | what a native function can learn of the running script |
//! | `args`, `help` | `args(#{…})`: `--set` values typed by defaults; the help that lists them |
//! | `modules` | `import` beside the script and nowhere else |
//! | `redirect`, `origin` | outputs sent elsewhere; where a run comes from, for its record |
//! | `guard` | a panic in a native function becomes a script error |
//! | `convert`, `json`, `values` | errors, JSON and plain values across the border |
//! | `caught` | the one shape of errors that a script catches |
//! | `number_format` | numbers as text, by Python's forms |
//! | `options` | the one reader of option maps |
//! | `callback` | script closures as Rust closures |
//! | `handles` | models, data sets and the like as script values |
//! | `render`, `explain`, `grammar`, `names`, `brackets` | an error as the user sees it |
//! | `python` | what is written out of habit from Python, and what it is here |
//! | `docs`, `option_list` | the function reference; the options that it lists |
//! | `pages`, `definitions` | the same for a terminal, and for editors |
//! | `interactive`, `value` | a session line by line; a value as plain Rust, to be shown |
//! | `rehearsal` | what `run --dry-run` gathers of a script, and its summary |
//! | `check`, `check/` | what is wrong with a script, found without running it |
//! | `api/` | the functions themselves, one file per area |

pub mod api;
mod args;
mod brackets;
mod callback;
mod caught;
mod check;
mod convert;
pub mod definitions;
pub mod docs;
mod downloads;
mod explain;
mod grammar;
mod guard;
mod handles;
mod help;
mod interactive;
mod json;
mod modules;
mod names;
mod number_format;
mod option_list;
mod options;
mod origin;
pub mod pages;
mod python;
mod redirect;
mod rehearsal;
mod render;
mod session;
mod settings;
mod stack;
mod state;
mod value;
mod values;

/// The script language, for programs that register their own functions.
pub use rhai;

pub use callback::Callback;
pub use convert::RhaiResultOf;
pub use handles::{register_iterator, Handle};
pub use interactive::{Variable, IT};
pub use json::{to_dynamic, to_json, to_json_ordered, to_row_value};
pub use option_list::ListedOption;
pub use options::Options;
pub use render::{Failure, Place, Severity};
pub use session::Session;
pub use stack::on_large_stack;
pub use state::State;
pub use value::Value;
pub use values::{describe, type_name, FromScript, Number};
