//! Values that are not there, and values that nobody takes: `let t = s.trim();`, where `trim`
//! changes the text in its place, and `data.shuffle(1);`, which gives another data set.

use super::kinds::{is_own, Kinds};
use super::problem::Problem;
use super::visit;
use crate::script::catalogue::function::{Catalog, Form, Function};
use rhai::{Expr, FnCallExpr, Position, AST};

/// Methods that give a new value and leave theirs as it is.
const NEW_VALUES: [&str; 26] = [
    "map",
    "filter",
    "select",
    "select_columns",
    "remove_columns",
    "rename",
    "shuffle",
    "concatenate",
    "take",
    "skip",
    "tokenize",
    "detach",
    "to_upper",
    "to_lower",
    "sub_string",
    "split",
    "order",
    "order_by",
    "order_desc",
    "extract",
    "zip",
    "exp",
    "abs",
    "log_softmax",
    "softmax",
    "narrow",
];

pub fn problems(ast: &AST, catalog: &Catalog, kinds: &Kinds) -> Vec<Problem> {
    let mut problems = Vec::new();
    let keys = super::calls::keys(ast);
    let is_ours = |name: &str| !is_own(ast, name) && !keys.contains(name);
    let last = last_statement(ast);
    visit::values(ast, &mut |value, used| match value {
        Expr::Dot(both, ..) => {
            let Some((receiver, call, position)) = last_call(both) else { return };
            if !is_ours(&call.name) {
                return;
            }
            // What is left of a further dot was looked at before: `s.trim().len()`.
            if used == Some(true) && gives_nothing(catalog, kinds, receiver, call) {
                problems.push(nothing(call, receiver, position));
            } else if used == Some(false) && Some(position) != last && gives_new(catalog, kinds, receiver, call) {
                problems.push(lost(call, receiver, position));
            }
            problems.extend(inside(both, catalog, kinds, &is_ours));
        }
        Expr::FnCall(call, position)
            if used == Some(true)
                && !call.is_operator_call()
                && call.namespace.is_empty()
                && is_ours(&call.name)
                && all_give_nothing(catalog, call, call.args.len(), |_| true) =>
        {
            problems.push(nothing(call, None, *position));
        }
        _ => {}
    });
    // The tail of a chain is a chain of its own to the walk.
    let mut seen = Vec::new();
    problems.retain(|problem| {
        let is_new = !seen.contains(&problem.position);
        seen.push(problem.position);
        is_new
    });
    problems
}

/// Its value is shown in a conversation.
fn last_statement(ast: &AST) -> Option<Position> {
    match ast.statements().last()? {
        rhai::Stmt::Expr(value) => match &**value {
            Expr::Dot(both, ..) => last_call(both).map(|(_, _, position)| position),
            _ => None,
        },
        _ => None,
    }
}

/// The last call of a chain, and what it is called on where that is the chain's first value.
fn last_call(both: &rhai::BinaryExpr) -> Option<(Option<&Expr>, &FnCallExpr, Position)> {
    match &both.rhs {
        Expr::MethodCall(call, position) => Some((Some(&both.lhs), call, *position)),
        Expr::Dot(rest, ..) => last_call(rest).map(|(_, call, position)| (None, call, position)),
        _ => None,
    }
}

/// Calls within a chain, whose values the next call uses. Only the first one of each chain is
/// looked at here: the walk comes to the others by itself.
fn inside(
    both: &rhai::BinaryExpr,
    catalog: &Catalog,
    kinds: &Kinds,
    is_ours: &impl Fn(&str) -> bool,
) -> Option<Problem> {
    // A chain's tail is a `Dot` of its own, and is visited with the call left of its dot as `lhs`.
    let Expr::Dot(rest, ..) = &both.rhs else { return None };
    let Expr::MethodCall(call, position) = &rest.lhs else { return None };
    let receiver = (!matches!(both.lhs, Expr::MethodCall(..) | Expr::Property(..))).then_some(&both.lhs);
    let is_nothing = is_ours(&call.name) && gives_nothing(catalog, kinds, receiver, call);
    is_nothing.then(|| nothing(call, receiver, *position))
}

fn gives_nothing(catalog: &Catalog, kinds: &Kinds, receiver: Option<&Expr>, call: &FnCallExpr) -> bool {
    let kind = receiver.map(|value| kinds.kind(value));
    let of = kind.as_ref().and_then(|kind| kind.name());
    let fits = |known: &Function| match (of, known.parameters.first()) {
        (Some(of), Some((_, kind))) => kind == of || kind == "any",
        _ => true,
    };
    all_give_nothing(catalog, call, call.args.len() + 1, fits)
}

fn all_give_nothing(catalog: &Catalog, call: &FnCallExpr, count: usize, fits: impl Fn(&Function) -> bool) -> bool {
    // The engine registers some functions without saying what they return.
    let unsaid = ["to_int", "to_float", "print", "debug", "sleep", "exit"];
    let mut known = catalog.named(&call.name).filter(|known| {
        matches!(known.form, Form::Function | Form::Method) && known.parameters.len() == count && fits(known)
    });
    let Some(first) = known.next() else { return false };
    !unsaid.contains(&call.name.as_str()) && first.returns.is_empty() && known.all(|other| other.returns.is_empty())
}

fn gives_new(catalog: &Catalog, kinds: &Kinds, receiver: Option<&Expr>, call: &FnCallExpr) -> bool {
    if !NEW_VALUES.contains(&call.name.as_str()) {
        return false;
    }
    let kind = receiver.map(|value| kinds.kind(value));
    let known_of = kind.as_ref().and_then(|kind| kind.name());
    let mut known = catalog.named(&call.name).filter(|known| known.parameters.len() == call.args.len() + 1);
    known.any(|known| known_of.is_none_or(|of| known.parameters.first().is_some_and(|(_, kind)| kind == of)))
}

fn nothing(call: &FnCallExpr, receiver: Option<&Expr>, position: Position) -> Problem {
    let name = call.name.as_str();
    let message = format!("`{name}` returns nothing: its value is ()");
    let hint = match receiver {
        Some(Expr::Variable(variable, ..)) if is_changing(name) => {
            let variable = &variable.1;
            format!("it changes `{variable}` in its place: write {variable}.{name}(…); and then use {variable}")
        }
        _ if is_changing(name) => {
            format!("it changes a value in its place: let value = …; value.{name}(…); and then use value")
        }
        _ => "call it in a statement of its own".to_string(),
    };
    Problem::warning(message, hint, position)
}

/// Methods of texts, arrays and maps that change them.
fn is_changing(name: &str) -> bool {
    super::copies::CHANGING.contains(&name)
}

fn lost(call: &FnCallExpr, receiver: Option<&Expr>, position: Position) -> Problem {
    let name = call.name.as_str();
    let hint = match receiver {
        Some(Expr::Variable(variable, ..)) => format!("keep it: {0} = {0}.{name}(…);", variable.1),
        _ => format!("keep it: let result = ….{name}(…);"),
    };
    Problem::warning(format!("`{name}` gives a new value, which nothing uses"), hint, position)
}
