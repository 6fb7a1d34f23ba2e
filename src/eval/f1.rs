//! The macro-averaged F1 of predicted classes.

use std::collections::BTreeMap;

#[derive(Default)]
struct Counts {
    hits: usize,
    /// Times it was the answer, and times it was predicted.
    mentions: usize,
}

/// The mean over classes of F1 = 2·TP / (2·TP + FP + FN), each class that occurs as an answer
/// or as a prediction counting alike: `sklearn.metrics.f1_score(average="macro")`.
///
/// Takes (answer, prediction) pairs; 0 where there are none.
pub fn macro_f1(pairs: impl IntoIterator<Item = (usize, usize)>) -> f64 {
    let mut classes: BTreeMap<usize, Counts> = BTreeMap::new();
    for (answer, predicted) in pairs {
        classes.entry(answer).or_default().mentions += 1;
        classes.entry(predicted).or_default().mentions += 1;
        classes.entry(answer).or_default().hits += usize::from(answer == predicted);
    }
    // Every class here was mentioned, so nothing is divided by zero.
    let sum: f64 = classes.values().map(|class| 2.0 * class.hits as f64 / class.mentions as f64).sum();
    sum / classes.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_sklearn() {
        // sklearn 1.9: f1_score([0, 0, 1, 1, 2], [0, 1, 1, 1, 0], average="macro")
        let f1 = macro_f1([(0, 0), (0, 1), (1, 1), (1, 1), (2, 0)]);
        assert!((f1 - 0.433_333_333_333_333_35).abs() < 1e-15, "{f1}");
        // A class that is only predicted counts too: f1_score([0, 0], [0, 3], average="macro")
        assert!((macro_f1([(0, 0), (0, 3)]) - 1.0 / 3.0).abs() < 1e-15);
        assert_eq!(macro_f1([]), 0.0);
    }
}
