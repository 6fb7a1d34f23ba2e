//! A table of rows: `map`, `filter`, and selections of rows and columns.
//!
//! Selections copy no rows. Leaves to others: where rows are kept (`rows/`), reading files (`read/`), shuffling and splitting
//! (`split.rs`), summaries (`describe.rs`), tables (`preview.rs`).

use super::rows::{RowTable, RowWriter};
use crate::error::{Error, Kind, Result};
use crate::{interrupt, suggest};
use sha2::{Digest, Sha256};

pub use super::rows::{Row, RowRef};

/// A table of rows. A clone refers to the same rows.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    rows: RowTable,
}

impl Dataset {
    /// A data set of these rows, in memory. A column that a row lacks is null there.
    pub fn from_rows(rows: impl IntoIterator<Item = Row>) -> Self {
        Dataset { rows: RowTable::of_rows(rows.into_iter().collect()) }
    }

    pub(super) fn of_writer(rows: RowWriter) -> Result<Self> {
        Ok(Dataset { rows: rows.finish()? })
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row of this number; negative numbers count from the end.
    ///
    /// # Errors
    /// A number that no row has; a disk that fails.
    pub fn row_at(&self, index: i64) -> Result<RowRef<'_>> {
        let count = self.len() as i64;
        let at = if index < 0 { index + count } else { index };
        match usize::try_from(at).ok().filter(|&at| at < self.len()) {
            Some(row) => self.row(row),
            None if count == 0 => Err(Error::input(format!("row: there is no row {index}: the data set is empty"))),
            None => {
                Err(Error::input(format!("row: expected a number from {} to {}, found {index}", -count, count - 1)))
            }
        }
    }

    /// # Errors
    /// A row that does not exist; a disk that fails, where rows are kept in a file.
    pub fn row(&self, row: usize) -> Result<RowRef<'_>> {
        self.rows.row(row)
    }

    /// The rows in their order. They fail where a disk does.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<RowRef<'_>>> {
        self.rows.iter()
    }

    /// Column names over all rows, in the order they first appear.
    pub fn columns(&self) -> Vec<String> {
        self.rows.columns()
    }

    /// Replaces each row by the result of `change`, which gets the row and its index.
    pub fn map(&self, mut change: impl FnMut(Row, usize) -> Result<Row>) -> Result<Self> {
        let mut rows = RowWriter::default();
        for (index, row) in self.iter().enumerate() {
            interrupt::check()?;
            rows.push(change(row?.into_owned(), index).map_err(|error| in_row(index, error))?)?;
        }
        Self::of_writer(rows)
    }

    /// Keeps the rows for which `keep` returns true.
    pub fn filter(&self, mut keep: impl FnMut(&Row, usize) -> Result<bool>) -> Result<Self> {
        let mut kept = Vec::new();
        for (index, row) in self.iter().enumerate() {
            interrupt::check()?;
            if keep(&*row?, index).map_err(|error| in_row(index, error))? {
                kept.push(index);
            }
        }
        Ok(self.reorder(&kept))
    }

    /// The rows with these indices, in their order. Fails on a row that does not exist.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        match rows.iter().find(|&&row| row >= self.len()) {
            Some(&row) => {
                Err(Error::input(format!("row {row} does not exist: the data set has {} rows, from 0", self.len())))
            }
            None => Ok(self.reorder(rows)),
        }
    }

    /// Keeps these columns, in their order.
    pub fn select_columns(&self, names: &[&str]) -> Result<Self> {
        self.ensure_columns(names)?;
        self.map(|row, _| {
            let kept = names.iter().filter_map(|&name| row.get_key_value(name));
            Ok(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
        })
    }

    /// Removes these columns.
    pub fn remove_columns(&self, names: &[&str]) -> Result<Self> {
        self.ensure_columns(names)?;
        self.map(|row, _| Ok(row.into_iter().filter(|(name, _)| !names.contains(&name.as_str())).collect()))
    }

    /// Renames a column, which keeps its position. Fails if there is already a column `new`.
    pub fn rename(&self, old: &str, new: &str) -> Result<Self> {
        self.ensure_columns(&[old])?;
        if old != new && self.columns().iter().any(|name| name == new) {
            return Err(Error::input(format!("cannot rename column `{old}`: there is already a column `{new}`")));
        }
        self.map(|row, _| {
            let renamed =
                row.into_iter().map(|(name, value)| if name == old { (new.to_owned(), value) } else { (name, value) });
            Ok(renamed.collect())
        })
    }

    /// The rows in another order.
    pub(super) fn reorder(&self, order: &[usize]) -> Self {
        Dataset { rows: self.rows.select(order.iter().copied()) }
    }

    /// The rows of `self`, then those of `other`. Fails if the columns differ.
    pub fn concatenate(&self, other: &Self) -> Result<Self> {
        let (left, right) = (self.sorted_columns(), other.sorted_columns());
        if left != right && !self.is_empty() && !other.is_empty() {
            return Err(Error::data(format!(
                "cannot concatenate: the columns are [{}] and [{}]",
                left.join(", "),
                right.join(", ")
            ))
            .with_hint("rename or remove columns until both sides agree"));
        }
        Ok(Dataset { rows: self.rows.concatenate(&other.rows)? })
    }

    /// As [`concatenate`](Self::concatenate), but columns that one side lacks are null there.
    pub(super) fn concatenate_filled(&self, other: &Self) -> Result<Self> {
        if self.sorted_columns() == other.sorted_columns() {
            return self.concatenate(other);
        }
        let mut rows = RowWriter::default();
        for row in self.iter().chain(other.iter()) {
            interrupt::check()?;
            rows.push(row?.into_owned())?;
        }
        Self::of_writer(rows)
    }

    fn sorted_columns(&self) -> Vec<String> {
        let mut columns = self.columns();
        columns.sort_unstable();
        columns
    }

    /// The first `count` rows, or all if there are fewer.
    pub fn take(&self, count: usize) -> Self {
        Dataset { rows: self.rows.select(0..count.min(self.len())) }
    }

    /// All but the first `count` rows.
    pub fn skip(&self, count: usize) -> Self {
        Dataset { rows: self.rows.select(count.min(self.len())..self.len()) }
    }

    /// SHA-256 (hex) of the rows, in their order.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        let mut text = Vec::new();
        for row in 0..self.len() {
            interrupt::check()?;
            self.rows.text(row, &mut text)?;
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(&text);
        }
        Ok(format!("{:x}", hash.finalize()))
    }

    /// Fails on a column that the data does not have, with similar names in the hint.
    pub fn ensure_columns(&self, names: &[&str]) -> Result<()> {
        let columns = self.columns();
        match names.iter().find(|name| !columns.iter().any(|column| column == *name)) {
            Some(name) => Err(Error::input(format!("no column `{name}`"))
                .with_hint(suggest::hint(name, columns.iter().map(String::as_str)))),
            None => Ok(()),
        }
    }
}

