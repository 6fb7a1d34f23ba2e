//! What is wrong with a script, found without running it: `lorhai check FILE`.
//!
//! Defines the order of things: reading the text, then each kind of problem, all in the order
//! of the script. Calls are in `calls`, the settings of `args` in `settings`. What depends on
//! values (columns, types, files) only a run can find. Imported modules are not checked.
//!
//! Warnings are for what runs but likely does something else than intended: `escapes`, `copies`,
//! `numbers`, `unused`. A run shows them too, before it begins. A line that ends with
//! the comment `// noqa` gets none.

mod calls;
mod copies;
mod escapes;
mod kinds;
mod numbers;
mod problem;
pub(in crate::script) mod races;
mod settings;
mod unused;
mod visit;

use crate::script::catalogue::function::Catalog;
use crate::script::engine::state::State;
use crate::script::language::explain::explain;
use crate::script::language::locate::{failure_at, place};
use crate::script::language::render::Failure;
use crate::script::language::unknown::ErrorContext;
use problem::Problem;
use rhai::{Engine, EvalAltResult, ParseError, ParseErrorType, Scope, AST};

/// All problems of `text`, which is the script that `state` has begun. The engine must not
/// optimise: constant maps would lose the places of their keys.
pub fn problems(engine: &mut Engine, catalog: &Catalog, state: &State, text: &str) -> Vec<Failure> {
    let (ast, mut problems) = read(engine, catalog, state, text);
    if let Some(ast) = ast {
        problems.extend(calls::problems(&ast, engine, catalog, state));
        problems.extend(settings::problems(&ast, engine, text));
        problems.extend(races::problems(&ast));
        problems.extend(likely_slips(&ast, catalog, text));
    }
    in_order(problems, state)
}

/// The warnings alone, of a script that can be read; `text` may begin with empty lines.
pub fn warnings(ast: &AST, catalog: &Catalog, text: &str, state: &State) -> Vec<Failure> {
    in_order(likely_slips(ast, catalog, text), state)
}

fn likely_slips(ast: &AST, catalog: &Catalog, text: &str) -> Vec<Problem> {
    let mut problems = escapes::problems(ast, text);
    let kinds = kinds::Kinds::of(ast, catalog);
    problems.extend(copies::problems(ast, catalog, &kinds));
    problems.extend(numbers::problems(ast, &kinds));
    problems.extend(unused::problems(ast, catalog, &kinds));
    let is_silenced = |problem: &Problem| {
        let line = problem.position.line().and_then(|line| text.lines().nth(line - 1));
        line.is_some_and(|line| line.rsplit_once("//").is_some_and(|(_, comment)| comment.trim() == "noqa"))
    };
    problems.retain(|problem| !is_silenced(problem));
    problems
}

fn in_order(mut problems: Vec<Problem>, state: &State) -> Vec<Failure> {
    problems.sort_by_key(|problem| (problem.position.line(), problem.position.position()));
    let failure = |problem: Problem| failure_at(problem.error, problem.position, problem.severity, state);
    problems.into_iter().map(failure).collect()
}

/// The script, and what keeps the engine from reading it. An unknown variable is reported once and then declared, to
/// read on; any other error of the grammar ends the reading.
fn read(engine: &mut Engine, catalog: &Catalog, state: &State, text: &str) -> (Option<AST>, Vec<Problem>) {
    let mut scope = Scope::new();
    let mut problems = Vec::new();
    loop {
        let error = match engine.compile_with_scope(&scope, text) {
            Ok(ast) => return (Some(ast), problems),
            Err(error) => error,
        };
        let name = undeclared(&error).map(str::to_string);
        problems.push(explained(error, engine, catalog, state));
        match name {
            Some(name) if !scope.contains(&name) => drop(scope.push(name, ())),
            // Inside a function, which sees no variables from outside: accepted here.
            Some(_) => {
                problems.pop();
                return (leniently(engine, text), problems);
            }
            None => return (None, problems),
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

fn explained(error: ParseError, engine: &Engine, catalog: &Catalog, state: &State) -> Problem {
    let position = error.position();
    let error: EvalAltResult = error.into();
    let place = place(&state.script(), position, state);
    let context = ErrorContext { engine, catalog: &catalog, scope: &Scope::new(), state, place: place.as_deref() };
    Problem::error(explain(&error, &context), position)
}
