//! The settings of `let cfg = args(#{ … })`: those that nothing uses, and uses of others.

use super::problem::Problem;
use crate::error::Error;
use crate::script::language::names;
use crate::suggest;
use rhai::{ASTNode, Engine, Expr, Position, Stmt, AST};

pub fn problems(ast: &AST, engine: &Engine, text: &str) -> Vec<Problem> {
    let Some(given) = Given::find(ast) else { return Vec::new() };
    // Another variable has that name, and a use could be of either.
    if names::declarations(engine, text, &given.variable) != 1 {
        return Vec::new();
    }
    let uses = Uses::of(ast, &given.variable);
    let unknown = uses.read.iter().filter_map(|one| given.unknown(one, &uses.written));
    unknown.chain(given.unused(&uses)).collect()
}

/// The names of a setting, from the outermost: `["train", "lr"]`.
type Names = Vec<String>;

struct Given {
    variable: String,
    settings: Vec<(Names, Position)>,
}

impl Given {
    fn find(ast: &AST) -> Option<Given> {
        let mut args = None;
        ast.walk(&mut |path| {
            if let Some(ASTNode::Stmt(Stmt::Var(declared, ..))) = path.last() {
                let (name, value, _) = &**declared;
                if let Some(entries) = settings_of(value) {
                    args = Some(Given { variable: name.name.to_string(), settings: entries });
                }
            }
            args.is_none()
        });
        args
    }

    fn unused(&self, uses: &Uses) -> Vec<Problem> {
        let is_used = |setting: &Names| {
            let read = uses.read.iter().map(|one| &one.names);
            uses.whole || read.into_iter().any(|read| read.starts_with(setting) || setting.starts_with(read))
        };
        let unused = self.settings.iter().filter(|(names, _)| !is_used(names));
        let problems = unused.map(|(names, position)| {
            let name = names.join(".");
            let error = Error::input(format!("the setting `{name}` is never used"))
                .with_hint(format!("use it as `{}.{name}`, or take it out of args(#{{ … }})", self.variable));
            Problem::error(error, *position)
        });
        problems.collect()
    }

    /// The error of reading a setting that does not exist.
    fn unknown(&self, one: &Use, written: &[Names]) -> Option<Problem> {
        let all = || self.settings.iter().map(|(names, _)| names).chain(written);
        for (depth, name) in one.names.iter().enumerate() {
            let (outer, wanted) = (&one.names[..depth], &one.names[..=depth]);
            if all().any(|names| names.starts_with(wanted)) {
                continue;
            }
            let beside: Vec<&str> = all()
                .filter(|names| names.starts_with(outer))
                .filter_map(|names| Some(names.get(depth)?.as_str()))
                .collect();
            // A setting that is no group: what follows is a property of its value.
            if beside.is_empty() {
                return None;
            }
            let mut unique = beside;
            unique.dedup();
            let error = Error::input(format!("unknown setting `{}`", wanted.join(".")));
            return Some(Problem::error(error.with_hint(suggest::hint(name, unique)), one.position));
        }
        None
    }
}

/// The settings of `args(#{ … })`, if `value` is that.
fn settings_of(value: &Expr) -> Option<Vec<(Names, Position)>> {
    let Expr::FnCall(call, _) = value else { return None };
    let ("args", [Expr::Map(entries, _)]) = (call.name.as_str(), call.args.as_slice()) else { return None };
    let mut settings = Vec::new();
    collect(&entries.0, &mut Vec::new(), &mut settings);
    Some(settings)
}

fn collect(entries: &[(rhai::Ident, Expr)], outer: &mut Names, settings: &mut Vec<(Names, Position)>) {
    for (key, value) in entries {
        outer.push(key.name.to_string());
        match value {
            Expr::Map(inner, _) if !inner.0.is_empty() => collect(&inner.0, outer, settings),
            _ => settings.push((outer.clone(), key.pos)),
        }
        outer.pop();
    }
}

struct Use {
    names: Names,
    position: Position,
}

/// How a script uses the variable that holds its settings.
#[derive(Default)]
struct Uses {
    read: Vec<Use>,
    written: Vec<Names>,
    /// Handed on as it is: whatever gets it may use everything.
    whole: bool,
}

impl Uses {
    fn of(ast: &AST, variable: &str) -> Uses {
        let mut uses = Uses::default();
        ast.walk(&mut |path| {
            if let [.., node] = path {
                uses.note(node, path.iter().rev().nth(1), variable);
            }
            true
        });
        uses
    }

    fn note(&mut self, node: &ASTNode, around: Option<&ASTNode>, variable: &str) {
        match node {
            ASTNode::Stmt(Stmt::Assignment(assigned)) => {
                if let Some((names, _)) = chain(&assigned.1.lhs, variable) {
                    self.written.push(names);
                }
            }
            ASTNode::Expr(expression @ (Expr::Dot(..) | Expr::Index(..))) => {
                if let Some((names, position)) = chain(expression, variable) {
                    self.read.push(Use { names, position });
                }
            }
            ASTNode::Expr(expression) if is_variable(expression, variable) => {
                self.whole |= !around.is_some_and(|around| is_chain(around, variable) || is_capture(around));
            }
            _ => {}
        }
    }
}

fn is_variable(expression: &Expr, variable: &str) -> bool {
    matches!(expression, Expr::Variable(named, ..) if named.1 == variable && named.2.is_empty())
}

/// Is it what `cfg.a` or `cfg["a"]` is read by?
fn is_chain(node: &ASTNode, variable: &str) -> bool {
    matches!(node, ASTNode::Expr(expression) if chain(expression, variable).is_some())
}

/// A closure takes the variable along: what it uses of it stands in its own text.
fn is_capture(node: &ASTNode) -> bool {
    matches!(node, ASTNode::Expr(Expr::FnCall(call, _)) if call.name == "curry")
}

/// The names right of the variable, and the place of the first: `a` and `b` of `cfg.a.b[0].len()`.
fn chain(expression: &Expr, variable: &str) -> Option<(Names, Position)> {
    let (Expr::Dot(both, ..) | Expr::Index(both, ..)) = expression else { return None };
    if !is_variable(&both.lhs, variable) {
        return None;
    }
    let mut names = Names::new();
    follow(&both.rhs, &mut names);
    Some((names, both.rhs.start_position()))
}

fn follow(right: &Expr, names: &mut Names) {
    match right {
        Expr::Property(property, _) => names.push(property.2.to_string()),
        Expr::StringConstant(name, _) => names.push(name.to_string()),
        Expr::Dot(both, ..) => {
            let before = names.len();
            follow(&both.lhs, names);
            // Behind a call comes a property of its result.
            if names.len() > before {
                follow(&both.rhs, names);
            }
        }
        Expr::Index(both, ..) => follow(&both.lhs, names),
        _ => {}
    }
}
