//! A panic inside a native function becomes an ordinary script error of kind "bug".
//!
//! A panic is always our mistake, but it must not skip a script's `try`, nor end a session.

use crate::error::Error;
use crate::fence::{self, Panicked};
use crate::heap::Held;
use crate::script::engine::budget::{self, Exchange};
use crate::script::engine::running::Running;
use crate::script::engine::sizes::held_by;
use crate::script::values::convert::RhaiResultOf;
use rhai::plugin::PluginFunc;
use rhai::{Dynamic, NativeCallContext};

/// A native function whose panics are errors.
pub struct Guarded {
    pub name: &'static &'static str,
    pub func: &'static (dyn PluginFunc + Send + Sync),
}

impl PluginFunc for Guarded {
    fn call(&self, context: Option<NativeCallContext>, args: &mut [&mut Dynamic]) -> RhaiResultOf<Dynamic> {
        let sizes: Vec<Held> = args.iter().map(|argument| held_by(argument)).collect();
        let _running = Running::begin(self.name, context.as_ref());
        budget::native(|| {
            let outcome = catch(self.name, || self.func.call(context, args));
            // What a function takes for itself leaves `()` behind.
            let taken = args.iter().zip(sizes).filter(|(argument, _)| argument.is_unit());
            let taken = taken.fold(Held::default(), |sum, (_, size)| sum + size);
            let given = outcome.as_ref().map_or(Held::default(), held_by);
            (outcome, Exchange { taken, given })
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

/// Runs `work`; a panic in it is an error that names `function`.
pub fn catch<T>(function: &str, work: impl FnOnce() -> RhaiResultOf<T>) -> RhaiResultOf<T> {
    fence::catch(work).unwrap_or_else(|panicked| Err(bug(function, panicked).into()))
}

fn bug(function: &str, panicked: Panicked) -> Error {
    let place = panicked.place.map(|place| format!(" ({place})")).unwrap_or_default();
    let function = function.trim_start_matches("get$").trim_start_matches("set$");
    Error::bug(format!("`{function}` failed inside: {}{place}", panicked.message))
        .with_hint("this is a mistake in lorhai, not in the script: please report it with the script")
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
