//! Drops nested values without recursion.

use super::value::{Dict, Items, Object, Value};
use std::cell::{Cell, RefCell};

thread_local! {
    static DROPPED: RefCell<Vec<Value>> = const { RefCell::new(Vec::new()) };
    static DROPPING: Cell<bool> = const { Cell::new(false) };
}

/// Drops values one after another. Rust would recurse, and a template can nest values deeper than the stack allows.
fn drop_flat(values: impl Iterator<Item = Value>) {
    let nests = |value: &Value| {
        matches!(value, Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::View(..) | Value::Object(_))
    };
    DROPPED.with(|dropped| dropped.borrow_mut().extend(values.filter(nests)));
    if DROPPING.replace(true) {
        return;
    }
    loop {
        let next = DROPPED.with(|dropped| dropped.borrow_mut().pop());
        let Some(value) = next else { break };
        drop(value);
    }
    DROPPING.set(false);
}

impl Drop for Items {
    fn drop(&mut self) {
        drop_flat(std::mem::take(&mut self.items).into_iter());
    }
}

impl Drop for Dict {
    fn drop(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        drop_flat(entries.into_values().flat_map(|(key, value)| [key, value]));
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        match self {
            Object::Generator(generator) => {
                let generator = generator.get_mut();
                drop_flat(std::mem::take(&mut generator.ready).into_iter());
                if let Some(pending) = generator.pending.take() {
                    let named = pending.named.into_iter().map(|(_, value)| value);
                    drop_flat(std::iter::once(pending.source).chain(pending.positional).chain(named));
                }
            }
            Object::Cycler { items, .. } => drop_flat(std::mem::take(items).into_iter()),
            Object::Joiner { separator, .. } => drop_flat(std::iter::once(std::mem::replace(separator, Value::None))),
            Object::Method { of, .. } => drop_flat(std::iter::once(std::mem::replace(of, Value::None))),
            Object::Loop(state) => {
                let state = state.get_mut();
                let some = [state.previous.take(), state.current.take(), state.peeked.take().flatten()];
                let changed = state.last_changed.take().unwrap_or_default();
                let items = std::mem::take(&mut state.source).into_iter();
                drop_flat(
                    items.chain(std::mem::take(&mut state.pending)).chain(some.into_iter().flatten()).chain(changed),
                );
            }
            Object::Namespace(_) | Object::Macro { .. } | Object::Function(_) | Object::Blocks | Object::Block(_) => {}
        }
    }
}
