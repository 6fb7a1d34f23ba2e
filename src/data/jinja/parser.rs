//! The parser: its state, and its steps from token to token. Leaves to others: the grammar of statements
//! (`statement.rs`) and of expressions (`expression.rs`, `postfix.rs`).

use super::ast::*;
use super::error::{Failure, Result};
use super::fuel;
use super::lexer::tokenize;
use super::token::Token;
use std::sync::Arc;

/// How deep statements and expressions may be nested. Recursion counts [`RECURSION`], a further operator of a chain 1: it
/// only deepens the tree.
const MAX_DEPTH: usize = 400;
const RECURSION: usize = 4;

pub(super) struct Parser {
    pub(super) tokens: Vec<(u32, Token)>,
    pub(super) at: usize,
    depth: usize,
    /// The loops around the current token that `break` can leave.
    pub(super) loops: usize,
    pub(super) blocks: Vec<(Name, Body)>,
    pub(super) has_generation_tags: bool,
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

    pub(super) fn next(&self) -> &Token {
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
        matches!(self.current(), Token::Op(other) if *other == operator)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.current(), Token::Name(other) if other == name)
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
        self.fail(format!("expected `{operator}`, found {}", self.current().describe()))
    }

    pub(super) fn expect_name(&mut self) -> Result<Name> {
        if let Token::Name(name) = self.current() {
            let name = Arc::from(name.as_str());
            self.skip();
            return Ok(name);
        }
        self.fail(format!("expected a name, found {}", self.current().describe()))
    }

    pub(super) fn expect(&mut self, token: &Token) -> Result<()> {
        if self.current() == token {
            self.skip();
            return Ok(());
        }
        self.fail(format!("expected {}, found {}", token.describe(), self.current().describe()))
    }

    /// Runs `parse` one level deeper.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let depth = self.depth;
        fuel::stack()?;
        self.deepen(RECURSION)?;
        let parsed = parse(self);
        self.depth = depth;
        parsed
    }

    /// Counts `levels` until the enclosing [`Self::nested`] ends.
    pub(super) fn deepen(&mut self, levels: usize) -> Result<()> {
        self.depth += levels;
        if self.depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        Ok(())
    }
}
