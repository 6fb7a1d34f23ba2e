//! Models and data sets by name, and the weights in them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod datasets;
mod fake;
mod models;
mod server;
mod weights;
