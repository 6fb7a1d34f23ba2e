//! The documentation of functions, and what is made of it: the reference, pages for a terminal, definitions for editors.

pub mod definitions;
pub mod docs;
pub mod function;
pub mod help;
pub mod option_list;
pub mod pages;
