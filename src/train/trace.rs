//! Compares two logs, step by step: their losses, and what else a script logged.

use super::metrics::MetricsRow;
use super::recorder::TOKENS_SEEN;
use std::fmt;

/// The metrics of `train` that are compared. Its others follow from them, or measure time.
const LOSSES: [&str; 2] = ["loss", "eval_loss"];
/// The largest relative difference that rounding may explain.
const TOLERANCE: f64 = 1e-6;

/// How far two logs agree.
#[derive(Debug, Clone, PartialEq)]
pub enum Agreement {
    /// Every loss has the same bits.
    Same { losses: usize },
    /// Every loss lies within the tolerance. Holds the largest relative deviation and its step.
    Close { losses: usize, deviation: f64, step: u64 },
    /// The first loss outside the tolerance.
    Differs { step: u64, name: String, first: f64, second: f64 },
    /// One log has a loss where the other has none.
    Lacks { step: u64, name: String, first: Option<f64>, second: Option<f64> },
}

impl Agreement {
    pub fn is_equal(&self) -> bool {
        matches!(self, Agreement::Same { .. } | Agreement::Close { .. })
    }
}

impl Agreement {
    /// Do they agree in at least one loss?
    pub fn has_losses(&self) -> bool {
        self.is_equal() && !matches!(self, Agreement::Same { losses: 0 })
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<f64>| value.map_or("none".to_owned(), |value| value.to_string());
        match self {
            Agreement::Same { losses: 0 } => write!(out, "no losses were logged"),
            Agreement::Same { losses } => write!(out, "the same to the last bit ({})", counted(*losses)),
            Agreement::Close { losses, deviation, step } => write!(
                out,
                "equal within {TOLERANCE:e} relative ({}, largest deviation {deviation:.1e} at step {step})",
                counted(*losses)
            ),
            Agreement::Differs { step, name, first, second } => {
                write!(out, "differs from step {step} on: {name} {first} against {second}")
            }
            Agreement::Lacks { step, name, first, second } => {
                write!(out, "differs from step {step} on: {name} {} against {}", shown(first), shown(second))
            }
        }
    }
}

fn counted(losses: usize) -> String {
    format!("{losses} loss{}", if losses == 1 { "" } else { "es" })
}

type Loss = (u64, String, f64);

fn losses(rows: &[MetricsRow]) -> Vec<Loss> {
    let of_row = |row: &MetricsRow| {
        let losses = LOSSES.into_iter().filter_map(|name| Some((name.to_owned(), row.get(name)?)));
        // Logs of earlier versions have no count of tokens.
        let others = row.extra.iter().filter(|(name, _)| !is_time(name) && name != TOKENS_SEEN).cloned();
        losses.chain(others).map(|(name, value)| (row.step, name, value)).collect::<Vec<_>>()
    };
    rows.iter().flat_map(of_row).collect()
}

fn is_time(name: &str) -> bool {
    name == "seconds" || name.ends_with("_seconds") || name.ends_with("_per_s")
}

/// Compares the losses in order. With `cut_off` the first log ends early, and further losses in the second are no
/// difference.
pub fn compare(first: &[MetricsRow], second: &[MetricsRow], cut_off: bool) -> Agreement {
    let (first, second) = (losses(first), losses(second));
    let mut largest = (0.0, 0);
    for at in 0..first.len().max(if cut_off { 0 } else { second.len() }) {
        let (step, deviation) = match (first.get(at), second.get(at)) {
            (Some((step, name, one)), Some((other_step, other, two))) if (step, name) == (other_step, other) => {
                match deviation(*one, *two) {
                    small if small <= TOLERANCE => (*step, small),
                    _ => return Agreement::Differs { step: *step, name: name.clone(), first: *one, second: *two },
                }
            }
            (one, two) => return lacks(one, two),
        };
        if deviation > largest.0 {
            largest = (deviation, step);
        }
    }
    match largest {
        (0.0, _) => Agreement::Same { losses: first.len() },
        (deviation, step) => Agreement::Close { losses: first.len(), deviation, step },
    }
}

/// Returns the first loss that is missing in the other log.
fn lacks(one: Option<&Loss>, two: Option<&Loss>) -> Agreement {
    match (one, two) {
        (Some((step, name, value)), other) if other.is_none_or(|other| *step <= other.0) => {
            Agreement::Lacks { step: *step, name: name.clone(), first: Some(*value), second: None }
        }
        (_, Some((step, name, value))) => {
            Agreement::Lacks { step: *step, name: name.clone(), first: None, second: Some(*value) }
        }
        _ => Agreement::Same { losses: 0 },
    }
}

/// The relative difference: 0 only for the same bits, infinite if one of the two is NaN.
fn deviation(one: f64, two: f64) -> f64 {
    if one.to_bits() == two.to_bits() || (one.is_nan() && two.is_nan()) {
        return 0.0;
    }
    let relative = (one - two).abs() / one.abs().max(two.abs());
    if relative.is_nan() {
        return f64::INFINITY;
    }
    // Not 0, though the difference of close numbers may round to 0.
    relative.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(losses: &[f64]) -> Vec<MetricsRow> {
        let row =
            |(at, loss): (usize, &f64)| MetricsRow { step: at as u64 + 1, loss: Some(*loss), ..Default::default() };
        losses.iter().enumerate().map(row).collect()
    }

    #[test]
    fn traces_agree_to_the_bit_within_rounding_or_not() {
        let one = rows(&[2.0, 1.0, f64::NAN]);
        let text = |other: &[MetricsRow]| compare(&one, other, false).to_string();
        assert_eq!(text(&one), "the same to the last bit (3 losses)");
        let near = rows(&[2.0, 1.0 + 1e-7, f64::NAN]);
        assert_eq!(text(&near), "equal within 1e-6 relative (3 losses, largest deviation 1.0e-7 at step 2)");
        assert_eq!(text(&rows(&[2.0, 1.25, f64::NAN])), "differs from step 2 on: loss 1 against 1.25");
        assert_eq!(text(&rows(&[2.0, 1.0, 3.0])), "differs from step 3 on: loss NaN against 3");
        assert_eq!(text(&rows(&[2.0, 1.0])), "differs from step 3 on: loss NaN against none");
        assert_eq!(compare(&[], &one, false).to_string(), "differs from step 1 on: loss none against 2");
        assert!(compare(&rows(&[2.0]), &one, true).is_equal());
        assert!(!compare(&one, &rows(&[2.0]), true).is_equal());
        let mut measured = one.clone();
        measured[1].eval_loss = Some(0.5);
        assert_eq!(text(&measured), "differs from step 2 on: eval_loss none against 0.5");
        let logged =
            |accuracy: f64| [MetricsRow::of(1, [("accuracy".into(), accuracy), ("wait_seconds".into(), accuracy)])];
        let compared = |other: f64| compare(&logged(0.5), &logged(other), false).to_string();
        assert_eq!(compared(0.5), "the same to the last bit (1 loss)");
        assert_eq!(compared(0.25), "differs from step 1 on: accuracy 0.5 against 0.25");
    }
}
