//! Changes that are lost: a loop's variable and a function's argument are copies, and a change
//! of a copy that nothing reads again is likely meant for the original.

use super::kinds::{Kind, Kinds};
use super::problem::Problem;
use super::visit;
use crate::script::catalogue::function::{Catalog, Form};
use rhai::{ASTNode, Expr, Position, Stmt, AST};
use std::collections::{HashMap, HashSet};

/// Methods of arrays, texts and maps that change them and return nothing.
pub const CHANGING: [&str; 22] = [
    "push",
    "append",
    "insert",
    "pad",
    "clear",
    "truncate",
    "chop",
    "reverse",
    "sort",
    "sort_by",
    "sort_desc",
    "dedup",
    "set",
    "mixin",
    "fill_with",
    "splice",
    "replace",
    "trim",
    "crop",
    "make_upper",
    "make_lower",
    "for_each",
];

pub fn problems(ast: &AST, catalog: &Catalog, kinds: &Kinds) -> Vec<Problem> {
    let mut problems = Vec::new();
    let setters: HashSet<&str> = catalog
        .functions()
        .iter()
        .filter(|known| known.form == Form::Setter)
        .map(|known| known.name.as_str())
        .collect();
    ast.walk(&mut |path| {
        if let Some(ASTNode::Stmt(Stmt::For(parts, _))) = path.last() {
            let (element, counter, flow) = &**parts;
            let change = lost_change(flow.body.statements(), &element.name, &setters);
            problems.extend(change.map(|change| in_loop(&change, element, counter.as_ref(), &flow.expr, kinds)));
        }
        true
    });
    let captured = captured(ast);
    for function in visit::functions(ast) {
        let outer = captured.get(&function.name).copied().unwrap_or(0);
        for name in function.parameters.iter().skip(outer) {
            let change = lost_change(&function.body, name, &setters);
            problems.extend(change.map(|change| in_function(&change, &function.name, name)));
        }
    }
    problems
}

/// How many variables from outside each closure holds: they come first among its parameters.
fn captured(ast: &AST) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    ast.walk(&mut |path| {
        if let Some(ASTNode::Expr(value @ Expr::FnCall(call, _))) = path.last() {
            if call.name == "curry" {
                counts.extend(visit::closure(value));
            }
        }
        true
    });
    counts
}

/// A change of the copy `name`.
struct Change {
    /// How it is written: `t.x`, `t.push(…)`.
    written: String,
    key: Option<String>,
    position: Position,
}

/// Is the copy read, as a whole or by a key?
enum Mention {
    Read(Option<String>),
    Changed(Change),
}

/// A change that nothing behind it, nor in a loop around it, reads.
fn lost_change(statements: &[Stmt], name: &str, setters: &HashSet<&str>) -> Option<Change> {
    let mut mentions: Vec<(Mention, Position, Vec<Position>)> = Vec::new();
    for statement in statements {
        statement.walk(&mut Vec::new(), &mut |path| {
            let Some(ASTNode::Expr(Expr::Variable(variable, _, position))) = path.last() else { return true };
            if variable.1 == name && variable.2.is_empty() {
                mentions.push((mention(path, name), *position, loops(path)));
            }
            true
        });
    }
    let mut changes = Vec::new();
    let mut reads = Vec::new();
    for (mention, position, loops) in mentions {
        match mention {
            Mention::Read(key) => reads.push((key, position, loops)),
            Mention::Changed(change) => changes.push((change, loops)),
        }
    }
    let is_read = |change: &Change, around: &[Position]| {
        reads.iter().any(|(key, position, loops)| {
            let is_same = key.is_none() || change.key.is_none() || *key == change.key;
            let is_later = at(*position) > at(change.position) || loops.iter().any(|one| around.contains(one));
            is_same && is_later
        })
    };
    let is_setter = |change: &Change| change.key.as_deref().is_some_and(|key| setters.contains(key));
    changes
        .into_iter()
        .find(|(change, around)| !is_setter(change) && !is_read(change, around))
        .map(|(change, _)| change)
}

fn at(position: Position) -> (usize, usize) {
    (position.line().unwrap_or(0), position.position().unwrap_or(0))
}

fn loops(path: &[ASTNode]) -> Vec<Position> {
    let place = |node: &ASTNode| match node {
        ASTNode::Stmt(Stmt::While(_, position) | Stmt::Do(_, _, position) | Stmt::For(_, position)) => Some(*position),
        _ => None,
    };
    path.iter().filter_map(place).collect()
}

