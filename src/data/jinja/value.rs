//! Python's values: lists and tuples differ, `True` equals 1, keys are hashed, a generator is used up once.
//!
//! Leaves to others: printing (`print.rs`), operators (`ops.rs`, `arithmetic.rs`), attributes (`attributes.rs`), JSON
//! (`from_json.rs`).

use super::ast::{Expr, For, MacroDefinition, Name};
use super::error::{fault, Result};
use indexmap::IndexMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

#[derive(Clone)]
pub(super) enum Value {
    Undefined(Rc<Undefined>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Text),
    Bytes(Rc<[u8]>),
    List(Rc<Items>),
    Tuple(Rc<Items>),
    Dict(Rc<Dict>),
    View(View, Rc<Dict>),
    Range(Range),
    Object(Rc<Object>),
}

/// A string. If `markup`, it is markupsafe's `Markup`, which escapes the text added to it.
#[derive(Clone)]
pub(super) struct Text {
    pub text: Arc<str>,
    pub markup: bool,
}

impl std::ops::Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.text
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Keys,
    Values,
    Items,
}

#[derive(Clone, Copy)]
pub(super) struct Range {
    pub start: i128,
    pub stop: i128,
    pub step: i128,
}

impl Range {
    pub fn len(&self) -> usize {
        let (low, high) = if self.step > 0 { (self.start, self.stop) } else { (self.stop, self.start) };
        if low >= high {
            return 0;
        }
        ((high - low - 1) / self.step.abs() + 1) as usize
    }

    pub fn get(&self, index: usize) -> Value {
        Value::Int(self.start + self.step * index as i128)
    }
}

/// Where an undefined value was looked up.
#[derive(Clone)]
pub(super) enum Owner {
    /// A variable.
    Nobody,
    /// A mapping. If `data`, it is part of the conversation, at message `turn`.
    Dict { data: bool, turn: Option<usize> },
    /// A value of this type.
    Type(&'static str),
    /// An explanation instead.
    Hint(&'static str),
}

pub(super) struct Undefined {
    pub name: String,
    pub owner: Owner,
}

/// The items of a list or tuple.
pub(super) struct Items {
    pub items: Vec<Value>,
    /// Whether this is a pair of `groupby`, whose items have names.
    pub grouped: bool,
    /// Whether this is part of the conversation.
    pub data: bool,
}

impl std::ops::Deref for Items {
    type Target = [Value];
    fn deref(&self) -> &[Value] {
        &self.items
    }
}

/// The hashable form of a value, as a key of dicts and sets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    None,
    Undefined,
    Int(i128),
    /// The bits of a float that does not equal an integer.
    Float(u64),
    Str(Arc<str>),
    Bytes(Rc<[u8]>),
    Tuple(Vec<Key>),
    Object(usize),
}

#[derive(Default)]
pub(super) struct Dict {
    pub entries: IndexMap<Key, (Value, Value)>,
    pub data: bool,
    /// The index of the message, if this is one.
    pub turn: Option<usize>,
}

pub(super) enum Object {
    Generator(RefCell<Generator>),
    Namespace(RefCell<Dict>),
    Cycler {
        items: Vec<Value>,
        at: Cell<usize>,
    },
    Joiner {
        separator: Value,
        used: Cell<bool>,
    },
    Loop(RefCell<Loop>),
    Macro {
        definition: Arc<MacroDefinition>,
        scope: usize,
    },
    /// A method of a value: `"a".upper`.
    Method {
        of: Value,
        name: &'static str,
    },
    /// A global function.
    Function(&'static str),
    /// `self`, whose attributes are the template's blocks.
    Blocks,
    Block(Name),
}

/// A sequence that is computed when it is first used, and can be used once.
pub(super) struct Generator {
    pub name: &'static str,
    pub pending: Option<Pending>,
    pub ready: std::collections::VecDeque<Value>,
}

/// A filter whose evaluation is deferred.
pub(super) struct Pending {
    pub filter: &'static str,
    /// Never a generator.
    pub source: Value,
    pub positional: Vec<Value>,
    pub named: Vec<(Name, Value)>,
}

/// The state of a `for` loop, and `loop` in its body.
pub(super) struct Loop {
    pub source: Vec<Value>,
    pub at: usize,
    pub statement: Arc<For>,
    pub scope: usize,
    /// Items that were tested ahead of the loop.
    pub pending: std::collections::VecDeque<Value>,
    /// The next item or the end, if it was looked at ahead.
    pub peeked: Option<Option<Value>>,
    /// The number of items that pass the test, once it was computed.
    pub length: Option<usize>,
    /// One more than the index of the current item.
    pub index: usize,
    pub depth: usize,
    pub previous: Option<Value>,
    pub current: Option<Value>,
    pub last_changed: Option<Vec<Value>>,
}

impl Loop {
    pub fn test(&self) -> Option<&Expr> {
        self.statement.test.as_ref()
    }
}

impl Value {
    pub fn str(text: impl AsRef<str>) -> Value {
        Value::Str(Text { text: Arc::from(text.as_ref()), markup: false })
    }

