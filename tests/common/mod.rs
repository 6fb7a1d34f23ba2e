//! What several test programs share; each file holds one concept.
//!
//! A test program takes it in by `mod common;`. What only one of them uses stays there.

// Each program uses some of it.
#![allow(dead_code)]

pub mod cases;
pub mod files;
pub mod gradients;
pub mod models;
pub mod needs;
pub mod numbers;
pub mod program;
pub mod session;
pub mod terminal;
