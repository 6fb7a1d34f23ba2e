//! A script's value as plain Rust, for those who show it: the REPL.
//!
//! Only what a reader can take in is copied: of a long array its first and last elements.

use crate::data::{Dataset, TokenizedDataset};
use crate::lora;
use crate::plot::Chart;
use crate::script::catalogue::docs::Catalog;
use crate::script::values::from_script::type_name;
use crate::script::values::handles::Handle;
use crate::script::values::objects::Tokenized;
use rhai::{Dynamic, Engine, FnPtr, AST};
use std::cell::OnceCell;

/// What a script's value is, for a reader.
#[derive(Clone)]
pub enum Value {
    Nothing,
    /// A number, a bool, a range: as the language prints it.
    Plain(String),
    Text(String),
    /// `first` and `last` are all of it where they hold `length` elements.
    List {
        first: Vec<Value>,
        last: Vec<Value>,
        length: usize,
    },
    Map(Vec<(String, Value)>),
    /// "a closure", or which function it is.
    Function(String),
    Tensor(Handle<tch::Tensor>),
    Dataset(Dataset),
    Tokenized(TokenizedDataset),
    Model(Handle<lora::Model>),
    Chart(Box<Chart>),
    /// An object that makes a table of itself.
    Table {
        kind: String,
        text: String,
    },
    /// Any other object: its type and the signatures of its properties.
    Object {
        kind: String,
        properties: Vec<String>,
    },
}

/// Elements kept at each end of a long array.
const ENDS: usize = 50;

/// Makes values of one engine plain.
pub(in crate::script) struct Reader<'a> {
    engine: &'a Engine,
    /// Made where an object needs it: it takes some milliseconds.
    catalog: OnceCell<Catalog>,
}

impl<'a> Reader<'a> {
    pub fn new(engine: &'a Engine) -> Self {
        Reader { engine, catalog: OnceCell::new() }
    }

    pub fn read(&self, value: &Dynamic) -> Value {
        if let Ok(items) = value.as_array_ref() {
            let cut = if items.len() > 2 * ENDS { ENDS } else { items.len() };
            let last = items[cut..].iter().rev().take(ENDS).rev().map(|item| self.read(item)).collect();
            let first = items[..cut].iter().map(|item| self.read(item)).collect();
            return Value::List { first, last, length: items.len() };
        }
        if let Ok(map) = value.as_map_ref() {
            return Value::Map(map.iter().map(|(key, value)| (key.to_string(), self.read(value))).collect());
        }
        if let Ok(text) = value.as_immutable_string_ref() {
            return Value::Text(text.to_string());
        }
        scalar(value).or_else(|| own(value)).unwrap_or_else(|| self.object(value))
    }

    fn object(&self, value: &Dynamic) -> Value {
        let kind = type_name(value.type_name());
        let catalog = self.catalog.get_or_init(|| Catalog::of(self.engine));
        if catalog.has_method(&kind, "table") {
            let table = FnPtr::new("table");
            let table = table.and_then(|table| table.call::<String>(self.engine, &AST::empty(), (value.clone(),)));
            if let Ok(text) = table {
                return Value::Table { kind, text };
            }
        }
        Value::Object { properties: catalog.property_signatures(&kind), kind }
    }
}

fn scalar(value: &Dynamic) -> Option<Value> {
    if value.is_unit() {
        return Some(Value::Nothing);
    }
    if let Some(function) = value.read_lock::<FnPtr>() {
        let name = if function.is_anonymous() {
            "a closure".to_string()
        } else {
            format!("the function {}", function.fn_name())
        };
        return Some(Value::Function(name));
    }
    let plain = value.is_int() || value.is_float() || value.is_bool() || value.is_char();
    (plain || value.type_name().contains("ange")).then(|| Value::Plain(value.to_string()))
}

fn own(value: &Dynamic) -> Option<Value> {
    if let Some(tensor) = value.read_lock::<Handle<tch::Tensor>>() {
        return Some(Value::Tensor(tensor.clone()));
    }
    if let Some(data) = value.read_lock::<Dataset>() {
        return Some(Value::Dataset(data.clone()));
    }
    if let Some(data) = value.read_lock::<Tokenized>() {
        return Some(Value::Tokenized(data.rows.clone()));
    }
    if let Some(model) = value.read_lock::<Handle<lora::Model>>() {
        return Some(Value::Model(model.clone()));
    }
    value.read_lock::<Chart>().map(|chart| Value::Chart(Box::new(chart.clone())))
}
