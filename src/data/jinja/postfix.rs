//! Parses what may follow a primary expression: attributes, subscripts, calls, filters and tests.

use super::ast::*;
use super::error::Result;
use super::parser::Parser;
use super::token::Token;
use std::sync::Arc;

impl Parser {
    pub(super) fn postfix(&mut self, mut expr: Expr) -> Result<Expr> {
        loop {
            self.deepen(1)?;
            expr = if self.is_op(".") || self.is_op("[") {
                self.subscript(expr)?
            } else if self.is_op("(") {
                self.call(expr)?
            } else {
                return Ok(expr);
            };
        }
    }

    pub(super) fn filters_and_tests(&mut self, mut expr: Expr) -> Result<Expr> {
        loop {
            self.deepen(1)?;
            expr = if self.is_op("|") {
                match self.filters(Some(expr), false)? {
                    Some(filtered) => filtered,
                    None => return self.fail("expected a filter"),
                }
            } else if self.is_name("is") {
                self.test(expr)?
            } else if self.is_op("(") {
                self.call(expr)?
            } else {
                return Ok(expr);
            };
        }
    }

    fn subscript(&mut self, of: Expr) -> Result<Expr> {
        let line = self.line();
        if self.skip_op(".") {
            return match self.current().clone() {
                Token::Name(name) => {
                    self.skip();
                    Ok(Expr { line, node: Node::Attr(Box::new(of), Arc::from(name)) })
                }
                Token::Int(index) => {
                    self.skip();
                    let index = Expr { line, node: Node::Const(Constant::Int(index)) };
                    Ok(Expr { line, node: Node::Item(Box::new(of), Box::new(index)) })
                }
                other => self.fail(format!("expected a name or number after `.`, found {}", other.describe())),
            };
        }
        self.expect_op("[")?;
        let mut items = Vec::new();
        while !self.is_op("]") {
            if !items.is_empty() {
                self.expect_op(",")?;
            }
            items.push(self.slice_or_expression()?);
        }
        self.expect_op("]")?;
        let item = if items.len() == 1 { items.remove(0) } else { Expr { line, node: Node::Tuple(items) } };
        Ok(Expr { line, node: Node::Item(Box::new(of), Box::new(item)) })
    }

    fn slice_or_expression(&mut self) -> Result<Expr> {
        let line = self.line();
        let start = if self.is_op(":") {
            None
        } else {
            let start = self.expression(true)?;
            if !self.is_op(":") {
                return Ok(start);
            }
            Some(start)
        };
        self.skip();
        let bounded = |parser: &Self| !parser.is_op(":") && !parser.is_op("]") && !parser.is_op(",");
        let stop = if bounded(self) { Some(self.expression(true)?) } else { None };
        let step = if self.skip_op(":") && bounded(self) { Some(self.expression(true)?) } else { None };
        Ok(Expr { line, node: Node::Slice(Box::new([start, stop, step])) })
    }

    fn call(&mut self, of: Expr) -> Result<Expr> {
        let line = self.line();
        let arguments = self.arguments()?;
        Ok(Expr { line, node: Node::Call(Box::new(of), arguments) })
    }

    fn arguments(&mut self) -> Result<Arguments> {
        self.expect_op("(")?;
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.is_op(")") {
            if !first {
                self.expect_op(",")?;
                if self.is_op(")") {
                    break;
                }
            }
            first = false;
            let no_rest = arguments.rest.is_none() && arguments.named_rest.is_none();
            let invalid = "invalid syntax in the arguments of a call";
            if self.is_op("*") && no_rest {
                self.skip();
                arguments.rest = Some(Box::new(self.expression(true)?));
            } else if self.is_op("**") && arguments.named_rest.is_none() {
                self.skip();
                arguments.named_rest = Some(Box::new(self.expression(true)?));
            } else if let (Token::Name(name), Token::Op("=")) = (self.current().clone(), self.next().clone()) {
                if arguments.named_rest.is_some() {
                    return self.fail(invalid);
                }
                self.skip();
                self.skip();
                if arguments.named.iter().any(|(other, _)| **other == name) {
                    return self.fail(format!("the argument `{name}` is given twice"));
                }
                let value = self.expression(true)?;
                arguments.named.push((Arc::from(name), value));
            } else if no_rest && arguments.named.is_empty() {
                arguments.positional.push(self.expression(true)?);
            } else {
                return self.fail(invalid);
            }
        }
        self.expect_op(")")?;
        Ok(arguments)
    }

    fn dotted_name(&mut self) -> Result<String> {
        let mut name = self.expect_name()?.to_string();
        while self.skip_op(".") {
            name.push('.');
            name.push_str(&self.expect_name()?);
        }
        Ok(name)
    }

    /// The filters that follow. The first has no `|` if `inline`, as in `{% filter upper %}`.
    pub(super) fn filters(&mut self, mut value: Option<Expr>, mut inline: bool) -> Result<Option<Expr>> {
        while inline || self.is_op("|") {
            if !inline {
                self.skip();
            }
            inline = false;
            self.deepen(1)?;
            let line = self.line();
            let name = self.dotted_name()?;
            let arguments = if self.is_op("(") { self.arguments()? } else { Arguments::default() };
            value = Some(Expr { line, node: Node::Filter(value.map(Box::new), Arc::from(name), arguments) });
        }
        Ok(value)
    }

    fn test(&mut self, of: Expr) -> Result<Expr> {
        let line = self.line();
        self.skip();
        let negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let arguments = if self.is_op("(") {
            self.arguments()?
        } else {
            let takes_argument = match self.current() {
                Token::Name(next) => !matches!(next.as_str(), "else" | "or" | "and"),
                Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::Op("[" | "{") => true,
                _ => false,
            };
            if takes_argument {
                if self.is_name("is") {
                    return self.fail("tests cannot be chained with `is`");
                }
                let argument = self.primary()?;
                let argument = self.postfix(argument)?;
                Arguments { positional: vec![argument], ..Arguments::default() }
            } else {
                Arguments::default()
            }
        };
        let test = Expr { line, node: Node::Test(Box::new(of), Arc::from(name), arguments) };
        Ok(if negated { Expr { line, node: Node::Not(Box::new(test)) } } else { test })
    }
}