/// What is done with the variable at the end of `path`.
fn mention(path: &[ASTNode], name: &str) -> Mention {
    let Some(ASTNode::Expr(Expr::Variable(.., position))) = path.last() else { return Mention::Read(None) };
    let around = path.len().checked_sub(2).and_then(|at| path.get(at));
    let further = path.len().checked_sub(3).and_then(|at| path.get(at));
    let change = |written: String, key| Mention::Changed(Change { written, key, position: *position });
    match around {
        Some(ASTNode::Stmt(Stmt::Assignment(assigned))) if is_variable(&assigned.1.lhs, *position) => {
            change(name.to_string(), None)
        }
        Some(ASTNode::Expr(chain @ (Expr::Dot(both, ..) | Expr::Index(both, ..))))
            if is_variable(&both.lhs, *position) =>
        {
            let (key, rest) = first_key(chain);
            let shown = |tail: &str| match &key {
                Some(key) => format!("{name}.{key}{tail}"),
                None => format!("{name}{tail}"),
            };
            match further {
                Some(ASTNode::Stmt(Stmt::Assignment(assigned))) if std::ptr::eq(&assigned.1.lhs, *chain) => {
                    let is_index = key.is_none() && matches!(chain, Expr::Index(..));
                    change(shown(if is_index { "[…]" } else { "" }), key)
                }
                // As a statement: where the value is used, another rule speaks.
                Some(ASTNode::Stmt(Stmt::Expr(_))) => match rest.and_then(changing_call) {
                    Some(method) => change(shown(&format!(".{method}(…)")), key),
                    None => Mention::Read(None),
                },
                _ => Mention::Read(key),
            }
        }
        _ => Mention::Read(None),
    }
}

fn is_variable(value: &Expr, position: Position) -> bool {
    matches!(value, Expr::Variable(.., at) if *at == position)
}

/// `x` of `t.x.y[0]`, and what stands right of the variable.
fn first_key(chain: &Expr) -> (Option<String>, Option<&Expr>) {
    let key = |value: &Expr| match value {
        Expr::Property(property, _) => Some(property.2.to_string()),
        Expr::StringConstant(key, _) => Some(key.to_string()),
        _ => None,
    };
    match chain {
        Expr::Dot(both, ..) | Expr::Index(both, ..) => match &both.rhs {
            Expr::Dot(rest, ..) | Expr::Index(rest, ..) => (key(&rest.lhs), Some(&both.rhs)),
            last => (key(last), Some(last)),
        },
        _ => (None, None),
    }
}

/// The method that ends a chain and changes what stands before it.
fn changing_call(rest: &Expr) -> Option<String> {
    match rest {
        Expr::MethodCall(call, _) => CHANGING.contains(&call.name.as_str()).then(|| call.name.to_string()),
        Expr::Dot(both, ..) | Expr::Index(both, ..) if !matches!(both.lhs, Expr::MethodCall(..)) => {
            changing_call(&both.rhs)
        }
        _ => None,
    }
}

fn in_loop(change: &Change, element: &rhai::Ident, counter: Option<&rhai::Ident>, of: &Expr, kinds: &Kinds) -> Problem {
    let (name, written) = (&element.name, &change.written);
    let is_count = matches!(of, Expr::FnCall(call, _) if super::kinds::is_range(call));
    if is_count {
        return Problem::warning(
            format!("`{name}` is given its next value by the loop: setting it here changes nothing"),
            "a loop that steps on by itself is while: let i = 0; while i < 10 { …; i += 2; }".to_string(),
            change.position,
        );
    }
    let index = counter.map_or("index", |counter| counter.name.as_str());
    let list = match of {
        Expr::Variable(variable, ..) => variable.1.to_string(),
        _ => "list".to_string(),
    };
    let tail = written.strip_prefix(name.as_str()).unwrap_or_default();
    let set = if tail.ends_with(')') { "" } else { " = …" };
    let first = match of {
        Expr::Variable(..) => String::new(),
        _ => "let list = …; ".to_string(),
    };
    let hint = match kinds.kind(of) {
        Kind::Other(kind) if kind == "Dataset" => {
            format!("rows are changed by data = data.map(|{name}| {{ {name}.column = …; {name} }})")
        }
        _ => format!("write {first}for ({name}, {index}) in {list} {{ {list}[{index}]{tail}{set}; }}"),
    };
    let message = format!("`{name}` is a copy of the element: the change of `{written}` is lost");
    Problem::warning(message, hint, change.position)
}

fn in_function(change: &Change, function: &str, name: &str) -> Problem {
    let written = &change.written;
    if function.starts_with("anon$") {
        return Problem::warning(
            format!("`{name}` is a copy of what the closure is given: the change of `{written}` is lost"),
            format!("return the changed value: |{name}| {{ …; {name} }}"),
            change.position,
        );
    }
    Problem::warning(
        format!("`{name}` is a copy of what `{function}` is given: the change of `{written}` is lost"),
        format!("return it, fn {function}({name}) {{ …; {name} }}, and keep it: list = {function}(list);"),
        change.position,
    )
}
