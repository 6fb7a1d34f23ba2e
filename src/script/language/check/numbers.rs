//! Arithmetic that is not Python's: `/` of two ints drops the fraction, `log` is to base 10.

use super::kinds::{is_own, Kind, Kinds};
use super::problem::Problem;
use super::visit;
use rhai::{ASTNode, Expr, FnCallExpr, Position, Stmt, Token, AST};

/// Names of numbers that are fractions.
const FRACTIONS: [&str; 30] = [
    "rate",
    "rates",
    "ratio",
    "fraction",
    "frac",
    "share",
    "accuracy",
    "acc",
    "mean",
    "avg",
    "average",
    "percent",
    "percentage",
    "pct",
    "precision",
    "recall",
    "f1",
    "prob",
    "probability",
    "probabilities",
    "lr",
    "dropout",
    "score",
    "loss",
    "ppl",
    "perplexity",
    "speed",
    "quotient",
    "utilization",
    "warmup",
];

/// Names of counts that are divided by how many there are.
const COUNTS: [&str; 16] = [
    "correct",
    "right",
    "hits",
    "hit",
    "wrong",
    "matched",
    "matches",
    "wins",
    "errors",
    "mistakes",
    "successes",
    "passed",
    "failed",
    "agreed",
    "solved",
    "covered",
];

pub fn problems(ast: &AST, kinds: &Kinds) -> Vec<Problem> {
    let mut problems = Vec::new();
    let own_log = is_own(ast, "log");
    ast.walk(&mut |path| {
        match path.last() {
            Some(ASTNode::Expr(Expr::FnCall(call, position))) => {
                problems.extend(division(call, *position, path, kinds));
                problems.extend(logarithm(call, *position, kinds).filter(|_| !own_log));
            }
            Some(ASTNode::Stmt(Stmt::FnCall(call, position))) => {
                problems.extend(logarithm(call, *position, kinds).filter(|_| !own_log));
            }
            Some(ASTNode::Expr(Expr::Dot(both, ..))) => problems.extend(log_of(both, kinds)),
            Some(ASTNode::Stmt(Stmt::Assignment(assigned))) => {
                let (operator, both) = &**assigned;
                let is_division = operator.get_op_assignment_info().is_some_and(|info| *info.2 == Token::DivideAssign);
                let is_fraction = name_of(&both.lhs).is_some_and(|name| has_word(&name, &FRACTIONS));
                if is_division && is_fraction && kinds.kind(&both.lhs).is_int() && kinds.kind(&both.rhs).is_int() {
                    problems.push(cut_off("/=", &both.rhs, operator.position()));
                }
            }
            _ => {}
        }
        true
    });
    for function in visit::functions(ast).iter().filter(|function| has_word(&function.name, &FRACTIONS)) {
        let (Some(Stmt::Expr(last)) | Some(Stmt::Return(Some(last), ..))) = function.body.last() else { continue };
        if let Expr::FnCall(call, position) = &**last {
            if is_division(call) && call.args.iter().all(|value| kinds.kind(value).is_int()) && !has_values(call, kinds)
            {
                problems.push(of_ints(call, *position));
            }
        }
    }
    problems
}

fn is_division(call: &FnCallExpr) -> bool {
    call.name == "/" && call.is_operator_call() && call.args.len() == 2
}

fn has_values(call: &FnCallExpr, kinds: &Kinds) -> bool {
    call.args.iter().all(|value| matches!(kinds.kind(value), Kind::Int(Some(_))))
}

fn division(call: &FnCallExpr, position: Position, path: &[ASTNode], kinds: &Kinds) -> Option<Problem> {
    let [left, right] = call.args.as_slice() else { return None };
    if !is_division(call) {
        return None;
    }
    let is_cut = match (kinds.kind(left), kinds.kind(right)) {
        (Kind::Int(Some(left)), Kind::Int(Some(right))) => left.checked_rem(right).is_some_and(|rest| rest != 0),
        (Kind::Int(_), Kind::Int(_)) => {
            name_of(left).is_some_and(|name| has_word(&name, &COUNTS)) || gives_a_fraction(call, path, kinds)
        }
        _ => false,
    };
    is_cut.then(|| of_ints(call, position))
}

fn of_ints(call: &FnCallExpr, position: Position) -> Problem {
    match call.args.as_slice() {
        [Expr::IntegerConstant(left, _), Expr::IntegerConstant(right, _)] if *right != 0 => {
            let message = format!("`{left} / {right}` is {}: the quotient of two ints is an int", left / right);
            Problem::warning(message, format!("write {left}.0 / {right}"), position)
        }
        [left, _] => cut_off("/", left, position),
        _ => cut_off("/", &Expr::Unit(position), position),
    }
}

