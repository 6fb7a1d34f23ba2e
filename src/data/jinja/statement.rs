//! Parses statements, by Jinja2's grammar.

use super::ast::*;
use super::error::{Failure, Result};
use super::parser::Parser;
use super::token::Token;
use std::sync::Arc;

impl Parser {
    /// Statements up to one of the `ends`, whose name is left as the current token.
    pub(super) fn body(&mut self, ends: &[&str]) -> Result<Body> {
        let mut body = Body::new();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut output_line = self.line();
        loop {
            let line = self.line();
            if pieces.is_empty() {
                output_line = line;
            }
            match self.current() {
                Token::Data(text) => {
                    pieces.push(Piece::Text(Arc::from(text.as_str())));
                    self.skip();
                }
                Token::VariableBegin => {
                    self.skip();
                    pieces.push(Piece::Expr(self.tuple(true, &[], false)?));
                    self.expect(&Token::VariableEnd)?;
                }
                Token::BlockBegin => {
                    if !pieces.is_empty() {
                        body.push(Statement {
                            line: output_line,
                            kind: StatementKind::Output(std::mem::take(&mut pieces)),
                        });
                    }
                    self.skip();
                    if ends.iter().any(|end| self.is_name(end)) {
                        return Ok(body);
                    }
                    let kind = self.nested(|parser| parser.statement(ends))?;
                    body.push(Statement { line, kind });
                    self.expect(&Token::BlockEnd)?;
                }
                Token::End if ends.is_empty() => {
                    if !pieces.is_empty() {
                        body.push(Statement { line: output_line, kind: StatementKind::Output(pieces) });
                    }
                    return Ok(body);
                }
                Token::End => {
                    return self.fail(format!("the template ends where `{}` is missing", ends.join("` or `")))
                }
                other => return self.fail(format!("unexpected {}", other.describe())),
            }
        }
    }

    /// The end of a tag and the statements after it, up to one of the `ends`.
    fn block_to(&mut self, ends: &[&str]) -> Result<Body> {
        self.skip_op(":");
        self.expect(&Token::BlockEnd)?;
        self.body(ends)
    }

    /// As [`Self::block_to`] with one end, which is consumed.
    fn block(&mut self, end: &str) -> Result<Body> {
        let body = self.block_to(&[end])?;
        self.skip();
        Ok(body)
    }

    fn statement(&mut self, ends: &[&str]) -> Result<StatementKind> {
        let line = self.line();
        let Token::Name(tag) = self.current() else { return self.fail("expected the name of a tag") };
        let tag = tag.clone();
        self.skip();
        match tag.as_str() {
            "for" => self.parse_for(),
            "if" => self.parse_if(),
            "set" => self.parse_set(),
            "with" => self.parse_with(),
            "macro" => {
                let name = self.expect_name()?;
                let parameters = self.signature()?;
                Ok(StatementKind::Macro(Arc::new(self.macro_body(name, parameters, "endmacro")?)))
            }
            "call" => {
                let parameters = if self.is_op("(") { self.signature()? } else { Vec::new() };
                let call = self.expression(true)?;
                if !matches!(call.node, Node::Call(..)) {
                    return self.fail("expected a call after `call`");
                }
                let body = self.macro_body(Arc::from("caller"), parameters, "endcall")?;
                Ok(StatementKind::Call(call, Arc::new(body)))
            }
            "filter" => {
                let filter = self.filters(None, true)?;
                let Some(filter) = filter else { return self.fail("expected a filter") };
                let body = self.out_of_loops(|parser| parser.block("endfilter"))?;
                Ok(StatementKind::Filter(filter, body))
            }
            "block" => self.parse_block(),
            "autoescape" => {
                let value = self.expression(true)?;
                Ok(StatementKind::AutoEscape(value, self.block("endautoescape")?))
            }
            "generation" => {
                self.has_generation_tags = true;
                let body = self.out_of_loops(|parser| parser.block("endgeneration"))?;
                Ok(StatementKind::Generation(body))
            }
            "print" => {
                let mut pieces = Vec::new();
                while *self.current() != Token::BlockEnd {
                    if !pieces.is_empty() {
                        self.expect_op(",")?;
                    }
                    pieces.push(Piece::Expr(self.expression(true)?));
                }
                Ok(StatementKind::Output(pieces))
            }
            "break" | "continue" if self.loops == 0 => Err(Failure::syntax(line, format!("`{tag}` is outside a loop"))),
            "break" => Ok(StatementKind::Break),
            "continue" => Ok(StatementKind::Continue),
            "include" | "import" | "from" | "extends" => {
                while !matches!(self.current(), Token::BlockEnd | Token::End) {
                    self.skip();
                }
                Ok(StatementKind::OtherTemplate(match tag.as_str() {
                    "include" => "include",
                    "extends" => "extends",
                    _ => "import",
                }))
            }
            other if ends.is_empty() => Err(Failure::syntax(line, format!("unknown tag `{other}`"))),
            other => Err(Failure::syntax(
                line,
                format!("unknown tag `{other}`; `{}` would end the innermost block", ends.join("` or `")),
            )),
        }
    }

