//! HTML pages: the report of a sweep, and answers side by side.

pub mod about;
pub mod before_after;
pub mod page;
pub mod publish;
mod template;
