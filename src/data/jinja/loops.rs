//! `for` loops and the `loop` variable.
//!
//! Items are tested one at a time, as the loop reaches them, because a test can read what the body has set.

use super::arguments::Call;
use super::ast::*;
use super::error::{fault, Result};
use super::fuel;
use super::interpreter::{Flow, Interpreter};
use super::ops;
use super::value::{Loop, Object, Owner, Value};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

impl Interpreter {
    pub(super) fn for_loop(&mut self, node: &Arc<For>, scope: usize, out: &mut String) -> Result<()> {
        if node.recursive {
            self.keep_scopes();
        }
        let iterable = self.evaluate(&node.iterable, scope)?;
        let source = self.iterate(&iterable).map_err(|mut failure| {
            failure.line.get_or_insert(node.iterable.line);
            self.blame(failure, &node.iterable, scope)
        })?;
        self.run_loop(node, source, 0, scope, out)
    }

    /// Runs the loop over `source`, at this depth of recursion.
    fn run_loop(
        &mut self,
        node: &Arc<For>,
        source: Vec<Value>,
        depth: usize,
        scope: usize,
        out: &mut String,
    ) -> Result<()> {
        let state = Rc::new(Object::Loop(RefCell::new(Loop {
            source,
            at: 0,
            statement: node.clone(),
            scope,
            pending: VecDeque::new(),
            peeked: None,
            length: None,
            index: 0,
            depth,
            previous: None,
            current: None,
            last_changed: None,
        })));
        let Object::Loop(loop_state) = &*state else { return Ok(()) };
        let name: Name = Arc::from("loop");
        loop {
            let peeked = loop_state.borrow_mut().peeked.take();
            let item = match peeked {
                Some(item) => item,
                None => self.pull(loop_state)?,
            };
            let Some(item) = item else { break };
            {
                let mut state = loop_state.borrow_mut();
                state.index += 1;
                state.previous = state.current.replace(item.clone());
            }
            let turn = match &item {
                Value::Dict(dict) => dict.turn,
                _ => None,
            };
            let flow = self.scoped(scope, |this, scope| {
                this.define(scope, &name, Value::Object(state.clone()));
                this.assign(&node.target, item, scope)?;
                this.execute(&node.body, scope, out)
            });
            let flow = flow.map_err(|mut failure| {
                failure.turn = failure.turn.or(turn);
                failure
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        let is_empty = loop_state.borrow().index == 0;
        if is_empty {
            self.scoped(scope, |this, scope| this.execute(&node.otherwise, scope, out))?;
        }
        Ok(())
    }

    /// The next item that passes the loop's test.
    fn pull(&mut self, loop_state: &RefCell<Loop>) -> Result<Option<Value>> {
        loop {
            fuel::steps(1)?;
            let (item, node, scope) = {
                let mut state = loop_state.borrow_mut();
                if let Some(item) = state.pending.pop_front() {
                    return Ok(Some(item));
                }
                let Some(item) = state.source.get(state.at).cloned() else { return Ok(None) };
                state.at += 1;
                if state.test().is_none() {
                    return Ok(Some(item));
                }
                (item, state.statement.clone(), state.scope)
            };
            let Some(test) = &node.test else { return Ok(Some(item)) };
            let passes = self.scoped(scope, |this, scope| {
                this.assign(&node.target, item.clone(), scope)?;
                this.test_truth(test, scope)
            })?;
            if passes {
                return Ok(Some(item));
            }
        }
    }

    /// The next item, without consuming it.
    fn peek(&mut self, loop_state: &RefCell<Loop>) -> Result<Option<Value>> {
        let peeked = loop_state.borrow().peeked.clone();
        if let Some(item) = peeked {
            return Ok(item);
        }
        let item = self.pull(loop_state)?;
        loop_state.borrow_mut().peeked = Some(item.clone());
        Ok(item)
    }

    fn loop_length(&mut self, loop_state: &RefCell<Loop>) -> Result<usize> {
        let known = {
            let state = loop_state.borrow();
            if state.test().is_none() {
                Some(state.source.len())
            } else {
                state.length
            }
        };
        if let Some(length) = known {
            return Ok(length);
        }
        let mut rest = VecDeque::new();
        while let Some(item) = self.pull(loop_state)? {
            rest.push_back(item);
        }
        let mut state = loop_state.borrow_mut();
        let length = rest.len() + state.index + usize::from(matches!(state.peeked, Some(Some(_))));
        state.pending = rest;
        state.length = Some(length);
        Ok(length)
    }

    /// `loop.name`.
    pub(super) fn loop_attribute(&mut self, object: &Rc<Object>, name: &str) -> Result<Value> {
        let Object::Loop(loop_state) = &**object else { return Ok(Value::None) };
        let (index, depth) = {
            let state = loop_state.borrow();
            (state.index as i128, state.depth as i128)
        };
        Ok(match name {
            "index" => Value::Int(index),
            "index0" => Value::Int(index - 1),
            "depth" => Value::Int(depth + 1),
            "depth0" => Value::Int(depth),
            "first" => Value::Bool(index == 1),
            "last" => Value::Bool(self.peek(loop_state)?.is_none()),
            "length" => Value::Int(self.loop_length(loop_state)? as i128),
            "revindex" => Value::Int(self.loop_length(loop_state)? as i128 - index + 1),
            "revindex0" => Value::Int(self.loop_length(loop_state)? as i128 - index),
            "previtem" if index == 1 => Value::hint("there is no previous item"),
            "previtem" => loop_state.borrow().previous.clone().unwrap_or(Value::None),
            "nextitem" => self.peek(loop_state)?.unwrap_or_else(|| Value::hint("there is no next item")),
            "cycle" => Value::object(Object::Method { of: Value::Object(object.clone()), name: "cycle" }),
            "changed" => Value::object(Object::Method { of: Value::Object(object.clone()), name: "changed" }),
            _ => Value::undefined(name, Owner::Type("LoopContext")),
        })
    }

    /// `loop.cycle(…)` and `loop.changed(…)`.
    pub(super) fn loop_method(&mut self, loop_state: &RefCell<Loop>, name: &str, arguments: Call) -> Result<Value> {
        if let Some((name, _)) = arguments.named.first() {
            return fault(format!("loop.cycle and loop.changed take no argument by name, found `{name}`"));
        }
        let values = arguments.positional;
        let mut state = loop_state.borrow_mut();
        if name == "cycle" {
            if values.is_empty() {
                return fault("loop.cycle: no items for cycling given");
            }
            let at = state.index.saturating_sub(1) % values.len();
            return Ok(values[at].clone());
        }
        let same = match &state.last_changed {
            Some(last) => ops::equal(&Value::tuple(last.clone()), &Value::tuple(values.clone()))?,
            None => false,
        };
        if !same {
            state.last_changed = Some(values);
        }
        Ok(Value::Bool(!same))
    }

    /// `loop(items)` in a recursive loop.
    pub(super) fn call_loop(&mut self, loop_state: &RefCell<Loop>, mut arguments: Call) -> Result<Value> {
        let (node, scope, depth) = {
            let state = loop_state.borrow();
            (state.statement.clone(), state.scope, state.depth)
        };
        if !node.recursive {
            return fault("the loop must be marked `recursive` to be called");
        }
        let (1, true) = (arguments.positional.len(), arguments.named.is_empty()) else {
            return fault("loop() takes one argument");
        };
        let source = arguments.positional.remove(0);
        let source = self.iterate(&source)?;
        let mut out = String::new();
        self.run_loop(&node, source, depth + 1, scope, &mut out)?;
        Ok(Value::str(out))
    }
}