    /// Parses a body that Jinja2 compiles to a function, which `break` cannot leave.
    fn out_of_loops<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let loops = std::mem::take(&mut self.loops);
        let parsed = parse(self);
        self.loops = loops;
        parsed
    }

    fn parse_for(&mut self) -> Result<StatementKind> {
        let target = self.target(&["in"], false)?;
        if target.names("loop") {
            return self.fail("`loop` cannot be the variable of a loop");
        }
        if !self.skip_name("in") {
            return self.fail(format!("expected `in`, found {}", self.current().describe()));
        }
        let iterable = self.tuple(false, &["recursive"], false)?;
        let test = if self.skip_name("if") { Some(self.expression(true)?) } else { None };
        let recursive = self.skip_name("recursive");
        // Jinja2 compiles a recursive loop to a function too, but with the loop inside.
        self.loops += 1;
        let body = self.block_to(&["endfor", "else"]);
        self.loops -= 1;
        let body = body?;
        let otherwise = if self.is_name("else") {
            self.skip();
            self.block("endfor")?
        } else {
            self.skip();
            Body::new()
        };
        Ok(StatementKind::For(Arc::new(For { target, iterable, body, otherwise, test, recursive })))
    }

    fn parse_if(&mut self) -> Result<StatementKind> {
        let mut branches = Vec::new();
        loop {
            let test = self.tuple(false, &[], false)?;
            branches.push((test, self.block_to(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            let ends = self.is_name("endif");
            self.skip();
            let otherwise = if ends { Body::new() } else { self.block("endif")? };
            return Ok(StatementKind::If(branches, otherwise));
        }
    }

    fn parse_set(&mut self) -> Result<StatementKind> {
        let target = self.target(&[], true)?;
        if self.skip_op("=") {
            return Ok(StatementKind::Set(target, self.tuple(true, &[], false)?));
        }
        let filter = self.filters(None, false)?;
        let body = self.out_of_loops(|parser| parser.block("endset"))?;
        Ok(StatementKind::SetBlock(target, filter, body))
    }

    fn parse_with(&mut self) -> Result<StatementKind> {
        let mut values = Vec::new();
        while *self.current() != Token::BlockEnd {
            if !values.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.target(&[], false)?;
            self.expect_op("=")?;
            values.push((target, self.expression(true)?));
        }
        Ok(StatementKind::With(values, self.block("endwith")?))
    }

    fn parse_block(&mut self) -> Result<StatementKind> {
        let name = self.expect_name()?;
        let scoped = self.skip_name("scoped");
        if self.skip_name("required") {
            return self.fail("a required block needs another template that extends this one");
        }
        let body = self.out_of_loops(|parser| parser.block("endblock"))?;
        let again = name.clone();
        self.skip_name(&again);
        if self.blocks.iter().any(|(other, _)| *other == name) {
            return self.fail(format!("block `{name}` is defined twice"));
        }
        self.blocks.push((name.clone(), body));
        Ok(StatementKind::Block { name, scoped })
    }

    fn signature(&mut self) -> Result<Vec<(Name, Option<Expr>)>> {
        let mut parameters: Vec<(Name, Option<Expr>)> = Vec::new();
        self.expect_op("(")?;
        while !self.is_op(")") {
            if !parameters.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.expect_name()?;
            let default = if self.skip_op("=") { Some(self.expression(true)?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, default)| default.is_some()) {
                return self.fail("a parameter without a default follows one with a default");
            }
            if parameters.iter().any(|(other, _)| *other == name) {
                return self.fail(format!("two parameters are named `{name}`"));
            }
            parameters.push((name, default));
        }
        self.expect_op(")")?;
        Ok(parameters)
    }

    fn macro_body(&mut self, name: Name, parameters: Vec<(Name, Option<Expr>)>, end: &str) -> Result<MacroDefinition> {
        let begin = self.at;
        let body = self.out_of_loops(|parser| parser.block(end))?;
        let mentions = |name: &str| {
            self.tokens[begin..self.at].iter().any(|(_, token)| matches!(token, Token::Name(other) if other == name))
        };
        Ok(MacroDefinition {
            name,
            takes_caller: mentions("caller"),
            takes_rest: mentions("varargs"),
            takes_named_rest: mentions("kwargs"),
            parameters,
            body,
        })
    }

    fn target(&mut self, ends: &[&str], namespaces: bool) -> Result<Target> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            if !targets.is_empty() {
                self.expect_op(",")?;
            }
            let ended = matches!(self.current(), Token::BlockEnd | Token::VariableEnd) || self.is_op(")");
            if ended || ends.iter().any(|end| self.is_name(end)) {
                break;
            }
            targets.push(self.nested(|parser| parser.single_target(namespaces))?);
            if !self.is_op(",") {
                break;
            }
            is_tuple = true;
        }
        match (targets.len(), is_tuple) {
            (1, false) => Ok(targets.remove(0)),
            (0, _) => self.fail("expected a name to assign to"),
            _ => Ok(Target::Tuple(targets)),
        }
    }

    fn single_target(&mut self, namespaces: bool) -> Result<Target> {
        if self.is_op("(") || self.is_op("[") {
            let close = if self.is_op("(") { ")" } else { "]" };
            self.skip();
            let inner = self.target(&[], false)?;
            self.expect_op(close)?;
            return Ok(inner);
        }
        let name = self.expect_name()?;
        if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
            return self.fail(format!("cannot assign to `{name}`"));
        }
        if namespaces && self.skip_op(".") {
            return Ok(Target::Attr(name, self.expect_name()?));
        }
        Ok(Target::Name(name))
    }
}

impl Target {
    fn names(&self, name: &str) -> bool {
        match self {
            Target::Name(other) => &**other == name,
            Target::Attr(..) => false,
            Target::Tuple(targets) => targets.iter().any(|target| target.names(name)),
        }
    }
}
