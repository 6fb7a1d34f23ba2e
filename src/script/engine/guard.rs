//! A panic inside a native function becomes an ordinary script error of kind "bug".
//!
//! A panic is always our mistake, but it must not skip a script's `try`, nor end a session.

use crate::error::{Error, Kind};
use crate::fence::{self, Panicked};
use crate::heap::Held;
use crate::script::engine::budget::{self, Exchange};
use crate::script::engine::running::Running;
use crate::script::engine::sizes::held_by;
use crate::script::values::convert::RhaiResultOf;
use rhai::plugin::PluginFunc;
use rhai::{Dynamic, NativeCallContext};
use tch::TchError;

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
            let consumed = args.iter().zip(sizes).filter(|(argument, _)| argument.is_unit());
            let consumed = consumed.fold(Held::default(), |sum, (_, size)| sum + size);
            let returned = outcome.as_ref().map_or(Held::default(), held_by);
            (outcome, Exchange { consumed, returned })
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

/// What libtorch said of a call with a number among its arguments. tch frees the number before it reads the error, finds the
/// error there, and panics with it.
fn refused_by_libtorch(message: &str) -> Option<String> {
    let text = message.strip_prefix("called `Result::unwrap()` on an `Err` value: Torch(\"")?;
    let line = text.split("\\n").next().unwrap_or(text);
    Some(line.strip_suffix("\")").unwrap_or(line).replace("\\\"", "\""))
}

fn bug(function: &str, panicked: Panicked) -> Error {
    let function = function.trim_start_matches("get$").trim_start_matches("set$");
    if let Some(text) = refused_by_libtorch(&panicked.message) {
        let error = Error::from(TchError::Torch(text.clone()));
        return match error.kind {
            Kind::Memory => error.context(format!("`{function}`")),
            _ => Error::input(format!("`{function}`: {text}")),
        };
    }
    let place = panicked.place.map(|place| format!(" ({place})")).unwrap_or_default();
    Error::bug(format!("`{function}` failed inside: {}{place}", panicked.message))
        .with_hint("this is a mistake in lorhai, not in the script: please report it with the script")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::values::convert::from_thrown;
    use rhai::EvalAltResult;

    #[test]
    fn what_libtorch_refuses_is_no_bug() {
        let error = |text: &str| {
            let message =
                format!("called `Result::unwrap()` on an `Err` value: {:?}", TchError::Torch(text.to_owned()));
            bug("sub_", Panicked { message, place: None })
        };
        let overflow =
            error("value cannot be converted to type \"float\" without overflow\nException raised from here");
        assert_eq!(overflow.message, "`sub_`: value cannot be converted to type \"float\" without overflow");
        assert_eq!(overflow.kind, Kind::Input);
        assert_eq!(error("can't allocate memory: you tried to allocate 8000000000000 bytes. x").kind, Kind::Memory);
    }

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
