//! Packing: several short documents in one row, by best-fit decreasing (TRL's `bfd`).
//!
//! No document is cut, and none attends to another: a batch has the document number of every token, and positions restart.

use super::store::{RowView, Store, StoreWriter};
use crate::error::Result;
use std::collections::{BTreeMap, VecDeque};

/// Assigns documents to rows of at most `capacity` tokens; a longer document gets its own row. The order of rows, and of
/// documents in them, depends only on the lengths.
pub fn best_fit_decreasing(lengths: &[usize], capacity: usize) -> Vec<Vec<u32>> {
    let mut order: Vec<usize> = (0..lengths.len()).filter(|&index| lengths[index] > 0).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(lengths[index]));
    let mut rows: Vec<Vec<u32>> = Vec::new();
    // Free space → rows with that space, oldest first.
    let mut by_space: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    for index in order {
        let length = lengths[index];
        let fit = by_space
            .range_mut(length..)
            .next()
            .and_then(|(&space, rows)| Some((space, rows.pop_front()?, rows.is_empty())));
        let (space, row) = match fit {
            Some((space, row, is_last)) => {
                if is_last {
                    by_space.remove(&space);
                }
                (space, row)
            }
            None => {
                rows.push(Vec::new());
                (capacity.max(length), rows.len() - 1)
            }
        };
        rows[row].push(index as u32);
        if space > length {
            by_space.entry(space - length).or_default().push_back(row);
        }
    }
    rows
}

/// The documents of a store, which has one in each row, packed.
pub(super) fn pack(documents: Store, capacity: usize) -> Result<Store> {
    let view = |row: usize| RowView { store: &documents, row };
    let lengths: Vec<usize> = (0..documents.row_ends.len()).map(|row| view(row).len()).collect();
    let mut store = StoreWriter::new(documents.info.clone());
    for row in best_fit_decreasing(&lengths, capacity) {
        for document in row.into_iter().flat_map(|row| view(row as usize).documents()) {
            store.push_document(&document.to_row())?;
        }
        store.end_row();
    }
    store.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    #[test]
    fn the_example_of_trl_s_documentation_packs_alike() {
        // TRL: sequences of 5 (cut to 4), 2, 3 and 1 tokens into rows of 4.
        assert_eq!(best_fit_decreasing(&[4, 2, 3, 1], 4), [vec![0], vec![2, 3], vec![1]]);
    }

    #[test]
    fn every_document_is_kept_once_and_no_row_is_too_long() {
        let key = Key::new(5).named("lengths");
        let lengths: Vec<usize> = (0..2000).map(|n| (key.uniform(n) * 130.0) as usize).collect();
        let rows = best_fit_decreasing(&lengths, 128);
        let total: usize = lengths.iter().sum();
        let mut seen: Vec<u32> = rows.concat();
        seen.sort_unstable();
        let expected: Vec<u32> = (0..2000).filter(|&index| lengths[index as usize] > 0).collect();
        assert_eq!(seen, expected);
        for row in &rows {
            let sum: usize = row.iter().map(|&index| lengths[index as usize]).sum();
            assert!(sum <= 128 || row.len() == 1);
        }
        assert!(rows.len() <= total / 128 + total / 128 / 10, "{} rows for {total} tokens", rows.len());
    }
}
