//! A panic inside a native function becomes an ordinary script error of kind "bug".
//!
//! A panic is always our mistake, but it must not skip a script's `try`, nor end a session.

use crate::error::Error;
use crate::script::engine::budget;
use crate::script::values::convert::RhaiResultOf;
use rhai::plugin::PluginFunc;
use rhai::{Dynamic, NativeCallContext};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// A native function whose panics are errors.
pub struct Guarded {
    pub name: &'static str,
    pub func: &'static (dyn PluginFunc + Send + Sync),
}

impl PluginFunc for Guarded {
    fn call(&self, context: Option<NativeCallContext>, args: &mut [&mut Dynamic]) -> RhaiResultOf<Dynamic> {
        let sizes: Vec<i64> = args.iter().map(|argument| blocks(argument)).collect();
        budget::native(|| {
            let outcome = catch(self.name, || self.func.call(context, args));
            // What a function takes for itself leaves `()` behind.
            let taken = args.iter().zip(sizes).filter(|(argument, _)| argument.is_unit());
            (outcome, taken.map(|(_, size)| size).sum())
        })
    }
    fn is_method_call(&self) -> bool {
        self.func.is_method_call()
    }
    fn has_context(&self) -> bool {
        self.func.has_context()
    }
    fn is_pure(&self) -> bool {
        self.func.is_pure()
    }
    fn is_volatile(&self) -> bool {
        self.func.is_volatile()
    }
}

/// Blocks of memory that an argument is of, at most.
fn blocks(value: &Dynamic) -> i64 {
    // A variable that a closure shares stays where it is.
    if value.is_shared() {
        return 1;
    }
    if let Ok(items) = value.as_array_ref() {
        return 2 + items.iter().map(blocks).sum::<i64>();
    }
    if let Ok(map) = value.as_map_ref() {
        return 2 + map.values().map(|value| 2 + blocks(value)).sum::<i64>();
    }
    if value.is_string() {
        2
    } else {
        1
    }
}

thread_local! {
    /// How many guarded calls this thread is inside of.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Where the panic that is being caught happened.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; a panic in it is an error that names `function`.
pub fn catch<T>(function: &str, work: impl FnOnce() -> RhaiResultOf<T>) -> RhaiResultOf<T> {
    install_hook();
    DEPTH.set(DEPTH.get() + 1);
    // Values behind `RefCell`s stay usable: their borrows end as the stack unwinds.
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get() - 1);
    outcome.unwrap_or_else(|payload| Err(panicked(function, payload.as_ref()).into()))
}

fn panicked(function: &str, payload: &(dyn Any + Send)) -> Error {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "no message",
    };
    let first = text.lines().next().unwrap_or("no message");
    let place = PLACE.take().map(|place| format!(" ({place})")).unwrap_or_default();
    let function = function.trim_start_matches("get$").trim_start_matches("set$");
    Error::bug(format!("`{function}` failed inside: {first}{place}"))
        .with_hint("this is a mistake in lorhai, not in the script: please report it with the script")
}

/// While a panic is being caught its text belongs into the error, not onto the terminal.
fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| match DEPTH.try_with(Cell::get) {
            Ok(depth) if depth > 0 => {
                let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
                let _ = PLACE.try_with(|slot| slot.replace(place));
            }
            _ => previous(info),
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::values::convert::from_thrown;
    use rhai::EvalAltResult;

    #[test]
    fn a_panic_is_a_catchable_bug() {
        let error = catch("get$loss", || -> RhaiResultOf<()> { panic!("shape {}", 3) }).unwrap_err();
        assert!(error.is_catchable());
        let EvalAltResult::ErrorRuntime(value, _) = *error else { panic!("expected a runtime error") };
        let error = from_thrown(&value);
        assert_eq!(error.kind, crate::Kind::Bug);
        assert!(
            error.message.starts_with("`loss` failed inside: shape 3 (src/script/engine/guard.rs:"),
            "{}",
            error.message
        );
    }
}
