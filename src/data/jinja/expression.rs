//! Parses expressions, by Jinja2's precedence: `~` binds closer than `+`, a filter closer than the operand of a sign, a
//! test closer than a comparison. Leaves to others: what may follow a primary expression (`postfix.rs`).

use super::ast::*;
use super::error::Result;
use super::parser::Parser;
use super::token::Token;
use std::sync::Arc;

fn boxed(expr: Expr) -> Box<Expr> {
    Box::new(expr)
}

impl Parser {
    /// An expression, with or without `… if … else …`.
    pub(super) fn expression(&mut self, conditional: bool) -> Result<Expr> {
        self.nested(|parser| if conditional { parser.conditional() } else { parser.or() })
    }

    /// One expression or several with commas between them.
    pub(super) fn tuple(&mut self, conditional: bool, ends: &[&str], in_parentheses: bool) -> Result<Expr> {
        let line = self.line();
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            if !items.is_empty() {
                self.expect_op(",")?;
            }
            let ended = matches!(self.current(), Token::VariableEnd | Token::BlockEnd) || self.is_op(")");
            if ended || ends.iter().any(|end| self.is_name(end)) {
                break;
            }
            items.push(self.expression(conditional)?);
            if !self.is_op(",") {
                break;
            }
            is_tuple = true;
        }
        if !is_tuple {
            if let Some(only) = items.pop() {
                return Ok(only);
            }
            if !in_parentheses {
                return self.fail(format!("expected an expression, found {}", self.current().describe()));
            }
        }
        Ok(Expr { line, node: Node::Tuple(items) })
    }

    fn conditional(&mut self) -> Result<Expr> {
        let mut line = self.line();
        let mut expr = self.or()?;
        while self.skip_name("if") {
            self.deepen(1)?;
            let test = boxed(self.or()?);
            let other =
                if self.skip_name("else") { Some(boxed(self.nested(|parser| parser.conditional())?)) } else { None };
            expr = Expr { line, node: Node::Cond { test, then: boxed(expr), other } };
            line = self.line();
        }
        Ok(expr)
    }

    fn or(&mut self) -> Result<Expr> {
        let mut left = self.and()?;
        while self.is_name("or") {
            self.deepen(1)?;
            let line = self.line();
            self.skip();
            left = Expr { line, node: Node::Or(boxed(left), boxed(self.and()?)) };
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr> {
        let mut left = self.not()?;
        while self.is_name("and") {
            self.deepen(1)?;
            let line = self.line();
            self.skip();
            left = Expr { line, node: Node::And(boxed(left), boxed(self.not()?)) };
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr> {
        let line = self.line();
        if self.skip_name("not") {
            let inner = self.nested(|parser| parser.not())?;
            return Ok(Expr { line, node: Node::Not(boxed(inner)) });
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr> {
        let line = self.line();
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.current() {
                Token::Op("==") => Comparison::Eq,
                Token::Op("!=") => Comparison::Ne,
                Token::Op("<") => Comparison::Lt,
                Token::Op("<=") => Comparison::Le,
                Token::Op(">") => Comparison::Gt,
                Token::Op(">=") => Comparison::Ge,
                Token::Name(name) if name == "in" => Comparison::In,
                Token::Name(name) if name == "not" && matches!(self.next(), Token::Name(next) if next == "in") => {
                    self.skip();
                    Comparison::NotIn
                }
                _ => break,
            };
            self.skip();
            rest.push((comparison, self.sum()?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Ok(Expr { line, node: Node::Compare(boxed(first), rest) })
    }

    fn operator(&self, operators: &[(&str, Binary)]) -> Option<Binary> {
        operators.iter().find(|(text, _)| self.is_op(text)).map(|(_, operator)| *operator)
    }

    fn sum(&mut self) -> Result<Expr> {
        let mut left = self.concatenation()?;
        while let Some(operator) = self.operator(&[("+", Binary::Add), ("-", Binary::Sub)]) {
            self.deepen(1)?;
            let line = self.line();
            self.skip();
            left = Expr { line, node: Node::Binary(operator, boxed(left), boxed(self.concatenation()?)) };
        }
        Ok(left)
    }

    fn concatenation(&mut self) -> Result<Expr> {
        let line = self.line();
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_op("~") {
            parts.push(self.product()?);
        }
        Ok(Expr { line, node: Node::Concat(parts) })
    }

    fn product(&mut self) -> Result<Expr> {
        let operators = [("*", Binary::Mul), ("/", Binary::Div), ("//", Binary::FloorDiv), ("%", Binary::Mod)];
        let mut left = self.power()?;
        while let Some(operator) = self.operator(&operators) {
            self.deepen(1)?;
            let line = self.line();
            self.skip();
            left = Expr { line, node: Node::Binary(operator, boxed(left), boxed(self.power()?)) };
        }
        Ok(left)
    }

    /// Associates to the left, unlike in Python.
    fn power(&mut self) -> Result<Expr> {
        let mut left = self.unary(true)?;
        while self.is_op("**") {
            self.deepen(1)?;
            let line = self.line();
            self.skip();
            left = Expr { line, node: Node::Binary(Binary::Pow, boxed(left), boxed(self.unary(true)?)) };
        }
        Ok(left)
    }

    fn unary(&mut self, with_filters: bool) -> Result<Expr> {
        let line = self.line();
        let expr = if self.skip_op("-") {
            let inner = self.nested(|parser| parser.unary(false))?;
            Expr { line, node: Node::Neg(boxed(inner)) }
        } else if self.skip_op("+") {
            let inner = self.nested(|parser| parser.unary(false))?;
            Expr { line, node: Node::Pos(boxed(inner)) }
        } else {
            self.primary()?
        };
        let expr = self.postfix(expr)?;
        if with_filters {
            self.filters_and_tests(expr)
        } else {
            Ok(expr)
        }
    }

    pub(super) fn primary(&mut self) -> Result<Expr> {
        let line = self.line();
        let constant = |constant| Ok(Expr { line, node: Node::Const(constant) });
        match self.current().clone() {
            Token::Name(name) => {
                self.skip();
                match name.as_str() {
                    "true" | "True" => constant(Constant::Bool(true)),
                    "false" | "False" => constant(Constant::Bool(false)),
                    "none" | "None" => constant(Constant::None),
                    _ => Ok(Expr { line, node: Node::Name(Arc::from(name)) }),
                }
            }
            Token::Str(mut text) => {
                self.skip();
                while let Token::Str(more) = self.current() {
                    text.push_str(more);
                    self.skip();
                }
                constant(Constant::Str(Arc::from(text)))
            }
            Token::Int(value) => {
                self.skip();
                constant(Constant::Int(value))
            }
            Token::Float(value) => {
                self.skip();
                constant(Constant::Float(value))
            }
            Token::Op("(") => {
                self.skip();
                let inner = self.nested(|parser| parser.tuple(true, &[], true))?;
                self.expect_op(")")?;
                Ok(inner)
            }
            Token::Op("[") => {
                self.skip();
                let mut items = Vec::new();
                while !self.is_op("]") {
                    if !items.is_empty() {
                        self.expect_op(",")?;
                    }
                    if self.is_op("]") {
                        break;
                    }
                    items.push(self.expression(true)?);
                }
                self.expect_op("]")?;
                Ok(Expr { line, node: Node::List(items) })
            }
            Token::Op("{") => {
                self.skip();
                let mut entries = Vec::new();
                while !self.is_op("}") {
                    if !entries.is_empty() {
                        self.expect_op(",")?;
                    }
                    if self.is_op("}") {
                        break;
                    }
                    let key = self.expression(true)?;
                    self.expect_op(":")?;
                    entries.push((key, self.expression(true)?));
                }
                self.expect_op("}")?;
                Ok(Expr { line, node: Node::Dict(entries) })
            }
            other => self.fail(format!("unexpected {}", other.describe())),
        }
    }
}
