//! What is wrong with a script, found without running it: `lorhai check FILE`.
//!
//! Defines the order of things: reading the text, then each kind of problem, all in the order
//! of the script. Calls are `calls`'s, the settings of `args` are `given`'s. What depends on
//! values (columns, types, files) only a run can tell. Imported modules are not looked into.
//!
//! Warnings are for what runs but likely does not do what was meant: `escapes`, `copies`,
//! `numbers`, `unused`. A run shows them too, before it begins. A line that ends with
//! the comment `// noqa` has none.

mod calls;
mod copies;
mod escapes;
mod given;
mod kinds;
mod numbers;
pub(in crate::script) mod races;
mod unused;
mod visit;

use crate::error::Error;
use crate::script::catalogue::docs::Catalog;
use crate::script::engine::state::State;
use crate::script::language::explain::{explain, Surroundings};
use crate::script::language::render::{self, Failure, Severity};
use rhai::{Engine, EvalAltResult, ParseError, ParseErrorType, Position, Scope, AST};

/// Something wrong, and where.
pub struct Problem {
    error: Error,
    position: Position,
    severity: Severity,
}

impl Problem {
    fn error(error: Error, position: Position) -> Problem {
        Problem { error, position, severity: Severity::Error }
    }

    fn warning(message: String, hint: String, position: Position) -> Problem {
        Problem { error: Error::input(message).with_hint(hint), position, severity: Severity::Warning }
    }
}

/// All problems of `text`, which is the script that `state` has begun. The engine must not
/// optimise: constant maps would lose the places of their keys.
pub fn problems(engine: &mut Engine, state: &State, text: &str) -> Vec<Failure> {
    let (ast, mut found) = read(engine, state, text);
    if let Some(ast) = ast {
        found.extend(calls::problems(&ast, engine, state));
        found.extend(given::problems(&ast, engine, text));
        found.extend(races::problems(&ast));
        found.extend(warnings_of(&ast, engine, text));
    }
    in_order(found, state)
}

/// The warnings alone, of a script that can be read; `text` may begin behind empty lines.
pub fn warnings(engine: &Engine, ast: &AST, text: &str, state: &State) -> Vec<Failure> {
    in_order(warnings_of(ast, engine, text), state)
}

fn warnings_of(ast: &AST, engine: &Engine, text: &str) -> Vec<Problem> {
    let mut found = escapes::problems(ast, text);
    let catalog = Catalog::of(engine);
    let kinds = kinds::Kinds::of(ast, &catalog);
    found.extend(copies::problems(ast, &catalog, &kinds));
    found.extend(numbers::problems(ast, &kinds));
    found.extend(unused::problems(ast, &catalog, &kinds));
    let silenced = |problem: &Problem| {
        let line = problem.position.line().and_then(|line| text.lines().nth(line - 1));
        line.is_some_and(|line| line.rsplit_once("//").is_some_and(|(_, comment)| comment.trim() == "noqa"))
    };
    found.retain(|problem| !silenced(problem));
    found
}

fn in_order(mut found: Vec<Problem>, state: &State) -> Vec<Failure> {
    found.sort_by_key(|problem| (problem.position.line(), problem.position.position()));
    let shown = |problem: Problem| render::at(problem.error, problem.position, problem.severity, state);
    found.into_iter().map(shown).collect()
}

/// The script, and what keeps the engine from reading it. Each unknown variable is taken for
/// known once it was noted, to read on behind it; other errors of the grammar end the reading.
fn read(engine: &mut Engine, state: &State, text: &str) -> (Option<AST>, Vec<Problem>) {
    let mut scope = Scope::new();
    let mut found = Vec::new();
    loop {
        let error = match engine.compile_with_scope(&scope, text) {
            Ok(ast) => return (Some(ast), found),
            Err(error) => error,
        };
        let name = undeclared(&error).map(str::to_string);
        found.push(explained(error, engine, state));
        match name {
            Some(name) if !scope.contains(&name) => drop(scope.push(name, ())),
            // In a function, which sees no variables from outside: these are let pass.
            Some(_) => {
                found.pop();
                return (leniently(engine, text), found);
            }
            None => return (None, found),
        }
    }
}

fn undeclared(error: &ParseError) -> Option<&str> {
    match error.err_type() {
        ParseErrorType::VariableUndefined(name) | ParseErrorType::ModuleUndefined(name) => Some(name),
        _ => None,
    }
}

fn leniently(engine: &mut Engine, text: &str) -> Option<AST> {
    engine.set_strict_variables(false);
    let ast = engine.compile(text).ok();
    engine.set_strict_variables(true);
    ast
}

fn explained(error: ParseError, engine: &Engine, state: &State) -> Problem {
    let position = error.position();
    let error: EvalAltResult = error.into();
    let place = render::at(Error::input(""), position, Severity::Error, state).place;
    let around = Surroundings { engine, scope: &Scope::new(), state, place: place.as_deref() };
    Problem::error(explain(&error, &around), position)
}
