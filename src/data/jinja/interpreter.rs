//! Runs the statements of a template. Leaves to others: expressions (`evaluate.rs`), loops (`loops.rs`).

use super::arguments::Call;
use super::ast::*;
use super::error::{fault, Cause, Failure, Result};
use super::fuel;
use super::ops;
use super::print;
use super::value::{Object, Owner, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// How a body ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

/// The variables of one block.
pub(super) struct Scope {
    variables: Vec<(Name, Value)>,
    parent: Option<usize>,
}

pub(super) struct Interpreter {
    pub program: Arc<Program>,
    /// The variables that the template is rendered with.
    pub context: HashMap<String, Value>,
    pub scopes: Vec<Scope>,
    /// How many scopes must stay, because a macro may use them later.
    kept: usize,
    /// Written where a `{% generation %}` block begins and where it ends.
    marks: [Arc<str>; 2],
}

const FUNCTIONS: [&str; 8] =
    ["range", "dict", "lipsum", "cycler", "joiner", "namespace", "raise_exception", "strftime_now"];

impl Interpreter {
    pub fn new(program: Arc<Program>, context: HashMap<String, Value>, marks: [Arc<str>; 2]) -> Self {
        let root = Scope { variables: Vec::new(), parent: None };
        Interpreter { program, context, scopes: vec![root], kept: 0, marks }
    }

    /// Renders the whole template.
    pub fn run(&mut self) -> Result<String> {
        let program = self.program.clone();
        let mut out = String::new();
        self.execute(&program.body, 0, &mut out)?;
        Ok(out)
    }

    pub fn lookup(&self, name: &str, scope: usize) -> Value {
        let mut next = Some(scope);
        while let Some(scope) = next.and_then(|at| self.scopes.get(at)) {
            if let Some((_, value)) = scope.variables.iter().find(|(other, _)| &**other == name) {
                return value.clone();
            }
            next = scope.parent;
        }
        if let Some(value) = self.context.get(name) {
            return value.clone();
        }
        if name == "self" {
            return Value::object(Object::Blocks);
        }
        match FUNCTIONS.iter().find(|function| **function == name) {
            Some(function) => Value::function(function),
            None => Value::undefined(name, Owner::Nobody),
        }
    }

    pub fn define(&mut self, scope: usize, name: &Name, value: Value) {
        let Some(scope) = self.scopes.get_mut(scope) else { return };
        match scope.variables.iter_mut().find(|(other, _)| other == name) {
            Some(entry) => entry.1 = value,
            None => scope.variables.push((name.clone(), value)),
        }
    }

    /// Runs `body` in a new scope below `parent`. The scope is dropped afterwards, unless a macro may use it.
    pub fn scoped<T>(&mut self, parent: usize, body: impl FnOnce(&mut Self, usize) -> Result<T>) -> Result<T> {
        let scope = self.scopes.len();
        self.scopes.push(Scope { variables: Vec::new(), parent: Some(parent) });
        let result = body(self, scope);
        if self.kept <= scope {
            self.scopes.truncate(scope);
        }
        result
    }

    /// Keeps all current scopes for a macro or a recursive loop.
    pub fn keep_scopes(&mut self) {
        self.kept = self.scopes.len();
    }

    pub fn assign(&mut self, target: &Target, value: Value, scope: usize) -> Result<()> {
        match target {
            Target::Name(name) => {
                self.define(scope, name, value);
                Ok(())
            }
            Target::Attr(name, attribute) => {
                let namespace = self.lookup(name, scope);
                if let Value::Object(object) = &namespace {
                    if let Object::Namespace(dict) = &**object {
                        ensure_public(attribute)?;
                        return dict.borrow_mut().insert(Value::str(attribute), value);
                    }
                }
                fault(format!("cannot assign to `{name}.{attribute}`: `{name}` is not a namespace"))
            }
            Target::Tuple(targets) => {
                let items = self.iterate(&value)?;
                if items.len() != targets.len() {
                    return fault(format!("expected {} values to unpack, found {}", targets.len(), items.len()));
                }
                targets.iter().zip(items).try_for_each(|(target, item)| self.assign(target, item, scope))
            }
        }
    }

    /// Runs statements, and returns their output.
    pub fn capture(&mut self, body: &Body, scope: usize) -> Result<String> {
        let mut out = String::new();
        self.scoped(scope, |this, scope| this.execute(body, scope, &mut out))?;
        Ok(out)
    }

    pub fn execute(&mut self, body: &Body, scope: usize, out: &mut String) -> Result<Flow> {
        fuel::descend()?;
        for statement in body {
            let flow = self.statement(statement, scope, out).map_err(|mut failure| {
                failure.line.get_or_insert(statement.line);
                failure
            })?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &Statement, scope: usize, out: &mut String) -> Result<Flow> {
        fuel::steps(1)?;
        match &statement.kind {
            StatementKind::Output(pieces) => {
                for piece in pieces {
                    self.output(piece, scope, out)?;
                }
            }
            StatementKind::For(node) => self.for_loop(node, scope, out)?,
            StatementKind::If(branches, otherwise) => {
                for (test, body) in branches {
                    if self.test_truth(test, scope)? {
                        return self.execute(body, scope, out);
                    }
                }
                return self.execute(otherwise, scope, out);
            }
            StatementKind::Macro(definition) => {
                self.keep_scopes();
                let value = Value::object(Object::Macro { definition: definition.clone(), scope });
                self.define(scope, &definition.name, value);
            }
            StatementKind::Call(call, definition) => {
                self.keep_scopes();
                let caller = Value::object(Object::Macro { definition: definition.clone(), scope });
                let value = self.call_with_caller(call, caller, scope)?;
                write(&value, out)?;
            }
            StatementKind::Filter(filter, body) => {
                let text = self.capture(body, scope)?;
                let value = self.filter_text(filter, text, scope)?;
                write(&value, out)?;
            }
            StatementKind::Set(target, value) => {
                let value = self.evaluate(value, scope)?;
                self.assign(target, value, scope)?;
            }
            StatementKind::SetBlock(target, filter, body) => {
                let text = self.capture(body, scope)?;
                let value = match filter {
                    Some(filter) => self.filter_text(filter, text, scope)?,
                    None => Value::str(text),
                };
                self.assign(target, value, scope)?;
            }
            StatementKind::With(values, body) => {
                let mut evaluated = Vec::new();
                for (target, value) in values {
                    evaluated.push((target, self.evaluate(value, scope)?));
                }
                return self.scoped(scope, |this, scope| {
                    for (target, value) in evaluated {
                        this.assign(target, value, scope)?;
                    }
                    this.execute(body, scope, out)
                });
            }
            StatementKind::Block { name, scoped } => {
                let name = name.clone();
                self.block(&name, if *scoped { scope } else { 0 }, out)?;
            }
            StatementKind::AutoEscape(value, body) => {
                if ops::truth(&self.evaluate(value, scope)?) {
                    return fault("`autoescape true` is not supported: a chat is not HTML");
                }
                return self.scoped(scope, |this, scope| this.execute(body, scope, out));
            }
            StatementKind::Generation(body) => {
                let [open, close] = self.marks.clone();
                out.push_str(&open);
                self.scoped(scope, |this, scope| this.execute(body, scope, out))?;
                out.push_str(&close);
            }
            StatementKind::OtherTemplate(tag) => {
                return Err(Failure::new(
                    Cause::Template,
                    format!("`{tag}` needs another template, which a chat template does not have"),
                ))
            }
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn output(&mut self, piece: &Piece, scope: usize, out: &mut String) -> Result<()> {
        match piece {
            Piece::Text(text) => {
                fuel::bytes(text.len())?;
                out.push_str(text);
                Ok(())
            }
            Piece::Expr(expr) => {
                let value = self.evaluate(expr, scope)?;
                write(&value, out).map_err(|mut failure| {
                    failure.line.get_or_insert(expr.line);
                    failure
                })
            }
        }
    }

    /// Writes a block of the template.
    pub fn block(&mut self, name: &str, parent: usize, out: &mut String) -> Result<()> {
        let program = self.program.clone();
        let Some((_, body)) = program.blocks.iter().find(|(other, _)| &**other == name) else {
            return fault(format!("there is no block `{name}`"));
        };
        self.scoped(parent, |this, scope| this.execute(body, scope, out))?;
        Ok(())
    }

    /// Calls a macro. Its result is its output.
    pub fn call_macro(&mut self, definition: &Arc<MacroDefinition>, scope: usize, arguments: Call) -> Result<Value> {
        let name = &definition.name;
        let Call { positional, mut named } = arguments;
        let mut positional = positional.into_iter();
        let mut take_named = |name: &str| {
            let at = named.iter().position(|(other, _)| &**other == name)?;
            Some(named.remove(at).1)
        };
        let count = definition.parameters.len();
        let mut values: Vec<Option<Value>> = positional.by_ref().take(count).map(Some).collect();
        for (parameter, _) in definition.parameters.iter().skip(values.len()) {
            values.push(take_named(parameter));
        }
        let explicit_caller = definition.parameters.iter().any(|(parameter, _)| &**parameter == "caller");
        let caller = (definition.takes_caller && !explicit_caller).then(|| {
            take_named("caller").unwrap_or_else(|| Value::hint("the macro was called without a `call` block"))
        });
        let rest: Vec<Value> = positional.collect();
        if let Some((other, _)) = named.first().filter(|_| !definition.takes_named_rest) {
            return fault(format!("macro `{name}` takes no argument `{other}`"));
        }
        if !rest.is_empty() && !definition.takes_rest {
            return fault(format!("macro `{name}` takes at most {count} arguments"));
        }
        let mut out = String::new();
        self.scoped(scope, |this, scope| {
            if let Some(caller) = caller {
                this.define(scope, &Arc::from("caller"), caller);
            }
            if definition.takes_named_rest {
                let rest = Value::dict(named.into_iter().map(|(name, value)| (Value::str(name), value)))?;
                this.define(scope, &Arc::from("kwargs"), rest);
            }
            if definition.takes_rest {
                this.define(scope, &Arc::from("varargs"), Value::tuple(rest));
            }
            for ((parameter, default), value) in definition.parameters.iter().zip(values) {
                let value = match (value, default) {
                    (Some(value), _) => value,
                    (None, Some(default)) => this.evaluate(default, scope)?,
                    (None, None) => Value::undefined(&**parameter, Owner::Nobody),
                };
                this.define(scope, parameter, value);
            }
            this.execute(&definition.body, scope, &mut out)
        })?;
        Ok(Value::str(out))
    }
}

pub(super) fn ensure_public(name: &str) -> Result<()> {
    if name.starts_with('_') {
        return fault(format!("`{name}` cannot be set in a namespace: names must not start with `_`"));
    }
    Ok(())
}

fn write(value: &Value, out: &mut String) -> Result<()> {
    let text = print::text(value)?;
    fuel::bytes(text.len())?;
    out.push_str(&text);
    Ok(())
}
