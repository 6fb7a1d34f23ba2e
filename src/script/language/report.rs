//! The report of a run that failed: the innermost error in plain words, where it is, and the calls that led there.

use crate::script::catalogue::function::Catalog;
use crate::script::engine::state::State;
use crate::script::language::check::races;
use crate::script::language::explain;
use crate::script::language::locate::{place, position_text};
use crate::script::language::render::{Failure, Severity};
use crate::script::language::unknown::ErrorContext;
use rhai::{Engine, EvalAltResult, Scope};
use std::ops::Deref;

/// The report of a run that failed with `error`.
pub fn failure(
    error: &EvalAltResult,
    engine: &Engine,
    catalog: &dyn Deref<Target = Catalog>,
    scope: &Scope,
    state: &State,
) -> Failure {
    let mut file = state.script();
    let mut calls = Vec::new();
    let mut inner = error;
    loop {
        let (next, source, call, position) = match inner {
            EvalAltResult::ErrorInFunctionCall(name, source, next, position) => (next, source, called(name), position),
            EvalAltResult::ErrorInModule(path, next, position) => (next, path, "imported".to_string(), position),
            _ => break,
        };
        calls.push(format!("{call} from {}", position_text(&file, *position, state)));
        if !source.is_empty() {
            file.clone_from(source);
        }
        inner = next;
    }
    calls.reverse();
    if let EvalAltResult::ErrorDataRace(what, _) = inner {
        if let Some((error, position)) = races::explain(engine, &state.text(&file).unwrap_or_default(), what) {
            return Failure { error, severity: Severity::Error, place: place(&file, position, state), calls };
        }
    }
    let place = place(&file, inner.position(), state);
    let context = ErrorContext { engine, catalog, scope, state, place: place.as_deref() };
    let error = explain::explain(inner, &context);
    Failure { error, severity: Severity::Error, place, calls }
}

fn called(function: &str) -> String {
    if function.starts_with("anon$") {
        "closure called".to_string()
    } else {
        format!("`{function}` called")
    }
}
