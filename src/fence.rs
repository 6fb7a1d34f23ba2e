//! Panics of the code that is called, as values: a crate that panics on a damaged file must not end the program.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// What a panic said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked {
    /// The first line of its message.
    pub message: String,
    /// File and line of the source.
    pub place: Option<String>,
}

thread_local! {
    /// How many fenced calls this thread is inside of.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Where the panic that is being caught happened.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; a panic in it is an error, and nothing is written to the terminal.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    install_hook();
    DEPTH.set(DEPTH.get() + 1);
    // Values behind `RefCell`s stay usable: their borrows end as the stack unwinds.
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get() - 1);
    outcome.map_err(|payload| Panicked { message: first_line(payload.as_ref()), place: PLACE.take() })
}

fn first_line(payload: &(dyn Any + Send)) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "no message",
    };
    text.lines().next().unwrap_or("no message").to_owned()
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

    #[test]
    fn a_panic_is_a_value_with_its_place() {
        let panicked = catch(|| panic!("shape {}\nmore", 3)).unwrap_err();
        assert_eq!(panicked.message, "shape 3");
        assert!(panicked.place.is_some_and(|place| place.starts_with("src/fence.rs:")));
        assert_eq!(catch(|| 1), Ok(1));
    }
}