fn in_row(index: usize, error: Error) -> Error {
    match error.kind {
        Kind::Stopped => error,
        _ => error.context(format!("row {index}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn numbers(count: usize) -> Dataset {
        Dataset::from_rows(
            (0..count).map(|n| Row::from_iter([("n".to_owned(), json!(n)), ("text".to_owned(), json!(n.to_string()))])),
        )
    }

    fn column(data: &Dataset, name: &str) -> Vec<u64> {
        data.iter().map(|row| row.unwrap()[name].as_u64().unwrap()).collect()
    }

    #[test]
    fn map_and_filter_see_the_row_and_its_index() {
        let even = numbers(6).filter(|row, index| Ok(row["n"] == json!(index) && index % 2 == 0)).unwrap();
        let doubled = even
            .map(|row, index| Ok(Row::from_iter([("m".into(), json!(row["n"].as_u64().unwrap() * 2 + index as u64))])))
            .unwrap();
        assert_eq!(column(&doubled, "m"), [0, 5, 10]);
        let failed = numbers(3).map(|row, index| if index == 1 { Err(Error::data("no")) } else { Ok(row) });
        assert_eq!(failed.unwrap_err().message, "row 1: no");
    }

    #[test]
    fn splits_and_shuffles_lose_no_row_and_depend_on_the_seed_alone() {
        let data = numbers(100);
        let (train, test) = data.split(0.1, 0).unwrap();
        assert_eq!((train.len(), test.len()), (90, 10));
        let mut all = column(&train.concatenate(&test).unwrap(), "n");
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(column(&data.shuffle(1), "n"), column(&numbers(100).shuffle(1), "n"));
        assert_ne!(column(&data.shuffle(1), "n"), column(&data.shuffle(2), "n"));
        assert_eq!(column(&data.skip(97).take(2), "n"), [97, 98]);
    }

    #[test]
    fn columns_are_checked_by_name() {
        let data = numbers(2);
        assert_eq!(data.rename("n", "id").unwrap().columns(), ["id", "text"]);
        assert_eq!(data.select_columns(&["text", "n"]).unwrap().columns(), ["text", "n"]);
        assert_eq!(data.remove_columns(&["n"]).unwrap().columns(), ["text"]);
        let error = data.select_columns(&["txt"]).unwrap_err();
        assert!(error.hint.unwrap().contains("did you mean `text`"));
        assert!(data.rename("n", "text").is_err() && data.select(&[2]).is_err());
        assert!(data.concatenate(&data.remove_columns(&["n"]).unwrap()).is_err());
    }
}
