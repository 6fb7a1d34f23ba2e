//! Variables that a chain of calls holds while a closure in it reads them again:
//! `m.keys().map(|k| m[k])`. The engine refuses these, but names neither variable nor place.

use super::problem::Problem;
use super::visit::closure;
use crate::error::Error;
use rhai::{ASTNode, Engine, Expr, Position, Stmt, AST};

/// A chain that cannot run.
struct Race {
    variable: String,
    /// The function that gets the closure.
    function: String,
    /// Is the variable itself what the function is called on?
    direct: bool,
    position: Position,
}

pub fn problems(ast: &AST) -> Vec<Problem> {
    let problem = |race: Race| Problem::error(Error::input(race.message()).with_hint(race.hint()), race.position);
    races(ast).into_iter().map(problem).collect()
}

/// What the engine's error about `what` means in the script `text`, and where it is.
pub fn explain(engine: &Engine, text: &str, what: &str) -> Option<(Error, Position)> {
    let function = what.split('\'').nth(1)?;
    let ast = engine.compile(text).ok()?;
    let race = races(&ast).into_iter().find(|race| race.function == function)?;
    Some((Error::input(race.message()).with_hint(race.hint()), race.position))
}

impl Race {
    fn message(&self) -> String {
        let Race { variable, function, .. } = self;
        format!("`{variable}` is in use: the closure given to `{function}` reads it while `{variable}.…` still runs")
    }

    fn hint(&self) -> String {
        let Race { variable, function, direct, .. } = self;
        if *direct {
            return format!("use a copy: let copy = {variable}; copy.{function}(…)");
        }
        format!("keep what comes before it: let values = {variable}.…; then values.{function}(…)")
    }
}

fn races(ast: &AST) -> Vec<Race> {
    let mut races = Vec::new();
    ast.walk(&mut |path| {
        if let Some(ASTNode::Expr(Expr::Dot(both, ..) | Expr::Index(both, ..))) = path.last() {
            if let Expr::Variable(variable, ..) = &both.lhs {
                follow(&both.rhs, &variable.1, true, &mut races);
            }
        }
        true
    });
    races
}

/// Along the chain that begins with the variable.
fn follow(rest: &Expr, variable: &str, direct: bool, races: &mut Vec<Race>) {
    match rest {
        Expr::Dot(both, ..) | Expr::Index(both, ..) => {
            follow(&both.lhs, variable, direct, races);
            follow(&both.rhs, variable, false, races);
        }
        Expr::MethodCall(call, position)
            if call.name != "call" && call.args.iter().any(|argument| captures(argument, variable)) =>
        {
            let function = call.name.to_string();
            races.push(Race { variable: variable.to_string(), function, direct, position: *position });
        }
        _ => {}
    }
}

/// Is it a closure that takes the variable along?
fn captures(argument: &Expr, variable: &str) -> bool {
    let Expr::Stmt(block) = argument else { return false };
    let shares = |statement: &Stmt| match statement {
        Stmt::Share(names) => names.iter().any(|(name, _)| name.name == variable),
        _ => false,
    };
    closure(argument).is_some() && block.statements().iter().any(shares)
}
