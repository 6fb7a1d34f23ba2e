//! Models, data sets and the like as script values: shared, counted, and never copied.
//!
//! Assigning a handle (`let b = a`) or capturing it in a closure shares the one object. A
//! conflict of uses (changing a data set inside its own `map`) is an error, not a panic.

use crate::error::{Error, Result};
use crate::interrupt;
use crate::script::engine::guard;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script;
use rhai::{Dynamic, Module};
use std::any::TypeId;
use std::cell::{Ref, RefCell, RefMut};
use std::rc::Rc;

/// A shared `T`. In an API module write `pub type Model = Handle<crate::model::Model>;`:
/// the alias is the name that scripts, errors and the reference know it by.
pub struct Handle<T>(Rc<RefCell<T>>);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Handle(self.0.clone())
    }
}

impl<T> Handle<T> {
    pub fn new(value: T) -> Self {
        Handle(Rc::new(RefCell::new(value)))
    }

    /// To read; fails while a function is changing it.
    pub fn read(&self) -> Result<Ref<'_, T>> {
        self.0.try_borrow().map_err(|_| in_use::<T>("read"))
    }

    /// To change; fails while another function is using it.
    pub fn write(&self) -> Result<RefMut<'_, T>> {
        self.0.try_borrow_mut().map_err(|_| in_use::<T>("changed"))
    }

    /// Are both the same object?
    pub fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

fn in_use<T>(done: &str) -> Error {
    let name = from_script::type_name(std::any::type_name::<T>());
    Error::input(format!("this {name} is in use by a running function and cannot be {done} now"))
        .with_hint("do it before or after that call, not in a closure given to it")
}

/// Lets scripts loop over values of type `T`: `for batch in data.batches(#{ size: 8 })`.
///
/// Every step polls the stop flag; a panic in a step is an error like any other.
pub fn register_iterator<T, I>(module: &mut Module, items: fn(T) -> Result<I>)
where
    T: Clone + 'static,
    I: Iterator<Item = Result<Dynamic>> + 'static,
{
    module.set_iter_result(TypeId::of::<T>(), move |value: Dynamic| {
        let Some(value) = value.try_cast::<T>() else {
            return Box::new(std::iter::once(Err(Error::bug("a value changed its type").into())));
        };
        match guard::catch("for", || Ok(items(value)?)) {
            Ok(items) => Box::new(guarded(items)),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    });
}

fn guarded(mut items: impl Iterator<Item = Result<Dynamic>>) -> impl Iterator<Item = RhaiResultOf<Dynamic>> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let step = guard::catch("for", || {
            interrupt::check()?;
            Ok(items.next().transpose()?)
        });
        ended = !matches!(step, Ok(Some(_)));
        step.transpose()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_of_uses_is_an_error_that_names_the_type() {
        let handle = Handle::new(String::from("x"));
        let shared = handle.clone();
        let reading = handle.read().unwrap();
        let error = shared.write().unwrap_err();
        assert_eq!(error.message, "this string is in use by a running function and cannot be changed now");
        drop(reading);
        shared.write().unwrap().push('y');
        assert_eq!(handle.read().unwrap().as_str(), "xy");
        assert!(handle.same(&shared));
    }
}