fn cut_off(operator: &str, operand: &Expr, position: Position) -> Problem {
    let message = format!("`{operator}` of two ints drops the fraction: the quotient is an int, as of `//` in Python");
    let hint = match operand {
        Expr::IntegerConstant(number, _) => format!("make one of them a float: {number}.0"),
        other => match path_of(other) {
            Some(name) => format!("make one of them a float: {name}.to_float()"),
            None => "make one of them a float by .to_float()".to_string(),
        },
    };
    Problem::warning(message, hint, position)
}

/// Is the quotient multiplied into a percentage, or kept under the name of a fraction?
fn gives_a_fraction(call: &FnCallExpr, path: &[ASTNode], kinds: &Kinds) -> bool {
    let mut inner: *const FnCallExpr = call;
    for node in path.iter().rev().skip(1) {
        match node {
            ASTNode::Expr(Expr::FnCall(outer, _)) if outer.is_operator_call() => {
                let others: Vec<&Expr> = outer
                    .args
                    .iter()
                    .filter(|value| !matches!(value, Expr::FnCall(one, _) if std::ptr::eq(&**one, inner)))
                    .collect();
                let is_scaled = outer.name == "*"
                    && others.iter().any(|other| {
                        matches!(kinds.kind(other), Kind::Float) || matches!(kinds.kind(other), Kind::Int(Some(100)))
                    });
                if is_scaled {
                    return true;
                }
                if !["+", "-", "*"].contains(&outer.name.as_str()) {
                    return false;
                }
                inner = &**outer;
            }
            ASTNode::Stmt(Stmt::Var(declared, ..)) => return has_word(&declared.0.name, &FRACTIONS),
            ASTNode::Stmt(Stmt::Assignment(assigned)) => {
                return name_of(&assigned.1.lhs).is_some_and(|name| has_word(&name, &FRACTIONS));
            }
            ASTNode::Expr(Expr::Map(entries, _)) => {
                let holds = |value: &Expr| matches!(value, Expr::FnCall(one, _) if std::ptr::eq(&**one, inner));
                return entries.0.iter().any(|(key, value)| holds(value) && has_word(&key.name, &FRACTIONS));
            }
            ASTNode::Expr(Expr::Stmt(block)) if block.statements().len() == 1 => {}
            ASTNode::Stmt(Stmt::Expr(_)) => {}
            _ => return false,
        }
    }
    false
}

fn logarithm(call: &FnCallExpr, position: Position, kinds: &Kinds) -> Option<Problem> {
    match call.args.as_slice() {
        [value] if call.name == "log" && call.namespace.is_empty() => {
            let is_other = matches!(kinds.kind(value), Kind::Other(_));
            (!is_other).then(|| base_ten(path_of(value), position))
        }
        _ => None,
    }
}

/// `x.log()`: of a tensor it is the natural one.
fn log_of(both: &rhai::BinaryExpr, kinds: &Kinds) -> Option<Problem> {
    match &both.rhs {
        Expr::MethodCall(call, position) if call.name == "log" && call.args.is_empty() => {
            let is_number = matches!(kinds.kind(&both.lhs), Kind::Int(_) | Kind::Float);
            is_number.then(|| base_ten(path_of(&both.lhs), *position))
        }
        _ => None,
    }
}

fn base_ten(of: Option<String>, position: Position) -> Problem {
    let of = of.unwrap_or_else(|| "x".to_string());
    Problem::warning(
        "`log` of a number is the logarithm to base 10; Python's, and a tensor's, is the natural one".to_string(),
        format!("write ln({of}) for the natural logarithm, or log10({of}) to say that base 10 is meant"),
        position,
    )
}

/// The last name of a variable or property: `total` of `counts.total`.
fn name_of(value: &Expr) -> Option<String> {
    match value {
        Expr::Variable(name, ..) => Some(name.1.to_string()),
        Expr::Property(property, _) => Some(property.2.to_string()),
        Expr::Dot(both, ..) => name_of(&both.rhs),
        _ => None,
    }
}

/// `counts.total` as it is written, where it is names alone.
fn path_of(value: &Expr) -> Option<String> {
    match value {
        Expr::Variable(name, ..) => Some(name.1.to_string()),
        Expr::Property(property, _) => Some(property.2.to_string()),
        Expr::Dot(both, ..) => Some(format!("{}.{}", path_of(&both.lhs)?, path_of(&both.rhs)?)),
        Expr::IntegerConstant(number, _) => Some(number.to_string()),
        Expr::FloatConstant(number, _) => Some(number.to_string()),
        _ => None,
    }
}

fn has_word(name: &str, words: &[&str]) -> bool {
    name.split('_').any(|word| words.contains(&word))
}
