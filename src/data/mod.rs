//! Rows, chat templates, tokens, batches: everything between a data file and the ids and
//! labels that a model is trained on.
//!
//! A row on its way: [`read`] makes a [`Dataset`] of rows; [`row_format`] recognises their type and [`example`] reads one;
//! [`template`] renders conversations and [`spans`] finds the parts to train on; [`tokenize`] makes ids and labels, [`pack`]
//! puts short rows together, [`cache`] stores the result; [`TokenizedDataset`] gives [`Batch`]es; [`audit`] fails on broken
//! supervision.
//!
//! Has no tensors: a [`batch::Batch`] is in host memory.

mod array;
pub mod audit;
pub mod batch;
mod bounds;
mod cache;
mod common;
pub mod dataset;
mod describe;
mod escapes;
pub mod example;
pub mod jinja;
pub mod leak;
mod marks;
pub mod messages;
pub mod number;
mod numpy;
pub mod ollama;
pub mod options;
pub mod pace;
mod pack;
pub mod preference;
pub mod preview;
pub mod profile;
pub mod python;
pub mod read;
pub mod row_format;
mod rows;
mod share_gpt;
mod show;
pub mod spans;
pub mod split;
pub mod store;
pub mod template;
pub mod tokenize;
pub mod tokenized;
mod turns;

pub use audit::{audit, ensure_supervised, Finding, Severity};
pub use batch::{Batch, IGNORE};
pub use dataset::{Dataset, Row, RowRef};
pub use describe::ColumnSummary;
pub use options::{AssistantSpan, LossOn, TokenizeOptions, Truncation};
pub use pace::Pace;
pub use profile::TemplateProfile;
pub use read::LoadOptions;
pub use row_format::RowFormat;
pub use split::{Like, ShuffleOptions, SplitOptions, SplitTokensOptions};
pub use store::{RowKind, TokenizedInfo, TokenizedRow};
pub use template::ChatTemplate;
pub use tokenize::{tokenize, tokenize_at, tokenize_sample, tokenize_weighted};
pub use tokenized::TokenizedDataset;