    pub fn text(text: impl AsRef<str>, markup: bool) -> Value {
        Value::Str(Text { text: Arc::from(text.as_ref()), markup })
    }

    pub fn list(items: Vec<Value>) -> Value {
        Value::List(Rc::new(Items { items, grouped: false, data: false }))
    }

    pub fn tuple(items: Vec<Value>) -> Value {
        Value::Tuple(Rc::new(Items { items, grouped: false, data: false }))
    }

    pub fn dict(entries: impl IntoIterator<Item = (Value, Value)>) -> Result<Value> {
        let mut dict = Dict::default();
        for (key, value) in entries {
            dict.insert(key, value)?;
        }
        Ok(Value::Dict(Rc::new(dict)))
    }

    pub fn object(object: Object) -> Value {
        Value::Object(Rc::new(object))
    }

    pub fn function(name: &'static str) -> Value {
        Value::object(Object::Function(name))
    }

    pub fn undefined(name: impl Into<String>, owner: Owner) -> Value {
        Value::Undefined(Rc::new(Undefined { name: name.into(), owner }))
    }

    pub fn hint(hint: &'static str) -> Value {
        Value::undefined("", Owner::Hint(hint))
    }

    /// A filter's result that is a generator in Python.
    pub fn generator(name: &'static str, ready: Vec<Value>) -> Value {
        Value::object(Object::Generator(RefCell::new(Generator { name, pending: None, ready: ready.into() })))
    }

    /// The name of the type in Python.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(text) if text.markup => "Markup",
            Value::Str(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::View(View::Keys, _) => "dict_keys",
            Value::View(View::Values, _) => "dict_values",
            Value::View(View::Items, _) => "dict_items",
            Value::Range(_) => "range",
            Value::Object(object) => match &**object {
                Object::Generator(generator) => generator.borrow().name,
                Object::Namespace(_) => "Namespace",
                Object::Cycler { .. } => "Cycler",
                Object::Joiner { .. } => "Joiner",
                Object::Loop(_) => "LoopContext",
                Object::Macro { .. } => "Macro",
                Object::Method { .. } => "builtin_function_or_method",
                Object::Function(_) => "function",
                Object::Blocks => "TemplateReference",
                Object::Block(_) => "BlockReference",
            },
        }
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Value::None)
    }

    /// Whether this is part of the conversation.
    pub fn is_data(&self) -> bool {
        match self {
            Value::List(items) | Value::Tuple(items) => items.data,
            Value::Dict(dict) | Value::View(_, dict) => dict.data,
            Value::Undefined(undefined) => matches!(undefined.owner, Owner::Dict { data: true, .. }),
            _ => false,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// A bool counts as an integer, as in Python.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(value) => Some(*value),
            Value::Bool(value) => Some((*value).into()),
            _ => None,
        }
    }

    pub fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            other => other.as_int().map(|value| value as f64),
        }
    }

    pub fn key(&self) -> Result<Key> {
        super::fuel::descend()?;
        Ok(match self {
            Value::None => Key::None,
            Value::Undefined(_) => Key::Undefined,
            Value::Bool(value) => Key::Int((*value).into()),
            Value::Int(value) => Key::Int(*value),
            Value::Float(value) if value.fract() == 0.0 && value.abs() < 1e38 => Key::Int(*value as i128),
            Value::Float(value) => Key::Float(value.to_bits()),
            Value::Str(text) => Key::Str(text.text.clone()),
            Value::Bytes(bytes) => Key::Bytes(bytes.clone()),
            Value::Tuple(items) => Key::Tuple(items.iter().map(Value::key).collect::<Result<_>>()?),
            Value::Object(object) => Key::Object(Rc::as_ptr(object).cast::<u8>() as usize),
            Value::Range(range) => {
                let bounds = [range.start, range.stop, range.step];
                Key::Tuple(bounds.into_iter().map(Key::Int).collect())
            }
            Value::List(_) | Value::Dict(_) | Value::View(..) => {
                return fault(format!("unhashable type: '{}'", self.type_name()))
            }
        })
    }
}

impl Dict {
    pub fn insert(&mut self, key: Value, value: Value) -> Result<()> {
        let hash = key.key()?;
        match self.entries.get_mut(&hash) {
            Some(entry) => entry.1 = value,
            None => {
                self.entries.insert(hash, (key, value));
            }
        }
        Ok(())
    }

    pub fn get(&self, key: &Value) -> Result<Option<Value>> {
        Ok(self.entries.get(&key.key()?).map(|(_, value)| value.clone()))
    }

    pub fn get_str(&self, name: &str) -> Option<Value> {
        self.entries.get(&Key::Str(Arc::from(name))).map(|(_, value)| value.clone())
    }

    pub fn view(&self, view: View) -> Vec<Value> {
        let item = |(key, value): &(Value, Value)| match view {
            View::Keys => key.clone(),
            View::Values => value.clone(),
            View::Items => Value::tuple(vec![key.clone(), value.clone()]),
        };
        self.entries.values().map(item).collect()
    }
}
