//! A walk over a script that knows which values are used: the engine's own walk does not tell
//! the last expression of a closure from a statement.

use rhai::{ASTNode, Expr, Stmt, AST};

/// Methods that use what their closure returns.
const USE_RESULTS: [&str; 16] = [
    "map",
    "filter",
    "reduce",
    "reduce_rev",
    "some",
    "all",
    "find",
    "find_map",
    "index_of",
    "sort",
    "sort_by",
    "order",
    "order_by",
    "zip",
    "drain",
    "retain",
];

/// Calls `on` for every expression, with whether its value is used, if that is known.
pub fn values(ast: &AST, on: &mut dyn FnMut(&Expr, Option<bool>)) {
    let used = closures_with_used_results(ast);
    ast.statements().iter().for_each(|statement| self::statement(statement, Some(false), on));
    for function in functions(ast) {
        // What else calls a function may use its result or not.
        block(&function.body, used.contains(&function.name).then_some(true), on);
    }
}

/// A function or closure of the script.
pub struct Own {
    pub name: String,
    /// Variables that a closure holds from outside come first.
    pub parameters: Vec<String>,
    pub body: Vec<Stmt>,
}

/// The functions and closures of the script. The engine shows their bodies to a walk alone.
pub fn functions(ast: &AST) -> Vec<Own> {
    let functions = ast.iter_fn_def().map(|function| {
        let (name, count) = (function.name.as_str(), function.params.len());
        let mut alone = ast.clone();
        alone.clear_statements();
        alone.retain_functions(|_, _, other, parameters| other == name && parameters == count);
        let mut body = Vec::new();
        alone.walk(&mut |path| {
            if let [ASTNode::Stmt(statement)] = path {
                body.push((*statement).clone());
            }
            true
        });
        Own { name: name.to_string(), parameters: function.params.iter().map(ToString::to_string).collect(), body }
    });
    functions.collect()
}

/// The name that the engine gave to the closure that this expression makes, and how many
/// variables from outside it holds.
pub fn closure(expression: &Expr) -> Option<(String, usize)> {
    match expression {
        Expr::DynamicConstant(value, _) => {
            let function = value.read_lock::<rhai::FnPtr>()?;
            Some((function.fn_name().to_string(), 0))
        }
        Expr::FnCall(call, _) if call.name == "curry" => {
            let (first, captured) = call.args.split_first()?;
            Some((closure(first)?.0, captured.len()))
        }
        Expr::Stmt(block) => match block.statements().last()? {
            Stmt::Expr(last) => closure(last),
            Stmt::FnCall(call, _) if call.name == "curry" => {
                let (first, captured) = call.args.split_first()?;
                Some((closure(first)?.0, captured.len()))
            }
            _ => None,
        },
        _ => None,
    }
}

fn closures_with_used_results(ast: &AST) -> Vec<String> {
    let mut names = Vec::new();
    ast.walk(&mut |path| {
        let call = match path.last() {
            Some(ASTNode::Expr(Expr::MethodCall(call, _) | Expr::FnCall(call, _))) => call,
            _ => return true,
        };
        if USE_RESULTS.contains(&call.name.as_str()) {
            names.extend(call.args.iter().filter_map(closure).map(|(name, _)| name));
        }
        true
    });
    names
}

fn block(statements: &[Stmt], used: Option<bool>, on: &mut dyn FnMut(&Expr, Option<bool>)) {
    for (at, statement) in statements.iter().enumerate() {
        let used = if at + 1 == statements.len() { used } else { Some(false) };
        self::statement(statement, used, on);
    }
}

fn statement(statement: &Stmt, used: Option<bool>, on: &mut dyn FnMut(&Expr, Option<bool>)) {
    match statement {
        Stmt::Expr(value) => expression(value, used, on),
        Stmt::FnCall(call, _) => call.args.iter().for_each(|value| expression(value, Some(true), on)),
        Stmt::Var(declared, ..) => expression(&declared.1, Some(true), on),
        Stmt::Assignment(assigned) => {
            expression(&assigned.1.lhs, Some(true), on);
            expression(&assigned.1.rhs, Some(true), on);
        }
        Stmt::If(flow, _) => {
            expression(&flow.expr, Some(true), on);
            block(flow.body.statements(), used, on);
            block(flow.branch.statements(), used, on);
        }
        Stmt::While(flow, _) | Stmt::Do(flow, ..) => {
            expression(&flow.expr, Some(true), on);
            block(flow.body.statements(), Some(false), on);
        }
        Stmt::For(parts, _) => {
            expression(&parts.2.expr, Some(true), on);
            block(parts.2.body.statements(), Some(false), on);
        }
        Stmt::TryCatch(flow, _) => {
            block(flow.body.statements(), used, on);
            block(flow.branch.statements(), used, on);
        }
        Stmt::Switch(parts, _) => {
            expression(&parts.0, Some(true), on);
            for case in &parts.1.expressions {
                expression(&case.lhs, Some(true), on);
                expression(&case.rhs, used, on);
            }
        }
        Stmt::Block(inner) => block(inner.statements(), used, on),
        Stmt::Return(Some(value), ..) | Stmt::BreakLoop(Some(value), ..) => expression(value, Some(true), on),
        _ => {}
    }
}

fn expression(value: &Expr, used: Option<bool>, on: &mut dyn FnMut(&Expr, Option<bool>)) {
    on(value, used);
    match value {
        Expr::Stmt(inner) => block(inner.statements(), used, on),
        Expr::InterpolatedString(items, _) | Expr::Array(items, _) => {
            items.iter().for_each(|item| expression(item, Some(true), on));
        }
        Expr::Map(entries, _) => entries.0.iter().for_each(|(_, item)| expression(item, Some(true), on)),
        // What stands left of a dot is used by what stands right of it.
        Expr::Dot(both, ..) => {
            expression(&both.lhs, Some(true), on);
            expression(&both.rhs, used, on);
        }
        Expr::Index(both, ..) => {
            expression(&both.lhs, Some(true), on);
            expression(&both.rhs, Some(true), on);
        }
        Expr::And(items, _) | Expr::Or(items, _) | Expr::Coalesce(items, _) => {
            items.iter().for_each(|item| expression(item, Some(true), on));
        }
        Expr::FnCall(call, _) | Expr::MethodCall(call, _) => {
            call.args.iter().for_each(|item| expression(item, Some(true), on));
        }
        _ => {}
    }
}
