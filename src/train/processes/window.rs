//! Which rows of a step each process computes: about as many tokens in each, by a rule that all compute alike.

use crate::data::Batch;
use crate::train::step::{predicted_labels, total_weight};
use std::cmp::Reverse;

/// What the micro-batches of a step have together, in all processes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WindowTotals {
    pub labels: usize,
    /// Of all labels.
    pub weight: f64,
    pub tokens: usize,
}

impl WindowTotals {
    pub fn of(window: &[Batch]) -> Self {
        WindowTotals {
            labels: window.iter().map(predicted_labels).sum(),
            weight: window.iter().map(total_weight).sum(),
            tokens: window.iter().map(Batch::token_count).sum(),
        }
    }
}

/// The rows of each micro-batch that process `rank` of `size` computes. The longest rows are dealt first, each to the process
/// with the fewest tokens in the window so far.
pub fn rows_of_window(window: &[Batch], rank: usize, size: usize) -> Vec<Vec<usize>> {
    let mut tokens = vec![0; size];
    let of_batch = |batch: &Batch| {
        let length = |row: usize| (0..batch.seq_len).filter(|at| batch.is_token(row * batch.seq_len + at)).count();
        let mut rows: Vec<(usize, usize)> = (0..batch.rows).map(|row| (length(row), row)).collect();
        rows.sort_by_key(|&(length, row)| (Reverse(length), row));
        let mut own = Vec::new();
        for (length, row) in rows {
            let least = (0..size).min_by_key(|&process| tokens[process]).unwrap_or(0);
            tokens[least] += length;
            if least == rank {
                own.push(row);
            }
        }
        own.sort_unstable();
        own
    };
    window.iter().map(of_batch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::batch::LabelledDocument;

    fn batch(lengths: &[usize]) -> Batch {
        let row = |&length: &usize| LabelledDocument {
            input_ids: vec![1; length],
            labels: vec![1; length],
            ..LabelledDocument::default()
        };
        Batch::of_documents(&lengths.iter().map(row).collect::<Vec<_>>(), 0)
    }

    #[test]
    fn every_row_goes_to_one_process_and_tokens_are_even() {
        let window = [batch(&[9, 1, 1, 1, 4, 2]), batch(&[3]), batch(&[8, 7, 2, 1])];
        for size in 1..6 {
            let parts: Vec<Vec<Vec<usize>>> = (0..size).map(|rank| rows_of_window(&window, rank, size)).collect();
            for (at, batch) in window.iter().enumerate() {
                let mut rows: Vec<usize> = parts.iter().flat_map(|part| part[at].clone()).collect();
                rows.sort_unstable();
                assert_eq!(rows, (0..batch.rows).collect::<Vec<usize>>());
            }
            let tokens = |part: &[Vec<usize>]| -> usize {
                window.iter().zip(part).map(|(batch, rows)| batch.select_rows(rows).token_count()).sum()
            };
            let tokens: Vec<usize> = parts.iter().map(|part| tokens(part)).collect();
            assert_eq!(tokens.iter().sum::<usize>(), 39);
            // No two differ by more than the longest row.
            assert!(tokens.iter().max().unwrap() - tokens.iter().min().unwrap() <= 9, "{tokens:?}");
        }
        assert_eq!(rows_of_window(&window, 0, 2), [vec![0], vec![0], vec![1, 3]]);
    }
}
