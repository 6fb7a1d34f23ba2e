//! Tokens into statements, by Jinja2's grammar. Expressions are in `expression.rs`.

use super::ast::*;
use super::error::{Failure, Result};
use super::fuel;
use super::lexer::{tokenize, Token};
use std::sync::Arc;

/// How deep statements and expressions may be nested: [`NESTED`] for what is parsed by
/// recursion, 1 for each further operator of a chain, which only deepens the tree.
const DEPTH: usize = 400;
const NESTED: usize = 4;

pub(super) struct Parser {
    tokens: Vec<(u32, Token)>,
    at: usize,
    depth: usize,
    /// Loops that `break` may end here, and blocks of the template.
    loops: usize,
    blocks: Vec<(Name, Body)>,
    has_generation_tags: bool,
}

/// Parses a template.
pub(super) fn parse(source: &str) -> Result<Program> {
    fuel::begin_stack();
    let (tokens, blocks) = (tokenize(source)?, Vec::new());
    let mut parser = Parser { tokens, at: 0, depth: 0, loops: 0, blocks, has_generation_tags: false };
    let body = parser.body(&[])?;
    Ok(Program { body, blocks: parser.blocks, has_generation_tags: parser.has_generation_tags })
}

impl Parser {
    pub(super) fn current(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    pub(super) fn look(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |(_, token)| token)
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(line, _)| *line)
    }

    pub(super) fn skip(&mut self) {
        self.at += 1;
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Failure::syntax(self.line(), message))
    }

    pub(super) fn is_op(&self, operator: &str) -> bool {
        matches!(self.current(), Token::Op(found) if *found == operator)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.current(), Token::Name(found) if found == name)
    }

    pub(super) fn skip_op(&mut self, operator: &str) -> bool {
        let matches = self.is_op(operator);
        self.at += usize::from(matches);
        matches
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let matches = self.is_name(name);
        self.at += usize::from(matches);
        matches
    }

    pub(super) fn expect_op(&mut self, operator: &str) -> Result<()> {
        if self.skip_op(operator) {
            return Ok(());
        }
        self.fail(format!("expected `{operator}`, found {}", describe(self.current())))
    }

    pub(super) fn expect_name(&mut self) -> Result<Name> {
        if let Token::Name(name) = self.current() {
            let name = Arc::from(name.as_str());
            self.skip();
            return Ok(name);
        }
        self.fail(format!("expected a name, found {}", describe(self.current())))
    }

    fn expect(&mut self, token: &Token) -> Result<()> {
        if self.current() == token {
            self.skip();
            return Ok(());
        }
        self.fail(format!("expected {}, found {}", describe(token), describe(self.current())))
    }

    /// Runs `parse` one level deeper.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let depth = self.depth;
        fuel::stack()?;
        self.deepen(NESTED)?;
        let parsed = parse(self);
        self.depth = depth;
        parsed
    }

    /// Counts `levels` until the enclosing [`Self::nested`] ends.
    pub(super) fn deepen(&mut self, levels: usize) -> Result<()> {
        self.depth += levels;
        if self.depth > DEPTH {
            return self.fail("nested too deeply");
        }
        Ok(())
    }

    /// Statements up to one of the `ends`, whose name is left as the current token.
    fn body(&mut self, ends: &[&str]) -> Result<Body> {
        let mut body = Body::new();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut first = self.line();
        loop {
            let line = self.line();
            if pieces.is_empty() {
                first = line;
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
                        body.push(Statement { line: first, kind: Kind::Output(std::mem::take(&mut pieces)) });
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
                        body.push(Statement { line: first, kind: Kind::Output(pieces) });
                    }
                    return Ok(body);
                }
                Token::End => return self.fail(format!("the template ends where `{}` is due", ends.join("` or `"))),
                other => return self.fail(format!("unexpected {}", describe(other))),
            }
        }
    }

    /// The rest of a tag and what follows it up to one of the `ends`.
    fn block_to(&mut self, ends: &[&str]) -> Result<Body> {
        self.skip_op(":");
        self.expect(&Token::BlockEnd)?;
        self.body(ends)
    }

    /// As [`Self::block_to`] with one end, which is taken.
    fn block(&mut self, end: &str) -> Result<Body> {
        let body = self.block_to(&[end])?;
        self.skip();
        Ok(body)
    }

    fn statement(&mut self, ends: &[&str]) -> Result<Kind> {
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
                Ok(Kind::Macro(Arc::new(self.macro_body(name, parameters, "endmacro")?)))
            }
            "call" => {
                let parameters = if self.is_op("(") { self.signature()? } else { Vec::new() };
                let call = self.expression(true)?;
                if !matches!(call.node, Node::Call(..)) {
                    return self.fail("expected a call after `call`");
                }
                let body = self.macro_body(Arc::from("caller"), parameters, "endcall")?;
                Ok(Kind::Call(call, Arc::new(body)))
            }
            "filter" => {
                let filter = self.filters(None, true)?;
                let Some(filter) = filter else { return self.fail("expected a filter") };
                let body = self.out_of_loops(|parser| parser.block("endfilter"))?;
                Ok(Kind::Filter(filter, body))
            }
            "block" => self.parse_block(),
            "autoescape" => {
                let value = self.expression(true)?;
                Ok(Kind::AutoEscape(value, self.block("endautoescape")?))
            }
            "generation" => {
                self.has_generation_tags = true;
                let body = self.out_of_loops(|parser| parser.block("endgeneration"))?;
                Ok(Kind::Generation(body))
            }
            "print" => {
                let mut pieces = Vec::new();
                while *self.current() != Token::BlockEnd {
                    if !pieces.is_empty() {
                        self.expect_op(",")?;
                    }
                    pieces.push(Piece::Expr(self.expression(true)?));
                }
                Ok(Kind::Output(pieces))
            }
            "break" | "continue" if self.loops == 0 => {
                Err(Failure::syntax(line, format!("`{tag}` stands outside of a loop")))
            }
            "break" => Ok(Kind::Break),
            "continue" => Ok(Kind::Continue),
            "include" | "import" | "from" | "extends" => {
                while !matches!(self.current(), Token::BlockEnd | Token::End) {
                    self.skip();
                }
                Ok(Kind::Other(match tag.as_str() {
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

    /// A body that runs as a function of its own in Jinja2, which `break` cannot leave.
    fn out_of_loops<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let loops = std::mem::take(&mut self.loops);
        let parsed = parse(self);
        self.loops = loops;
        parsed
    }

    fn parse_for(&mut self) -> Result<Kind> {
        let target = self.target(&["in"], false)?;
        if target.names("loop") {
            return self.fail("`loop` cannot be the variable of a loop");
        }
        if !self.skip_name("in") {
            return self.fail(format!("expected `in`, found {}", describe(self.current())));
        }
        let iterable = self.tuple(false, &["recursive"], false)?;
        let test = if self.skip_name("if") { Some(self.expression(true)?) } else { None };
        let recursive = self.skip_name("recursive");
        // The body of a recursive loop is a function, but the loop itself stands in it.
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
        Ok(Kind::For(Arc::new(For { target, iterable, body, otherwise, test, recursive })))
    }

    fn parse_if(&mut self) -> Result<Kind> {
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
            return Ok(Kind::If(branches, otherwise));
        }
    }

    fn parse_set(&mut self) -> Result<Kind> {
        let target = self.target(&[], true)?;
        if self.skip_op("=") {
            return Ok(Kind::Set(target, self.tuple(true, &[], false)?));
        }
        let filter = self.filters(None, false)?;
        let body = self.out_of_loops(|parser| parser.block("endset"))?;
        Ok(Kind::SetBlock(target, filter, body))
    }

    fn parse_with(&mut self) -> Result<Kind> {
        let mut values = Vec::new();
        while *self.current() != Token::BlockEnd {
            if !values.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.target(&[], false)?;
            self.expect_op("=")?;
            values.push((target, self.expression(true)?));
        }
        Ok(Kind::With(values, self.block("endwith")?))
    }

    fn parse_block(&mut self) -> Result<Kind> {
        let name = self.expect_name()?;
        let scoped = self.skip_name("scoped");
        if self.skip_name("required") {
            return self.fail("a required block needs a template that extends this one");
        }
        let body = self.out_of_loops(|parser| parser.block("endblock"))?;
        let again = name.clone();
        self.skip_name(&again);
        if self.blocks.iter().any(|(other, _)| *other == name) {
            return self.fail(format!("block `{name}` is defined twice"));
        }
        self.blocks.push((name.clone(), body));
        Ok(Kind::Block { name, scoped })
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
        let speaks_of = |name: &str| {
            self.tokens[begin..self.at].iter().any(|(_, token)| matches!(token, Token::Name(found) if found == name))
        };
        Ok(MacroDefinition {
            name,
            takes_caller: speaks_of("caller"),
            takes_rest: speaks_of("varargs"),
            takes_named_rest: speaks_of("kwargs"),
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
            Target::Name(found) => &**found == name,
            Target::Attr(..) => false,
            Target::Tuple(targets) => targets.iter().any(|target| target.names(name)),
        }
    }
}

pub(super) fn describe(token: &Token) -> String {
    match token {
        Token::Data(_) => "text".into(),
        Token::VariableBegin => "`{{`".into(),
        Token::VariableEnd => "`}}`".into(),
        Token::BlockBegin => "`{%`".into(),
        Token::BlockEnd => "`%}`".into(),
        Token::Name(name) => format!("`{name}`"),
        Token::Str(text) => format!("the string {text:?}"),
        Token::Int(value) => value.to_string(),
        Token::Float(value) => value.to_string(),
        Token::Op(operator) => format!("`{operator}`"),
        Token::End => "the end of the template".into(),
    }
}
