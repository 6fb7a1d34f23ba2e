//! A problem that `lorhai check` reports.

use crate::error::Error;
use crate::script::language::render::Severity;
use rhai::Position;

/// Something wrong, and where.
pub struct Problem {
    pub error: Error,
    pub position: Position,
    pub severity: Severity,
}

impl Problem {
    pub fn error(error: Error, position: Position) -> Problem {
        Problem { error, position, severity: Severity::Error }
    }

    pub fn warning(message: String, hint: String, position: Position) -> Problem {
        Problem { error: Error::input(message).with_hint(hint), position, severity: Severity::Warning }
    }
}
