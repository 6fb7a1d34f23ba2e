//! Evaluates expressions and calls.

use super::arguments::Call;
use super::arithmetic;
use super::ast::*;
use super::attributes;
use super::error::{fault, Cause, Failure, Result};
use super::filters;
use super::filters_sequence;
use super::fuel;
use super::functions;
use super::interpreter::Interpreter;
use super::methods;
use super::ops;
use super::print;
use super::subscript;
use super::tests;
use super::value::{Object, Owner, Text, Value};

impl Interpreter {
    pub(super) fn evaluate(&mut self, expr: &Expr, scope: usize) -> Result<Value> {
        fuel::descend()?;
        self.node(expr, scope).map_err(|mut failure| {
            if failure.line.is_some() {
                return failure;
            }
            failure.line = Some(expr.line);
            self.blame(failure, expr, scope)
        })
    }

    /// Blames the conversation for a failed operation on its values.
    pub(super) fn blame(&self, mut failure: Box<Failure>, expr: &Expr, scope: usize) -> Box<Failure> {
        if failure.cause == Cause::Runtime && self.uses_data(expr, scope) {
            failure.cause = Cause::Conversation;
        }
        failure
    }

    fn uses_data(&self, expr: &Expr, scope: usize) -> bool {
        let any = |exprs: &[Expr]| exprs.iter().any(|expr| self.uses_data(expr, scope));
        let both = |left: &Expr, right: &Expr| self.uses_data(left, scope) || self.uses_data(right, scope);
        match &expr.node {
            Node::Name(name) => self.lookup(name, scope).is_data(),
            Node::Tuple(items) | Node::List(items) | Node::Concat(items) => any(items),
            Node::Compare(first, rest) => {
                self.uses_data(first, scope) || rest.iter().any(|(_, expr)| self.uses_data(expr, scope))
            }
            Node::Binary(_, left, right) | Node::Or(left, right) | Node::And(left, right) => both(left, right),
            Node::Item(of, key) => both(of, key),
            Node::Not(inner) | Node::Neg(inner) | Node::Pos(inner) | Node::Attr(inner, _) => {
                self.uses_data(inner, scope)
            }
            Node::Call(of, arguments) | Node::Filter(Some(of), _, arguments) | Node::Test(of, _, arguments) => {
                self.uses_data(of, scope) || any(&arguments.positional)
            }
            _ => false,
        }
    }

    pub(super) fn test_truth(&mut self, expr: &Expr, scope: usize) -> Result<bool> {
        Ok(ops::truth(&self.evaluate(expr, scope)?))
    }

    fn all(&mut self, exprs: &[Expr], scope: usize) -> Result<Vec<Value>> {
        exprs.iter().map(|expr| self.evaluate(expr, scope)).collect()
    }

