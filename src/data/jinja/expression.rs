//! The grammar of expressions, with Jinja2's precedence: `~` binds closer than `+`, a
//! filter closer than a sign's operand, a test closer than a comparison.

use super::ast::*;
use super::error::Result;
use super::lexer::Token;
use super::parser::{describe, Parser};
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
                return self.fail(format!("expected an expression, found {}", describe(self.current())));
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
                Token::Name(name) if name == "not" && matches!(self.look(), Token::Name(next) if next == "in") => {
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

    /// From left to right, unlike Python's.
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

    fn primary(&mut self) -> Result<Expr> {
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
            other => self.fail(format!("unexpected {}", describe(&other))),
        }
    }

    fn postfix(&mut self, mut expr: Expr) -> Result<Expr> {
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

    fn filters_and_tests(&mut self, mut expr: Expr) -> Result<Expr> {
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
                    Ok(Expr { line, node: Node::Attr(boxed(of), Arc::from(name)) })
                }
                Token::Int(index) => {
                    self.skip();
                    let index = Expr { line, node: Node::Const(Constant::Int(index)) };
                    Ok(Expr { line, node: Node::Item(boxed(of), boxed(index)) })
                }
                other => self.fail(format!("expected a name or number after `.`, found {}", describe(&other))),
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
        Ok(Expr { line, node: Node::Item(boxed(of), boxed(item)) })
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
        Ok(Expr { line, node: Node::Call(boxed(of), arguments) })
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
                arguments.rest = Some(boxed(self.expression(true)?));
            } else if self.is_op("**") && arguments.named_rest.is_none() {
                self.skip();
                arguments.named_rest = Some(boxed(self.expression(true)?));
            } else if let (Token::Name(name), Token::Op("=")) = (self.current().clone(), self.look().clone()) {
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

    /// The filters that follow; `inline` where the first stands without its `|`.
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
            value = Some(Expr { line, node: Node::Filter(value.map(boxed), Arc::from(name), arguments) });
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
        let test = Expr { line, node: Node::Test(boxed(of), Arc::from(name), arguments) };
        Ok(if negated { Expr { line, node: Node::Not(boxed(test)) } } else { test })
    }
}
