//! The rows of a data set, in memory or in files. Selections and other orders of rows in files are lists of their numbers.

use super::file::{add_missing, RowFile};
use super::iter::RowIter;
use super::json::write_row;
use super::row::{Row, RowRef};
use crate::error::{Error, Result};
use indexmap::IndexSet;
use std::sync::Arc;

/// Rows in their order. A clone refers to the same rows.
#[derive(Debug, Clone)]
pub enum RowTable {
    Memory(Arc<[Arc<Row>]>),
    Filed(FiledRows),
}

impl Default for RowTable {
    fn default() -> Self {
        RowTable::Memory(Arc::new([]))
    }
}

/// Rows of several sources, of which at least one is a file.
#[derive(Debug, Clone)]
pub struct FiledRows {
    sources: Arc<[Source]>,
    /// For each row its number among those of all sources.
    numbers: Arc<[u32]>,
}

#[derive(Debug, Clone)]
struct Source {
    rows: SourceRows,
    /// The number of its first row.
    start: usize,
}

#[derive(Debug, Clone)]
enum SourceRows {
    Memory(Arc<[Arc<Row>]>),
    File(Arc<RowFile>),
}

impl SourceRows {
    fn len(&self) -> usize {
        match self {
            SourceRows::Memory(rows) => rows.len(),
            SourceRows::File(file) => file.len(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (SourceRows::Memory(one), SourceRows::Memory(other)) => Arc::ptr_eq(one, other),
            (SourceRows::File(one), SourceRows::File(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl RowTable {
    /// Rows in memory. A column that a row lacks is null there.
    pub fn of_rows(mut rows: Vec<Row>) -> Self {
        fill_missing(&mut rows);
        RowTable::Memory(rows.into_iter().map(Arc::new).collect())
    }

    pub fn of_file(file: RowFile) -> Self {
        let numbers = (0..file.len() as u32).collect();
        RowTable::Filed(FiledRows {
            sources: [Source { rows: SourceRows::File(Arc::new(file)), start: 0 }].into(),
            numbers,
        })
    }

    pub fn len(&self) -> usize {
        match self {
            RowTable::Memory(rows) => rows.len(),
            RowTable::Filed(rows) => rows.numbers.len(),
        }
    }

    /// # Errors
    /// A row that does not exist, and a file that cannot be read.
    pub fn row(&self, index: usize) -> Result<RowRef<'_>> {
        let missing = || no_row(index, self.len());
        match self {
            RowTable::Memory(rows) => Ok(RowRef::from(rows.get(index).ok_or_else(missing)?.as_ref())),
            RowTable::Filed(rows) => rows.row(*rows.numbers.get(index).ok_or_else(missing)? as usize),
        }
    }

    pub fn iter(&self) -> RowIter<'_> {
        RowIter::new(self)
    }

    /// The JSON text of a row, in place of what `text` held.
    pub fn text(&self, index: usize, text: &mut Vec<u8>) -> Result<()> {
        if let RowTable::Filed(rows) = self {
            if let Some((SourceRows::File(file), row)) =
                rows.numbers.get(index).map(|&number| rows.find(number as usize))
            {
                return file.text(row, text);
            }
        }
        text.clear();
        write_row(&*self.row(index)?, text)
    }

    /// The columns, in the order of the first row. All rows have the same ones.
    pub fn columns(&self) -> Vec<String> {
        match self {
            RowTable::Memory(rows) => rows.first().map_or_else(Vec::new, |row| row.keys().cloned().collect()),
            RowTable::Filed(rows) => rows.columns(),
        }
    }

    /// The rows with these indices, all of which exist.
    pub fn select(&self, indices: impl Iterator<Item = usize>) -> Self {
        match self {
            RowTable::Memory(rows) => RowTable::Memory(indices.filter_map(|index| rows.get(index).cloned()).collect()),
            RowTable::Filed(rows) => {
                let numbers = indices.filter_map(|index| rows.numbers.get(index).copied()).collect();
                RowTable::Filed(FiledRows { sources: rows.sources.clone(), numbers })
            }
        }
    }

    /// The rows of `self`, then those of `other`.
    pub fn concatenate(&self, other: &Self) -> Result<Self> {
        if let (RowTable::Memory(one), RowTable::Memory(other)) = (self, other) {
            return Ok(RowTable::Memory(one.iter().chain(other.iter()).cloned().collect()));
        }
        let mut sources: Vec<Source> = Vec::new();
        let mut numbers = Vec::with_capacity(self.len() + other.len());
        for table in [self, other] {
            table.add_to(&mut sources, &mut numbers)?;
        }
        Ok(RowTable::Filed(FiledRows { sources: sources.into(), numbers: numbers.into() }))
    }

    fn add_to(&self, sources: &mut Vec<Source>, numbers: &mut Vec<u32>) -> Result<()> {
        match self {
            RowTable::Memory(rows) => {
                let start = add_source(sources, &SourceRows::Memory(rows.clone()))?;
                numbers.extend((start..start + rows.len()).map(|number| number as u32));
            }
            RowTable::Filed(rows) => {
                let starts = rows.sources.iter().map(|source| add_source(sources, &source.rows));
                let starts = starts.collect::<Result<Vec<usize>>>()?;
                let moved = |&number: &u32| {
                    let source = rows.source_of(number as usize);
                    (number as usize - rows.sources[source].start + starts[source]) as u32
                };
                numbers.extend(rows.numbers.iter().map(moved));
            }
        }
        Ok(())
    }
}

impl FiledRows {
    fn source_of(&self, number: usize) -> usize {
        self.sources.partition_point(|source| source.start <= number).saturating_sub(1)
    }

    fn find(&self, number: usize) -> (&SourceRows, usize) {
        let source = &self.sources[self.source_of(number)];
        (&source.rows, number - source.start)
    }

    fn row(&self, number: usize) -> Result<RowRef<'_>> {
        match self.find(number) {
            (SourceRows::Memory(rows), row) => {
                Ok(RowRef::from(rows.get(row).ok_or_else(|| no_row(row, rows.len()))?.as_ref()))
            }
            (SourceRows::File(file), row) => Ok(file.row(row)?.into()),
        }
    }

    fn columns(&self) -> Vec<String> {
        let Some(&first) = self.numbers.first() else { return Vec::new() };
        let keys = |row: &Row| row.keys().cloned().collect();
        match self.find(first as usize) {
            (SourceRows::Memory(rows), row) => rows.get(row).map_or_else(Vec::new, |row| keys(row)),
            (SourceRows::File(file), row) => match file.columns() {
                Some(columns) => columns.iter().cloned().collect(),
                // A disk that fails is reported when rows are read.
                None => file.row(row).map_or_else(|_| file.names().iter().cloned().collect(), |row| keys(&row)),
            },
        }
    }
}

/// Adds the columns that a row lacks, as null.
fn fill_missing(rows: &mut [Row]) {
    let same =
        |rows: &[Row]| rows.windows(2).all(|pair| pair[0].len() == pair[1].len() && pair[0].keys().eq(pair[1].keys()));
    if same(rows) {
        return;
    }
    let mut names = IndexSet::new();
    for name in rows.iter().flat_map(Row::keys) {
        if !names.contains(name) {
            names.insert(name.clone());
        }
    }
    rows.iter_mut().filter(|row| row.len() < names.len()).for_each(|row| add_missing(row, &names));
}

/// Where the rows of a source begin, which is added if it is not there.
fn add_source(sources: &mut Vec<Source>, rows: &SourceRows) -> Result<usize> {
    if let Some(source) = sources.iter().find(|source| source.rows.is(rows)) {
        return Ok(source.start);
    }
    let start = sources.last().map_or(0, |last| last.start + last.rows.len());
    if start + rows.len() > u32::MAX as usize {
        return Err(Error::data(format!("a data set has at most {} rows", u32::MAX)));
    }
    sources.push(Source { rows: rows.clone(), start });
    Ok(start)
}

fn no_row(row: usize, count: usize) -> Error {
    Error::input(format!("row {row} does not exist: the data set has {count} rows, from 0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::RowWriter;
    use serde_json::{json, Value};

    fn written(rows: &[Value], limit: u64) -> RowTable {
        let mut writer = RowWriter::with_limit(limit);
        rows.iter().for_each(|row| writer.push(row.as_object().unwrap().clone()).unwrap());
        writer.finish().unwrap()
    }

    fn values(table: &RowTable) -> Vec<String> {
        (0..table.len()).map(|row| Value::Object(table.row(row).unwrap().into_owned()).to_string()).collect()
    }

    fn texts(table: &RowTable) -> Vec<String> {
        let text = |row| {
            let mut text = Vec::new();
            table.text(row, &mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        (0..table.len()).map(text).collect()
    }

    fn samples() -> Vec<Value> {
        let mut nested = json!(1);
        (0..200).for_each(|_| nested = json!([nested]));
        vec![
            json!({"a": "가\n\"\u{0}", "b": u64::MAX, "c": -0.0}),
            json!({"a": 1e300, "c": 0.1, "b": i64::MIN}),
            json!({"b": {"\u{0}number": "NaN"}, "d": [1.0, null, {}]}),
            json!({"a": nested, "b": [], "c": true, "d": ""}),
            json!({}),
        ]
    }

    #[test]
    fn rows_in_a_file_are_those_in_memory() {
        for rows in [&samples()[..], &samples()[..1], &[]] {
            let (memory, filed) = (written(rows, u64::MAX), written(rows, 0));
            assert_eq!(matches!(filed, RowTable::Filed(_)), !rows.is_empty());
            assert_eq!((values(&memory), texts(&memory)), (values(&filed), texts(&filed)));
            assert_eq!(memory.columns(), filed.columns());
        }
    }

    #[test]
    fn selections_and_concatenations_mix_sources() {
        let rows: Vec<Value> = (0..20).map(|n| json!({"n": n, "t": format!("t{n}")})).collect();
        let tables = |limits: [u64; 3]| {
            let [one, two, three] = limits;
            let two = written(&rows[5..12], two);
            let all =
                written(&rows[..5], one).concatenate(&two).unwrap().concatenate(&written(&rows[12..], three)).unwrap();
            let twice = all.concatenate(&two.select([6, 0].into_iter())).unwrap();
            let chosen = twice.select([21, 20, 19, 0, 11, 3].into_iter());
            (values(&all), values(&twice), values(&chosen), chosen.columns())
        };
        let expected = tables([u64::MAX; 3]);
        assert_eq!(expected.2[1], r#"{"n":11,"t":"t11"}"#);
        for limits in [[0; 3], [0, u64::MAX, 0], [u64::MAX, 0, u64::MAX], [u64::MAX, u64::MAX, 0]] {
            assert_eq!(tables(limits), expected, "{limits:?}");
        }
        assert!(written(&rows, 0).row(20).unwrap_err().message.contains("the data set has 20 rows"));
    }
}