    fn node(&mut self, expr: &Expr, scope: usize) -> Result<Value> {
        match &expr.node {
            Node::Const(constant) => Ok(match constant {
                Constant::None => Value::None,
                Constant::Bool(value) => Value::Bool(*value),
                Constant::Int(value) => Value::Int(*value),
                Constant::Float(value) => Value::Float(*value),
                Constant::Str(text) => Value::Str(Text { text: text.clone(), markup: false }),
            }),
            Node::Name(name) => Ok(self.lookup(name, scope)),
            Node::Tuple(items) => Ok(Value::tuple(self.all(items, scope)?)),
            Node::List(items) => Ok(Value::list(self.all(items, scope)?)),
            Node::Dict(entries) => {
                let mut evaluated = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    evaluated.push((self.evaluate(key, scope)?, self.evaluate(value, scope)?));
                }
                Value::dict(evaluated)
            }
            Node::Cond { test, then, other } => {
                if self.test_truth(test, scope)? {
                    return self.evaluate(then, scope);
                }
                match other {
                    Some(other) => self.evaluate(other, scope),
                    None => Ok(Value::hint("an `if` expression without `else` was false")),
                }
            }
            Node::Or(left, right) => {
                let left = self.evaluate(left, scope)?;
                if ops::truth(&left) {
                    Ok(left)
                } else {
                    self.evaluate(right, scope)
                }
            }
            Node::And(left, right) => {
                let left = self.evaluate(left, scope)?;
                if ops::truth(&left) {
                    self.evaluate(right, scope)
                } else {
                    Ok(left)
                }
            }
            Node::Not(inner) => Ok(Value::Bool(!self.test_truth(inner, scope)?)),
            Node::Compare(first, rest) => self.comparison(first, rest, scope),
            Node::Binary(operator, left, right) => {
                let left = self.evaluate(left, scope)?;
                let right = self.evaluate(right, scope)?;
                arithmetic::binary(*operator, &left, &right)
            }
            Node::Concat(parts) => {
                let mut joined = String::new();
                for part in parts {
                    let value = self.evaluate(part, scope)?;
                    let text = print::text(&value)?;
                    fuel::bytes(text.len())?;
                    joined.push_str(&text);
                }
                Ok(Value::str(joined))
            }
            Node::Neg(inner) => arithmetic::negative(&self.evaluate(inner, scope)?),
            Node::Pos(inner) => arithmetic::positive(&self.evaluate(inner, scope)?),
            Node::Attr(of, name) => {
                let of = self.evaluate(of, scope)?;
                self.attribute(&of, name)
            }
            Node::Item(of, key) => self.item(of, key, scope),
            Node::Slice(_) => fault("a slice is outside brackets"),
            Node::Call(callee, arguments) => {
                let callee = self.evaluate(callee, scope)?;
                let arguments = self.arguments(arguments, scope)?;
                self.call(&callee, arguments)
            }
            Node::Filter(value, name, arguments) => {
                let Some(value) = value else { return fault("a filter without a value") };
                let value = self.evaluate(value, scope)?;
                let arguments = self.arguments(arguments, scope)?;
                self.filter(name, value, arguments)
            }
            Node::Test(value, name, arguments) => {
                let value = self.evaluate(value, scope)?;
                let arguments = self.arguments(arguments, scope)?;
                self.is(name, &value, arguments).map(Value::Bool)
            }
        }
    }

    /// `value | name(…)`.
    pub(super) fn filter(&mut self, name: &str, value: Value, arguments: Call) -> Result<Value> {
        filters::call(self, name, value, arguments)
    }

    /// `value is name(…)`.
    pub(super) fn is(&mut self, name: &str, value: &Value, arguments: Call) -> Result<bool> {
        if name == "in" {
            for container in &arguments.positional {
                self.force(container)?;
            }
        }
        tests::call(name, value, arguments)
    }

    fn comparison(&mut self, first: &Expr, rest: &[(Comparison, Expr)], scope: usize) -> Result<Value> {
        let mut left = self.evaluate(first, scope)?;
        for (comparison, right) in rest {
            let right = self.evaluate(right, scope)?;
            if matches!(comparison, Comparison::In | Comparison::NotIn) {
                self.force(&right)?;
            }
            if !ops::compare(*comparison, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    fn item(&mut self, of: &Expr, key: &Expr, scope: usize) -> Result<Value> {
        let of = self.evaluate(of, scope)?;
        if let Node::Slice(parts) = &key.node {
            let mut values = [Value::None, Value::None, Value::None];
            for (value, part) in values.iter_mut().zip(parts.iter()) {
                if let Some(part) = part {
                    *value = self.evaluate(part, scope)?;
                }
            }
            return subscript::slice(&of, &values);
        }
        let key = self.evaluate(key, scope)?;
        match (&of, key.as_str()) {
            (Value::Object(object), Some(name)) if matches!(**object, Object::Loop(_)) => self.attribute(&of, name),
            _ => attributes::item(&of, &key),
        }
    }

    pub(super) fn attribute(&mut self, of: &Value, name: &str) -> Result<Value> {
        if let Value::Object(object) = of {
            match &**object {
                Object::Loop(_) => return self.loop_attribute(object, name),
                Object::Blocks => {
                    if let Some((name, _)) = self.program.blocks.iter().find(|(other, _)| &**other == name) {
                        return Ok(Value::object(Object::Block(name.clone())));
                    }
                }
                _ => {}
            }
        }
        attributes::attribute(of, name)
    }

    fn arguments(&mut self, arguments: &Arguments, scope: usize) -> Result<Call> {
        let mut call = Call::new(self.all(&arguments.positional, scope)?);
        for (name, value) in &arguments.named {
            call.named.push((name.clone(), self.evaluate(value, scope)?));
        }
        if let Some(rest) = &arguments.rest {
            let rest = self.evaluate(rest, scope)?;
            call.positional.extend(self.iterate(&rest)?);
        }
        if let Some(rest) = &arguments.named_rest {
            let Value::Dict(rest) = self.evaluate(rest, scope)? else {
                return fault("the argument after ** must be a mapping");
            };
            for (key, value) in rest.entries.values() {
                let Value::Str(name) = key else { return fault("names of arguments must be strings") };
                if call.named.iter().any(|(other, _)| **other == **name) {
                    return fault(format!("two values for the argument `{}`", &**name));
                }
                call.named.push((name.text.clone(), value.clone()));
            }
        }
        Ok(call)
    }

    /// Calls a function, method, macro or recursive loop.
    pub(super) fn call(&mut self, callee: &Value, mut arguments: Call) -> Result<Value> {
        match callee {
            Value::Undefined(info) => {
                let mut failure = ops::undefined(info);
                if let Owner::Type(kind) = info.owner {
                    failure.message = format!("a {kind} has no method `{}`", info.name);
                    // If another type has this method, the value is wrong rather than the template.
                    let is_method = attributes::is_method(&info.name);
                    failure.cause = if is_method { Cause::Runtime } else { Cause::Template };
                }
                Err(failure)
            }
            Value::Object(object) => match &**object {
                Object::Macro { definition, scope } => self.call_macro(definition, *scope, arguments),
                Object::Loop(state) => self.call_loop(state, arguments),
                Object::Method { of, name } => {
                    if let Value::Object(object) = of {
                        if let Object::Loop(state) = &**object {
                            return self.loop_method(state, name, arguments);
                        }
                    }
                    for argument in &mut arguments.positional {
                        self.list_generator(argument)?;
                    }
                    methods::call(of, name, arguments)
                }
                Object::Function(name) => {
                    for argument in &mut arguments.positional {
                        self.list_generator(argument)?;
                    }
                    functions::call(name, arguments)
                }
                Object::Joiner { separator, used } => {
                    if used.replace(true) {
                        Ok(separator.clone())
                    } else {
                        Ok(Value::str(""))
                    }
                }
                Object::Block(name) => {
                    let mut out = String::new();
                    self.block(name, 0, &mut out)?;
                    Ok(Value::str(out))
                }
                _ => fault(format!("'{}' object is not callable", callee.type_name())),
            },
            other => fault(format!("'{}' object is not callable", other.type_name())),
        }
    }

    /// A `call` block's call, with its body as `caller`.
    pub(super) fn call_with_caller(&mut self, call: &Expr, caller: Value, scope: usize) -> Result<Value> {
        let Node::Call(callee, arguments) = &call.node else { return fault("expected a call") };
        let callee = self.evaluate(callee, scope)?;
        let mut arguments = self.arguments(arguments, scope)?;
        arguments.named.push(("caller".into(), caller));
        self.call(&callee, arguments).map_err(|mut failure| {
            failure.line.get_or_insert(call.line);
            failure
        })
    }

    /// Applies the filters of a `filter` or `set` block to its text.
    pub(super) fn filter_text(&mut self, filter: &Expr, text: String, scope: usize) -> Result<Value> {
        let Node::Filter(inner, name, arguments) = &filter.node else { return fault("expected a filter") };
        let value = match inner {
            Some(inner) => self.filter_text(inner, text, scope)?,
            None => Value::str(text),
        };
        let arguments = self.arguments(arguments, scope)?;
        self.filter(name, value, arguments)
    }

    /// Evaluates the deferred filter of a generator.
    pub(super) fn force(&mut self, value: &Value) -> Result<()> {
        let Value::Object(object) = value else { return Ok(()) };
        let Object::Generator(generator) = &**object else { return Ok(()) };
        let pending = generator.borrow_mut().pending.take();
        if let Some(pending) = pending {
            let ready = filters_sequence::run(self, pending)?;
            generator.borrow_mut().ready = ready.into();
        }
        Ok(())
    }

    /// The items of anything iterable; a generator is empty afterwards.
    pub(super) fn iterate(&mut self, value: &Value) -> Result<Vec<Value>> {
        self.force(value)?;
        if let Value::Object(object) = value {
            if let Object::Generator(generator) = &**object {
                let ready = std::mem::take(&mut generator.borrow_mut().ready);
                fuel::steps(ready.len())?;
                return Ok(ready.into());
            }
        }
        ops::items(value)
    }

    /// Replaces a generator by a list, for built-in functions.
    fn list_generator(&mut self, value: &mut Value) -> Result<()> {
        if matches!(value, Value::Object(object) if matches!(**object, Object::Generator(_))) {
            *value = Value::list(self.iterate(value)?);
        }
        Ok(())
    }
}
