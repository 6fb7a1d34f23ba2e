//! Where something is in a script: file, line and column, by the engine's positions.

use crate::error::Error;
use crate::script::engine::state::State;
use crate::script::language::render::{Failure, Place, Severity};
use rhai::Position;

/// The report of something wrong at a position of the script that was read last.
pub fn failure_at(error: Error, position: Position, severity: Severity, state: &State) -> Failure {
    Failure { error, severity, place: place(&state.script(), position, state), calls: Vec::new() }
}

/// The place of a position in `file`; `None` where the position is unknown.
pub fn place(file: &str, position: Position, state: &State) -> Option<Box<Place>> {
    let (file, line) = state.locate(file, position.line()?);
    let (file, column) = (file.as_str(), position.position().unwrap_or(0));
    let place = match (state.line(file, line), state.last_line(file)) {
        // Behind the end of the script: the end of its last line is shown.
        (None, Some((line, text))) => {
            let column = text.trim_end().chars().count() + 1;
            Place { file: file.to_string(), line, column, text: Some(text) }
        }
        (text, _) => Place { file: file.to_string(), line, column, text },
    };
    Some(Box::new(place))
}

/// A position as text: "FILE:LINE:COLUMN".
pub fn position_text(file: &str, position: Position, state: &State) -> String {
    let Some(line) = position.line() else { return file.to_string() };
    let (file, line) = state.locate(file, line);
    match position.position() {
        Some(column) => format!("{file}:{line}:{column}"),
        None => format!("{file}:{line}"),
    }
}
