//! Whole numbers beyond an int, which rows may hold, compared with ints.

use rhai::{FuncRegistration, Module};
use std::cmp::Ordering;

/// Registers the comparisons. Without these, the engine takes values of two types for different, and neither for larger.
pub fn register_large_comparisons(module: &mut Module) {
    type Test = (&'static str, fn(Ordering) -> bool);
    let tests: [Test; 6] = [
        ("==", Ordering::is_eq),
        ("!=", Ordering::is_ne),
        ("<", Ordering::is_lt),
        ("<=", Ordering::is_le),
        (">", Ordering::is_gt),
        (">=", Ordering::is_ge),
    ];
    for (name, holds) in tests {
        let register = || FuncRegistration::new(name).in_global_namespace().with_purity(true).with_volatility(false);
        let compare = |left: i128, right: i128| left.cmp(&right);
        register().set_into_module(module, move |left: u64, right: i64| holds(compare(left.into(), right.into())));
        register().set_into_module(module, move |left: i64, right: u64| holds(compare(left.into(), right.into())));
    }
}
