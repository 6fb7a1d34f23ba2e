//! Messages about the language's own errors that several files need.

use crate::error::Error;
use crate::script::values::from_script::type_name;

pub fn mismatched(expected: &str, found: &str) -> Error {
    let (expected_name, found_name) = (type_name(expected), type_name(found));
    let error = Error::input(format!("expected {expected_name}, found {found_name}"));
    if (expected_name.as_str(), found_name.as_str()) == ("int", "range") {
        // `text[1..3]` is a part of a text; arrays take only an index.
        return error.with_hint("a part of an array is list.extract(1..3), its end list.extract(1..)");
    }
    if expected.contains("bool") {
        return error.with_hint("write the comparison out, as in steps > 0");
    }
    error
}

pub fn nothing_to_loop_over() -> Error {
    Error::input("`for` expected something to loop over, found a single value")
        .with_hint("arrays, strings, ranges (0..10) and batches can be looped over; of a map its .keys() or .values()")
}

pub fn constant(name: &str) -> Error {
    Error::input(format!("the constant `{name}` cannot be changed")).with_hint("declare it with `let`, not `const`")
}

/// A closure that is called with more or fewer arguments than it takes. Its name in the engine is no help.
pub fn wrong_closure() -> Error {
    Error::input("the closure expects a different number of arguments").with_hint("most functions pass one: |x| …")
}
