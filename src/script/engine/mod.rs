//! A session of scripts: the engine, its limits, and what a native function can learn of the running script.

pub mod args;
pub mod budget;
pub mod destination;
pub mod downloads;
pub mod guard;
pub mod interactive;
pub mod modules;
pub mod origin;
pub mod redirect;
pub mod rehearsal;
pub mod running;
pub mod session;
pub mod sizes;
pub mod slices;
pub mod stack;
pub mod state;
pub mod streaming;
pub mod summary;
