//! Fails on unknown filters and tests when the template is compiled, as Jinja2 does. Inside an `if` (`soft`), Jinja2 fails only
//! when they are reached.

use super::ast::*;
use super::error::{Failure, Result};
use super::{filters, tests};

pub(super) fn check(program: &Program) -> Result<()> {
    body(&program.body, false)?;
    program.blocks.iter().try_for_each(|(_, block)| body(block, false))
}

fn body(statements: &Body, soft: bool) -> Result<()> {
    statements.iter().try_for_each(|statement| self::statement(statement, soft))
}

fn statement(statement: &Statement, soft: bool) -> Result<()> {
    match &statement.kind {
        StatementKind::Output(pieces) => pieces.iter().try_for_each(|piece| match piece {
            Piece::Text(_) => Ok(()),
            Piece::Expr(value) => expr(value, soft),
        }),
        StatementKind::For(node) => {
            expr(&node.iterable, soft)?;
            optional(node.test.as_ref(), false)?;
            body(&node.body, false)?;
            body(&node.otherwise, false)
        }
        StatementKind::If(branches, otherwise) => {
            for (test, branch) in branches {
                expr(test, true)?;
                body(branch, true)?;
            }
            body(otherwise, true)
        }
        StatementKind::Macro(definition) => macro_definition(definition),
        StatementKind::Call(call, definition) => {
            expr(call, soft)?;
            macro_definition(definition)
        }
        StatementKind::Filter(filter, inner) => {
            expr(filter, false)?;
            body(inner, false)
        }
        StatementKind::Set(_, value) => expr(value, soft),
        StatementKind::SetBlock(_, filter, inner) => {
            optional(filter.as_ref(), false)?;
            body(inner, false)
        }
        StatementKind::With(values, inner) => {
            values.iter().try_for_each(|(_, value)| expr(value, soft))?;
            body(inner, false)
        }
        StatementKind::AutoEscape(value, inner) => {
            expr(value, soft)?;
            body(inner, false)
        }
        StatementKind::Generation(inner) => body(inner, false),
        StatementKind::Block { .. }
        | StatementKind::OtherTemplate(_)
        | StatementKind::Break
        | StatementKind::Continue => Ok(()),
    }
}

fn macro_definition(definition: &MacroDefinition) -> Result<()> {
    for (_, default) in &definition.parameters {
        optional(default.as_ref(), false)?;
    }
    body(&definition.body, false)
}

fn optional(value: Option<&Expr>, soft: bool) -> Result<()> {
    value.map_or(Ok(()), |value| expr(value, soft))
}

fn all(values: &[Expr], soft: bool) -> Result<()> {
    values.iter().try_for_each(|value| expr(value, soft))
}

fn arguments(arguments: &Arguments, soft: bool) -> Result<()> {
    all(&arguments.positional, soft)?;
    arguments.named.iter().try_for_each(|(_, value)| expr(value, soft))?;
    optional(arguments.rest.as_deref(), soft)?;
    optional(arguments.named_rest.as_deref(), soft)
}

fn expr(value: &Expr, soft: bool) -> Result<()> {
    match &value.node {
        Node::Const(_) | Node::Name(_) => Ok(()),
        Node::Tuple(items) | Node::List(items) | Node::Concat(items) => all(items, soft),
        Node::Dict(entries) => entries.iter().try_for_each(|(key, value)| {
            expr(key, soft)?;
            expr(value, soft)
        }),
        Node::Cond { test, then, other } => {
            expr(test, true)?;
            expr(then, true)?;
            optional(other.as_deref(), true)
        }
        Node::Or(left, right) | Node::And(left, right) | Node::Binary(_, left, right) | Node::Item(left, right) => {
            expr(left, soft)?;
            expr(right, soft)
        }
        Node::Not(inner) | Node::Neg(inner) | Node::Pos(inner) | Node::Attr(inner, _) => expr(inner, soft),
        Node::Compare(first, rest) => {
            expr(first, soft)?;
            rest.iter().try_for_each(|(_, value)| expr(value, soft))
        }
        Node::Slice(parts) => parts.iter().try_for_each(|part| optional(part.as_ref(), soft)),
        Node::Call(callee, values) => {
            expr(callee, soft)?;
            arguments(values, soft)
        }
        Node::Filter(inner, name, values) => {
            if !soft && !filters::exists(name) {
                return Err(Failure::syntax(value.line, format!("no filter named `{name}`")));
            }
            optional(inner.as_deref(), soft)?;
            arguments(values, soft)
        }
        Node::Test(inner, name, values) => {
            if !soft && !tests::exists(name) {
                return Err(Failure::syntax(value.line, format!("no test named `{name}`")));
            }
            expr(inner, soft)?;
            arguments(values, soft)
        }
    }
}
